"""Synthetic speech of recorded voices, for training: voices of several synthesizers read texts of open vocabulary.

The phones are CMUdict's. The same seed and the same engines give the same files, for any number of jobs.
"""

import shutil
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.corpus.audio import SAMPLE_RATE_HZ
from asr.corpus.manifest import Utterance, write_corpus
from asr.errors import InputError
from asr.system.progress import progress
from data_prep.spreading import Spread, check_seen
from data_prep.voices_engines import DEFAULT_ENGINES, Style, Voice, make_engine
from data_prep.voices_speakers import Recordings, SpeakerTask, record_speaker
from data_prep.voices_texts import WORDNET, load_texts

WEIGHTS = {"rhvoice": 2.0, "espeak": 1 / 3, "kokoro": 1 / 4}
"""Weight of each voice of an engine, 1 if it is not here. espeak-ng's three kinds together count as one voice, Kokoro's 28
as seven."""

HELD_OUT = ("clb", "rms")
"""Persons that are held out for the test, in this order of preference. slt is in three engines, too good to lose."""

TEST_SHARE = 0.05

BABBLE_SENTENCES = 40


@dataclass(frozen=True)
class VoicesRequest:
    """What to record: hours of training and test together, engines of `ENGINES`, and the person of the test.

    Without ``engines``, those of `DEFAULT_ENGINES` that are installed; without ``held_out``, the first of `HELD_OUT`
    that is installed. ``sentences`` is WordNet's folder, or a file with one sentence on each line.
    """

    hours: float
    seed: int = 1
    engines: tuple[str, ...] = ()
    held_out: str = ""
    sentences: Path = WORDNET

    def __post_init__(self) -> None:
        for name, value, minimum in (("hours", self.hours, 0.001), ("seed", self.seed, 0)):
            if not value >= minimum:
                raise InputError(f"{name} is {value}, expected at least {minimum}")


