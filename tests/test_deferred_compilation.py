"""Functions that numba compiles once they have enough to do."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr.inference import forced_alignment as aligner
from asr.system import deferred_compilation as compiling
from asr.system.deferred_compilation import DeferredCompilation


def total(values: np.ndarray) -> float:
    result = 0.0
    for value in values:
        result += value
    return result


def test_it_is_compiled_when_there_is_enough_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "INTERPRETED_STEPS", 25)
    deferred, values = DeferredCompilation(total, len), np.arange(10.0)
    results = [(deferred(values), deferred.compiled is None) for _ in range(4)]
    assert results == [(45.0, True), (45.0, True), (45.0, False), (45.0, False)]


def test_a_segmentation_is_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    for frames, phones in ((1, 1), (9, 4), (60, 12), (300, 40), (700, 150), (5, 0)):
        scores, classes = generator.standard_normal((frames, 20)), generator.integers(1, 20, phones).tolist()
        results = []
        peaks = np.sort(generator.uniform(0, frames, phones)).tolist()
        for steps in (10**9, 0):
            monkeypatch.setattr(compiling, "INTERPRETED_STEPS", steps)
            results.append([aligner.segment(scores, classes), aligner.segment(scores, classes, peaks)])
        assert results[0] == results[1]
    assert aligner._viterbi.compiled is not None


def test_a_short_recording_is_transcribed_without_numba_librosa_and_scipy(tmp_path: Path) -> None:
    program = """
import sys, numpy, asr
recognizer = asr.load("speechocean762-small")
times_s = numpy.arange(48000) / 16000
glide = 0.3 * numpy.sin(2 * numpy.pi * (300 + 200 * numpy.sin(9 * times_s)) * times_s) * (numpy.sin(7 * times_s) > 0)
glide += 0.01 * numpy.random.default_rng(1).standard_normal(48000)
assert recognizer.transcribe(glide, 16000).phones
print(sorted({"numba", "scipy", "librosa", "lhotse", "torchaudio", "hydra", "accelerate"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
