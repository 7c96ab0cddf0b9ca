"""Synthetic speech for pretraining: synthetic readers read sentences made of the words of a corpus.

The phones are those of the words in a lexicon, as in a corpus that is transcribed by its prompts. The same seed gives the
same files, for any number of jobs.
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from asr.corpus.audio import SAMPLE_RATE_HZ
from asr.corpus.lexicon import read_lexicon
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.corpus.phones import inventory
from asr.errors import InputError
from asr.system.progress import progress
from data_prep.espeak import require_espeak
from data_prep.readers import ReaderTask, draw_voice, record_reader
from data_prep.spreading import Spread, check_seen

NEW_SENTENCES_SHARE = 0.5
"""Share of sentences of random words. The others are sentences of the corpus with some words replaced."""

REPLACED_SHARE = 0.25
"""Share of replaced words in these."""

LENGTHS = (2, 8)
"""Smallest and largest number of words of a random sentence."""

Pronunciations = Mapping[str, tuple[str, ...]]
"""Word -> phones."""


def prepare_made(
    cuts: Path, lexicon: Path, out: Path, speakers: int, utterances: int, seed: int, spread: Spread
) -> None:
    """Make ``speakers`` times ``utterances`` recordings in ``out/audio`` and their manifest ``out/cuts_train.jsonl.gz``.

    ``cuts`` is the manifest whose sentences and words are used. ``lexicon`` has a word and its ARPAbet phones on each line;
    the first pronunciation of a word counts, and stress is dropped.

    Raises:
        InputError: a number is out of range, there are no words, one is not in the lexicon, ``out`` is not empty or cannot
            be written, or espeak-ng is missing.
    """
    _check_numbers(speakers, utterances, seed)
    require_espeak()
    originals = [words for utterance in read_manifest(cuts) if (words := utterance.words.split())]
    if not originals:
        raise InputError(f"{cuts}: 0 words, expected sentences to make others of")
    pronunciations = {word: first for word, (first, *_) in read_lexicon(lexicon, inventory("arpabet39")).items()}
    missing = sorted({word for words in originals for word in words} - pronunciations.keys())
    if missing:
        raise InputError(f"{cuts}: word {missing[0]!r} is not in {lexicon}, expected an entry for every word")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists already, expected a new or an empty folder")
    texts = _make_sentences(originals, speakers * utterances, np.random.default_rng([seed, 0]))
    out = out.absolute()
    partial = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left by a killed run
        partial.mkdir(parents=True)
        corpus = _record_readers(partial, out, texts, pronunciations, speakers, seed, spread)
        write_corpus(partial, {"train": corpus}, left_out={}, notes=(f"made with espeak-ng, seed {seed}",))
        if out.exists():
            out.rmdir()
        partial.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}), expected a folder with room") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_numbers(speakers: int, utterances: int, seed: int) -> None:
    numbers = (("speakers", speakers, 1), ("utterances", utterances, 1), ("seed", seed, 0))
    for name, value, minimum in numbers:
        if value < minimum:
            raise InputError(f"{name} is {value}, expected at least {minimum}")


def _make_sentences(originals: Sequence[Sequence[str]], count: int, generator: np.random.Generator) -> list[list[str]]:
    """Make ``count`` sentences. Their words have the frequencies of the corpus."""
    words = [word for sentence in originals for word in sentence]

    def draw_word() -> str:
        return words[int(generator.integers(len(words)))]

    sentences = []
    for _ in range(count):
        if generator.random() < NEW_SENTENCES_SHARE:
            sentences.append([draw_word() for _ in range(int(generator.integers(LENGTHS[0], LENGTHS[1] + 1)))])
        else:
            original = originals[int(generator.integers(len(originals)))]
            sentences.append([draw_word() if generator.random() < REPLACED_SHARE else word for word in original])
    return sentences


def _record_readers(
    partial: Path,
    out: Path,
    texts: Sequence[Sequence[str]],
    pronunciations: Pronunciations,
    speakers: int,
    seed: int,
    spread: Spread,
) -> list[Utterance]:
    """Record every reader, with files under ``partial``; the utterances have audio paths under ``out``."""
    shares = [texts[reader::speakers] for reader in range(speakers)]
    tasks = [
        ReaderTask(reader, seed, partial / "audio" / f"R{reader}", [" ".join(words).lower() for words in share])
        for reader, share in enumerate(shares)
    ]
    utterances = []
    with closing(spread(record_reader, tasks)) as recorded:
        for task, recordings in progress(recorded, "readers", len(tasks)):
            check_seen(recordings[0][0])
            for words, (path, num_samples) in zip(shares[task.index], recordings, strict=True):
                utterances.append(
                    Utterance(
                        id=f"R{task.index}_{path.stem}",
                        audio_path=out / path.relative_to(partial),
                        sample_rate_hz=SAMPLE_RATE_HZ,
                        duration_s=num_samples / SAMPLE_RATE_HZ,
                        speaker=f"R{task.index}",
                        phones=tuple(phone for word in words for phone in pronunciations[word]),
                        words=" ".join(words),
                        details={"voice": draw_voice(task.index, seed)[0]},
                    )
                )
    return utterances
