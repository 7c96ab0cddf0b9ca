"""Recognition while someone speaks: error rate against look-ahead, latency, phones taken back, and streams at once.

    python -m benchmarks.streaming MODEL WHOLE CUTS... [--limit N] [--plot FILE] [--json FILE]

MODEL is a streaming model (`asr train experiment=streaming`), WHOLE needs whole recordings: its error rate is to be
reached, and its alignment of the recognized phones tells when each one ended. Latency is the time from there to the phone's
first output and to its final one: audio that had to arrive meanwhile, and computing. A phone is taken back if it was shown
and then changed. It is measured on the first of the CUTS; error rates on all, and drawn in the plot.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance, read_manifest
from asr.inference.evaluate import load_dataset, recognize, score_hypotheses
from asr.inference.recognizer import Recognizer, load
from asr.inference.streaming import Stream
from asr.system.progress import progress
from benchmarks.timing import build_parser, format_table, report_results

OTHER = "the other model, which sees whole utterances"
PIECE_S = 0.02
STREAMS = 20
STREAM_S = 5.0
TIME_SHARE = "processing time / audio time"


def error_rates(model: Recognizer, whole: Recognizer, cuts: Path) -> list[dict[str, object]]:
    """PER by best path on a set, for each look-ahead that the model was trained for, and of the other model."""
    rows: list[dict[str, object]] = []
    stack = model.bundle.model.recurrent
    trained, frame_ms = stack.look_ahead, model.bundle.model.time_reduction * model.bundle.features.frame_shift_ms
    for look_ahead in sorted(trained, key=lambda frames: frames % 10**6):
        stack.look_ahead = (look_ahead,)
        name = "whole utterance" if look_ahead < 0 else f"{look_ahead * frame_ms:g} ms"
        rows.append({"set": _set_name(cuts), "look-ahead": name, **_error_rate(model, cuts)})
    stack.look_ahead = trained
    rows.append({"set": _set_name(cuts), "look-ahead": OTHER, **_error_rate(whole, cuts)})
    return rows


def _set_name(cuts: Path) -> str:
    return f"{cuts.parent.name} {cuts.name.removeprefix('cuts_').removesuffix('.jsonl.gz')}"


def plot(rates: Sequence[dict[str, object]], path: Path) -> None:
    """Draw the error rate of each set against look-ahead, with that of the other model as a dashed line."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for index, name in enumerate(dict.fromkeys(row["set"] for row in rates)):
        rows = [row for row in rates if row["set"] == name]
        pers = [float(str(row["PER %"])) for row in rows]
        axes.plot(pers[:-1], marker="o", color=f"C{index}", label=f"{name}")
        axes.axhline(pers[-1], ls="--", lw=1, color=f"C{index}")
        axes.annotate(
            f"{pers[0]:.1f}", (0, pers[0]), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
        )
        axes.annotate(
            f"{pers[-2]:.1f}",
            (len(pers) - 2, pers[-2]),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_xticks(range(len(pers) - 1), [str(row["look-ahead"]) for row in rows[:-1]])
    axes.set(xlabel="look-ahead beyond a chunk", ylabel="phone error rate, %, best path", ylim=(0, None))
    axes.plot([], ls="--", lw=1, color="grey", label=OTHER)
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _error_rate(model: Recognizer, cuts: Path) -> dict[str, object]:
    dataset = load_dataset(model.bundle, cuts)
    total = score_hypotheses(model.bundle, dataset, recognize(model.bundle, dataset)).total
    counts = (total.substitutions, total.deletions, total.insertions, total.reference_phones)
    return {"PER %": round(100 * total.per, 2), "S D I N": " ".join(map(str, counts))}


def latencies(model: Recognizer, whole: Recognizer, utterances: Sequence[Utterance]) -> dict[str, object]:
    """Seconds from the end of a phone to its first and to its final output, and the share of phones taken back."""
    shown_s, final_s, taken_back, phones = [], [], 0, 0
    for utterance in progress(utterances, "streaming", len(utterances)):
        samples = read_audio(utterance.audio_path, model.sample_rate_hz, utterance.start_s, utterance.duration_s)
        symbols, first, last, back = stream(model, samples)
        taken_back, phones = taken_back + back, phones + len(symbols)
        ends_s = (
            [phone.end_s for phone in whole.align(samples, symbols, model.sample_rate_hz).phones] if symbols else []
        )
        shown_s += [at_s - end_s for at_s, end_s in zip(first, ends_s, strict=True)]
        final_s += [at_s - end_s for at_s, end_s in zip(last, ends_s, strict=True)]
    milliseconds = {
        f"{name}, {point} ms": round(1000 * float(np.percentile(values, quantile)))
        for name, values in (("shown", shown_s), ("final", final_s))
        for point, quantile in (("median", 50), ("95th percentile", 95))
    }
    return {**milliseconds, "taken back %": round(100 * taken_back / max(1, phones), 2), "phones": phones}


def stream(model: Recognizer, samples: np.ndarray) -> tuple[list[str], list[float], list[float], int]:
    """The phones, when each was shown for good and when it became final, in seconds, and how many were taken back.

    At the end of the utterance the rest becomes final at once, as a pause would make it.
    """
    live = Stream(model)
    final: list[str] = []
    shown: list[str] = []
    first_s: list[float] = []
    final_s: list[float] = []
    back = 0
    step = round(PIECE_S * model.sample_rate_hz)
    for start in range(0, len(samples) + step, step):
        began = time.perf_counter()
        update = live.accept(samples[start : start + step], ended=start >= len(samples))
        now_s = min(start + step, len(samples)) / model.sample_rate_hz + time.perf_counter() - began
        final += [phone.symbol for phone in update.final]
        final_s += [now_s] * len(update.final)
        new = [*final, *(phone.symbol for phone in update.pending)]
        same = next((i for i, pair in enumerate(zip(shown, new, strict=False)) if pair[0] != pair[1]), len(new))
        same = min(same, len(shown))
        back += len(shown) - same
        first_s = first_s[:same] + [now_s] * (len(new) - same)
        shown = new
    return final, first_s, final_s, back


def many_streams(model: Recognizer, samples: np.ndarray) -> dict[str, object]:
    """How long a second of audio of `STREAMS` streams at once takes, and the longest that one piece waits."""
    streams = [Stream(model) for _ in range(STREAMS)]
    audio = np.resize(samples, round(STREAM_S * model.sample_rate_hz))
    step, longest_s, began = round(0.1 * model.sample_rate_hz), 0.0, time.perf_counter()
    for start in range(0, len(audio), step):
        turn = time.perf_counter()
        for live in streams:
            live.accept(audio[start : start + step])
        longest_s = max(longest_s, time.perf_counter() - turn)
    total_s = time.perf_counter() - began
    return {
        "streams": STREAMS,
        "threads": torch.get_num_threads(),
        TIME_SHARE: round(total_s / STREAM_S, 3),
        "longest turn of 100 ms, ms": round(1000 * longest_s),
    }


def main() -> None:
    """Measure and print the tables."""
    parser = build_parser(__doc__)
    for name in ("model", "whole"):
        parser.add_argument(name, type=Path)
    parser.add_argument("cuts", type=Path, nargs="+")
    parser.add_argument("--plot", type=Path, help="draw the error rates to this file")
    parser.add_argument("--limit", type=int, default=40, help="utterances for latency")
    args = parser.parse_args()
    model, whole = load(args.model, precision="float32"), load(args.whole, precision="float32")
    utterances = read_manifest(args.cuts[0])
    chosen = utterances[:: max(1, len(utterances) // args.limit)][: args.limit]
    rates = [row for cuts in args.cuts for row in error_rates(model, whole, cuts)]
    if args.plot is not None:
        plot(rates, args.plot)
    delays = []
    decoders = ["best_path", *(["beam"] if (args.model / "decoder.yaml").exists() else [])]
    for decoder in decoders:
        decoded = load(args.model, precision="float32", decoder=decoder)
        delays.append({"decoder": decoder, **latencies(decoded, whole, chosen)})
    first = chosen[0]
    samples = read_audio(first.audio_path, model.sample_rate_hz, first.start_s, first.duration_s)
    loads = [{"decoder": name, **many_streams(load(args.model, decoder=name), samples)} for name in decoders]
    for rows in (rates, delays, loads):
        print(format_table(list(rows[0]), [[str(value) for value in row.values()] for row in rows]), end="\n\n")
    ratios = {f"{STREAMS} streams at once, {row['decoder']}": 1 / float(str(row[TIME_SHARE])) for row in loads}
    report_results(ratios, {"rates": rates, "latency": delays, "streams": loads}, args.json)


if __name__ == "__main__":
    main()
