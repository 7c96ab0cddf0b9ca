"""A made corpus in TIMIT's layout, for machines without TIMIT: espeak-ng speech of made speakers, with labels.

It is easier than TIMIT: fit for a first run, for regression tests and for checking boundaries against known ones; no
figure measured on it may stand beside one measured on TIMIT. The same seed gives the same files, whatever the jobs.
"""

import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from asr.corpus.audio import SAMPLE_RATE_HZ
from asr.corpus.manifest import Utterance, write_corpus
from asr.errors import InputError
from asr.system.progress import progress
from data_prep.espeak import require_espeak
from data_prep.sentences import sentences
from data_prep.speakers import MAX_SPEAKERS, Recording, Speaker, SpeakerTask, make_speaker, record_speaker

MIN_SPEAKERS = 3
DEV_SHARE, TEST_SHARE = 0.1, 0.2
"""Of the speakers; at least one each, and the rest is for training."""
SPLITS = ("train", "dev", "test")
NOTE = "made with espeak-ng: easier than TIMIT, its figures are not to be set beside TIMIT's"


@dataclass(frozen=True)
class _Cast:
    """A speaker's part: split, place in the corpus, and named sentences."""

    speaker: Speaker
    split: str
    folder: Path
    sentences: tuple[tuple[str, str], ...]


def prepare_synth(out: Path, speakers: int, utterances: int, seed: int, jobs: int) -> dict[str, list[Utterance]]:
    """Make a corpus of ``speakers`` times ``utterances`` in ``out``, in ``jobs`` processes, with its manifests.

    ``out/TIMIT/TRAIN|TEST/DRn/SPEAKER/`` holds the audio (16 kHz SPHERE) and TIMIT's label files. The speakers of dev
    are those of TEST that ``out/dev_speakers.txt`` lists. No speaker and no sentence is in two splits.

    Raises:
        InputError: a number is out of range; ``out`` is not empty or cannot be written; espeak-ng is missing.
    """
    _check_numbers(speakers, utterances, seed, jobs)
    require_espeak()
    out = out.absolute()
    _check_folder(out)
    cast = _cast(speakers, utterances, seed)
    partial = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
        partial.mkdir(parents=True)
        recordings = _record(partial, cast, seed, jobs)
        corpus = _utterances(out, cast, recordings)
        dev = sorted(part.speaker.name for part in cast if part.split == "dev")
        (partial / "dev_speakers.txt").write_text("".join(f"{name}\n" for name in dev), encoding="ascii")
        write_corpus(partial, corpus, left_out={}, notes=(NOTE, f"seed {seed}"))
        partial.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}), expected a folder with room") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return corpus


def _check_numbers(speakers: int, utterances: int, seed: int, jobs: int) -> None:
    if not MIN_SPEAKERS <= speakers <= MAX_SPEAKERS:
        expected = f"{MIN_SPEAKERS} (one each for {', '.join(SPLITS)}) to {MAX_SPEAKERS}"
        raise InputError(f"speakers is {speakers}, expected {expected}")
    for name, value, least in (("utterances", utterances, 1), ("seed", seed, 0), ("jobs", jobs, 1)):
        if value < least:
            raise InputError(f"{name} is {value}, expected at least {least}")


def _check_folder(out: Path) -> None:
    try:
        free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    except OSError as error:
        raise InputError(f"{out}: not readable ({error.strerror}), expected a new or an empty folder") from error
    if not free:
        raise InputError(f"{out}: exists already, expected a new or an empty folder")


def _cast(speakers: int, utterances: int, seed: int) -> list[_Cast]:
    """Who says what, and in which split. All sentences differ; women and men take turns within each split."""
    texts = sentences(speakers * utterances, seed)
    dev, test = max(round(DEV_SHARE * speakers), 1), max(round(TEST_SHARE * speakers), 1)
    train = speakers - dev - test
    cast = []
    for index in range(speakers):
        split = "train" if index < train else "dev" if index < train + dev else "test"
        speaker = make_speaker(index, seed)
        folder = Path("TIMIT", "TRAIN" if split == "train" else "TEST", speaker.dialect, speaker.name)
        first = index * utterances
        named = tuple((f"SX{number + 1}", texts[number]) for number in range(first, first + utterances))
        cast.append(_Cast(speaker, split, folder, named))
    return cast


def _record(partial: Path, cast: list[_Cast], seed: int, jobs: int) -> list[list[Recording]]:
    """The recordings of each speaker, made under ``partial`` by worker processes."""
    with tempfile.TemporaryDirectory(prefix="asr-espeak-") as temporary:
        pool = ProcessPoolExecutor(min(jobs, len(cast)), mp_context=get_context("spawn"))
        try:
            futures: list[Future[list[Recording]]] = [
                pool.submit(
                    record_speaker, SpeakerTask(index, seed, partial / part.folder, Path(temporary), part.sentences)
                )
                for index, part in enumerate(cast)
            ]
            for future in progress(as_completed(futures), "speakers", len(cast)):
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
        return [future.result() for future in futures]


def _utterances(out: Path, cast: list[_Cast], recordings: list[list[Recording]]) -> dict[str, list[Utterance]]:
    corpus: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    for part, spoken in zip(cast, recordings, strict=True):
        corpus[part.split] += [_utterance(out / part.folder, part.speaker, recording) for recording in spoken]
    return corpus


def _utterance(folder: Path, speaker: Speaker, recording: Recording) -> Utterance:
    details: Mapping[str, str] = {"dialect": speaker.dialect}
    return Utterance(
        id=f"{speaker.name}_{recording.name}",
        audio_path=folder / f"{recording.name}.WAV",
        sample_rate_hz=SAMPLE_RATE_HZ,
        duration_s=recording.num_samples / SAMPLE_RATE_HZ,
        speaker=speaker.name,
        phones=tuple(segment.phone for segment in recording.segments),
        words=recording.words,
        phone_times_s=tuple((s.start / SAMPLE_RATE_HZ, s.end / SAMPLE_RATE_HZ) for s in recording.segments),
        sex=speaker.sex,
        details=details,
    )
