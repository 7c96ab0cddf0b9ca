"""YAML files of plain values."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.errors import InputError

DEEPEST = 20
"""Levels of nesting; settings have three."""
LARGEST_BYTES = 2**14
"""Settings have a kilobyte or three, and a megabyte takes minutes to parse."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: it cannot be read or is something else.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, expected settings of at most {LARGEST_BYTES}")
        text = path.read_text(encoding="utf-8")
        _check_yaml(path, text)
        found = OmegaConf.to_container(OmegaConf.create(text) if text.strip() else OmegaConf.create())
    except (OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable ({type(error).__name__}), expected YAML") from error
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def _check_yaml(path: Path, text: str) -> None:
    """Refuse what is no mapping of plain values: aliases and nesting, which grow without limit, and references."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if depth == 0 and isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent):
            raise InputError(f"{path}: a list or a single value, expected settings with a value each")
        if isinstance(event, yaml.ScalarEvent) and "${" in event.value:
            raise InputError(f"{path}: has the reference {event.value[:100]!r}, expected plain values")
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{path}: has the alias *{event.anchor}, expected YAML without aliases")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path}: nested more than {DEEPEST} deep, expected settings in groups")
