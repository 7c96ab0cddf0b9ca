"""Join manifests into one, each a number of times.

    python recipes/english/mix.py OUT MANIFEST=TIMES [MANIFEST=TIMES ...]

``=2`` takes every utterance twice, ``=0.5`` the first half of the manifest. A copy has an id of its own, so that an epoch
sees it with a speed and masks of its own; its speaker stays.
"""

import gzip
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.errors import InputError
from asr.system.files import make_folder, write_bytes


def copies(path: Path, times: float) -> Iterator[str]:
    """The lines of a manifest, as often as asked."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable ({error}), expected a manifest") from error
    for number in range(math.ceil(times)):
        for line in lines[: round(len(lines) * min(1.0, times - number))]:
            cut = json.loads(line)
            if number:
                cut["id"] = f"{cut['id']}-copy{number}"
            yield json.dumps(cut) + "\n"


def main(out: Path, parts: Sequence[str]) -> None:
    """Write the joined manifest."""
    lines: list[str] = []
    for part in parts:
        name, _, times = part.rpartition("=")
        try:
            lines += copies(Path(name), float(times))
        except ValueError as error:
            raise InputError(f"{part}: {error}, expected MANIFEST=TIMES") from error
    make_folder(out.parent)
    write_bytes(out, gzip.compress("".join(lines).encode()))
    print(f"{out}: {len(lines)} utterances")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2:])
    except InputError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        sys.exit(2)
