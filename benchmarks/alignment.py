"""Accuracy of aligned boundaries on any manifest with phone times, such as a synthetic corpus or TIMIT.

    python -m benchmarks.alignment MODEL CUTS [--json FILE]

Each utterance is aligned to its reference phones. The benchmark compares the starts and ends of all phones except silences
with the corpus's, for the model's aligner and for a baseline that the aligner must beat: halfway between CTC peaks.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from asr.corpus.manifest import Utterance, read_manifest
from asr.corpus.phones import SILENCES
from asr.inference.recognizer import Recognizer, load
from asr.system.progress import progress
from benchmarks.timing import build_parser, format_table, report_results

LIMITS_MS = (10, 20, 50, 100)


def distances_ms(recognizer: Recognizer, utterances: list[Utterance]) -> np.ndarray:
    """Return the distance of each aligned boundary from the corpus's, positive if it is late."""
    distances = []
    for utterance in progress(utterances, "aligning", len(utterances)):
        aligned = recognizer.align(utterance.audio_path, utterance.phones).phones
        assert utterance.phone_times_s is not None
        for phone, (start_s, end_s) in zip(aligned, utterance.phone_times_s, strict=True):
            if phone.symbol not in SILENCES:
                distances += [1000 * (phone.start_s - start_s), 1000 * (phone.end_s - end_s)]
    return np.array(distances)


def main() -> None:
    """Align with both systems and print the table."""
    parser = build_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("cuts", type=Path)
    args = parser.parse_args()
    utterances = read_manifest(args.cuts)
    untimed = [utterance.id for utterance in utterances if utterance.phone_times_s is None]
    if untimed:
        raise SystemExit(f"{args.cuts}: utterance {untimed[0]} has no phone times, expected them in all utterances")
    recognizer = load(args.model)
    systems = {"aligner": recognizer, "CTC's peaks": replace(recognizer, aligner=None)}
    distances = {name: distances_ms(system, utterances) for name, system in systems.items()}
    shares = {
        name: [float(np.mean(np.abs(values) <= limit)) for limit in LIMITS_MS] for name, values in distances.items()
    }
    header = ["boundaries", *(f"{limit} ms" for limit in LIMITS_MS), "median, ms"]
    rows = [
        [name, *(f"{100 * share:.1f} %" for share in shares[name]), f"{np.median(values):.1f}"]
        for name, values in distances.items()
    ]
    print(format_table(header, rows))
    ratios = {"within 20 ms, over CTC's peaks": shares["aligner"][1] / shares["CTC's peaks"][1]}
    report_results(
        ratios, {"boundaries": len(distances["aligner"]), "shares": shares, "limits_ms": LIMITS_MS}, args.json
    )


if __name__ == "__main__":
    main()
