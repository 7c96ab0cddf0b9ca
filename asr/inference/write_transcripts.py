"""Transcripts of many recordings -> standard output, or a file for each recording and format in a folder."""

import glob
import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from asr.corpus.notation import phone_symbols, translate
from asr.errors import InputError
from asr.inference.hours_progress import HoursProgress
from asr.inference.recognizer import Recognizer, load
from asr.inference.result_files import (
    UNUSABLE,
    ErrorsFile,
    Problem,
    UnitResult,
    lock_output,
    one_cell,
    read_errors,
    write_result,
)
from asr.inference.transcribe import find_audio_files, transcribe
from asr.inference.transcript_formats import FORMATS, ctm_name
from asr.inference.units import Loading, Make, Run, fix_precision, run_here
from asr.system.files import make_folder

STANDARD_INPUT = "-"
UNUSUAL = "unlike the speech that the model was trained on; expect many errors"

UNIT_FILES, UNIT_BYTES = 64, 20 * 2**20
"""A unit has at most so many recordings, and bytes of them but for its last: 11 minutes of 16-bit samples at 16 kHz."""


@dataclass(frozen=True)
class Job:
    """A recording, its name in the output, and the path of its output files without suffix, None for standard output.

    If it is not ``wanted``, it is recognized with its unit, so that the others get the results that they always get, and
    not written.
    """

    path: Path
    name: Path
    target: Path | None
    wanted: bool = True

    @property
    def id(self) -> str:
        """The name as ``errors.tsv`` has it."""
        return one_cell(str(self.name))


def write_transcripts(
    model: Path,
    paths: Sequence[str],
    formats: Sequence[str],
    notation: str | None,
    out: Path | None,
    force: bool,
    loading: Loading,
    run: Run = run_here,
) -> tuple[int, int]:
    """Transcribe recordings and write each format. Returns the number that failed and the number that are done.

    Each failure is named on standard error, and in ``errors.tsv``. Without ``out`` everything goes to standard output. With
    ``out``, recordings whose files exist are skipped unless ``force`` is set. ``run`` does the work.

    Raises:
        InputError: nothing to transcribe, two recordings with the same output files, or a model that cannot be used.
    """
    check_notation(notation)
    with tempfile.TemporaryDirectory(prefix="asr-") as folder:
        jobs = find_jobs(paths, out, Path(folder))
        if out is None:
            if "ctm" in formats:
                _check_names(jobs)
            failed = _print_all(load(model, *loading), jobs, formats, notation)
            todo = len(jobs)
        else:
            with lock_output(out):
                make = partial(make_transcriber, model.absolute(), fix_precision(loading), tuple(formats), notation)
                failed, todo = _write_all(make, jobs, formats, out, force, run)
    if failed and todo > 1:
        print(f"asr: {failed} of {todo} recordings could not be used", file=sys.stderr)
    return failed, len(jobs) - failed


def check_notation(notation: str | None) -> None:
    """Refuse an unknown notation before a model is loaded."""
    if notation is not None and notation != "xsampa":
        phone_symbols(notation)


def find_jobs(paths: Sequence[str], out: Path | None, scratch: Path) -> list[Job]:
    """List the recordings that paths, patterns and ``-`` name. Output keeps the subfolders of a folder.

    Raises:
        InputError: a path does not exist, a pattern or folder has no audio, or two recordings have the same output files.
    """
    jobs = list(_jobs(paths, out, scratch))
    targets: dict[Path, Job] = {}
    for job in jobs:
        if job.target is not None and targets.setdefault(job.target, job).path != job.path:
            first = targets[job.target].name
            raise InputError(f"{job.name}: same output files as {first}, expected recordings with different names")
    return jobs


def _check_names(jobs: Sequence[Job]) -> None:
    """Refuse two recordings that one CTM would call the same."""
    names: dict[str, Job] = {}
    for job in jobs:
        name = ctm_name(job.name.stem)
        first = names.setdefault(name, job)
        if first.path != job.path:
            raise InputError(f"{job.name}: {name} in a CTM, as {first.name}, expected different names, or --out")


def _jobs(paths: Sequence[str], out: Path | None, scratch: Path) -> Iterator[Job]:
    for text in paths:
        if text == STANDARD_INPUT:
            yield _standard_input(out, scratch)
            continue
        matches = [text] if Path(text).exists() else sorted(glob.glob(text, recursive=True))
        for path in map(Path, matches or [text]):
            for audio in find_audio_files([path]):
                below = audio.relative_to(path) if path.is_dir() else Path(audio.name)
                yield Job(audio, audio, out / below.with_suffix("") if out is not None else None)


def _standard_input(out: Path | None, scratch: Path) -> Job:
    """Save the recording on standard input to a file in ``scratch``; its output files are called stdin."""
    content = io.BytesIO(sys.stdin.buffer.read()).getvalue() if sys.stdin else b""  # None if it is closed
    if not content:
        raise InputError("standard input: 0 bytes, expected audio")
    path = scratch / "stdin"
    path.write_bytes(content)
    return Job(path, Path("stdin"), out / "stdin" if out is not None else None)


