"""The report about a corpus: what is in each split, what its audio is like, and which utterances to look at.

In:  manifests, one for each split.
Out: DIR/index.html, self-contained, with figures as SVG and tables as CSV in DIR/figures, and DIR/stats.json.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr.inference.catalog import display_name
from asr.reports.corpus_audio import CLIPPED_RUN, EDGE_DB, FRAME_S
from asr.reports.corpus_listening import listening_sections
from asr.reports.corpus_sections import audio_sections, content_sections
from asr.reports.corpus_statistics import QUANTITIES, describe_tally
from asr.reports.corpus_suspicions import Suspicion, find_suspicions
from asr.reports.corpus_tables import CorpusTable, measured_section
from asr.reports.corpus_tally import tally_corpus
from asr.reports.page import Section, write_page
from asr.system.files import make_folder, write_text

UNKNOWN_WORDS_NOTED = 0.05
"""Share of a split's words that the training split lacks from which the overview mentions it."""


def describe_corpus(manifests: Sequence[Path], out: Path, jobs: int = 2, model: Path | None = None) -> Path:
    """Write the report about the corpus in these manifests into ``out``. Returns the path of the page.

    With a ``model``, its error rate on each utterance tells which transcripts are unlike their audio.

    Raises:
        InputError: a manifest, all audio of a split or the model cannot be used, or the folder cannot be written.
    """
    make_folder(out)
    tally = tally_corpus(manifests, jobs)
    if model is not None:
        from asr.reports.corpus_model import error_rates

        tally = replace(tally, columns={**tally.columns, "per": error_rates(tally, model)})
    suspicions = find_suspicions(tally)
    statistics = describe_tally(tally, suspicions)
    compared = "Error rate of the model"
    sections = [
        _overview(statistics, suspicions),
        *listening_sections(tally, suspicions),
        *content_sections(tally, statistics),
        *audio_sections(tally, statistics),
        *([] if model is None else [measured_section(tally, compared, ["per"], [f"Model: {display_name(model)}."])]),
        _method(statistics["training_split"]),
    ]
    facts = [f"{name}: {path}" for name, path in statistics["manifests"].items()]
    page = write_page(out, "Statistics of a corpus", facts, sections)
    write_text(out / "stats.json", json.dumps(statistics, indent=2) + "\n")
    return page


def _overview(statistics: Mapping[str, Any], suspicions: Sequence[Suspicion]) -> Section:
    splits = statistics["splits"].values()
    utterances, hours = (sum(split[name] for split in splits) for name in ("utterances", "hours"))
    length = f"{hours:,.1f} hours" if hours >= 2 else f"{60 * hours:,.1f} minutes"
    points = _what_to_look_at(statistics, suspicions, utterances)
    text = [] if points else ["Nothing suspicious was found."]
    lead = "What to look at" if points else ""
    return Section("Overview", text, f"{length}, {utterances:,} utterances", lead, points, [overview_table(statistics)])


def _what_to_look_at(statistics: Mapping[str, Any], suspicions: Sequence[Suspicion], utterances: int) -> list[str]:
    unusable = sum(split["unusable"] for split in statistics["splits"].values())
    points = [f"Audio that cannot be used: {_utterances(unusable)}."] if unusable else []
    for one in suspicions:
        if count := len(one.rows):
            title = one.title[0].upper() + one.title[1:]
            points.append(f"{title}: {_utterances(count)}, {_percent(count / utterances)}.")
    for name, split in statistics["splits"].items():
        unknown = split["words_not_in_training"]
        if unknown > UNKNOWN_WORDS_NOTED * split["words"]:
            share = _percent(unknown / split["words"])
            points.append(f"Words of {name} that are not in {statistics['training_split']}: {unknown:,}, {share}.")
    if rare := statistics["rare_phones"]:
        points.append(f"Rare phones: {', '.join(list(rare)[:12])}{' and more' if len(rare) > 12 else ''}.")
    for name, phones in statistics["phones_in_one_split"].items():
        points.append(f"Phones in {name} alone: {', '.join(phones[:12])}{' and more' if len(phones) > 12 else ''}.")
    return points


def _utterances(count: int) -> str:
    return "1 utterance" if count == 1 else f"{count:,} utterances"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%" if share >= 0.001 else "under 0.1\u00a0%"


def overview_table(statistics: Mapping[str, Any]) -> CorpusTable:
    """The splits beside each other."""
    splits = statistics["splits"]
    names = {
        "utterances": "utterances",
        "audio that cannot be used": "unusable",
        "hours": "hours",
        "speakers": "speakers",
        "words": "words",
        "vocabulary": "distinct_words",
        "different texts": "distinct_texts",
        "phones": "phones",
        "different phones": "distinct_phones",
    }
    rows = [[title, *(split[name] for split in splits.values())] for title, name in names.items()]
    for name in ("duration_s", "phones_per_s", "level_db", "snr_db", "bandwidth_hz"):
        label, factor, _ = QUANTITIES[name]
        middles = (split["measures"][name].get("median", float("nan")) for split in splits.values())
        rows.append([f"{label} (median)", *(factor * middle for middle in middles)])
    return CorpusTable("splits", ["split", *splits], rows, titles=["", *splits])


def _method(training: str) -> Section:
    points = [
        "Audio is measured at its own sample rate, in the part of the file that the manifest names, as the mean of its "
        "channels; clipping in each channel.",
        "Level: the power of the samples around their mean, relative to full scale.",
        f"Clipping: runs of at least {CLIPPED_RUN} samples at the highest or the lowest value of the recording, which need "
        "not be full scale.",
        f"Noise: the power that a tenth of the frames of {1000 * FRAME_S:g} ms do not exceed. Speech: the frames above "
        "a third of the way, in dB, from the noise to the loudest twentieth.",
        "Signal-to-noise ratio: the mean power of speech, without the noise, relative to the noise. It is an estimate, and "
        "too high if the noise comes and goes.",
        "Silence at the ends: what lies before the first and after the last two speech frames in sequence.",
        f"Bandwidth: the highest frequency at which the mean spectrum is less than {-EDGE_DB:g} dB below its maximum, and "
        "above the noise of 16 bits.",
        "The first and last bins of a histogram hold what is farther out, 0.2 % of the utterances at either end.",
        f"{training} is the training split: the one that is called so, or else the first.",
        "stats.json has the figures of this page. The folder figures has its tables as CSV and its figures as SVG.",
    ]
    return Section("Method", points=points)
