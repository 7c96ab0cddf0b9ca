"""Many recordings transcribed: to standard output, or to files of their names in a folder."""

import glob
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.corpus.notation import translation
from asr.errors import InputError
from asr.inference.recognizer import Recognizer, load
from asr.inference.transcribe import audio_files, transcribe
from asr.inference.transcript_formats import FORMATS
from asr.system.files import make_folder, write_text
from asr.system.progress import progress

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Job:
    """A recording, what it is called in the output, and where its files go, without their endings."""

    path: Path
    name: Path
    target: Path | None


def transcribe_to(
    model: Path,
    paths: Sequence[str],
    formats: Sequence[str],
    notation: str | None,
    out: Path | None,
    force: bool,
    loading: tuple[str, str, str],
) -> tuple[int, int]:
    """Transcribe recordings and write them in each format; how many could not be used, each named on standard error, and
    how many are done.

    ``loading`` is device, precision and decoder. Without ``out`` everything goes to standard output.

    Raises:
        InputError: nothing to transcribe, two recordings whose files would be the same, or a model that cannot be used.
    """
    if notation is not None:
        translation(notation)
    if out is not None:
        make_folder(out)
    with tempfile.TemporaryDirectory(prefix="asr-") as folder:
        jobs = jobs_of(paths, out, Path(folder))
        todo = [job for job in jobs if force or not _complete(job, formats)]
        if len(todo) < len(jobs):
            print(f"asr: {len(jobs) - len(todo)} of {len(jobs)} there already", file=sys.stderr)
        failed = _transcribe_all(load(model, *loading), todo, formats, notation) if todo else 0
    if failed and len(todo) > 1:
        print(f"asr: {failed} of {len(todo)} recordings could not be used", file=sys.stderr)
    return failed, len(jobs) - failed


def _transcribe_all(recognizer: Recognizer, jobs: Sequence[Job], formats: Sequence[str], notation: str | None) -> int:
    failed = 0
    found = zip(jobs, transcribe(recognizer, [job.path for job in jobs]), strict=True)
    for job, (_, result) in progress(found, "transcribing", len(jobs)) if jobs[0].target is not None else found:
        if isinstance(result, InputError):
            failed += 1
            print(f"asr: {str(result).replace(str(job.path), str(job.name), 1)}", file=sys.stderr)
            continue
        transcript = result.in_notation(notation) if notation else result
        for name in formats:
            ending, write = FORMATS[name]
            text = write(transcript, job.name)
            if job.target is None:
                print(text, end="", flush=True)
            else:
                make_folder(job.target.parent)
                write_text(_file(job.target, ending), text)
    return failed


def jobs_of(paths: Sequence[str], out: Path | None, scratch: Path) -> list[Job]:
    """The recordings that paths, patterns and ``-`` name. What was found in a folder keeps its place below it.

    Raises:
        InputError: a path does not exist, a pattern or folder has no audio, or two recordings have the same name.
    """
    jobs = list(_jobs(paths, out, scratch))
    targets: dict[Path, Job] = {}
    for job in jobs:
        if job.target is not None and targets.setdefault(job.target, job).path != job.path:
            other = targets[job.target].name
            raise InputError(f"{job.name}: its files would be those of {other}, expected recordings of other names")
    return jobs


def _jobs(paths: Sequence[str], out: Path | None, scratch: Path) -> Iterator[Job]:
    for text in paths:
        if text == STANDARD_INPUT:
            yield _standard_input(out, scratch)
            continue
        found = [Path(text)] if Path(text).exists() else [Path(one) for one in sorted(glob.glob(text, recursive=True))]
        for path in found or [Path(text)]:
            for audio in audio_files([path]):
                below = audio.relative_to(path) if path.is_dir() else Path(audio.name)
                yield Job(audio, audio, out / below.with_suffix("") if out is not None else None)


def _standard_input(out: Path | None, scratch: Path) -> Job:
    """A recording that comes through a pipe; files of it are called stdin."""
    content = io.BytesIO(sys.stdin.buffer.read()).getvalue()
    if not content:
        raise InputError("standard input: 0 bytes, expected audio")
    path = scratch / "stdin"
    path.write_bytes(content)
    return Job(path, Path("stdin"), out / "stdin" if out is not None else None)


def _complete(job: Job, formats: Sequence[str]) -> bool:
    return job.target is not None and all(_file(job.target, FORMATS[name][0]).exists() for name in formats)


def _file(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)
