"""Whether the parts of an interrupted preparation are those of the present request."""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from asr.errors import InputError
from asr.system.files import read_json_object, write_text
from data_prep.pronouncing import Pronouncing
from data_prep.splits import SplitRequest

FORMAT = "1"
"""Of the parts. It changes when the code would write others for the same request."""

REQUEST = "request.json"


def describe_request(split: SplitRequest, pronouncing: Pronouncing, check: str, part_items: int) -> dict[str, str]:
    """What the content of the parts depends on, apart from the corpus, by name. Files count with their content."""
    pronunciation = asdict(pronouncing)
    files = [pronouncing.lexicon, pronouncing.phones_map, Path(pronouncing.g2p) if pronouncing.g2p else None]
    return {
        "format": FORMAT,
        "split": json.dumps(asdict(split)),
        "pronunciation": json.dumps([pronunciation, [digest_file(path) for path in files if path]], default=str),
        "check": check,
        "parts": str(part_items),
    }


def digest_file(path: Path) -> str:
    """A digest of a file, or of all files of a folder; "" if there is none, as for the name of an engine."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        paths = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for each in paths:
            digest.update(hashlib.blake2b(each.read_bytes()).digest())
    except OSError:
        return ""
    return digest.hexdigest()


def keep_or_clear(folder: Path, request: Mapping[str, str]) -> None:
    """Remove the parts in ``folder`` unless they are those of ``request``, and say so; note down the request."""
    names = [name for name in folder.iterdir() if name.name != "lock"]
    earlier: Mapping[str, object] = {}
    with suppress(InputError):
        earlier = read_json_object(folder / REQUEST)
    if earlier == request:
        return
    if names:
        other = [name for name in request if earlier.get(name) != request[name]]
        print(f"{folder}: parts of another preparation ({', '.join(other)} differ), starting anew", file=sys.stderr)
        for path in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_text(folder / REQUEST, json.dumps(dict(request), indent=2) + "\n")
