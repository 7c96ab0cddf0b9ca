"""Formats and notations of transcripts, batches of recordings, the Python interface, and the aligner."""

import doctest
import io
import itertools
import json
import os
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from praatio import textgrid

import asr
from asr.corpus.audio import read_audio, read_blocks, resample
from asr.corpus.lexicon import read_lexicon
from asr.corpus.manifest import read_manifest
from asr.corpus.notation import phone_symbols
from asr.corpus.phones import inventory
from asr.corpus.pronunciations import WordPronunciations, pronounce
from asr.errors import InputError
from asr.features.dataset import Dataset
from asr.features.filterbanks import extract, extract_blocks
from asr.features.frames import frame_edge_s, frames_within
from asr.inference.bundle import load_bundle
from asr.inference.forced_alignment import (
    ALIGNER_FILE,
    MIN_PHONE_FRAMES,
    FrameClassifier,
    align_phones,
    load_aligner,
    save_aligner,
    segment,
)
from asr.inference.recognizer import Recognizer, load
from asr.inference.transcript_formats import FORMATS, Phone, Transcript
from asr.inference.write_transcripts import find_jobs, write_transcripts
from asr.training.frame_classifier import train_aligner
from tests.conftest import settings
from tests.test_train import run

TRANSCRIPT = Transcript(
    (
        Phone("h#", 0.0, 0.1, 0.9),
        Phone("sh", 0.1, 0.25, 0.5),
        Phone("ix", 0.25, 0.4, 0.75),
        Phone("bcl", 0.5, 0.6, 1.0),
    ),
    0.7,
)


def test_text_json_ctm_and_phn_worked_by_hand() -> None:
    path = Path("dir/a.b.wav")
    written = {name: write(TRANSCRIPT, path) for name, (_, write) in FORMATS.items()}
    assert written["text"] == "dir/a.b.wav\th# sh ix bcl\n"
    assert written["ctm"].splitlines()[1] == "a.b 1 0.100 0.150 sh 0.500"
    assert FORMATS["ctm"][1](TRANSCRIPT, Path("a b\tc\n.wav")).splitlines()[1] == "a_b_c_ 1 0.100 0.150 sh 0.500"
    assert written["phn"] == "0 1600 h#\n1600 4000 sh\n4000 6400 ix\n8000 9600 bcl\n"
    content = json.loads(written["json"])
    assert (content["path"], content["duration_s"], content["phones"][2]) == (
        "dir/a.b.wav",
        0.7,
        {"symbol": "ix", "start_s": 0.25, "end_s": 0.4, "confidence": 0.75},
    )


