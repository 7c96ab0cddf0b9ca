"""Time to score 10,000 utterances under all conventions, with intervals, on one core; beside jiwer and sclite.

    python -m benchmarks.scoring [--utterances 10000] [--json FILE]

The utterances are of TIMIT's 61 phones and length, three in ten phones wrong. sclite runs as a process where it is there
(Debian: sctk); its time is for one convention, as ours beside it.
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
from asr.scoring.error_rate import Transcribed, interval, score
from benchmarks.timing import finish, interleave, parser, table

SCLITE = Path("/usr/lib/sctk/bin/sclite")


def made_utterances(number: int) -> list[Transcribed]:
    """Utterances of 168 speakers with made recognition errors."""
    generator, phones = np.random.default_rng(0), inventory("timit61").symbols[1:]
    made: list[Transcribed] = []
    for index in range(number):
        said = [phones[place] for place in generator.integers(0, 61, generator.integers(20, 60))]
        kept = [one for one in said if generator.random() > 0.1]
        heard = [one if generator.random() > 0.2 else phones[generator.integers(61)] for one in kept]
        made.append((f"s{index % 168}-{index}", f"s{index % 168}", said, heard))
    return made


def all_conventions(utterances: list[Transcribed]) -> None:
    """What `asr evaluate` does once the phones are recognized."""
    for name in conventions_for("kaldi", inventory("timit61").symbols):
        interval(score(utterances, name))


def by_sclite(utterances: list[Transcribed], folder: Path) -> Callable[[], object]:
    """The same alignments by NIST's program, from trn files."""
    for name, side in (("r", 2), ("h", 3)):
        lines = [f"{' '.join(one[side])} ({one[0]})\n" for one in utterances]
        (folder / f"{name}.trn").write_text("".join(lines))
    options = f"-r {folder}/r.trn trn -h {folder}/h.trn trn -i spu_id -s -o sum stdout".split()
    return lambda: subprocess.run([str(SCLITE), *options], check=True, capture_output=True)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--utterances", type=int, default=10000)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    utterances = made_utterances(chosen.utterances)
    with tempfile.TemporaryDirectory() as folder:
        contenders: dict[str, Callable[[], object]] = {
            "all conventions, 1,000 resamples each": lambda: all_conventions(utterances),
            "ours, one convention": lambda: [count_errors(said, heard) for _, _, said, heard in utterances],
            "jiwer, one convention": lambda: [
                jiwer.process_words(" ".join(said), " ".join(heard)) for _, _, said, heard in utterances
            ],
        }
        if SCLITE.exists():
            contenders["sclite, one convention"] = by_sclite(utterances, Path(folder))
        seconds = interleave(contenders, chosen.rounds)
    print(table(["what", "seconds"], [[name, f"{value:.2f}"] for name, value in seconds.items()]))
    ours = seconds["ours, one convention"]
    others = {name: value for name, value in seconds.items() if name.startswith(("jiwer", "sclite"))}
    ratios = {f"over {name.split(',')[0]}": value / ours for name, value in others.items()}
    finish(ratios, {"utterances": chosen.utterances, "seconds": seconds}, chosen.json)


if __name__ == "__main__":
    main()
