"""Time to score 10,000 utterances under all conventions, with intervals, on one core; compared with jiwer and sclite.

    python -m benchmarks.scoring [--utterances 10000] [--json FILE]

The utterances have TIMIT's 61 phones and length; three in ten phones are wrong. sclite runs as a process if it is installed
(Debian: sctk) and is timed on one convention, as are jiwer and ours.
"""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import jiwer
import numpy as np
import torch

from asr.corpus.phones import inventory
from asr.scoring.alignment import count_errors
from asr.scoring.conventions import conventions_for
from asr.scoring.error_rate import TranscriptPair, confidence_interval, score
from benchmarks.timing import build_parser, format_table, report_results, time_interleaved

SCLITE = Path("/usr/lib/sctk/bin/sclite")


def random_utterances(count: int) -> list[TranscriptPair]:
    """Return utterances of 168 speakers, with random references and random recognition errors."""
    generator, phones = np.random.default_rng(0), inventory("timit61").symbols[1:]
    utterances: list[TranscriptPair] = []
    for index in range(count):
        reference = [phones[phone_id] for phone_id in generator.integers(0, 61, generator.integers(20, 60))]
        kept = [phone for phone in reference if generator.random() > 0.1]
        hypothesis = [phone if generator.random() > 0.2 else phones[generator.integers(61)] for phone in kept]
        utterances.append((f"s{index % 168}-{index}", f"s{index % 168}", reference, hypothesis))
    return utterances


def score_all_conventions(utterances: list[TranscriptPair]) -> None:
    """Score as `asr evaluate` does after recognition."""
    for name in conventions_for("kaldi", inventory("timit61").symbols):
        confidence_interval(score(utterances, name))


def make_sclite(utterances: list[TranscriptPair], folder: Path) -> Callable[[], object]:
    """Write trn files and return a function that aligns them with NIST's sclite."""
    for name, field in (("r", 2), ("h", 3)):
        lines = [f"{' '.join(utterance[field])} ({utterance[0]})\n" for utterance in utterances]
        (folder / f"{name}.trn").write_text("".join(lines))
    options = f"-r {folder}/r.trn trn -h {folder}/h.trn trn -i spu_id -s -o sum stdout".split()
    return lambda: subprocess.run([str(SCLITE), *options], check=True, capture_output=True)


def main() -> None:
    """Time all systems and print the table."""
    parser = build_parser(__doc__)
    parser.add_argument("--utterances", type=int, default=10000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    utterances = random_utterances(args.utterances)
    with tempfile.TemporaryDirectory() as folder:
        systems: dict[str, Callable[[], object]] = {
            "all conventions, 1,000 resamples each": lambda: score_all_conventions(utterances),
            "ours, one convention": lambda: [
                count_errors(reference, hypothesis) for _, _, reference, hypothesis in utterances
            ],
            "jiwer, one convention": lambda: [
                jiwer.process_words(" ".join(reference), " ".join(hypothesis))
                for _, _, reference, hypothesis in utterances
            ],
        }
        if SCLITE.exists():
            systems["sclite, one convention"] = make_sclite(utterances, Path(folder))
        seconds = time_interleaved(systems, args.rounds)
    print(format_table(["system", "seconds"], [[name, f"{value:.2f}"] for name, value in seconds.items()]))
    ours = seconds["ours, one convention"]
    baselines = {name: value for name, value in seconds.items() if name.startswith(("jiwer", "sclite"))}
    ratios = {f"over {name.split(',')[0]}": value / ours for name, value in baselines.items()}
    report_results(ratios, {"utterances": args.utterances, "seconds": seconds}, args.json)


if __name__ == "__main__":
    main()
