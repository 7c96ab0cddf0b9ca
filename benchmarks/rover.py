"""PER of several models together: a vote on each phone of their aligned hypotheses (ROVER).

    python -m benchmarks.rover DEV_CUTS MODEL MODEL MODEL... [--sets CUTS...] [--decoder beam]

The models need the same phones, nothing else in common. Hypotheses are aligned one after another with a network of slots.
In each slot the phone with the highest score wins, or none. The score of a phone is ``share`` times the fraction of models
that have it, plus the rest times their mean confidence in it. No phone counts as one of confidence ``nothing``. Both
numbers are chosen on the dev set. Source: Fiscus, "A post-processing system to yield reduced word error rates: Recognizer
Output Voting Error Reduction (ROVER)", 1997; NIST's program calls this voting meth1.
"""

import argparse
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from asr.decoding.beam_search import load_decoder
from asr.decoding.best_path import best_path
from asr.inference.bundle import load_bundle
from asr.inference.catalog import find_model
from asr.inference.evaluate import load_dataset, recognize_with_evidence, score_hypotheses
from asr.scoring.calibration import Calibration, load_calibration
from asr.scoring.results import headline

SHARES, NOTHINGS = (0.0, 0.25, 0.5, 0.75, 1.0), (0.2, 0.35, 0.5, 0.65, 0.8)

Hypothesis = list[tuple[str, float]]
"""Phones and their confidences."""

Slot = dict[str, list[float]]
"""The confidences of the models that have each phone here; "" is no phone."""


def add_hypothesis(slots: Sequence[Slot], hypothesis: Hypothesis, earlier: int) -> list[Slot]:
    """Align a hypothesis with the slots of ``earlier`` models and add its phones; ties prefer a phone in a slot."""
    rows, columns = len(slots) + 1, len(hypothesis) + 1
    costs = [[0.0] * columns for _ in range(rows)]
    for row, column in product(range(rows), range(columns)):
        if row or column:
            costs[row][column] = min(_steps(slots, hypothesis, costs, row, column))[0]
    aligned: list[Slot] = []
    row, column = rows - 1, columns - 1
    while row or column:
        _, _, up, left = min(_steps(slots, hypothesis, costs, row, column))
        slot = dict(slots[row - 1]) if up else {"": [0.0] * earlier}
        phone, confidence = hypothesis[column - 1] if left else ("", 0.0)
        slot[phone] = [*slot.get(phone, []), confidence]
        aligned.append(slot)
        row, column = row - up, column - left
    return aligned[::-1]


def _steps(
    slots: Sequence[Slot], hypothesis: Hypothesis, costs: Sequence[Sequence[float]], row: int, column: int
) -> list[tuple[float, int, int, int]]:
    """The steps that lead to a cell: cost, preference, and how far each goes back in slots and in phones."""
    steps = []
    if row and column:
        differs = hypothesis[column - 1][0] not in slots[row - 1]
        steps.append((costs[row - 1][column - 1] + differs, 0, 1, 1))
    if row:
        steps.append((costs[row - 1][column] + ("" not in slots[row - 1]), 1, 1, 0))
    if column:
        steps.append((costs[row][column - 1] + 1, 2, 0, 1))
    return steps


def vote(slots: Sequence[Slot], models: int, share: float, nothing: float) -> list[str]:
    """The winners of all slots that are not "no phone"."""

    def score(item: tuple[str, list[float]]) -> float:
        phone, confidences = item
        confidence = sum(confidences) / len(confidences) if phone else nothing
        return share * len(confidences) / models + (1 - share) * confidence

    winners = [max(slot.items(), key=score)[0] for slot in slots]
    return [phone for phone in winners if phone]


def combine(hypotheses: Sequence[Hypothesis]) -> list[Slot]:
    """The slots of hypotheses of one utterance."""
    slots: list[Slot] = [{phone: [confidence]} for phone, confidence in hypotheses[0]]
    for earlier, hypothesis in enumerate(hypotheses[1:], 1):
        slots = add_hypothesis(slots, hypothesis, earlier)
    return slots


def hypotheses_of(model: Path, cuts: Path, decoder: str) -> Mapping[str, Hypothesis]:
    """What a model recognizes in each utterance, by id."""
    bundle = load_bundle(model, precision="auto")
    calibration = load_calibration(model) or Calibration()
    decode = load_decoder(model, bundle.inventory) if decoder == "beam" else best_path
    found = recognize_with_evidence(bundle, load_dataset(bundle, cuts), decode)
    return {
        name: list(
            zip(
                bundle.inventory.decode(tokens),
                (one.confidence(calibration.temperature) for one in phones),
                strict=True,
            )
        )
        for name, (tokens, phones) in found.items()
    }


def main(dev: Path, models: Sequence[Path], sets: Sequence[Path], decoder: str) -> None:
    """Print the PER of each model and of the vote, on the dev set and the others."""
    first = load_bundle(models[0])
    chosen: tuple[float, float] | None = None
    for cuts in [dev, *sets]:
        dataset = load_dataset(first, cuts)
        outputs = [hypotheses_of(model, cuts, decoder) for model in models]
        for model, output in zip(models, outputs, strict=True):
            phones = {name: [phone for phone, _ in hypothesis] for name, hypothesis in output.items()}
            print(f"{cuts}, {model.name}: {headline(score_hypotheses(first, dataset, phones))}")
        slots = {name: combine([output[name] for output in outputs]) for name in outputs[0]}
        results = {
            setting: score_hypotheses(
                first, dataset, {name: vote(one, len(models), *setting) for name, one in slots.items()}
            )
            for setting in ([chosen] if chosen else product(SHARES, NOTHINGS))
        }
        chosen = chosen or min(results, key=lambda setting: results[setting].total.per)
        print(f"{cuts}, share {chosen[0]}, nothing {chosen[1]}: {headline(results[chosen])}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev_cuts", type=Path)
    parser.add_argument("models", nargs="+", help="model folders or names")
    parser.add_argument("--sets", type=Path, nargs="*", default=[], help="manifests to evaluate")
    parser.add_argument("--decoder", choices=["best_path", "beam"], default="best_path")
    args = parser.parse_args()
    main(args.dev_cuts, [find_model(model) for model in args.models], args.sets, args.decoder)
