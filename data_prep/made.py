"""Speech for pretraining: made readers say sentences of the words of a corpus, as many as are wanted.

The phones are those that a lexicon has for the words, as in a corpus that is transcribed by its prompts. The same seed
gives the same files, whatever the jobs.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from asr.corpus.audio import SAMPLE_RATE_HZ
from asr.corpus.lexicon import read_lexicon
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.corpus.phones import inventory
from asr.errors import InputError
from asr.system.progress import progress
from data_prep.espeak import require_espeak
from data_prep.readers import ReaderTask, read_aloud, voice_of

NEW_SENTENCES_SHARE = 0.5
"""Of sentences made of random words; the others are sentences of the corpus with some words replaced."""
REPLACED_SHARE = 0.25
LENGTHS = (2, 8)
"""Words of a random sentence, both included."""

Lexicon = Mapping[str, tuple[str, ...]]


def prepare_made(cuts: Path, lexicon: Path, out: Path, speakers: int, utterances: int, seed: int, jobs: int) -> None:
    """Make ``speakers`` times ``utterances`` recordings in ``out/audio``, and their manifest ``out/cuts_train.jsonl.gz``.

    ``cuts`` is the manifest whose sentences and words are said, ``lexicon`` has a word and its ARPAbet phones on each line;
    of several pronunciations the first counts, and stress is dropped.

    Raises:
        InputError: a number is out of range, a word is not in the lexicon, ``out`` is not empty or cannot be written, or
            espeak-ng is missing.
    """
    for name, value, least in (
        ("speakers", speakers, 1),
        ("utterances", utterances, 1),
        ("seed", seed, 0),
        ("jobs", jobs, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value}, expected at least {least}")
    require_espeak()
    originals = [utterance.words.split() for utterance in read_manifest(cuts)]
    pronunciations = {word: first for word, (first, *_) in read_lexicon(lexicon, inventory("arpabet39")).items()}
    missing = sorted({word for words in originals for word in words} - pronunciations.keys())
    if missing:
        raise InputError(f"{cuts}: word {missing[0]!r} is not in {lexicon}, expected every word there")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists already, expected a new or an empty folder")
    texts = _sentences(originals, speakers * utterances, np.random.default_rng([seed, 0]))
    out = out.absolute()
    partial = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
        partial.mkdir(parents=True)
        corpus = _record(partial, out, texts, pronunciations, speakers, seed, jobs)
        write_corpus(partial, {"train": corpus}, left_out={}, notes=(f"made with espeak-ng, seed {seed}",))
        if out.exists():
            out.rmdir()
        partial.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}), expected a folder with room") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sentences(originals: Sequence[Sequence[str]], count: int, generator: np.random.Generator) -> list[list[str]]:
    """Sentences of the corpus' words, each drawn as often as the corpus has it."""
    words = [word for sentence in originals for word in sentence]

    def draw() -> str:
        return words[int(generator.integers(len(words)))]

    made = []
    for _ in range(count):
        if generator.random() < NEW_SENTENCES_SHARE:
            made.append([draw() for _ in range(int(generator.integers(LENGTHS[0], LENGTHS[1] + 1)))])
        else:
            original = originals[int(generator.integers(len(originals)))]
            made.append([draw() if generator.random() < REPLACED_SHARE else word for word in original])
    return made


def _record(
    partial: Path,
    out: Path,
    texts: Sequence[Sequence[str]],
    lexicon: Lexicon,
    speakers: int,
    seed: int,
    jobs: int,
) -> list[Utterance]:
    """All recordings, made under ``partial`` by worker processes, as utterances that will lie under ``out``."""
    shares = [texts[reader::speakers] for reader in range(speakers)]
    with tempfile.TemporaryDirectory(prefix="asr-espeak-") as scratch:
        pool = ProcessPoolExecutor(min(jobs, speakers), mp_context=get_context("spawn"))
        try:
            futures = [
                pool.submit(
                    read_aloud,
                    ReaderTask(
                        reader,
                        seed,
                        partial / "audio" / f"R{reader}",
                        Path(scratch),
                        [" ".join(words).lower() for words in share],
                    ),
                )
                for reader, share in enumerate(shares)
            ]
            for future in progress(as_completed(futures), "readers", len(futures)):
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return [
        Utterance(
            id=f"R{reader}_{path.stem}",
            audio_path=out / path.relative_to(partial),
            sample_rate_hz=SAMPLE_RATE_HZ,
            duration_s=samples / SAMPLE_RATE_HZ,
            speaker=f"R{reader}",
            phones=tuple(phone for word in words for phone in lexicon[word]),
            words=" ".join(words),
            details={"voice": voice_of(reader, seed)[0]},
        )
        for reader, share in enumerate(shares)
        for words, (path, samples) in zip(share, futures[reader].result(), strict=True)
    ]
