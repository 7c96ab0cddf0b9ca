"""Any corpus -> manifests, in memory that does not grow with its utterances.

    first pass    speakers, ids that occur twice, words without a pronunciation; then the splits
    second pass   parts of 2,000 utterances, in worker processes: audio, phones, lines, counts
    joining       parts -> manifests, statistics, tables

The parts are files in ``OUT/parts.partial`` until the end. After an interruption the same request goes on with those that
are missing, and the result is the same. Another request, or a corpus that has changed, says so and starts anew.
"""

import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path

from asr.errors import InputError, Interrupted
from asr.system.lock import open_run_lock
from asr.system.progress import progress
from data_prep.entries import Entry, Reader
from data_prep.joining import OOV, join_parts, write_counts
from data_prep.listing import Listing, in_parts, list_corpus
from data_prep.parts import Part, PartWriter, is_complete, make_writer, start_worker, write_part
from data_prep.pronouncing import Pronouncing
from data_prep.recordings import CHECKS
from data_prep.resuming import describe_request, keep_or_clear
from data_prep.spelling import Speller
from data_prep.splits import Assignment, SplitRequest, assign

PART_ITEMS = 2000

PARTS = "parts.partial"
"""Folder of the parts in the output folder."""


@dataclass(frozen=True)
class PrepareOptions:
    """How to prepare a corpus.

    ``check`` is one of `CHECKS`. ``jobs`` is the number of processes, 1 for none but this one, and ``part_items`` the
    number of utterances in a part. Neither changes the utterances and their order. ``spread`` writes the parts elsewhere,
    in place of processes: it maps what makes a writer, parts and their number to None for each part that is written.
    """

    split: SplitRequest = field(default_factory=SplitRequest)
    pronouncing: Pronouncing = field(default_factory=Pronouncing)
    check: str = "samples"
    jobs: int = 2
    part_items: int = PART_ITEMS
    spread: Callable[[Callable[[], Callable[[Part], None]], Iterator[Part], int], Iterator[None]] | None = None


def prepare(reader: Reader, out: Path, options: PrepareOptions | None = None) -> None:
    """Write ``cuts_SPLIT.jsonl.gz``, ``stats.json`` and ``phones.txt``, and if needed ``left_out.tsv`` and ``oov.tsv``.

    ``left_out.tsv`` has a line for each thing that was left out: where it is, and why. ``oov.tsv`` has the words without a
    pronunciation and their counts. ``phones.txt`` has the phones of the training set.

    Raises:
        InputError: the corpus, a setting or a file cannot be used; words have no pronunciation and that is an error; no
            utterance has phones and nothing pronounces words; an id occurs twice; nothing is left.
        Interrupted: Ctrl-C; the parts that are complete stay.
    """
    options = options or PrepareOptions()
    _check_options(options)
    out = out.absolute()
    speller = Speller(options.pronouncing)
    listing = list_corpus(reader, speller.preview, options.part_items)
    if not listing.items:
        raise InputError(f"{out}: no utterance in the corpus, expected at least 1")
    _refuse_missing(out, speller)
    assignment = assign(listing.speakers, options.split) if listing.utterances else Assignment({}, False, "train")
    request = describe_request(options.split, options.pronouncing, options.check, options.part_items)
    folder = out / PARTS
    with open_run_lock(folder):
        keep_or_clear(folder, request | {"corpus": listing.digest})
        stems = [folder / f"{number:06}" for number in range(len(listing.parts))]
        if complete := sum(map(is_complete, stems)):
            print(f"{out}: {complete} of {len(stems)} parts are there already, going on", file=sys.stderr)
        _write_parts(_read_parts(reader, stems, listing, assignment, options.part_items), stems, speller, options)
        join_parts(out, stems, listing.splits(assignment), assignment.notes, options.pronouncing.units)
    shutil.rmtree(folder, ignore_errors=True)


def _check_options(options: PrepareOptions) -> None:
    for name in ("jobs", "part_items"):
        if getattr(options, name) < 1:
            raise InputError(f"{name}: {getattr(options, name)}, expected at least 1")
    if options.check not in CHECKS:
        raise InputError(f"check: {options.check!r}, expected one of {', '.join(CHECKS)}")


def _refuse_missing(out: Path, speller: Speller) -> None:
    """Write the words that the first pass has missed, and raise InputError if there are any, or no phones for any words."""
    if speller.without and not speller.with_phones:
        expected = "expected a lexicon, a g2p, or units graphemes"
        raise InputError(f"{speller.without}: words without phones, {expected}")
    if not speller.missing:
        return
    out.mkdir(parents=True, exist_ok=True)
    write_counts(out / OOV, speller.missing)
    (word, count), *_ = sorted(speller.missing.items(), key=lambda item: (-item[1], item[0]))
    raise InputError(
        f"{speller.request.lexicon}: {len(speller.missing)} words of the corpus are missing, {word!r} {count} times, "
        f"expected all (they are in {out / OOV}; with --oov g2p they are pronounced, with --oov drop left out)"
    )


def _read_parts(
    reader: Reader, stems: list[Path], listing: Listing, assignment: Assignment, part_items: int
) -> Iterator[Part]:
    """Read the corpus a second time, in parts."""
    for number, items in enumerate(in_parts(reader(), part_items)):
        splits = [assignment.split_of(item.speaker, item.split) if isinstance(item, Entry) else "" for item in items]
        digest = listing.parts[number] if number < len(stems) else ""  # another part has come: the writer refuses it
        yield Part(stems[min(number, len(stems) - 1)], items, splits, digest)


def _write_parts(parts: Iterator[Part], stems: list[Path], speller: Speller, options: PrepareOptions) -> None:
    """Write all parts and show the progress.

    Raises:
        Interrupted: Ctrl-C.
    """
    jobs = min(options.jobs, len(stems))
    if options.spread is not None:
        written = options.spread(partial(make_writer, options.pronouncing, options.check), parts, len(stems))
    elif jobs == 1:
        written = map(PartWriter(speller, options.check).write, parts)
    else:
        written = _in_processes(parts, options, jobs)
    try:
        for _ in progress(written, "preparing", len(stems)):
            pass
    except KeyboardInterrupt as error:
        complete = sum(map(is_complete, stems))
        message = (
            f"interrupted, {complete} of {len(stems)} parts are complete; the same command goes on with the others"
        )
        raise Interrupted(message, signal.SIGINT) from error


def _in_processes(parts: Iterator[Part], options: PrepareOptions, jobs: int) -> Iterator[None]:
    """Write parts in processes; at most two for each process are in memory. Yields when one is written, in order."""
    others = set(active_children())
    arguments = (options.pronouncing, options.check)
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), start_worker, arguments)
    waiting: deque[Future[None]] = deque()
    try:
        for part in parts:
            waiting.append(pool.submit(write_part, part))
            if len(waiting) == 2 * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise InputError(
            f"jobs: one of {jobs} processes has ended, expected memory for all; with fewer the command goes on"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(active_children()) - others:  # after an error or Ctrl-C
            process.terminate()
