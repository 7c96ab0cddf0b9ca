"""Shards -> a tar file for each, with the TextGrid of each utterance."""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from asr.corpus.cuts import Utterance
from asr.corpus.pronunciations import WordPronunciations, split_words
from asr.corpus.shards import open_shards
from asr.corpus.spool import Spool, stream_shards
from asr.errors import InputError
from asr.inference.align_corpus import Spread, Summary, survey
from asr.inference.align_recordings import align_recordings
from asr.inference.align_tiers import SUFFIX
from asr.inference.align_utterance import Item, Problem, UtteranceAligner
from asr.inference.recognizer import Recognizer
from asr.inference.result_files import DoneList, UnitResult, lock_output, read_errors, write_result
from asr.inference.sources import CorpusUnit, Source, UnitReader, Work, do_units, list_units

SURVEYED_SHARDS = 20
"""Phones are weighed by their frequency in so many shards, the first ones."""

Pronounce = Callable[[], WordPronunciations | None]
"""Loads pronunciations in a worker; it is pickled if the worker is elsewhere."""


def align_shards(
    source: Source,
    recognizer: Recognizer,
    pronounce: Pronounce,
    request: Mapping[str, str],
    out: Path,
    spread: Spread,
    skip_bad: bool = False,
) -> Summary:
    """Write the tiers of the utterances of shards. What an earlier command has done is kept.

    ``request`` is what the results depend on. With ``skip_bad``, bad shards are named and left out.

    Raises:
        InputError: a shard, the model or the folder cannot be used, or the folder has other results.
    """
    shards = open_shards(source.location)
    if shards.content == "features":
        raise InputError(f"{source.location}: stored features, expected shards of audio")
    pronunciations = pronounce()

    def items() -> Iterator[Item | Problem]:
        with Spool() as spool:
            surveyed = range(min(SURVEYED_SHARDS, len(shards)))
            for _, utterances in stream_shards(shards, surveyed, spool, skip_bad, need_phones=False):
                yield from (make_item(utterance, pronunciations) for utterance in utterances)

    _, weights = survey(recognizer, items)
    with lock_output(out):
        done = DoneList(out, request)
        skipped = len(done.results)
        make = partial(make_shard_aligner, spread.load, weights, pronounce, out.absolute())
        work = Work("aligning", list_units([source], need_phones=False), [source], make)
        do_units(work, done, spread.run, skip_bad)
    new = list(done.results.values())[skipped:]
    usable = [one.usable for one in new]
    summary = Summary(sum(map(bool, usable)), skipped, sum(usable), sum(one.seconds for one in new))
    summary.problems.update(problem.reason for problem in read_errors(out))
    return summary


def make_shard_aligner(
    load: Callable[[], Recognizer], weights: np.ndarray, pronounce: Pronounce, out: Path
) -> Callable[[CorpusUnit], UnitResult]:
    """Load a recognizer and pronunciations, and return what aligns a shard."""
    aligner, pronunciations = UtteranceAligner(load(), weights), pronounce()
    reader = UnitReader(aligner.recognizer.bundle.features, need_phones=False)

    def work(unit: CorpusUnit) -> UnitResult:
        with reader.read(unit) as utterances:
            made = [make_item(utterance, pronunciations) for utterance in utterances]
            items = [item for item in made if isinstance(item, Item)]
            tiers = align_recordings(aligner, items, {item.audio_path for item in items})
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            for item in items:
                if item.audio_path in tiers.texts:
                    text = tiers.texts[item.audio_path].encode()
                    member = tarfile.TarInfo(item.id + SUFFIX)
                    member.size = len(text)
                    tar.addfile(member, io.BytesIO(text))
        file = f"{unit.name}.tar"
        size = write_result(out / file, content.getvalue())
        problems = [*(problem for problem in made if isinstance(problem, Problem)), *tiers.problems]
        return UnitResult(len(utterances), seconds=tiers.seconds, files={file: size}, problems=problems)

    return work


def make_item(utterance: Utterance, pronunciations: WordPronunciations | None) -> Item | Problem:
    """An utterance of a shard as it is aligned: with its phones, or the pronunciations of its words."""
    if not utterance.phones and pronunciations is None:
        return Problem(utterance.id, str(utterance.audio_path), "words without phones, and no lexicon or g2p")
    words = split_words(utterance.words)
    known = tuple(pronunciations.find(word) for word in words) if pronunciations is not None else ()
    return Item(utterance.id, utterance.audio_path, words, known, utterance.phones or None, speaker=utterance.speaker)
