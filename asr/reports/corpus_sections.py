"""The sections of the page about a corpus: what is in each split, and what its audio is like.

In:  a `Tally` and its statistics.
Out: sections of `asr.reports.page`. `asr.reports.corpus_listening` has those with audio.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from asr.reports.corpus_figures import MAX_PHONES, draw_phones
from asr.reports.corpus_speakers import details_section, speakers_section
from asr.reports.corpus_statistics import RARE, phone_totals, unknown_words
from asr.reports.corpus_tables import CorpusTable, measured_section, quantity_table
from asr.reports.corpus_tally import Tally
from asr.reports.page import Drawing, Section

WORDS_SHOWN = 12


def content_sections(tally: Tally, statistics: Mapping[str, Any]) -> list[Section]:
    """Durations, speakers, phones, words and what splits share."""
    return [
        measured_section(
            tally, "Durations", ["duration_s", "speech_s"], ["Silence at the ends is explained under Method."]
        ),
        speakers_section(tally, statistics),
        *details_section(tally),
        _phones(tally, statistics),
        *_words(tally, statistics),
        measured_section(
            tally,
            "Speaking rate",
            ["phones_per_s"],
            ["Phones of the transcript, divided by the duration without silence at the start and the end."],
        ),
        *_overlaps(statistics),
    ]


def audio_sections(tally: Tally, statistics: Mapping[str, Any]) -> list[Section]:
    """Level, clipping, noise, bandwidth, silence and formats."""
    level = ["Relative to full scale: a sine of amplitude 1 has a level of \u22123 dB and a peak of 0 dB."]
    clipping = _clipping(tally)
    return [
        measured_section(tally, "Level", ["level_db", "peak_db"], level),
        Section("Clipping and DC offset", tables=[clipping, quantity_table(tally, "offset")]),
        measured_section(tally, "Noise and bandwidth", ["snr_db", "bandwidth_hz"]),
        measured_section(tally, "Silence at the start and the end", ["start_silence_s", "end_silence_s"]),
        _formats(statistics),
    ]


def _phones(tally: Tally, statistics: Mapping[str, Any]) -> Section:
    totals = phone_totals(tally)
    names = [split.name for split in tally.splits]
    timed = any(split.phone_times for split in tally.splits)
    rows = []
    for phone, total in totals.most_common():
        row: list[Any] = [phone, *(split.phones.get(phone, 0) for split in tally.splits), 100 * total / totals.total()]
        if timed:
            times = [split.phone_times[phone] for split in tally.splits if phone in split.phone_times]
            count = sum(time[0] for time in times)
            row.append(1000 * sum(time[1] for time in times) / count if count else float("nan"))
            row += (
                [1000 * min(time[2] for time in times), 1000 * max(time[3] for time in times)] if times else [0.0, 0.0]
            )
        rows.append(row)
    header = ["phone", *names, "share %", *(["mean ms", "shortest ms", "longest ms"] if timed else [])]
    text = [f"{len(totals)} different phones, {totals.total():,} in all."]
    if len(rows) > MAX_PHONES:
        text.append(f"The {MAX_PHONES} most frequent; figures/phones.csv lists all.")
    if statistics["rare_phones"]:
        rare = ", ".join(f"{phone} {count}" for phone, count in list(statistics["rare_phones"].items())[:30])
        text.append(f"Rare, fewer than {RARE} times: {len(statistics['rare_phones'])} phones ({rare}).")
    for name, phones in statistics["phones_in_one_split"].items():
        text.append(f"In {name} alone: {', '.join(phones[:30])}{' and more' if len(phones) > 30 else ''}.")
    tables = [CorpusTable("phones", header, rows, shown=len(rows) <= MAX_PHONES)]
    if len(rows) > MAX_PHONES:
        tables.append(CorpusTable("phones_shown", header, rows[:MAX_PHONES]))
    figure = draw_phones({split.name: split.phones for split in tally.splits}, [row[0] for row in rows])
    return Section(
        "Phones", text, tables=tables, figures=[Drawing("phones", figure, "Share of each phone in each split.")]
    )


def _words(tally: Tally, statistics: Mapping[str, Any]) -> list[Section]:
    training = tally.splits[tally.training]
    rows = []
    for name, split in statistics["splits"].items():
        unknown, types = split["words_not_in_training"], split["distinct_words_not_in_training"]
        shares = [100 * unknown / max(1, split["words"]), types, 100 * types / max(1, split["distinct_words"])]
        rows.append([name, split["words"], split["distinct_words"], unknown, *shares])
    if not any(row[1] for row in rows):
        return [Section("Vocabulary", ["The manifests have no words."])]
    new = f"not in {training.name}"
    titles = ["split", "words", "vocabulary", new, "%", f"vocabulary {new}", "%"]
    header = [*titles[:4], "% of words", titles[5], "% of vocabulary"]
    shown = len(titles) if len(rows) > 1 else 3
    sizes = CorpusTable("words", header[:shown], [row[:shown] for row in rows], titles=titles[:shown])
    totals = sum((split.words for split in tally.splits), start=Counter[str]())
    frequent = [
        [word, *(split.words.get(word, 0) for split in tally.splits)] for word, _ in totals.most_common(WORDS_SHOWN)
    ]
    tables = [CorpusTable("frequent_words", ["word", *(split.name for split in tally.splits)], frequent)]
    for number, split in enumerate(tally.splits):
        unknown_here = unknown_words(split, training).most_common(WORDS_SHOWN)
        if number != tally.training and unknown_here:
            pairs = [list(pair) for pair in unknown_here]
            tables.append(CorpusTable(f"unknown_words_{number}", [f"in {split.name}, {new}", "times"], pairs))
    text = ["Words are compared without case, and without punctuation at their ends."]
    return [Section("Vocabulary", text, tables=[sizes]), Section("Most frequent words", tables=tables)]


def _overlaps(statistics: Mapping[str, Any]) -> list[Section]:
    rows = [
        [" and ".join(pair["splits"]), pair["speakers"], pair["texts"], pair["recordings"]]
        for pair in statistics["overlaps"]
    ]
    if not rows:
        return []
    header = ["splits", "speakers in both", "texts in both", "recordings in both"]
    text = ["Models score better on speakers, texts and recordings of their training."]
    return [Section("What splits share", text, tables=[CorpusTable("overlaps", header, rows)])]


def _clipping(tally: Tally) -> CorpusTable:
    rows = []
    for number, split in enumerate(tally.splits):
        shares = 100 * tally.values("clipped", number)
        counts = [int((shares > limit).sum()) for limit in (0, 0.1, 1)]
        rows.append([split.name, *counts, float(shares.max())])
    header = ["split", "any", "over 0.1 %", "over 1 %", "highest %"]
    return CorpusTable("clipping", header, rows, titles=["clipped samples: utterances with", *header[1:]])


def _formats(statistics: Mapping[str, Any]) -> Section:
    splits = statistics["splits"].values()
    kinds = sorted({(one["sample_rate_hz"], one["channels"]) for split in splits for one in split["formats"]})
    rows: list[list[Any]] = []
    for rate, channels in kinds:
        counts = [
            sum(
                one["utterances"]
                for one in split["formats"]
                if (one["sample_rate_hz"], one["channels"]) == (rate, channels)
            )
            for split in splits
        ]
        rows.append([f"{rate:,} Hz", channels, *counts])
    header = ["sample rate", "channels", *(f"{name}: utterances" for name in statistics["splits"])]
    return Section("Sample rates and channels", tables=[CorpusTable("formats", header, rows)])