@pytest.mark.parametrize("transcript", [TRANSCRIPT, Transcript((), 1.5)])
def test_a_textgrid_comes_back(transcript: Transcript, tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(FORMATS["textgrid"][1](transcript, Path("a.wav")), encoding="utf-8")
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    assert grid.maxTimestamp == transcript.duration_s
    entries = [tuple(entry) for entry in grid.getTier("phones").entries]
    assert entries == [(phone.start_s, phone.end_s, phone.symbol) for phone in transcript.phones]


def test_notations() -> None:
    assert [phone.symbol for phone in TRANSCRIPT.in_notation("ipa").phones] == ["ʃ", "ɨ", "b̚"]
    assert TRANSCRIPT.in_notation("arpabet").symbols == ["SH", "IH"]
    assert TRANSCRIPT.in_notation("timit") == TRANSCRIPT
    for name in ("timit61", "timit48", "timit39", "arpabet39"):
        for notation in ("timit", "arpabet", "ipa"):
            assert set(inventory(name).symbols[1:]) <= phone_symbols(notation).keys()
    arpabet = inventory("arpabet39").symbols[1:]
    assert all(phone_symbols("arpabet")[phone] == phone for phone in arpabet)
    assert len({phone_symbols("ipa")[phone] for phone in arpabet}) == 39
    with pytest.raises(InputError, match="notation 'sampa', expected one of timit, arpabet, ipa"):
        TRANSCRIPT.in_notation("sampa")


def every_segmentation(frames: int, phones: int) -> list[list[tuple[int, int]]]:
    """All ways to place phones of at least `MIN_PHONE_FRAMES` in the frames, with silence anywhere between them."""
    return [
        list(zip(edges[::2], edges[1::2], strict=True))
        for edges in itertools.combinations_with_replacement(range(frames + 1), 2 * phones)
        if all(stop - start >= MIN_PHONE_FRAMES for start, stop in zip(edges[::2], edges[1::2], strict=True))
    ]


@pytest.mark.parametrize("classes", [[1], [2, 1], [1, 1], [1, 2, 1]])
def test_the_segmentation_is_the_best_of_all(classes: list[int]) -> None:
    for seed in range(20):
        scores = np.random.default_rng(seed).standard_normal((8, 3))

        def total(spans: list[tuple[int, int]], scores: np.ndarray = scores) -> float:
            path = np.zeros(8, dtype=int)
            for phone_class, (start, stop) in zip(classes, spans, strict=True):
                path[start:stop] = phone_class
            return float(scores[np.arange(8), path].sum())

        best = max(total(spans) for spans in every_segmentation(8, len(classes)))
        assert total(segment(scores, classes)) == pytest.approx(best)


@pytest.mark.parametrize("classes", [[1], [2, 1], [1, 1], [1, 2, 1]])
def test_phones_far_from_their_peaks_cost(classes: list[int]) -> None:
    """Peaks at random. A phone that begins over 2 frames after its peak, or ends over 2 before, costs 2 a frame."""
    for seed in range(20):
        generator = np.random.default_rng(seed)
        scores, peaks = 3 * generator.standard_normal((9, 3)), np.sort(generator.uniform(0, 9, len(classes)))

        def total(spans: list[tuple[int, int]], scores: np.ndarray = scores, peaks: np.ndarray = peaks) -> float:
            path, cost = np.zeros(9, dtype=int), 0.0
            for phone_class, (start, stop), peak in zip(classes, spans, peaks, strict=True):
                path[start:stop] = phone_class
                cost += 2 * max(0.0, start - (peak + 2)) * (start > 0)
                cost += 2 * max(0.0, (peak - 2) - stop) * (stop < 9)
            return float(scores[np.arange(9), path].sum()) - cost

        best = max(total(spans) for spans in every_segmentation(9, len(classes)))
        found = segment(scores, classes, peaks.tolist())
        assert total(found) == pytest.approx(best)


def test_a_phone_that_nobody_hears_stays_where_ctc_has_it() -> None:
    """Frames 0 to 9 sound like phone 1, the rest like silence; phone 2 sounds nowhere, least badly at the very end."""
    scores = np.full((100, 3), -9.0)
    scores[:10, 1] = scores[10:, 0] = -0.1
    scores[-2:, 2] = -3.0
    assert segment(scores, [1, 2])[1] == (98, 100)
    start, stop = segment(scores, [1, 2], [4.0, 11.0])[1]
    assert 8 <= start < stop <= 15


def test_too_few_frames_are_shared_out() -> None:
    assert segment(np.zeros((3, 3)), [1, 2]) == [(0, 1), (1, 3)]
    assert segment(np.zeros((5, 3)), []) == []
    assert segment(np.zeros((0, 3)), [1]) == [(0, 0)]


def test_a_long_recording_in_pieces_is_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    network = FrameClassifier(4, 3).eval()
    classes = [1, 2] * 40
    truth = [(10 * number + 2, 10 * number + 9) for number in range(80)]
    features = torch.zeros(800, 4)
    for phone_class, (start, stop) in zip(classes, truth, strict=True):
        features[start:stop, phone_class] = 3.0
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    target = features[:, 1:3].argmax(1) + 1
    target[features.sum(1) == 0] = 0
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(network(features[None])[0], target).backward()
        optimizer.step()
    peaks = [(start + stop) / 2 for start, stop in truth]
    assert align_phones(network, features, classes, peaks) == truth
    monkeypatch.setattr("asr.inference.forced_alignment.MAX_PIECE_FRAMES", 150)
    assert align_phones(network, features, classes, peaks) == truth


def test_frames_and_times() -> None:
    config = settings().features
    # The centre of frame k is at 12.5 ms + k * 10 ms. The frame represents 5 ms on either side.
    assert [frame_edge_s(frame, config) for frame in (0, 1, 10)] == pytest.approx([0.0, 0.0175, 0.1075])
    assert frames_within(0.0, 0.1, config, 98) == (0, 9)
    assert frames_within(0.0175, 0.0275, config, 98) == (1, 2)
    assert frames_within(0.9, 1.0, config, 98) == (89, 98)
    assert frames_within(0.101, 0.102, config, 98) == (9, 10)


@pytest.fixture(scope="module")
def model(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = ("trainer.epochs=60", "trainer.flat_start_epochs=10", "model.hidden=32", "optimizer.learning_rate=0.01")
    return run(
        tone_corpus, tmp_path_factory.mktemp("tones") / "run", *overrides, "augment=none", "model.time_reduction=2"
    )


TIMES_S = tuple((0.05 + 0.15 * number, 0.2 + 0.15 * number) for number in range(3))
"""Start and end of each tone: 50 ms of silence, three tones of 150 ms, 50 ms of silence."""


def boundary_errors_s(model: Path, tone_corpus: Path, times: tuple[tuple[float, float], ...] | None) -> np.ndarray:
    """The errors of the tones' boundaries from an aligner trained with these times, or without times."""
    bundle = load_bundle(model)
    utterances = [
        replace(utterance, phone_times_s=times) for utterance in read_manifest(tone_corpus / "cuts_train.jsonl.gz")
    ]
    dataset = Dataset(utterances, bundle.features, bundle.inventory, cache_gib=0, statistics=bundle.statistics)
    recognizer = replace(load(model), aligner=train_aligner(bundle, dataset, 8, seed=1))
    errors_s = []
    for utterance in utterances:
        aligned = recognizer.align(utterance.audio_path, utterance.phones)
        assert aligned.symbols == list(utterance.phones)
        assert aligned.duration_s == pytest.approx(0.55)
        for phone, (start_s, end_s) in zip(aligned.phones, TIMES_S, strict=True):
            errors_s += [phone.start_s - start_s, phone.end_s - end_s]
    return np.abs(errors_s)


@pytest.mark.slow
def test_given_times_are_learned(model: Path, tone_corpus: Path) -> None:
    assert boundary_errors_s(model, tone_corpus, TIMES_S).max() <= 0.01


@pytest.mark.slow
def test_without_times_they_are_near_where_the_peaks_of_ctc_have_them(
    model: Path, tone_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)

    def peaks(log_probs: torch.Tensor, tokens: Sequence[int]) -> list[tuple[int, int]]:
        step_s = 0.55 / len(log_probs)
        frames = [int(generator.uniform(start_s + 0.02, end_s - 0.02) / step_s) for start_s, end_s in TIMES_S]
        return [(frame, frame + 1) for frame in frames]

    monkeypatch.setattr("asr.training.frame_classifier.align_tokens", peaks)
    assert np.median(boundary_errors_s(model, tone_corpus, None)) <= 0.03


@pytest.mark.slow
def test_realignment_in_training_stays_near_the_peaks(
    model: Path, tone_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peaks in output frames 2, 9 and 16, of two frames each: their middles are frames 5, 19 and 33."""
    given: list[object] = []

    def record(*arguments: object) -> list[tuple[int, int]]:
        given.append(arguments[2])
        return segment(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("asr.training.frame_classifier.align_tokens", lambda *_: [(2, 3), (9, 10), (16, 17)])
    monkeypatch.setattr("asr.training.frame_classifier.segment", record)
    boundary_errors_s(model, tone_corpus, None)
    assert given == [[5.0, 19.0, 33.0]] * len(given)
    assert len(given) == 7 * 12  # every epoch but the first realigns the 12 utterances


def test_an_aligner_comes_back_and_damage_is_named(tmp_path: Path) -> None:
    network = FrameClassifier(5, 4).eval()
    network.log_priors += 0.5
    save_aligner(network, tmp_path)
    loaded = load_aligner(tmp_path, 5, 4)
    assert loaded is not None
    features = torch.randn(20, 5)
    assert np.array_equal(network.scores(features), loaded.scores(features))
    assert np.allclose(network.scores(features, 3, 9), network.scores(features)[3:9], atol=1e-6)
    with pytest.raises(InputError, match=f"{ALIGNER_FILE}: weights do not fit"):
        load_aligner(tmp_path, 5, 3)
    (tmp_path / ALIGNER_FILE).write_bytes(b"no")
    with pytest.raises(InputError, match=f"{ALIGNER_FILE}: not readable"):
        load_aligner(tmp_path, 5, 4)
    assert load_aligner(tmp_path / "none", 5, 4) is None


@pytest.fixture(scope="module")
def recognizer(model: Path) -> Recognizer:
    return asr.load(model)


def test_files_and_arrays_are_one(recognizer: Recognizer, tone_corpus: Path, tmp_path: Path) -> None:
    path = read_manifest(tone_corpus / "cuts_test.jsonl.gz")[0].audio_path
    samples, rate = soundfile.read(path)
    from_file = recognizer.transcribe(path)
    assert len(from_file.phones) > 0
    assert recognizer.transcribe(str(path)) == from_file == recognizer.transcribe(samples, rate)
    assert recognizer.transcribe(np.stack([samples, samples], axis=1), rate) == from_file
    log_probs = recognizer.log_probs(path)
    assert log_probs.shape[1] == len(recognizer.phones) + 1
    assert np.allclose(np.exp(log_probs).sum(1), 1, atol=1e-5)
    with pytest.raises(InputError, match="sample_rate_hz is None"):
        recognizer.transcribe(samples)
    for wrong in (samples.astype(int), np.zeros((2, 2, 2)), np.zeros(0)):
        with pytest.raises(InputError, match="expected floating point"):
            recognizer.transcribe(wrong, rate)
    with pytest.raises(InputError, match="not finite"):
        recognizer.transcribe(np.array([0.1, np.nan]), rate)


def test_threads_share_a_recognizer(recognizer: Recognizer, tone_corpus: Path) -> None:
    paths = [utterance.audio_path for utterance in read_manifest(tone_corpus / "cuts_train.jsonl.gz")]
    alone = [recognizer.transcribe(path) for path in paths]
    results: dict[int, Transcript] = {}

    def work(first: int) -> None:
        for index in range(first, len(paths), 4):
            results[index] = recognizer.transcribe(paths[index])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[index].symbols for index in range(len(paths))] == [transcript.symbols for transcript in alone]


def test_alignment_refuses_what_cannot_be(recognizer: Recognizer, tone_corpus: Path) -> None:
    path = read_manifest(tone_corpus / "cuts_test.jsonl.gz")[0].audio_path
    with pytest.raises(InputError, match="unknown phone 'xx'"):
        recognizer.align(path, ["xx"])
    with pytest.raises(InputError, match=r"100 phones need 199 output frames, the recording has \d+"):
        recognizer.align(path, ["AA"] * 100)
    assert recognizer.align(path, []).phones == ()


def test_words_are_pronounced_by_a_lexicon(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("HELLO HH AH0 L OW1\nHELLO HH EH0 L OW1\nWorld W ER1 L D\n")
    words = WordPronunciations(read_lexicon(path, inventory("arpabet39")))
    assert pronounce("hello, World!", words, "text") == [
        ("hello", ("HH", "AH", "L", "OW")),
        ("World", ("W", "ER", "L", "D")),
    ]
    with pytest.raises(InputError, match="text: no pronunciation of 'moon'"):
        pronounce("hello moon", words, "text")


def batch(
    model: Path, paths: Sequence[object], out: Path | None, formats: Sequence[str] = ("phn",), **more: bool
) -> tuple[int, int]:
    names = [str(path) for path in paths]
    return write_transcripts(
        model, names, formats, None, out, more.get("force", False), ("cpu", "float32", "best_path")
    )


def test_a_batch_that_was_interrupted_does_only_what_is_missing(
    model: Path, tone_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tone_corpus / "test", tmp_path / "out"
    assert batch(model, [folder], out, ["phn", "textgrid"]) == (0, 4)
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(f"e-{number}{ending}" for number in range(4) for ending in (".phn", ".TextGrid"))
    (out / "e-1.phn").unlink()
    (out / "e-2.phn").write_text("mine")
    capsys.readouterr()
    assert batch(model, [folder], out, ["phn", "textgrid"]) == (0, 4)
    assert "asr: 3 of 4 skipped, files exist" in capsys.readouterr().err
    assert (out / "e-1.phn").exists()
    assert (out / "e-2.phn").read_text() == "mine"
    assert batch(model, [folder], out, force=True) == (0, 4)
    assert (out / "e-2.phn").read_text() != "mine"
    assert batch(model, [folder], out) == (0, 4)


@pytest.mark.parametrize("name", ["new\nline.wav", os.fsdecode(b"Latin\xff.wav")])
def test_what_cannot_be_used_is_listed_once_whatever_its_name(model: Path, tmp_path: Path, name: str) -> None:
    folder, out = tmp_path / "two  spaces", tmp_path / "out"
    folder.mkdir()
    (folder / name).write_bytes(b"")
    assert batch(model, [folder], out) == (1, 0)
    listed = (out / "errors.tsv").read_text()
    assert len(listed.splitlines()) == 2
    assert batch(model, [folder], out) == (1, 0)
    assert (out / "errors.tsv").read_text() == listed


def test_recordings_keep_their_places_and_must_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a/x.wav", "b/x.wav", "b/x.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    out = tmp_path / "out"
    (tmp_path / "b/x.flac").rename(tmp_path / "b/y.flac")
    targets = [job.target for job in find_jobs([str(tmp_path)], out, tmp_path)]
    assert targets == [out / "a/x", out / "b/x", out / "b/y"]
    assert [job.path.name for job in find_jobs([str(tmp_path / "*" / "*.wav")], None, tmp_path)] == ["x.wav", "x.wav"]
    with pytest.raises(InputError, match=r"x.wav: same output files as .*x.wav"):
        find_jobs([str(tmp_path / "a/x.wav"), str(tmp_path / "b/x.wav")], out, tmp_path)
    with pytest.raises(InputError, match="none.wav: no such file or folder"):
        find_jobs([str(tmp_path / "none.wav")], out, tmp_path)


def test_standard_input(
    model: Path, tone_corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = read_manifest(tone_corpus / "cuts_test.jsonl.gz")[0].audio_path
    batch(model, [path], None, ["text"])
    expected = capsys.readouterr().out.split("\t")[1]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert batch(model, ["-"], None, ["text"]) == (0, 1)
    assert capsys.readouterr().out == f"stdin\t{expected}"
    monkeypatch.setattr(sys, "stdin", None)  # closed
    with pytest.raises(InputError, match="standard input: 0 bytes"):
        batch(model, ["-"], None)
    for content, complaint in ((b"", "standard input: 0 bytes"), (b"no audio at all", "asr: stdin: not readable")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        if not content:
            with pytest.raises(InputError, match=re.escape(complaint)):
                batch(model, ["-"], None)
        else:
            assert batch(model, ["-"], None) == (1, 0)
            assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("rate", [16000, 8000, 44100])
def test_a_file_in_blocks_is_the_file(rate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = 0.1 * np.random.default_rng(rate).standard_normal((rate * 7 + 123, 2))
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    whole = read_audio(tmp_path / "a.wav")
    part = read_audio(tmp_path / "a.wav", start_s=1.0, duration_s=2.5)
    monkeypatch.setattr("asr.corpus.audio.BLOCK_S", 1)
    blocks = list(read_blocks(tmp_path / "a.wav"))
    assert len(blocks) == 15  # half a second each, because there are two channels
    assert np.array_equal(np.concatenate(blocks), whole)
    assert np.array_equal(read_audio(tmp_path / "a.wav", start_s=1.0, duration_s=2.5), part)
    expected = resample(samples.mean(axis=1).astype(np.float32), rate, 16000)
    assert np.allclose(whole, expected, atol=1e-6)


@pytest.mark.parametrize("features", ["fbank", "fbank_delta", "mfcc", "librosa_mel"])
def test_features_in_blocks_are_the_features(features: str) -> None:
    config = settings(f"features={features}").features
    samples = (0.1 * np.random.default_rng(1).standard_normal(16000 * 3 + 77)).astype(np.float32)
    blocks = np.split(samples, [100, 399, 400, 401, 20000, 20001])
    in_blocks, count = extract_blocks(blocks, len(samples), config)
    assert count == len(samples)
    torch.testing.assert_close(in_blocks, extract(samples, config), atol=1e-4, rtol=0)
    empty, count = extract_blocks([samples[:300]], 300, config)
    assert (empty.shape, count) == ((0, in_blocks.shape[1]), 300)


def test_a_fault_deep_in_a_file_is_found_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.corpus.audio.BLOCK_S", 1)
    samples = np.full(48000, 0.1, np.float32)
    samples[40000] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(InputError, match="sample 40000 is nan"):
        read_audio(tmp_path / "nan.wav")
    soundfile.write(tmp_path / "zero.wav", np.zeros(48000), 16000)
    with pytest.raises(InputError, match="all 48000 samples are zero"):
        read_audio(tmp_path / "zero.wav")
    late = np.zeros(48000)
    late[-1] = 0.1
    soundfile.write(tmp_path / "late.wav", late, 16000)
    assert len(read_audio(tmp_path / "late.wav")) == 48000


def test_the_documentation_of_the_package_is_true() -> None:
    result = doctest.testmod(asr)
    assert result.failed == 0
    assert result.attempted >= 5