def _print_all(recognizer: Recognizer, jobs: Sequence[Job], formats: Sequence[str], notation: str | None) -> int:
    """Transcribe recordings to standard output. Returns the number that failed."""
    failed, phones = 0, recognizer.bundle.inventory
    check_translation(recognizer, notation)
    for job, (_, result) in zip(jobs, transcribe(recognizer, [job.path for job in jobs]), strict=True):
        if isinstance(result, InputError):
            failed += 1
            print(f"asr: {_own_name(result, job)}", file=sys.stderr)
            continue
        if recognizer.is_unusual(result):
            print(f"asr: {job.name}: {UNUSUAL}", file=sys.stderr)
        transcript = result.in_notation(notation, phones) if notation else result
        for name in formats:
            print(FORMATS[name][1](transcript, job.name), end="", flush=True)
    return failed


def _write_all(
    make: Make[Sequence[Job], UnitResult], jobs: Sequence[Job], formats: Sequence[str], out: Path, force: bool, run: Run
) -> tuple[int, int]:
    """Do the units that have something to do. Returns the number of recordings that failed, and that were tried."""
    place = {job.id: index for index, job in enumerate(jobs)}
    earlier = read_errors(out)
    units = list(_units(jobs, formats, force, {problem.id for problem in earlier}))
    todo = sum(job.wanted for unit in units for job in unit)
    if todo < len(jobs):
        print(f"asr: {len(jobs) - todo} of {len(jobs)} skipped, files exist", file=sys.stderr)
    errors = ErrorsFile(out, [problem for problem in earlier if problem.id not in place])
    with HoursProgress("transcribing", len(jobs), len(jobs) - todo) as progress:
        for outcome in run(make, units, len(units)):
            if outcome.error is not None:
                raise outcome.error
            assert outcome.result is not None
            for problem in outcome.result.problems:
                print(f"asr: {problem.detail}", file=sys.stderr)
                errors.add(problem)
            for name in outcome.result.unusual:
                print(f"asr: {name}: {UNUSUAL}", file=sys.stderr)
            progress.add(sum(job.wanted for job in outcome.unit), outcome.result.seconds)
    errors.sort(lambda problem: place.get(problem.id, -1))
    return sum(problem.id in place for problem in errors.problems), todo


def _units(jobs: Sequence[Job], formats: Sequence[str], force: bool, unusable: set[str]) -> Iterator[tuple[Job, ...]]:
    """The units with recordings that lack a file.

    The units depend on the list of recordings alone. One with a new recording is therefore recognized whole; but where only
    those are lacking that could not be used, they are tried alone.
    """
    for unit in _all_units(jobs):
        marked = [replace(job, wanted=force or not _is_complete(job, formats)) for job in unit]
        wanted = [job for job in marked if job.wanted]
        if wanted:
            yield tuple(wanted if {job.id for job in wanted} <= unusable else marked)


def _all_units(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    unit: list[Job] = []
    size = 0
    for job in jobs:
        own = job.path.stat().st_size
        if unit and (len(unit) == UNIT_FILES or size + own > UNIT_BYTES):
            yield unit
            unit, size = [], 0
        unit.append(replace(job, path=job.path.absolute()))
        size += own
    if unit:
        yield unit


def make_transcriber(
    model: Path, loading: Loading, formats: Sequence[str], notation: str | None
) -> Callable[[Sequence[Job]], UnitResult]:
    """Load a model, and return what transcribes the recordings of a unit to files."""
    recognizer = load(model, *loading)
    phones = recognizer.bundle.inventory
    check_translation(recognizer, notation)

    def work(unit: Sequence[Job]) -> UnitResult:
        done = UnitResult()
        for job, result in transcribe(recognizer, unit, lambda job: recognizer.features(job.path)):
            if not job.wanted:
                continue
            if isinstance(result, InputError):
                done.problems.append(Problem(job.id, str(job.path), UNUSABLE, _own_name(result, job)))
                continue
            assert job.target is not None
            make_folder(job.target.parent)
            transcript = result.in_notation(notation, phones) if notation else result
            for name in formats:
                suffix, write = FORMATS[name]
                write_result(_output_file(job.target, suffix), write(transcript, job.name).encode())
            if recognizer.is_unusual(result):
                done.unusual.append(str(job.name))
            done.utterances += 1
            done.seconds += result.duration_s
        return done

    return work


def check_translation(recognizer: Recognizer, notation: str | None) -> None:
    """Refuse a notation that the model's phones cannot be written in."""
    if notation:
        phones = recognizer.bundle.inventory
        translate(phones.symbols[1:], phones.notation, notation)


def _own_name(error: InputError, job: Job) -> str:
    return str(error).replace(str(job.path), str(job.name), 1)


def _is_complete(job: Job, formats: Sequence[str]) -> bool:
    return job.target is not None and all(_output_file(job.target, FORMATS[name][0]).exists() for name in formats)


def _output_file(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)
