"""Transcripts of many recordings -> standard output, or a file for each recording and format in a folder."""

import glob
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.corpus.notation import phone_symbols, translate
from asr.errors import InputError
from asr.inference.recognizer import Recognizer, load
from asr.inference.transcribe import find_audio_files, transcribe
from asr.inference.transcript_formats import FORMATS
from asr.system.files import make_folder, write_text
from asr.system.progress import progress

STANDARD_INPUT = "-"
UNUSUAL = "unlike the speech that the model was trained on; expect many errors"


@dataclass(frozen=True)
class Job:
    """A recording, its name in the output, and the path of its output files without suffix, None for standard output."""

    path: Path
    name: Path
    target: Path | None


def write_transcripts(
    model: Path,
    paths: Sequence[str],
    formats: Sequence[str],
    notation: str | None,
    out: Path | None,
    force: bool,
    loading: tuple[str, str, str],
) -> tuple[int, int]:
    """Transcribe recordings and write each format. Returns the number that failed and the number that are done.

    Each failure is named on standard error. Without ``out`` everything goes to standard output. With ``out``, recordings
    whose files exist are skipped unless ``force`` is set. ``loading`` is device, precision and decoder.

    Raises:
        InputError: nothing to transcribe, two recordings with the same output files, or a model that cannot be used.
    """
    if notation is not None and notation != "xsampa":  # refuse an unknown notation before the model is loaded
        phone_symbols(notation)
    if out is not None:
        make_folder(out)
    with tempfile.TemporaryDirectory(prefix="asr-") as folder:
        jobs = find_jobs(paths, out, Path(folder))
        todo = [job for job in jobs if force or not _is_complete(job, formats)]
        if len(todo) < len(jobs):
            print(f"asr: {len(jobs) - len(todo)} of {len(jobs)} skipped, files exist", file=sys.stderr)
        failed = _transcribe_all(load(model, *loading), todo, formats, notation) if todo else 0
    if failed and len(todo) > 1:
        print(f"asr: {failed} of {len(todo)} recordings could not be used", file=sys.stderr)
    return failed, len(jobs) - failed


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
    content = io.BytesIO(sys.stdin.buffer.read()).getvalue()
    if not content:
        raise InputError("standard input: 0 bytes, expected audio")
    path = scratch / "stdin"
    path.write_bytes(content)
    return Job(path, Path("stdin"), out / "stdin" if out is not None else None)


def _transcribe_all(recognizer: Recognizer, jobs: Sequence[Job], formats: Sequence[str], notation: str | None) -> int:
    """Transcribe and write recordings. Returns the number that failed."""
    failed, phones = 0, recognizer.bundle.inventory
    if notation:  # refuse a notation that the model's phones cannot be written in
        translate(phones.symbols[1:], phones.notation, notation)
    results = zip(jobs, transcribe(recognizer, [job.path for job in jobs]), strict=True)
    to_files = jobs[0].target is not None
    for job, (_, result) in progress(results, "transcribing", len(jobs)) if to_files else results:
        if isinstance(result, InputError):
            failed += 1
            print(f"asr: {str(result).replace(str(job.path), str(job.name), 1)}", file=sys.stderr)
            continue
        if recognizer.is_unusual(result):
            print(f"asr: {job.name}: {UNUSUAL}", file=sys.stderr)
        transcript = result.in_notation(notation, phones) if notation else result
        for name in formats:
            suffix, write = FORMATS[name]
            text = write(transcript, job.name)
            if job.target is None:
                print(text, end="", flush=True)
            else:
                make_folder(job.target.parent)
                write_text(_output_file(job.target, suffix), text)
    return failed


def _is_complete(job: Job, formats: Sequence[str]) -> bool:
    return job.target is not None and all(_output_file(job.target, FORMATS[name][0]).exists() for name in formats)


def _output_file(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)
