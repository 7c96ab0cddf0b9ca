"""speechocean762 in its download layout -> manifests. Non-native read English; half of the speakers are children.

J. Zhang et al., "speechocean762: An Open-Source Non-native English Speech Corpus For Pronunciation Assessment",
Interspeech 2021 (OpenSLR resource 101). The phones are the canonical ones of each word, without times.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from asr.corpus.audio import probe_audio
from asr.corpus.manifest import Utterance, write_corpus
from asr.corpus.phones import inventory
from asr.errors import InputError
from data_prep.checking import check_audio, compare_counts, compare_sample_rates, read_lines, read_speakers, warn

STANDARD_COUNTS = {"train": (2240, 112), "dev": (260, 13), "test": (2500, 125)}
"""Split -> (utterances, speakers) of the full corpus."""

DEV_LIST = "speechocean762_dev.txt"

PHONE = re.compile(r"([A-Z]+)[0-2]?(?:_[BIES])?")
"""A transcribed phone: ARPAbet symbol, stress, position in the word."""


def prepare_speechocean762(source: Path, out: Path, jobs: int) -> None:
    """Write manifests of the splits ``train``, ``dev`` and ``test`` and their statistics to ``out``.

    ``test`` is the official test part. ``dev`` is 13 of the 125 speakers of the official train part, with the same balance
    of sex and age: sort the speakers by (sex, age, id), divide them into 13 slices of equal length and take the middle
    speaker of each, number floor((2 i + 1) 125 / 26) for i = 0 to 12. They are listed in
    ``data_prep/lists/speechocean762_dev.txt``. The code reads this list; it does not apply the rule.

    Args:
        source: the folder with ``WAVE``, ``train``, ``test`` and ``resource``, or its parent.
        out: folder of the manifests. Nothing is written until all checks pass.
        jobs: number of threads that check the audio.

    Raises:
        InputError: a table, an utterance or an audio file cannot be used.
    """
    root = _find_root(source)
    phones = _read_phones(root / "resource" / "text-phone")
    official_train, test = (_read_part(root, part, phones) for part in ("train", "test"))
    dev_speakers = read_speakers(DEV_LIST)
    splits = {
        "train": [utterance for utterance in official_train if utterance.speaker not in dev_speakers],
        "dev": [utterance for utterance in official_train if utterance.speaker in dev_speakers],
        "test": test,
    }
    _check_disjoint(root, official_train, test)
    notes = compare_counts(splits, STANDARD_COUNTS) + compare_sample_rates([*official_train, *test])
    warn(notes)
    check_audio([*official_train, *test], jobs)
    listed = {utterance.id for utterance in [*official_train, *test]}
    unlisted = {path.stem for path in root.glob("WAVE/*/*") if path.suffix.upper() == ".WAV"} - listed
    write_corpus(out, splits, {"audio files in neither train nor test": len(unlisted)} if unlisted else {}, notes)


def _find_root(source: Path) -> Path:
    """Find the folder of the corpus: ``source``, or ``speechocean762`` in it."""
    for root in (source, source / "speechocean762"):
        if all((root / name).is_dir() for name in ("WAVE", "train", "test", "resource")):
            return root.absolute()
    raise InputError(f"{source}: no speechocean762 found, expected a folder with WAVE, train, test and resource")


def _read_part(root: Path, part: str, phones: Mapping[str, Sequence[Sequence[str]]]) -> list[Utterance]:
    """Read the utterances of a part, in the order of its ``wav.scp``, and the headers of their audio."""
    tables = {name: _read_table(root / part / name) for name in ("wav.scp", "text", "utt2spk", "spk2age", "spk2gender")}
    # The union of the tables: an utterance that is missing from any of them is an error.
    listed = dict.fromkeys([*tables["wav.scp"], *tables["text"], *tables["utt2spk"]])
    return [_make_utterance(root, part, utterance_id, tables, phones) for utterance_id in listed]


def _make_utterance(
    root: Path,
    part: str,
    utterance_id: str,
    tables: Mapping[str, Mapping[str, str]],
    phones: Mapping[str, Sequence[Sequence[str]]],
) -> Utterance:
    where = f"{root / part}: utterance {utterance_id}"

    def look_up(table: str, key: str) -> str:
        if key not in tables[table]:
            raise InputError(f"{where}: {key} is not in {part}/{table}, expected it there")
        return tables[table][key]

    words, speaker, audio_path = (
        look_up("text", utterance_id),
        look_up("utt2spk", utterance_id),
        look_up("wav.scp", utterance_id),
    )
    age, sex = look_up("spk2age", speaker), look_up("spk2gender", speaker)
    if sex not in ("f", "m"):
        raise InputError(f"{where}: gender of speaker {speaker} is {sex!r}, expected f or m")
    word_phones, count = phones.get(utterance_id, ()), len(words.split())
    if len(word_phones) != count:
        raise InputError(
            f"{where}: {len(word_phones)} words in resource/text-phone, expected the {count} of {part}/text"
        )
    info = probe_audio(root / audio_path)
    return Utterance(
        id=utterance_id,
        audio_path=root / audio_path,
        sample_rate_hz=info.sample_rate_hz,
        duration_s=info.duration_s,
        speaker=speaker,
        phones=tuple(phone for word in word_phones for phone in word),
        words=words,
        sex=sex,
        details={"age": age},
    )


def _read_phones(path: Path) -> dict[str, list[tuple[str, ...]]]:
    """Utterance -> the phones of each word, without stress and position in the word."""
    arpabet = inventory("arpabet39").mapping
    utterances: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for key, transcribed in _read_table(path).items():
        utterance_id, _, word = key.rpartition(".")
        if word != str(len(utterances[utterance_id])):
            expected = f"{utterance_id}.{len(utterances[utterance_id])}"
            raise InputError(f"{path}: utterance {utterance_id}: word {key}, expected {expected}")
        phones = []
        for phone in transcribed.split():
            match = PHONE.fullmatch(phone)
            if match is None or match[1] not in arpabet:
                raise InputError(
                    f"{path}: utterance {utterance_id}: unknown phone {phone!r}, expected one of the 39 of ARPAbet"
                )
            phones.append(match[1])
        utterances[utterance_id].append(tuple(phones))
    return dict(utterances)


def _read_table(path: Path) -> dict[str, str]:
    """Read a Kaldi table: each line has a key, white space and a value."""
    table: dict[str, str] = {}
    for number, line in read_lines(path):
        key, _, value = " ".join(line.split()).partition(" ")
        if not value:
            raise InputError(f"{path}: line {number}: {key!r} has no value, expected one")
        if key in table:
            raise InputError(f"{path}: line {number}: {key!r} occurs twice, expected once")
        table[key] = value
    return table


def _check_disjoint(root: Path, train: Sequence[Utterance], test: Sequence[Utterance]) -> None:
    """Raise InputError if a speaker is in both parts."""
    shared = {utterance.speaker for utterance in train} & {utterance.speaker for utterance in test}
    if shared:
        raise InputError(f"{root}: speaker {min(shared)} is in train and in test, expected in one of them")
