"""Join manifests into one, each a number of times.

    python recipes/english/mix.py OUT MANIFEST=TIMES [MANIFEST=TIMES ...]

``=2`` takes every utterance twice, ``=0.5`` the first half of the manifest. A copy has an id of its own, so that an epoch
sees it with a speed and masks of its own; its speaker stays. If ids of a manifest occur in one before it, its ids and
speakers get the name of its folder as a prefix.
"""

import gzip
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr.errors import InputError
from asr.system.files import make_folder, write_bytes


def copies(path: Path, times: float) -> Iterator[dict[str, Any]]:
    """The cuts of a manifest, as often as asked."""
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
            yield cut


def add_prefix(cuts: Sequence[dict[str, Any]], prefix: str) -> None:
    """Put a prefix before the ids and speakers of cuts."""
    for cut in cuts:
        cut["id"] = f"{prefix}-{cut['id']}"
        for supervision in cut["supervisions"]:
            supervision["speaker"] = f"{prefix}-{supervision['speaker']}"


def main(out: Path, parts: Sequence[str]) -> None:
    """Write the joined manifest."""
    cuts: dict[str, str] = {}
    for part in parts:
        name, _, times = part.rpartition("=")
        try:
            added = list(copies(Path(name), float(times)))
        except ValueError as error:
            raise InputError(f"{part}: {error}, expected MANIFEST=TIMES") from error
        if any(cut["id"] in cuts for cut in added):
            add_prefix(added, Path(name).absolute().parent.name)
        for cut in added:
            if cut["id"] in cuts:
                raise InputError(f"{name}: utterance id {cut['id']} occurs in another manifest, expected other ids")
            cuts[cut["id"]] = json.dumps(cut) + "\n"
    make_folder(out.parent)
    write_bytes(out, gzip.compress("".join(cuts.values()).encode()))
    print(f"{out}: {len(cuts)} utterances")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2:])
    except InputError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        sys.exit(2)
