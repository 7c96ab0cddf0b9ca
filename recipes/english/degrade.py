"""Record real speech again in worse circumstances: whole utterances, and pieces between pauses.

    python recipes/english/degrade.py OUT CUTS MODEL [SEED]

Writes ``OUT/cuts_train.jsonl.gz`` and ``OUT/audio/ID.flac``. Each utterance is degraded as a whole, and again one or two
neighbouring parts of it, if the model finds a pause between them. Rooms, noise, codecs and trimming are those of
`asr prepare voices`.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.errors import InputError
from asr.inference.catalog import find_model
from asr.inference.recognizer import Recognizer, load
from asr.inference.transcript_formats import Phone
from asr.system.files import make_folder
from asr.system.progress import progress
from data_prep.voices_channels import degrade

RATE_HZ = 16000
PAUSE_S = 0.07
"""A longer gap between two phones is a pause."""
MARGIN_S = 0.12
"""How much of a pause stays with the speech beside it, at most."""
MIN_PHONES = 2
BABBLE_STEP = 9
"""One utterance in so many is heard in the babble behind the others."""


def read(utterance: Utterance) -> np.ndarray:
    """The samples of an utterance, (samples,) float32."""
    return read_audio(utterance.audio_path, RATE_HZ, utterance.start_s, utterance.duration_s)


def draw_piece(phones: Sequence[Phone], generator: np.random.Generator) -> tuple[int, int] | None:
    """Draw one or two neighbouring parts between pauses, but not all: their phones, as (first, one past the last)."""
    starts = [i for i in range(1, len(phones)) if phones[i].start_s - phones[i - 1].end_s >= PAUSE_S]
    if not starts:
        return None
    edges = [0, *starts, len(phones)]
    begin = int(generator.integers(len(edges) - 1))
    end = min(begin + int(generator.integers(1, 3)), len(edges) - 1)
    if (begin, end) == (0, len(edges) - 1):
        end -= 1
    first, stop = edges[begin], edges[end]
    return (first, stop) if stop - first >= MIN_PHONES else None


def cut_piece(samples: np.ndarray, phones: Sequence[Phone], first: int, stop: int) -> np.ndarray:
    """The samples of phones ``first`` to ``stop`` - 1, with a little of the pauses around them."""
    start_s, end_s = 0.0, len(samples) / RATE_HZ
    if first > 0:
        pause_s = phones[first].start_s - phones[first - 1].end_s
        start_s = phones[first].start_s - min(MARGIN_S, pause_s / 2)
    if stop < len(phones):
        pause_s = phones[stop].start_s - phones[stop - 1].end_s
        end_s = phones[stop - 1].end_s + min(MARGIN_S, pause_s / 2)
    return samples[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)]


def versions(
    utterance: Utterance, recognizer: Recognizer, generator: np.random.Generator
) -> Iterator[tuple[str, np.ndarray, tuple[str, ...]]]:
    """The id, samples and phones of an utterance, and of a piece of it if there is one."""
    samples = read(utterance)
    yield f"{utterance.id}-degraded", samples, utterance.phones
    try:
        phones = recognizer.align(samples, utterance.phones, RATE_HZ).phones
    except InputError as error:
        raise InputError(f"{utterance.id}: {error}") from error
    if piece := draw_piece(phones, generator):
        yield f"{utterance.id}-piece", cut_piece(samples, phones, *piece), utterance.phones[slice(*piece)]


def main(out: Path, cuts: Path, model: str, seed: int) -> None:
    """Write the manifest and its audio."""
    utterances, recognizer = read_manifest(cuts), load(find_model(model))
    generator = np.random.default_rng(seed)
    babble = np.concatenate([read(one) for one in utterances[::BABBLE_STEP]])
    make_folder(out / "audio")
    degraded = []
    for utterance in progress(utterances, "degrade", len(utterances)):
        for name, samples, phones in versions(utterance, recognizer, generator):
            path, recording = out / "audio" / f"{name}.flac", degrade(samples, RATE_HZ, babble, generator).samples
            soundfile.write(path, recording, RATE_HZ)
            new = replace(utterance, id=name, audio_path=path, sample_rate_hz=RATE_HZ, phones=phones, start_s=0.0)
            degraded.append(replace(new, duration_s=len(recording) / RATE_HZ, phone_times_s=None))
    write_corpus(out, {"train": degraded}, {})
    print(f"{out / 'cuts_train.jsonl.gz'}: {len(degraded)} recordings of {len(utterances)} utterances")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    except InputError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        sys.exit(2)
