"""A manifest -> the same manifest, with the pronunciation of each word that fits its audio best."""

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from asr.corpus.manifest import Utterance, read_manifest
from asr.corpus.pronunciations import Pronunciation, split_words
from asr.errors import InputError
from asr.inference.align_pronunciations import choose_pronunciations
from asr.inference.align_utterance import split_phones
from asr.inference.recognizer import Recognizer
from asr.inference.result_files import UNUSABLE
from asr.inference.verify import UTTERANCES_AT_ONCE, read_features_or_error
from asr.inference.windows import compute_log_probs
from asr.system.files import check_writable, make_folder
from asr.system.progress import progress

NO_WORDS, NO_PRONUNCIATION, TOO_LONG = "no words", "no pronunciation", "text too long for the audio"


@dataclass
class Realigned:
    """Words and utterances in all, and those that changed; utterances kept as they were, by reason.

    ``missing`` counts the words without a pronunciation. ``unknown`` are utterances whose old phones no pronunciations of
    their words give: their words count, but not as changed.
    """

    words: int = 0
    changed_words: int = 0
    utterances: int = 0
    changed_utterances: int = 0
    unknown: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)


def realign(recognizer: Recognizer, cuts: Path, out: Path, find: Callable[[str], Sequence[Pronunciation]]) -> Realigned:
    """Choose the pronunciation of every word by alignment, and write the manifest with these phones to ``out``.

    ``find`` gives all pronunciations of a word. An utterance whose phones change loses its phone times.

    Raises:
        InputError: the manifest cannot be used, or ``out`` cannot be written. Audio that cannot be used is counted.
    """
    make_folder(out.parent)
    check_writable(out)
    utterances = read_manifest(cuts)
    report = Realigned(utterances=len(utterances))
    partial = out.with_name(out.name + ".partial")
    phones = _choose_all(recognizer, utterances, find, report)
    lines = zip(_read_lines(cuts), progress(phones, "realigning", len(utterances)), strict=True)
    try:
        with partial.open("wb") as file, ExitStack() as stack:
            zipped = out.suffix == ".gz"
            packed = stack.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0)) if zipped else file
            for cut, chosen in lines:
                if chosen is not None:
                    _set_phones(cut, chosen)
                packed.write((json.dumps(cut, ensure_ascii=False) + "\n").encode())
        os.replace(partial, out)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror}), expected a file in a folder with room"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return report


def _read_lines(cuts: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(cuts, "rt", encoding="utf-8") if cuts.suffix == ".gz" else cuts.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _set_phones(cut: dict[str, Any], phones: Pronunciation) -> None:
    supervision = cut["supervisions"][0]
    supervision["custom"] = {**(supervision.get("custom") or {}), "phones": " ".join(phones)}
    supervision.pop("alignment", None)


def _choose_all(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    find: Callable[[str], Sequence[Pronunciation]],
    report: Realigned,
) -> Iterator[Pronunciation | None]:
    """Yield the new phones of each utterance, None if they are the old ones."""
    remaining = iter(utterances)
    while batch := list(islice(remaining, UTTERANCES_AT_ONCE)):
        features = [read_features_or_error(recognizer, utterance) for utterance in batch]
        usable = [each for each in features if not isinstance(each, InputError)]
        all_log_probs = iter(compute_log_probs(recognizer.bundle, usable))
        for utterance, found in zip(batch, features, strict=True):
            if isinstance(found, InputError):
                report.kept[UNUSABLE] += 1
                yield None
            else:
                yield _choose(recognizer, utterance, next(all_log_probs), find, report)


def _choose(
    recognizer: Recognizer,
    utterance: Utterance,
    log_probs: Tensor,
    find: Callable[[str], Sequence[Pronunciation]],
    report: Realigned,
) -> Pronunciation | None:
    """The new phones of an utterance, None if they are the old ones. Pronunciations that the model lacks do not count."""
    words = split_words(utterance.words)
    found, encoded = [], []
    for word in words:
        pairs = [(each, ids) for each in find(word) if (ids := _encode(recognizer, each))]
        found.append([each for each, _ in pairs])
        encoded.append([ids for _, ids in pairs])
    path = choose_pronunciations(log_probs, encoded) if words and all(found) else None
    if path is None:
        _count_kept(words, found, report)
        return None
    chosen = [each_word[choice] for each_word, choice in zip(found, path.choices, strict=True)]
    return _compare(utterance.phones, found, chosen, report)


def _encode(recognizer: Recognizer, pronunciation: Pronunciation) -> list[int]:
    try:
        return recognizer.bundle.inventory.encode(pronunciation, "")
    except InputError:
        return []


def _count_kept(words: Sequence[str], found: Sequence[Sequence[Pronunciation]], report: Realigned) -> None:
    """Count an utterance that stays as it is."""
    missing = [word for word, pronunciations in zip(words, found, strict=True) if not pronunciations]
    report.missing.update(missing)
    report.kept[NO_WORDS if not words else NO_PRONUNCIATION if missing else TOO_LONG] += 1


def _compare(
    old: Pronunciation,
    pronunciations: Sequence[Sequence[Pronunciation]],
    chosen: Sequence[Pronunciation],
    report: Realigned,
) -> Pronunciation | None:
    """Count what changes. Returns the new phones, None if they are the old ones."""
    phones = tuple(phone for pronunciation in chosen for phone in pronunciation)
    before = split_phones(old, pronunciations)
    report.words += len(chosen)
    if phones == old:
        return None
    report.changed_utterances += 1
    if before is None:
        report.unknown += 1
    else:
        report.changed_words += sum(was != now for was, now in zip(before, chosen, strict=True))
    return phones
