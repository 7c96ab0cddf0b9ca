"""Manifests and shards -> transcripts, a file for each unit and format (`asr.inference.sources`)."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from asr.corpus.audio import read_audio
from asr.corpus.cuts import Utterance
from asr.corpus.stored_features import read_stored_features
from asr.errors import InputError
from asr.features.normalization import normalize
from asr.inference.recognizer import Recognizer, load
from asr.inference.result_files import (
    UNUSABLE,
    DoneList,
    Problem,
    UnitResult,
    lock_output,
    read_errors,
    write_result,
)
from asr.inference.sources import CorpusUnit, Source, UnitReader, Work, describe_request, do_units, list_units
from asr.inference.transcribe import Features, transcribe
from asr.inference.transcript_formats import UTTERANCE_FORMATS
from asr.inference.units import Loading, Run, fix_precision, run_here
from asr.inference.write_transcripts import check_notation, check_translation

RESULTS = "transcripts 1"
"""Changes when the code would write other results for the same request."""


@dataclass(frozen=True)
class CorpusRequest:
    """How to transcribe: the model's folder, its device, precision and decoder, the formats, the notation, the results."""

    model: Path
    loading: Loading
    formats: tuple[str, ...]
    notation: str | None
    out: Path


def transcribe_corpus(
    sources: Sequence[Source], request: CorpusRequest, run: Run = run_here, skip_bad: bool = False, force: bool = False
) -> tuple[int, int]:
    """Write the transcripts of manifests and shards. Returns the number of problems and that of utterances done.

    ``run`` does the units. What an earlier command has done is kept, unless ``force`` is set.

    Raises:
        InputError: a source, the model or the folder cannot be used; without ``skip_bad``, a shard is bad.
    """
    check_notation(request.notation)
    request = replace(request, loading=fix_precision(request.loading))
    if other := [name for name in request.formats if name not in UTTERANCE_FORMATS]:
        raise InputError(f"format {other[0]} with manifests or shards, expected {', '.join(UTTERANCE_FORMATS)}")
    with lock_output(request.out):
        others = {"formats": " ".join(request.formats), "notation": request.notation or "model"}
        described = describe_request(RESULTS, request.model, request.loading, sources) | others
        done = DoneList(request.out, described, force)
        if done.results:
            print(f"asr: {request.out}: {len(done.results)} units are done already, going on", file=sys.stderr)
        work = Work("transcribing", list_units(sources, need_phones=False), sources, partial(make_transcriber, request))
        do_units(work, done, run, skip_bad)
    unusual = sum(len(result.unusual) for result in done.results.values())
    if unusual:
        print(f"asr: {unusual} utterances are unlike the speech that the model was trained on", file=sys.stderr)
    return len(read_errors(request.out)), sum(result.usable for result in done.results.values())


def make_transcriber(request: CorpusRequest) -> Callable[[CorpusUnit], UnitResult]:
    """Load a model, and return what transcribes the utterances of a unit to files."""
    recognizer = load(request.model, *request.loading)
    reader = UnitReader(recognizer.bundle.features, need_phones=False)
    phones = recognizer.bundle.inventory
    check_translation(recognizer, request.notation)

    def work(unit: CorpusUnit) -> UnitResult:
        done, texts = UnitResult(), dict[str, list[str]]((name, []) for name in request.formats)
        with reader.read(unit) as utterances:
            for utterance, result in transcribe(recognizer, utterances, partial(read_features, recognizer)):
                done.utterances += 1
                if isinstance(result, InputError):
                    done.problems.append(Problem(utterance.id, str(utterance.audio_path), UNUSABLE, str(result)))
                    continue
                if recognizer.is_unusual(result):
                    done.unusual.append(utterance.id)
                done.seconds += result.duration_s
                transcript = result.in_notation(request.notation, phones) if request.notation else result
                for name, lines in texts.items():
                    lines.append(UTTERANCE_FORMATS[name][1](transcript, utterance.id))
        for name, lines in texts.items():
            file = f"{unit.name}{UTTERANCE_FORMATS[name][0]}"
            done.files[file] = write_result(request.out / file, "".join(lines).encode())
        return done

    return work


def read_features(recognizer: Recognizer, utterance: Utterance) -> Features:
    """The normalized features (frames, dim) of an utterance, stored ones if there are some, and its duration in seconds.

    Raises:
        InputError: the audio or the features cannot be used.
    """
    bundle = recognizer.bundle
    if utterance.features_path is not None:
        raw = torch.from_numpy(read_stored_features(utterance.features_path))
        return normalize(raw, bundle.features, "", bundle.statistics, in_place=True), utterance.duration_s
    samples = read_audio(utterance.audio_path, recognizer.sample_rate_hz, utterance.start_s, utterance.duration_s)
    return recognizer.features(samples, recognizer.sample_rate_hz)
