"""L2-ARCTIC (version 5), read English of 24 non-native speakers, with the phones that annotators heard -> entries.

    SOURCE/ABA/wav/arctic_a0001.wav
    SOURCE/ABA/transcript/arctic_a0001.txt
    SOURCE/ABA/textgrid/arctic_a0001.TextGrid     words and phones by forced alignment
    SOURCE/ABA/annotation/arctic_a0003.TextGrid   the same, corrected by hand, for about 150 utterances of each speaker

Source: G. Zhao et al., "L2-ARCTIC: A Non-native English Speech Corpus", Interspeech 2018, and the README of the corpus.

A label of the annotators is a phone, or ``CPL,PPL,TYPE``: canonical phone, perceived phone, and s (substitution), d
(deletion, PPL is sil) or a (addition, CPL is sil). ``err`` is a sound that the annotator could not name. An asterisk marks
an accent. The reference is what was perceived, without stress; AX is AH, as in CMUdict. Utterances without annotation have
the canonical phones of the forced alignment.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from asr.corpus.phones import inventory
from asr.errors import InputError
from data_prep.entries import Entry, LeftOut
from data_prep.folder import refuse_archives
from data_prep.folder_texts import read_words
from data_prep.textgrid import Interval, read_textgrid
from data_prep.tiers import find_fault, group_tiers, is_gap, relative_times

SPEAKERS = {
    "Arabic": {"ABA": "m", "SKA": "f", "YBAA": "m", "ZHAA": "f"},
    "Mandarin": {"BWC": "m", "LXC": "f", "NCC": "f", "TXHC": "m"},
    "Hindi": {"ASI": "m", "RRBI": "m", "SVBI": "f", "TNI": "f"},
    "Korean": {"HJK": "f", "HKK": "m", "YDCK": "f", "YKWK": "m"},
    "Spanish": {"EBVS": "m", "ERMS": "m", "MBMPS": "f", "NJS": "f"},
    "Vietnamese": {"HQTV": "m", "PNV": "f", "THV": "f", "TLV": "m"},
}
"""Native language -> sex of each speaker, as the README of the corpus lists them."""

FOLDERS = {"wav": ".wav", "transcript": ".txt", "textgrid": ".TextGrid", "annotation": ".TextGrid"}

DELETION, SUBSTITUTION, ADDITION = "d", "s", "a"

NO_LETTER = re.compile(r"[^A-Za-z]")
"""Stress, the asterisk of an accent, and slips of the keyboard, such as a bracket."""


def read_l2arctic(source: Path) -> Iterator[Entry | LeftOut]:
    """Yield the read utterances of the corpus, speaker by speaker. Spontaneous speech (suitcase_corpus) is left out.

    Ids have the form ``ABA_arctic_a0001``. ``details`` has the native language, and whether the utterance is annotated.

    Raises:
        InputError: there is no such folder, it has none of the speakers, or an archive that was not unpacked.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder, expected one with L2-ARCTIC")
    source = source.absolute()
    refuse_archives(source)
    people = {name: (language, sex) for language, sexes in SPEAKERS.items() for name, sex in sexes.items()}
    folders = [folder for folder in _list_folders(source, 2) if (folder / "wav").is_dir()]
    if not {folder.name for folder in folders} & set(people):
        raise InputError(f"{source}: none of the speakers of L2-ARCTIC, expected folders such as ABA with wav in it")
    for folder in folders:
        if folder.name in people:
            yield from _read_speaker(folder, *people[folder.name])
        else:
            reason = "spontaneous speech" if folder.name == "suitcase_corpus" else "folder that is none of the speakers"
            yield LeftOut(str(folder), reason)


def perceive(label: str) -> tuple[str | None, str]:
    """The phone that a label says was heard, None for none, and the reason why the label cannot be used, or ""."""
    parts = [part.strip() for part in label.split(",")]
    kind = parts[-1].lower()
    if len(parts) not in (1, 3) or (len(parts) == 3 and kind not in (DELETION, SUBSTITUTION, ADDITION)):
        return None, "label other than CPL,PPL,TYPE"
    if is_gap(label) or (len(parts) == 3 and kind == DELETION):
        return None, ""
    phone = NO_LETTER.sub("", parts[1] if len(parts) == 3 else parts[0]).upper()
    if phone == "SIL":
        return None, ""
    if phone == "ERR":
        return None, "perceived phone that the annotator could not name (err)"
    phone = "AH" if phone == "AX" else phone
    return (phone, "") if phone in inventory("arpabet39").mapping else (None, "phone that is not in ARPAbet")


def _list_folders(folder: Path, depth: int) -> Iterator[Path]:
    """Yield a folder and those in it, sorted, to some depth. The folders of a speaker are not looked into."""
    yield folder
    if depth and not (folder / "wav").is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield from _list_folders(path, depth - 1)


def _read_speaker(folder: Path, language: str, sex: str) -> Iterator[Entry | LeftOut]:
    files = {
        name: {path.stem: path for path in (folder / name).glob(f"[!.]*{suffix}")} for name, suffix in FOLDERS.items()
    }
    for stem in sorted({stem for paths in files.values() for stem in paths}):
        missing = [name for name in ("wav", "transcript") if stem not in files[name]]
        grid_path = files["annotation"].get(stem, files["textgrid"].get(stem))
        if missing or grid_path is None:
            reason = {"wav": "text without audio", "transcript": "audio without transcript"}
            yield LeftOut(str(folder / "wav" / stem), reason[missing[0]] if missing else "audio without TextGrid")
            continue
        words = read_words(files["transcript"][stem])
        if isinstance(words, LeftOut):
            yield words
            continue
        phones = _read_phones(grid_path)
        if isinstance(phones, LeftOut):
            yield phones
            continue
        yield Entry(
            id=f"{folder.name}_{stem}",
            audio_path=files["wav"][stem],
            speaker=folder.name,
            where=str(grid_path),
            words=words,
            phones=tuple(phone.label for phone in phones),
            phone_times_s=relative_times(phones, 0.0, None),
            sex=sex,
            details={"native_language": language, "annotated": "yes" if stem in files["annotation"] else "no"},
        )


def _read_phones(path: Path) -> list[Interval] | LeftOut:
    """Read the perceived phones from the tier "phones"."""
    try:
        grid = read_textgrid(path)
    except InputError as error:
        return LeftOut(str(error), "TextGrid that is not readable")
    tier = next((group.phones for group in group_tiers(grid.tiers)[0] if group.phones is not None), None)
    if tier is None:
        return LeftOut(str(path), "TextGrid without a tier of phones")
    if fault := find_fault(str(path), tier, grid.end_s):
        return fault
    phones = []
    for interval in tier.intervals:
        phone, problem = perceive(interval.label)
        if interval.label.lower() == "spn":
            problem = "unknown word (spn)"
        if problem:
            return LeftOut(f"{path}: {interval.label!r} at {interval.start_s:g} s", problem)
        if phone is not None:
            phones.append(interval._replace(label=phone))
    return phones or LeftOut(str(path), "no phones")
