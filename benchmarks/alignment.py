"""How far aligned boundaries are from the corpus's own: any manifest with times, made or TIMIT's .PHN.

    python -m benchmarks.alignment MODEL CUTS [--json FILE]

Every utterance is aligned to its own phones. Counted are the starts and ends of all phones that are no silence, with the
model's aligner and, beside it, by CTC's peaks alone (half way between neighbouring peaks), which it must beat.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from asr.corpus.manifest import Utterance, read_manifest
from asr.corpus.phones import SILENCES
from asr.inference.recognizer import Recognizer, load
from asr.system.progress import progress
from benchmarks.timing import finish, parser, table

LIMITS_MS = (10, 20, 50, 100)


def distances_ms(recognizer: Recognizer, utterances: list[Utterance]) -> np.ndarray:
    """Of every boundary from where the corpus has it, later ones positive."""
    found = []
    for one in progress(utterances, "aligning", len(utterances)):
        aligned = recognizer.align(one.audio_path, one.phones).phones
        assert one.phone_times_s is not None
        for phone, (start_s, end_s) in zip(aligned, one.phone_times_s, strict=True):
            if phone.symbol not in SILENCES:
                found += [1000 * (phone.start_s - start_s), 1000 * (phone.end_s - end_s)]
    return np.array(found)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("cuts", type=Path)
    chosen = options.parse_args()
    utterances = read_manifest(chosen.cuts)
    without = [one.id for one in utterances if one.phone_times_s is None]
    if without:
        raise SystemExit(f"{chosen.cuts}: utterance {without[0]} has no times, expected them in all")
    recognizer = load(chosen.model)
    contenders = {"aligner": recognizer, "CTC's peaks": replace(recognizer, aligner=None)}
    apart = {name: distances_ms(one, utterances) for name, one in contenders.items()}
    shares = {name: [float(np.mean(np.abs(one) <= limit)) for limit in LIMITS_MS] for name, one in apart.items()}
    header = ["boundaries", *(f"{limit} ms" for limit in LIMITS_MS), "median, ms"]
    rows = [
        [name, *(f"{100 * share:.1f} %" for share in shares[name]), f"{np.median(one):.1f}"]
        for name, one in apart.items()
    ]
    print(table(header, rows))
    ratios = {"within 20 ms, over CTC's peaks": shares["aligner"][1] / shares["CTC's peaks"][1]}
    finish(ratios, {"boundaries": len(apart["aligner"]), "shares": shares, "limits_ms": LIMITS_MS}, chosen.json)


if __name__ == "__main__":
    main()
