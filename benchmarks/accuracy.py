"""PER on dev against minutes of training, ours and SpeechBrain's TIMIT recipe, on the same data and the same machine.

    python -m benchmarks.accuracy CORPUS_DIR RUN_DIR... [--speechbrain PYTHON] [--minutes 45] --out PREFIX

CORPUS_DIR is what `asr prepare speechocean762` left. RUN_DIR are trainings of ours that followed on one another,
pretraining first: their minutes add up. PYTHON is that of an environment of SpeechBrain's own (see
benchmarks/peers/speechbrain_crdnn.py). Its training takes batches of 8 utterances, shortest first, as its recipe does; its
minutes are of training alone, ours with the dev set after every epoch. Leaves PREFIX.csv and PREFIX.svg.
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
    """PER in percent after so many minutes."""

    system: str
    minutes: float
    per: float


def ours(runs: Sequence[Path]) -> list[Point]:
    """The dev PER of every epoch of trainings that followed on one another."""
    points, before = [], 0.0
    for run in runs:
        history = json.loads((run / "history.json").read_text(encoding="utf-8"))
        points += [Point("asr", before + epoch["minutes"], 100 * epoch["dev_per"]) for epoch in history]
        before = points[-1].minutes
    return points


def speechbrain(python: Path, corpus: Path, minutes: float, every: float) -> list[Point]:
    """The dev PER of SpeechBrain's recipe, every few minutes."""
    phones = inventory("arpabet39")
    train, dev = (read_manifest(corpus / f"cuts_{split}.jsonl.gz") for split in ("train", "dev"))
    dev = sorted(dev, key=lambda utterance: utterance.duration_s)
    job = {
        "batches": batches(sorted(train, key=lambda utterance: utterance.duration_s), phones),
        "dev": batches(dev, phones),
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
                found = json.loads(line)
                hypotheses = [phones.decode(tokens) for tokens in found["symbols"]]
                scored = [(u.id, u.speaker, u.phones, heard) for u, heard in zip(dev, hypotheses, strict=True)]
                points.append(Point("SpeechBrain", found["minutes"], 100 * score(scored, "plain").total.per))
                print(f"{points[-1]}, {found['updates']} updates, loss {found['loss']:.3f}", flush=True)
        if peer.returncode:
            raise SystemExit(f"{script} ended with {peer.returncode}")
    return points


def batches(utterances: Sequence[Utterance], phones: PhoneInventory) -> list[list[dict[str, object]]]:
    """Utterances in their order, so many to a batch, as the peer's script reads them."""
    rows: list[dict[str, object]] = [
        {
            "path": str(utterance.audio_path),
            "start_s": utterance.start_s,
            "duration_s": utterance.duration_s,
            "tokens": phones.encode(utterance.phones, utterance.id),
        }
        for utterance in utterances
    ]
    return [rows[start : start + BATCH_UTTERANCES] for start in range(0, len(rows), BATCH_UTTERANCES)]


def draw(points: Sequence[Point], path: Path) -> None:
    """Both curves, as a picture."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for system in dict.fromkeys(point.system for point in points):
        mine = [point for point in points if point.system == system]
        axes.plot([p.minutes for p in mine], [p.per for p in mine], marker="o", markersize=3, label=system)
    axes.set(xlabel="minutes of training on two cores", ylabel="PER on dev, %", ylim=(30, 102), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--speechbrain", type=Path)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--every", type=float, default=15.0)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    points = ours(chosen.runs)
    if chosen.speechbrain:
        points += speechbrain(chosen.speechbrain, chosen.corpus, chosen.minutes, chosen.every)
    with chosen.out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(Point._fields)
        table.writerows((point.system, f"{point.minutes:.2f}", f"{point.per:.2f}") for point in points)
    draw(points, chosen.out.with_suffix(".svg"))
    print(f"{chosen.out.with_suffix('.csv')}, {chosen.out.with_suffix('.svg')}: {len(points)} points")


if __name__ == "__main__":
    main()
