"""The output folder of bulk work: what is done, what could not be used, and one command at a time.

    done.jsonl   the request, then a line for each unit that is done: its files with their sizes, its counts, its problems
    errors.tsv   a line for each thing that could not be used, in the order of the units; no file if there is none

A unit is done if its line is there and its files have the sizes in it. The command that asks for the units writes these two
files. Those who do the units write the results: whole or not at all, so that a unit may be done twice.
"""

import hashlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from asr.errors import InputError
from asr.system.files import make_folder, read_text, write_bytes, write_text
from asr.system.lock import open_run_lock

DONE_FILE, ERRORS_FILE = "done.jsonl", "errors.tsv"
LOCK_FOLDER = "lock.partial"
UNUSABLE = "audio that cannot be used"
"""The reason of most problems."""
PARTIAL = ".unit.partial"
"""The end of the names of files that are being written."""


class Problem(NamedTuple):
    """What could not be used: its id, its audio, the reason (the same for all of a kind), and details."""

    id: str
    audio: str
    reason: str
    detail: str = ""

    def line(self) -> str:
        """The line of ``errors.tsv``."""
        return "\t".join(map(one_cell, self)) + "\n"


def one_cell(value: str) -> str:
    """A value as it is in a table: on one line, without tabs, in UTF-8 also if it is a file name that is not."""
    return " ".join(value.split()).encode(errors="backslashreplace").decode()


HEADER = Problem("utterance", "audio", "reason", "detail")


@dataclass
class UnitResult:
    """What a unit has done.

    Utterances or recordings, those that are unlike the speech that the model knows, the seconds of audio, the sizes of its
    files by name, and its problems.
    """

    utterances: int = 0
    unusual: list[str] = field(default_factory=list)
    seconds: float = 0.0
    files: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def usable(self) -> int:
        """The utterances or recordings that are no problem."""
        return self.utterances - len({problem.id for problem in self.problems})


@contextmanager
def lock_output(out: Path) -> Iterator[None]:
    """Refuse a second command that writes to the same folder. What killed workers have left there is removed.

    Raises:
        InputError: another command writes there, or the folder cannot be written.
    """
    make_folder(out)
    with open_run_lock(out / LOCK_FOLDER):
        _remove_partial_files(out)
        try:
            yield
        finally:
            _remove_partial_files(out)
            shutil.rmtree(out / LOCK_FOLDER, ignore_errors=True)


def write_result(path: Path, content: bytes) -> int:
    """Write a file whole or not at all, also when two workers write it at the same time. Returns its size.

    Raises:
        InputError: it cannot be written.
    """
    write_bytes(path, content, f".{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}{PARTIAL}")
    return len(content)


class DoneList:
    """The units that are done, as ``done.jsonl`` has them."""

    def __init__(self, out: Path, request: Mapping[str, str], force: bool = False) -> None:
        """``request`` is what the results depend on, by name. ``force`` starts anew.

        Raises:
            InputError: the folder has the results of another request, or cannot be written.
        """
        self.out, self.results = out, dict[int, UnitResult]()
        path = out / DONE_FILE
        lines = read_text(path, "units that are done").split("\n") if path.exists() else []
        earlier = _parse(lines[0]) if lines else None
        if force:
            self._remove(lines)
        elif earlier is not None and earlier != request:
            names = ", ".join(name for name in {**earlier, **request} if earlier.get(name) != request.get(name))
            raise InputError(
                f"{out}: results of another request ({names}), expected a new folder, or --force to replace them"
            )
        else:
            self.results = {number: result for number, result in self._read(lines) if self._is_there(result)}
        kept = [json.dumps(dict(request)), *(_format(number, result) for number, result in self.results.items())]
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")

    def __contains__(self, number: int) -> bool:
        return number in self.results

    def add(self, number: int, result: UnitResult) -> None:
        """Note down that a unit is done.

        Raises:
            InputError: its files are not here: workers write to another disk.
        """
        if not self._is_there(result):
            missing = ", ".join(result.files)
            raise InputError(
                f"{self.out}: no {missing}, which a worker wrote, expected a folder that all workers share"
            )
        self.results[number] = result
        self._file.write(f"{_format(number, result)}\n")
        self._file.flush()

    def close(self) -> None:
        """Close the list."""
        self._file.close()

    def _read(self, lines: list[str]) -> Iterator[tuple[int, UnitResult]]:
        for line in lines[1:]:
            content = _parse(line)
            if content is not None:  # the last line of a command that was killed may be cut off
                problems = [Problem(*problem) for problem in content.pop("problems")]
                yield content.pop("unit"), UnitResult(**content, problems=problems)

    def _is_there(self, result: UnitResult) -> bool:
        try:
            return all((self.out / name).stat().st_size == size for name, size in result.files.items())
        except OSError:
            return False

    def _remove(self, lines: list[str]) -> None:
        for _, result in self._read(lines):
            for name in result.files:
                (self.out / name).unlink(missing_ok=True)


def write_errors(out: Path, problems: Sequence[Problem]) -> None:
    """Write ``errors.tsv``, or remove it if there is no problem."""
    if problems:
        write_text(out / ERRORS_FILE, "".join([HEADER.line(), *(problem.line() for problem in problems)]))
    else:
        (out / ERRORS_FILE).unlink(missing_ok=True)


class ErrorsFile:
    """``errors.tsv`` while it is written: a problem is there at once, and in the end all are in order."""

    def __init__(self, out: Path, kept: Iterable[Problem]) -> None:
        """``kept`` are the problems of earlier commands that still hold."""
        self.out, self.problems = out, list(kept)
        self._known = set(self.problems)
        write_errors(out, self.problems)

    def add(self, problem: Problem) -> None:
        """Add a problem, unless it is there."""
        if problem in self._known:
            return
        self._known.add(problem)
        self.problems.append(problem)
        if len(self.problems) == 1:
            write_errors(self.out, self.problems)
        else:
            with (self.out / ERRORS_FILE).open("a", encoding="utf-8") as file:
                file.write(problem.line())

    def sort(self, place: Callable[[Problem], Any]) -> None:
        """Bring the lines in the order of their places."""
        self.problems.sort(key=place)
        write_errors(self.out, self.problems)


def read_errors(out: Path) -> list[Problem]:
    """The problems in the ``errors.tsv`` of a folder. A last line that was cut off is left out."""
    path = out / ERRORS_FILE
    lines = read_text(path, "problems").splitlines(keepends=True)[1:] if path.exists() else []
    cells = [line.rstrip("\n").split("\t") for line in lines if line.endswith("\n")]
    return [Problem(*row) for row in cells if len(row) == len(HEADER)]


def digest_folder(folder: Path) -> str:
    """A digest of the files of a model's folder, without its card."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != "README.md" and not path.name.startswith("."):  # such as .DS_Store
            digest.update(f"{path.name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _format(number: int, result: UnitResult) -> str:
    return json.dumps({"unit": number, **asdict(result)}, ensure_ascii=False)


def _parse(line: str) -> dict[str, Any] | None:
    with suppress(json.JSONDecodeError):
        content = json.loads(line)
        if isinstance(content, dict):
            return content
    return None


def _remove_partial_files(out: Path) -> None:
    for path in out.rglob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)
