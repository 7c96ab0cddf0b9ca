"""A synthetic corpus in TIMIT's layout, for machines without TIMIT: espeak-ng speech with phone and word labels.

It is easier than TIMIT. Use it for a first run, for regression tests and to check phone boundaries against known ones; do
not compare its error rates with TIMIT's. The same seed gives the same files, for any number of jobs.
"""

import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from asr.corpus.audio import SAMPLE_RATE_HZ
from asr.corpus.manifest import Utterance, write_corpus
from asr.errors import InputError
from asr.system.progress import progress
from data_prep.espeak import require_espeak
from data_prep.sentences import make_sentences
from data_prep.speakers import MAX_SPEAKERS, Recording, Speaker, SpeakerTask, make_speaker, record_speaker
from data_prep.spreading import Spread, check_seen

MIN_SPEAKERS = 3

DEV_SHARE, TEST_SHARE = 0.1, 0.2
"""Shares of the speakers, at least one each. The others are for training."""

SPLITS = ("train", "dev", "test")

NOTE = "made with espeak-ng: easier than TIMIT, do not compare its error rates with TIMIT's"


@dataclass(frozen=True)
class _SpeakerPlan:
    """A speaker with split, folder in the corpus, and (name, text) of each sentence."""

    speaker: Speaker
    split: str
    folder: Path
    sentences: tuple[tuple[str, str], ...]


def prepare_synth(out: Path, speakers: int, utterances: int, seed: int, spread: Spread) -> dict[str, list[Utterance]]:
    """Make a corpus of ``speakers`` times ``utterances`` and its manifests in ``out``.

    ``out/TIMIT/TRAIN|TEST/DRn/SPEAKER/`` has the audio (16 kHz SPHERE) and TIMIT's label files. ``out/dev_speakers.txt``
    lists the speakers of TEST that form the dev set. Splits share no speaker and no sentence.

    Raises:
        InputError: a number is out of range; ``out`` is not empty or cannot be written; espeak-ng is missing.
    """
    check_numbers(speakers, utterances, seed)
    require_espeak()
    out = out.absolute()
    check_folder(out)
    plans = _plan_speakers(speakers, utterances, seed)
    partial = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left by a killed run
        partial.mkdir(parents=True)
        recordings = _record_speakers(partial, plans, seed, spread)
        corpus = _make_utterances(out, plans, recordings)
        dev = sorted(plan.speaker.name for plan in plans if plan.split == "dev")
        (partial / "dev_speakers.txt").write_text("".join(f"{name}\n" for name in dev), encoding="ascii")
        write_corpus(partial, corpus, left_out={}, notes=(NOTE, f"seed {seed}"))
        partial.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}), expected a folder with room") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return corpus


def check_numbers(speakers: int, utterances: int, seed: int) -> None:
    """Raise InputError unless there is a speaker for each split, and the others are in their ranges."""
    if not MIN_SPEAKERS <= speakers <= MAX_SPEAKERS:
        expected = f"{MIN_SPEAKERS} (one each for {', '.join(SPLITS)}) to {MAX_SPEAKERS}"
        raise InputError(f"speakers is {speakers}, expected {expected}")
    for name, value, minimum in (("utterances", utterances, 1), ("seed", seed, 0)):
        if value < minimum:
            raise InputError(f"{name} is {value}, expected at least {minimum}")


def check_folder(out: Path) -> None:
    """Raise InputError unless ``out`` is new or an empty folder."""
    try:
        usable = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    except OSError as error:
        raise InputError(f"{out}: not readable ({error.strerror}), expected a new or an empty folder") from error
    if not usable:
        raise InputError(f"{out}: exists already, expected a new or an empty folder")


def _plan_speakers(speakers: int, utterances: int, seed: int) -> list[_SpeakerPlan]:
    """Assign speakers to splits and sentences to speakers. All sentences differ; women and men alternate in each split."""
    texts = make_sentences(speakers * utterances, seed)
    plans = []
    for index in range(speakers):
        split = split_of(index, speakers)
        speaker = make_speaker(index, seed)
        folder = Path("TIMIT", "TRAIN" if split == "train" else "TEST", speaker.dialect, speaker.name)
        first = index * utterances
        named = tuple((f"SX{number + 1}", texts[number]) for number in range(first, first + utterances))
        plans.append(_SpeakerPlan(speaker, split, folder, named))
    return plans


def split_of(index: int, speakers: int) -> str:
    """The split of a speaker, by its index from 0: the first are for training, the last for the test."""
    dev, test = max(round(DEV_SHARE * speakers), 1), max(round(TEST_SHARE * speakers), 1)
    train = speakers - dev - test
    return "train" if index < train else "dev" if index < train + dev else "test"


def _record_speakers(partial: Path, plans: list[_SpeakerPlan], seed: int, spread: Spread) -> list[list[Recording]]:
    """Record every speaker, with files under ``partial``; returns the recordings of each speaker."""
    tasks = [SpeakerTask(index, seed, partial / plan.folder, plan.sentences) for index, plan in enumerate(plans)]
    results = []
    with closing(spread(record_speaker, tasks)) as recorded:
        for task, recordings in progress(recorded, "speakers", len(tasks)):
            check_seen(task.folder / f"{recordings[0].name}.WAV")
            results.append(recordings)
    return results


def _make_utterances(
    out: Path, plans: list[_SpeakerPlan], recordings: list[list[Recording]]
) -> dict[str, list[Utterance]]:
    """Split -> utterances, with audio paths under ``out``."""
    corpus: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    for plan, of_speaker in zip(plans, recordings, strict=True):
        corpus[plan.split] += [_make_utterance(out / plan.folder, plan.speaker, recording) for recording in of_speaker]
    return corpus


def _make_utterance(folder: Path, speaker: Speaker, recording: Recording) -> Utterance:
    return Utterance(
        id=f"{speaker.name}_{recording.name}",
        audio_path=folder / f"{recording.name}.WAV",
        sample_rate_hz=SAMPLE_RATE_HZ,
        duration_s=recording.num_samples / SAMPLE_RATE_HZ,
        speaker=speaker.name,
        phones=tuple(segment.phone for segment in recording.segments),
        words=recording.words,
        phone_times_s=tuple(
            (segment.start / SAMPLE_RATE_HZ, segment.end / SAMPLE_RATE_HZ) for segment in recording.segments
        ),
        sex=speaker.sex,
        details={"dialect": speaker.dialect},
    )
