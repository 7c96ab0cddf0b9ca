"""The languages of espeak-ng: their codes, names and files, as its data folder describes them."""

from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import NamedTuple

from asr.errors import InputError
from data_prep.espeak import require_espeak

PREFERRED = {"cmn": "sit/cmn", "zh": "sit/cmn", "yue": "sit/yue", "fr": "roa/fr", "pt": "roa/pt", "en": "gmw/en-US"}
"""Codes that several files have -> the file for it."""

NEAR = 3
"""Most languages that a message suggests."""


class Language(NamedTuple):
    """A language: its code, such as "de", its English name, and its file in espeak-ng's folder ``lang``."""

    code: str
    name: str
    file: str


@cache
def all_languages() -> dict[str, Language]:
    """Code -> language. Some languages have several codes.

    Raises:
        InputError: espeak-ng is missing.
    """
    folder = Path(require_espeak().get_data_path())
    found: dict[str, Language] = {}
    for path in sorted((folder / "lang").rglob("*")):
        if path.is_file() and (language := _read_language(path, folder)):
            lines = path.read_text(encoding="utf-8").splitlines()
            for code in [language.code, *(line.split()[1].lower() for line in lines if line.startswith("language "))]:
                if PREFERRED.get(code, language.file) == language.file:
                    found.setdefault(code, language)
    return found


def find_language(code: str) -> Language:
    """The language with a code, in any case; "_" is as good as "-".

    Raises:
        InputError: espeak-ng has no such language; the message names near ones.
    """
    languages = all_languages()
    wanted = code.lower().replace("_", "-")
    if wanted in languages:
        return languages[wanted]
    names: dict[str, list[Language]] = {}
    for language in languages.values():
        names.setdefault(language.name.split(" (")[0].lower(), []).append(language)
    close = get_close_matches(wanted, [*languages, *names], NEAR, 0.6)
    near = names.get(wanted) or [near for match in close for near in names.get(match, [languages.get(match)]) if near]
    suggested = [f"{language.code} ({language.name.split(' (')[0]})" for language in dict.fromkeys(near)][:NEAR]
    expected = f"one of its {len(set(languages.values()))}, such as {', '.join(suggested) or 'de (German)'}"
    raise InputError(f"language {code!r} is not in espeak-ng, expected {expected}")


def _read_language(path: Path, folder: Path) -> Language | None:
    """The language of a file, under the first of its codes; None if espeak-ng lacks its dictionary."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    values = {words[0]: " ".join(words[1:]).split(" //")[0] for words in reversed(lines) if len(words) > 1}
    codes = [words[1].lower() for words in lines if words[:1] == ["language"]]
    code = path.name.lower() if path.name.lower() in codes else codes[0]
    dictionary = values.get("dictionary", code.split("-")[0])
    if not (folder / f"{dictionary}_dict").is_file():
        return None
    return Language(code, values["name"], path.relative_to(folder / "lang").as_posix())
