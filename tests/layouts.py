"""Write a corpus out in the layouts that `asr prepare` reads, by other means than it reads them with where there are any.

Each writer takes an empty folder and the utterances of each split, and returns what the reader is given. Audio is encoded
anew, never linked: FLAC, WAV or MP3, as the layout has it.
"""

import csv
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem
from praatio import textgrid

from asr.corpus.manifest import Utterance

Splits = Mapping[str, Sequence[Utterance]]

COLUMNS = {"audio": "file", "words": "sentence", "speaker": "reader", "id": "name", "split": "set", "sex": "gender"}
"""What the columns of `write_csv` and the like are called; those of phones and age are called so."""

GENDERS = {"f": "female_feminine", "m": "male_masculine", "": ""}


def utterances_of(splits: Splits) -> Iterator[tuple[str, Utterance]]:
    """Yield each utterance after the name of its split."""
    for split, utterances in splits.items():
        for utterance in utterances:
            yield split, utterance


def speakers_of(utterances: Sequence[Utterance]) -> Iterator[tuple[str, list[Utterance]]]:
    """Yield the speakers of a split in order, each with all utterances."""
    ordered = sorted(utterances, key=lambda utterance: (utterance.speaker, utterance.id))
    for speaker, own in groupby(ordered, key=lambda utterance: utterance.speaker):
        yield speaker, list(own)


