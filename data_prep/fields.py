"""Fields that corpora spell in different ways: splits, sex, times, and the names of audio files."""

import math
import os
import re
import unicodedata
from pathlib import Path

MAX_TIME_S = 1e9
"""Largest time that a manifest may contain."""

SPLIT_NAME = re.compile(r"(train(?:ing)?|dev(?:elopment)?|val(?:id(?:ation)?)?|test(?:ing)?|eval(?:uation)?)(?![a-z])")

HELD_OUT_OF_TRAINING = re.compile(r"train(?:ing)?[_-](?:dev|val)")
"""train_dev and train-valid, as ESPnet has them."""

SPLIT_OF_PREFIX = {"tra": "train", "dev": "dev", "val": "dev", "tes": "test", "eva": "test"}


def parse_split(name: str) -> str:
    """Return the split that a name begins with: dev for "dev-clean" and "train_dev", test for "eval92"; "" if with none."""
    name = name.strip().lower()
    if HELD_OUT_OF_TRAINING.match(name):
        return "dev"
    match = SPLIT_NAME.match(name)
    return SPLIT_OF_PREFIX[match[1][:3]] if match else ""


def parse_sex(value: str) -> str:
    """Return "f" or "m" for the words of tables, such as "F", "female" or "male_masculine"; "" for all others."""
    word = value.strip().lower().partition("_")[0]
    return word[0] if word in ("f", "m", "female", "male") else ""


def parse_seconds(value: str) -> float | None:
    """Return a time in seconds, or None if it is none."""
    try:
        time_s = float(value)
    except ValueError:
        return None
    return time_s if math.isfinite(time_s) and 0 <= time_s < MAX_TIME_S else None


def normalize(text: str) -> str:
    """Compose letters and their accents (NFC), and make white space single spaces."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def to_name(text: str) -> str:
    """Make a text the id of an utterance or the name of a speaker: composed, with ``_`` for white space."""
    return normalize(text).replace(" ", "_")


def locate(folder: Path, name: str) -> Path:
    """Return the path of a file that a table names, whether the disk has its letters composed (NFC) or decomposed (NFD)."""
    path = folder / name
    if not name.isascii() and not os.path.exists(path):
        for other in (unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
            if os.path.exists(folder / other):
                return folder / other
    return path
