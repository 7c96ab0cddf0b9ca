"""Members of tar files as paths: ``recording.000003.tar:1536:20480`` is 20480 bytes from byte 1536 on.

A member is read without opening its archive, and its path works wherever the path of an audio file does.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.errors import InputError

MEMBER = re.compile(r"(.+\.tar):(\d+):(\d+)", re.DOTALL)


@dataclass(frozen=True)
class TarMember:
    """A part of a tar file: ``size`` bytes from byte ``offset`` on."""

    tar: Path
    offset: int
    size: int

    @property
    def path(self) -> Path:
        """The path that `find_member` takes."""
        return self.tar.with_name(f"{self.tar.name}:{self.offset}:{self.size}")

    def read(self) -> bytes:
        """Read the member.

        Raises:
            InputError: the tar file is missing, not readable or too short.
        """
        try:
            with self.tar.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise InputError(
                f"{self.path}: not readable ({error.strerror}), expected a member of a tar file"
            ) from error
        if len(content) < self.size:
            raise InputError(f"{self.path}: {len(content)} bytes, expected {self.size}")
        return content


def find_member(path: Path) -> TarMember | None:
    """The member that a path names, None if it is the path of a file."""
    if ".tar:" not in path.name or (match := MEMBER.fullmatch(path.name)) is None:
        return None
    return TarMember(path.with_name(match[1]), int(match[2]), int(match[3]))


def list_members(tar: Path) -> Iterator[tuple[str, TarMember]]:
    """Yield the name and place of each member of a tar file.

    Raises:
        InputError: it is not a tar file.
    """
    try:
        with tarfile.open(tar) as archive:
            for member in archive:
                yield member.name, TarMember(tar, member.offset_data, member.size)
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{tar}: not readable ({error}), expected a tar file") from error
