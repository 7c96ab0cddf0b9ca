"""PER on dev against minutes of training, for asr and SpeechBrain's TIMIT recipe, on the same data and machine.

    python -m benchmarks.accuracy CORPUS_DIR RUN_DIR... [--speechbrain PYTHON] [--minutes 45] --out PREFIX

CORPUS_DIR is the output of `asr prepare speechocean762`. Each RUN_DIR is a training that starts from the model of the one
before, pretraining first; their minutes add up. PYTHON belongs to an environment with SpeechBrain (see
benchmarks/peers/speechbrain_crdnn.py). SpeechBrain trains on batches of 8 utterances, shortest first, as in its recipe. Its
minutes cover training alone, ours also the dev set after every epoch. Writes PREFIX.csv and PREFIX.svg.
"""

import argparse
import csv
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt

from asr.corpus.manifest import Utterance, read_manifest
from asr.corpus.phones import PhoneInventory, inventory
from asr.scoring.error_rate import score

BATCH_UTTERANCES = 8


class Point(NamedTuple):
    """PER in percent after some minutes of training."""

    system: str
    minutes: float
    per: float


def read_runs(runs: Sequence[Path]) -> list[Point]:
    """Read the dev PER of every epoch of consecutive trainings."""
    points, minutes_before = [], 0.0
    for run in runs:
        history = json.loads((run / "history.json").read_text(encoding="utf-8"))
        points += [Point("asr", minutes_before + epoch["minutes"], 100 * epoch["dev_per"]) for epoch in history]
        minutes_before = points[-1].minutes
    return points


def train_speechbrain(python: Path, corpus: Path, minutes: float, every: float) -> list[Point]:
    """Train SpeechBrain's recipe for ``minutes`` and measure its dev PER every ``every`` minutes."""
    phones = inventory("arpabet39")
    train, dev = (read_manifest(corpus / f"cuts_{split}.jsonl.gz") for split in ("train", "dev"))
    dev = sorted(dev, key=lambda utterance: utterance.duration_s)
    job = {
        "batches": make_batches(sorted(train, key=lambda utterance: utterance.duration_s), phones),
        "dev": make_batches(dev, phones),
        "symbols": len(phones.symbols),
        "minutes": minutes,
        "every": every,
    }
    points = []
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        script = Path(__file__).parent / "peers" / "speechbrain_crdnn.py"
        with subprocess.Popen([python, script, file.name], stdout=subprocess.PIPE, text=True) as peer:
            assert peer.stdout is not None
            for line in peer.stdout:
                result = json.loads(line)
                hypotheses = [phones.decode(tokens) for tokens in result["symbols"]]
                transcribed = [
                    (utterance.id, utterance.speaker, utterance.phones, hypothesis)
                    for utterance, hypothesis in zip(dev, hypotheses, strict=True)
                ]
                points.append(Point("SpeechBrain", result["minutes"], 100 * score(transcribed, "plain").total.per))
                print(f"{points[-1]}, {result['updates']} updates, loss {result['loss']:.3f}", flush=True)
        if peer.returncode:
            raise SystemExit(f"{script}: exit status {peer.returncode}, expected 0")
    return points


def make_batches(utterances: Sequence[Utterance], phones: PhoneInventory) -> list[list[dict[str, object]]]:
    """Return batches of `BATCH_UTTERANCES` utterances in the given order, in the format of the SpeechBrain script."""
    records: list[dict[str, object]] = [
        {
            "path": str(utterance.audio_path),
            "start_s": utterance.start_s,
            "duration_s": utterance.duration_s,
            "tokens": phones.encode(utterance.phones, utterance.id),
        }
        for utterance in utterances
    ]
    return [records[start : start + BATCH_UTTERANCES] for start in range(0, len(records), BATCH_UTTERANCES)]


def draw(points: Sequence[Point], path: Path) -> None:
    """Plot one curve per system."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for system in dict.fromkeys(point.system for point in points):
        curve = [point for point in points if point.system == system]
        axes.plot([p.minutes for p in curve], [p.per for p in curve], marker="o", markersize=3, label=system)
    axes.set(xlabel="minutes of training on two cores", ylabel="PER on dev, %", ylim=(30, 102), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Measure, print and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--speechbrain", type=Path)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--every", type=float, default=15.0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    points = read_runs(args.runs)
    if args.speechbrain:
        points += train_speechbrain(args.speechbrain, args.corpus, args.minutes, args.every)
    with args.out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Point._fields)
        writer.writerows((point.system, f"{point.minutes:.2f}", f"{point.per:.2f}") for point in points)
    draw(points, args.out.with_suffix(".svg"))
    print(f"{args.out.with_suffix('.csv')}, {args.out.with_suffix('.svg')}: {len(points)} points")


if __name__ == "__main__":
    main()