def copy_audio(utterance: Utterance, path: Path) -> None:
    """Encode the samples of an utterance as the suffix of ``path`` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples, rate = soundfile.read(utterance.audio_path, dtype="int16")
    assert rate == utterance.sample_rate_hz
    soundfile.write(path, samples, rate, format=path.suffix[1:].upper())


def join_audio(utterances: Sequence[Utterance], path: Path) -> list[tuple[float, float]]:
    """Write utterances behind each other, half a second apart, into one file; returns the start and end of each in s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate, position, pieces, times = utterances[0].sample_rate_hz, 0, [], []
    for utterance in utterances:
        samples, _ = soundfile.read(utterance.audio_path, dtype="int16")
        pieces += [samples, np.ones(rate // 2, np.int16)]
        times.append((position / rate, (position + len(samples)) / rate))
        position += len(samples) + rate // 2
    soundfile.write(path, np.concatenate(pieces), rate)
    return times


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_folder_lab(root: Path, splits: Splits) -> Path:
    """SPLIT/SPEAKER/ID.flac and ID.lab."""
    for split, utterance in utterances_of(splits):
        stem = root / split / utterance.speaker / utterance.id
        copy_audio(utterance, stem.with_suffix(".flac"))
        write_lines(stem.with_suffix(".lab"), [utterance.words])
    return root


def equal_edges(start_s: float, end_s: float, count: int) -> list[float]:
    """The edges of equally long intervals."""
    return [float(edge) for edge in np.linspace(start_s, end_s, count + 1)]


def write_tiers(utterance: Utterance, phones: Sequence[str], path: Path) -> None:
    """Write a TextGrid whose intervals of words and of phones are equally long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = textgrid.Textgrid(0, utterance.duration_s)
    for name, labels in (("words", utterance.words.split()), ("phones", phones)):
        edges = equal_edges(0, utterance.duration_s, len(labels))
        entries = list(zip(edges[:-1], edges[1:], labels, strict=True))
        grid.addTier(textgrid.IntervalTier(name, entries, 0, utterance.duration_s))
    grid.save(str(path), "long_textgrid", includeBlankSpaces=True)


def write_folder_textgrid(root: Path, splits: Splits) -> Path:
    """SPLIT/SPEAKER/ID.wav and ID.TextGrid."""
    for split, utterance in utterances_of(splits):
        stem = root / split / utterance.speaker / utterance.id
        copy_audio(utterance, stem.with_suffix(".wav"))
        write_tiers(utterance, utterance.phones, stem.with_suffix(".TextGrid"))
    return root


def write_kaldi(root: Path, splits: Splits, phones: bool = False) -> Path:
    """Data directories data/SPLIT; paths are relative to the folder above ``data``, as in Kaldi's recipes."""
    for split, utterances in splits.items():
        ordered = sorted(utterances, key=lambda utterance: utterance.id)
        for utterance in ordered:
            copy_audio(utterance, root / "wav" / f"{utterance.id}.wav")
        _write_kaldi_tables(root / "data" / split, ordered, phones)
        write_lines(root / "data" / split / "wav.scp", [f"{u.id} wav/{u.id}.wav" for u in ordered])
    return root / "data"


def write_kaldi_phones(root: Path, splits: Splits) -> Path:
    """As `write_kaldi`, with phones in ``text``."""
    return write_kaldi(root, splits, phones=True)


def write_kaldi_segments(root: Path, splits: Splits) -> Path:
    """One long file for each split, and ``segments``."""
    for split, utterances in splits.items():
        ordered = sorted(utterances, key=lambda utterance: utterance.id)
        times = join_audio(ordered, root / split / f"{split}.flac")
        _write_kaldi_tables(root / split, ordered, phones=False)
        write_lines(root / split / "wav.scp", [f"rec_{split} {split}.flac"])
        segments = [f"{u.id} rec_{split} {start} {end}" for u, (start, end) in zip(ordered, times, strict=True)]
        write_lines(root / split / "segments", segments)
    return root


def _write_kaldi_tables(folder: Path, ordered: Sequence[Utterance], phones: bool) -> None:
    write_lines(folder / "text", [f"{u.id} {' '.join(u.phones) if phones else u.words}" for u in ordered])
    write_lines(folder / "utt2spk", [f"{u.id} {u.speaker}" for u in ordered])
    write_lines(folder / "utt2dur", [f"{u.id} {u.duration_s:.2f}" for u in ordered])
    write_lines(folder / "spk2gender", sorted({f"{u.speaker} {u.sex}" for u in ordered}))


def write_librispeech(root: Path, splits: Splits) -> Path:
    """SPLIT-clean/SPEAKER/CHAPTER with FLAC and a transcript of the chapter."""
    table = [";ID  |SEX| SUBSET           |MINUTES| NAME"]
    for split, utterances in splits.items():
        for speaker, own in speakers_of(utterances):
            table.append(f"{speaker} | {own[0].sex.upper()} | {split}-clean | 1.23 | A | B")
            chapter = root / f"{split}-clean" / speaker / "7"
            for utterance in own:
                copy_audio(utterance, chapter / f"{utterance.id}.flac")
            write_lines(chapter / f"{speaker}-7.trans.txt", [f"{u.id} {u.words}" for u in own])
    write_lines(root / "SPEAKERS.TXT", table)
    return root


def write_libritts(root: Path, splits: Splits) -> Path:
    """SPLIT-other/SPEAKER/CHAPTER with WAV and a text for each utterance."""
    table = ["READER\tGENDER\tSUBSET\tNAME"]
    for split, utterances in splits.items():
        for speaker, own in speakers_of(utterances):
            table.append(f"{speaker}\t{own[0].sex.upper()}\t{split}-other\tA B")
            for utterance in own:
                stem = root / f"{split}-other" / speaker / "7" / utterance.id
                copy_audio(utterance, stem.with_suffix(".wav"))
                write_lines(stem.with_suffix(".original.txt"), [utterance.words.lower()])
                write_lines(stem.with_suffix(".normalized.txt"), [utterance.words])
    write_lines(root / "speakers.tsv", table)
    return root


def write_commonvoice(root: Path, splits: Splits) -> Path:
    """Tables and clips in MP3, in the folder of a language, with the columns of the releases since 2024."""
    header = "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale"
    rows = {"validated": [header.replace(" ", "\t")]}
    for split, utterance in utterances_of(splits):
        copy_audio(utterance, root / "en" / "clips" / f"{utterance.id}.mp3")
        values = [utterance.speaker, f"{utterance.id}.mp3", "0", utterance.words, "", "2", "0"]
        values += [utterance.details.get("age", ""), GENDERS[utterance.sex], "", "", "en"]
        rows["validated"].append("\t".join(values))
        rows.setdefault(split, rows["validated"][:1]).append("\t".join(values))
    for name, lines in rows.items():
        write_lines(root / "en" / f"{name}.tsv", lines)
    return root


def _make_rows(root: Path, splits: Splits) -> list[dict[str, str]]:
    rows = []
    for split, utterance in utterances_of(splits):
        name = f"audio files/{utterance.id}.wav"
        copy_audio(utterance, root / name)
        values = (name, utterance.words, utterance.speaker, utterance.id, split, utterance.sex)
        row = dict(zip(COLUMNS.values(), values, strict=True))
        rows.append(row | {"phones": " ".join(utterance.phones), "age": utterance.details.get("age", "")})
    return rows


def write_csv(root: Path, splits: Splits, delimiter: str = ",") -> Path:
    rows = _make_rows(root, splits)
    path = root / ("table.csv" if delimiter == "," else "table.tsv")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_tsv(root: Path, splits: Splits) -> Path:
    return write_csv(root, splits, "\t")


def write_jsonl(root: Path, splits: Splits) -> Path:
    """JSON lines with a list of phones."""
    rows = [row | {"phones": row["phones"].split()} for row in _make_rows(root, splits)]
    write_lines(root / "table.jsonl", [json.dumps(row) for row in rows])
    return root / "table.jsonl"


def write_parquet(root: Path, splits: Splits) -> Path:
    """Parquet in row groups of 10."""
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(_make_rows(root, splits)), root / "table.parquet", row_group_size=10)
    return root / "table.parquet"


def _supervise(utterance: Utterance, recording: str, start_s: float, aligned: bool) -> SupervisionSegment:
    """Make a supervision with ``custom["phones"]`` or, if it is ``aligned``, phones of equal length in its alignment."""
    custom, alignment = dict(utterance.details), None
    if aligned:
        step_s = utterance.duration_s / len(utterance.phones)
        starts_s = [start_s + step_s * number for number in range(len(utterance.phones))]
        alignment = {"phone": [AlignmentItem(p, s, step_s) for p, s in zip(utterance.phones, starts_s, strict=True)]}
    else:
        custom["phones"] = " ".join(utterance.phones)
    facts = {"text": utterance.words, "speaker": utterance.speaker, "gender": utterance.sex}
    return SupervisionSegment(
        utterance.id, recording, start_s, utterance.duration_s, alignment=alignment, custom=custom, **facts
    )


def write_lhotse(root: Path, splits: Splits) -> Path:
    """Files cuts_SPLIT.jsonl.gz, a cut for each utterance."""
    for split, utterances in splits.items():
        cuts = []
        for utterance in utterances:
            copy_audio(utterance, root / "audio" / f"{utterance.id}.flac")
            recording = Recording.from_file(root / "audio" / f"{utterance.id}.flac", recording_id=utterance.id)
            supervision = _supervise(utterance, utterance.id, 0.0, aligned=False)
            cuts.append(MonoCut(utterance.id, 0.0, recording.duration, 0, [supervision], recording=recording))
        CutSet.from_cuts(cuts).to_file(root / f"cuts_{split}.jsonl.gz")
    return root


def write_lhotse_several(root: Path, splits: Splits) -> Path:
    """A cut for each speaker, with a supervision for each utterance, in plain JSON lines."""
    for split, utterances in splits.items():
        cuts = []
        for speaker, own in speakers_of(utterances):
            times = join_audio(own, root / "audio" / f"{speaker}.wav")
            recording = Recording.from_file(root / "audio" / f"{speaker}.wav", recording_id=speaker)
            parts = [_supervise(u, speaker, start, aligned=True) for u, (start, _) in zip(own, times, strict=True)]
            cuts.append(MonoCut(speaker, 0.0, recording.duration, 0, parts, recording=recording))
        CutSet.from_cuts(cuts).to_file(root / f"cuts_{split}.jsonl")
    return root


def name_speakers(splits: Splits, names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Give the speakers, in order, names of their sex."""
    left = {sex: list(of_sex) for sex, of_sex in names.items()}
    sexes = {utterance.speaker: utterance.sex for _, utterance in utterances_of(splits)}
    return {speaker: left[sexes[speaker]].pop(0) for speaker in sorted(sexes)}


L2_ARCTIC = {"f": ("SKA", "LXC", "NCC", "SVBI", "HJK", "YDCK"), "m": ("ABA", "BWC", "TXHC", "ASI", "HKK", "YKWK")}
"""Some speakers of L2-ARCTIC by sex."""


def write_l2arctic(root: Path, splits: Splits) -> Path:
    """SPEAKER with wav, transcript, textgrid; every second utterance has an annotation of a substituted phone."""
    names = name_speakers(splits, L2_ARCTIC)
    for number, (_, utterance) in enumerate(utterances_of(splits)):
        folder, first, rest = root / names[utterance.speaker], utterance.phones[0], utterance.phones[1:]
        copy_audio(utterance, folder / "wav" / f"{utterance.id}.wav")
        write_lines(folder / "transcript" / f"{utterance.id}.txt", [utterance.words])
        canonical = ("ZH" if number % 2 else first, *rest)
        write_tiers(utterance, canonical, folder / "textgrid" / f"{utterance.id}.TextGrid")
        if number % 2:
            heard = (f"ZH,{first},s", *rest)
            write_tiers(utterance, heard, folder / "annotation" / f"{utterance.id}.TextGrid")
    return root


BUCKEYE = {"f": [f"s{number:02}" for number in range(1, 21)], "m": [f"s{number:02}" for number in range(21, 41)]}
"""Speakers that stand for those of the Buckeye corpus."""

BUCKEYE_MARGIN_S = 0.1
"""Silence at both ends of an utterance, as the reader cuts it out of a conversation."""


def write_buckeye(root: Path, splits: Splits) -> Path:
    """sNN/sNN01a.wav with all utterances of a speaker, .phones and .words; phones in lower case."""
    names = name_speakers(splits, BUCKEYE)
    for utterances in splits.values():
        for speaker, own in speakers_of(utterances):
            stem = root / names[speaker] / f"{names[speaker]}01a"
            times = join_audio(own, stem.with_suffix(".wav"))
            phones, words = ["0.0 121 {B_TRANS}"], ["0.0 121 {B_TRANS}"]
            for utterance, (start_s, end_s) in zip(own, times, strict=True):
                begin, end = start_s + BUCKEYE_MARGIN_S, end_s - BUCKEYE_MARGIN_S
                labels = [phone.lower() for phone in utterance.phones]
                spoken = [f"{word}; {word[0].lower()}; {word[0].lower()}; NN" for word in utterance.words.split()]
                for lines, each in ((phones, labels), (words, spoken)):
                    lines.append(f"{begin!r} 121 <SIL>" if lines is words else f"{begin!r} 121 SIL")
                    ends = equal_edges(begin, end, len(each))[1:]
                    lines += [f"  {time_s!r} 121 {label}" for time_s, label in zip(ends, each, strict=True)]
            for suffix, lines in ((".phones", phones), (".words", words)):
                tail = f"{times[-1][1]!r} 121 {{E_TRANS}}"
                write_lines(stem.with_suffix(suffix), ["signal x", "nfields 1", "#", *lines, tail])
    return root


WRITERS: dict[str, Callable[[Path, Splits], Path]] = {
    name.removeprefix("write_"): writer
    for name, writer in list(globals().items())
    if name.startswith("write_") and name not in ("write_lines", "write_tiers")
}
"""Name -> writer."""
