"""Rules for the values of settings, in the metadata of a dataclass's fields."""

from collections.abc import Mapping
from dataclasses import field
from fnmatch import fnmatchcase
from typing import Any

from asr.errors import InputError


def any_value() -> Any:
    """Any value of the type."""
    return field()


def within(low: float, high: float = float("inf")) -> Any:
    """A number, or a list of numbers, from ``low`` to ``high`` inclusive."""
    return field(metadata={"low": low, "high": high})


def one_of(*choices: str) -> Any:
    """A string, or a list of strings, from a fixed set. A choice may be a pattern: ``*.txt`` is any path that ends so."""
    return field(metadata={"choices": choices})


def text_or_list() -> Any:
    """Any string, or a list of strings."""
    return field(metadata={"type": str})


def check_value(key: str, value: Any, rule: Mapping[str, Any]) -> None:
    """Refuse a value that a rule excludes.

    Raises:
        InputError: it names ``key``.
    """
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, rule.get("type", object)):
            raise InputError(f"configuration: {key} has {item!r}, expected a string, or a list of strings")
        if "choices" in rule and not any(fnmatchcase(item, choice) for choice in rule["choices"]):
            raise InputError(f"configuration: {key} is {item!r}, expected one of {', '.join(rule['choices'])}")
        if "low" in rule and not rule["low"] <= item <= rule["high"]:
            raise InputError(f"configuration: {key} is {item}, expected {rule['low']} to {rule['high']}")
