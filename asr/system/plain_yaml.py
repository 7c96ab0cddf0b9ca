"""YAML files of plain values."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.errors import InputError

DEEPEST = 20
"""Levels of nesting; settings have three."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: it cannot be read or is something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        _check_yaml(path, text)
        found = OmegaConf.to_container(OmegaConf.create(text) if text.strip() else OmegaConf.create())
    except (OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable ({type(error).__name__}), expected YAML") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: {type(found).__name__}, expected settings with a value each")
    return {str(key): value for key, value in found.items()}


def _check_yaml(path: Path, text: str) -> None:
    """Refuse what a few bytes of can grow without limit: aliases, and nesting."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{path}: has the alias *{event.anchor}, expected YAML without aliases")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path}: nested more than {DEEPEST} deep, expected settings in groups")
