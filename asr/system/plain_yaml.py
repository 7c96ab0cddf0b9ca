"""YAML files of plain values: no aliases, no references, limited size and depth."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.errors import InputError

MAX_DEPTH = 20
"""Levels of nesting. Settings have three."""
MAX_BYTES = 2**14
"""Settings have one to three kilobytes. A megabyte takes minutes to parse."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises:
        InputError: it cannot be read, or is not a mapping of plain values.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes, expected settings of at most {MAX_BYTES}")
        text = path.read_text(encoding="utf-8")
        _check_yaml(path, text)
        mapping = OmegaConf.to_container(OmegaConf.create(text) if text.strip() else OmegaConf.create())
    except (OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable ({type(error).__name__}), expected YAML") from error
    assert isinstance(mapping, dict)
    return {str(key): value for key, value in mapping.items()}


def _check_yaml(path: Path, text: str) -> None:
    """Refuse anything but a mapping of plain values. Aliases and nesting can grow without limit."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if depth == 0 and isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent):
            raise InputError(f"{path}: a list or a single value, expected settings with a value each")
        if isinstance(event, yaml.ScalarEvent) and "${" in event.value:
            raise InputError(f"{path}: has the reference {event.value[:100]!r}, expected plain values")
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{path}: has the alias *{event.anchor}, expected YAML without aliases")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(f"{path}: nested more than {MAX_DEPTH} deep, expected settings in groups")