def prepare_voices(out: Path, request: VoicesRequest, spread: Spread) -> None:
    """Record speakers in ``out/audio``, and write ``out/cuts_train.jsonl.gz``, ``out/cuts_test.jsonl.gz`` and statistics.

    Raises:
        InputError: a number is out of range; an engine, a voice, CMUdict or the sentences are missing; ``out`` is not
            empty or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists already, expected a new or an empty folder")
    voices, missing = find_voices(request.engines)
    person = choose_held_out(voices, request.held_out)
    load_texts(request.sentences)
    out = out.absolute()
    partial = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left by a killed run
        (partial / "audio").mkdir(parents=True)
        splits, refused = _record_splits(partial, out, voices, person, request, spread)
        left_out = {f"texts that {engine} speaks otherwise": number for engine, number in sorted(refused.items())}
        licences = [f"{voice.engine} {voice.name}: {voice.licence}" for voice in voices]
        write_corpus(partial, splits, left_out, (f"seed {request.seed}, test voice {person}", *missing, *licences))
        if out.exists():
            out.rmdir()
        partial.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}), expected a folder with room") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def find_voices(engines: Sequence[str]) -> tuple[list[Voice], list[str]]:
    """Find the voices of engines, and say of each default engine that is missing why it is left out.

    Raises:
        InputError: an engine that is named is missing, or no engine is there.
    """
    voices: list[Voice] = []
    missing = []
    for name in engines or DEFAULT_ENGINES:
        try:
            voices += make_engine(name).voices()
        except InputError as error:
            if engines:
                raise
            missing.append(f"left out: {error}")
    if not voices:
        raise InputError(f"0 voices are installed, expected those of {', '.join(engines or DEFAULT_ENGINES)}")
    return voices, missing


def choose_held_out(voices: Sequence[Voice], held_out: str) -> str:
    """The person of the test: ``held_out`` if it is not empty.

    Raises:
        InputError: nobody is called so, or there is only one person.
    """
    persons = sorted({voice.person for voice in voices})
    if held_out and held_out not in persons:
        raise InputError(f"held-out voice {held_out!r} is not installed, expected one of {', '.join(persons)}")
    if len(persons) < 2:
        raise InputError(f"1 voice ({persons[0]}), expected at least 2: one for training and one for the test")
    return held_out or next((person for person in HELD_OUT if person in persons), persons[0])


def _record_splits(
    partial: Path, out: Path, voices: Sequence[Voice], person: str, request: VoicesRequest, spread: Spread
) -> tuple[dict[str, list[Utterance]], Counter[str]]:
    """Record both splits, with files under ``partial``; also returns the number of refused texts of each engine."""
    chosen = {
        "train": [voice for voice in voices if voice.person != person],
        "test": [voice for voice in voices if voice.person == person],
    }
    seconds = {"train": request.hours * 3600 * (1 - TEST_SHARE), "test": request.hours * 3600 * TEST_SHARE}
    babble = _make_babble(partial / "babble.flac", chosen["train"], request)
    splits: dict[str, list[Utterance]] = {}
    refused: Counter[str] = Counter()
    for stream, (split, voices_of_split) in enumerate(chosen.items(), 1):
        tasks = _draw_speakers(voices_of_split, partial / "audio" / split, babble, stream, request)
        splits[split] = []
        for task, recordings in _record(tasks, seconds[split], spread, split):
            refused[task.voice.engine] += recordings.refused
            splits[split] += _list_utterances(task, recordings, partial, out)
    babble.unlink()
    speakers = {utterance.speaker for utterances in splits.values() for utterance in utterances}
    for folder in (partial / "audio").glob("*/*"):  # others were begun in advance
        if _speaker_of(folder) not in speakers:
            shutil.rmtree(folder, ignore_errors=True)
    return splits, refused


def _make_babble(path: Path, voices: Sequence[Voice], request: VoicesRequest) -> Path:
    """Write sentences of all voices at one level, one after the other."""
    generator = np.random.default_rng([request.seed, 0])
    sentences = load_texts(request.sentences).sentences
    engines = {voice.engine: make_engine(voice.engine) for voice in voices}
    parts = []
    for number in range(BABBLE_SENTENCES):
        voice = voices[number % len(voices)]
        text = " ".join(sentences[int(generator.integers(len(sentences)))])
        spoken = engines[voice.engine].speak(text, voice, Style(1.0, 1.0, 1))
        if len(spoken.samples):  # espeak-ng says nothing if it would join two words
            speech = soxr.resample(spoken.samples.astype(np.float64), spoken.sample_rate_hz, SAMPLE_RATE_HZ)
            parts.append(speech * 0.05 / np.sqrt(np.mean(speech**2) + 1e-9))
    soundfile.write(path, np.clip(np.concatenate(parts), -1, 1), SAMPLE_RATE_HZ)
    return path


def _draw_speakers(
    voices: Sequence[Voice], folder: Path, babble: Path, stream: int, request: VoicesRequest
) -> Iterator[SpeakerTask]:
    """Draw speakers without end. Each voice has its share of them at any time."""
    generator = np.random.default_rng([request.seed, 0, stream])
    weights = np.array([WEIGHTS.get(voice.engine, 1.0) for voice in voices])
    due = generator.uniform(0, 1, len(voices))
    for index in count():
        due += weights
        choice = int(due.argmax())
        due[choice] -= weights.sum()
        seed = (request.seed, stream, index)
        yield SpeakerTask(voices[choice], seed, folder / f"{index}", babble, request.sentences)


def _record(
    tasks: Iterator[SpeakerTask], seconds: float, spread: Spread, split: str
) -> Iterator[tuple[SpeakerTask, Recordings]]:
    """Record speakers, in the order of the tasks, until they have spoken for ``seconds``."""
    bar = iter(progress(range(int(seconds)), f"seconds of {split}", int(seconds)))
    done_s = 0.0
    with closing(spread(record_speaker, tasks)) as recorded:
        for task, recordings in recorded:
            check_seen(recordings.utterances[0].path)
            before_s = done_s
            done_s += sum(recording.num_samples for recording in recordings.utterances) / SAMPLE_RATE_HZ
            deque(islice(bar, int(done_s) - int(before_s)), maxlen=0)
            yield task, recordings
            if done_s >= seconds:
                break
    deque(bar, maxlen=0)


def _list_utterances(task: SpeakerTask, recordings: Recordings, partial: Path, out: Path) -> list[Utterance]:
    """The utterances of a speaker, with audio paths under ``out``."""
    speaker = _speaker_of(task.folder)
    return [
        Utterance(
            id=f"{speaker}-{recording.path.stem}",
            audio_path=out / recording.path.relative_to(partial),
            sample_rate_hz=SAMPLE_RATE_HZ,
            duration_s=recording.num_samples / SAMPLE_RATE_HZ,
            speaker=speaker,
            phones=recording.phones,
            words=recording.words,
            details=recording.details,
        )
        for recording in recordings.utterances
    ]


def _speaker_of(folder: Path) -> str:
    """The name of the speaker whose recordings are in a folder."""
    return f"{folder.parent.name}-{folder.name}"
