"""A synthetic corpus of TIMIT's exact size and layout, to run TIMIT's recipe without TIMIT.

    python -m tests.made_timit OUT
    bash recipes/timit/run.sh OUT

462 speakers in TRAIN and 168 in TEST, with two SA, three SI and five SX sentences each: 4,620 + 1,680 utterances. TEST
includes the names of the dev and core test lists. Sentences and audio are those of `asr prepare synth`.
"""

import sys
from pathlib import Path

from data_prep.checking import read_speakers
from data_prep.spreading import in_processes
from data_prep.synth import prepare_synth

TRAIN_SPEAKERS, TEST_SPEAKERS = 462, 168
SENTENCES = ("SA1", "SA2", "SI1", "SI2", "SI3", "SX1", "SX2", "SX3", "SX4", "SX5")


def make_timit(out: Path, train: int = TRAIN_SPEAKERS, test: int = TEST_SPEAKERS, seed: int = 1) -> None:
    """Make the corpus in ``out/TRAIN`` and ``out/TEST``."""
    listed = sorted(read_speakers("timit_dev.txt") | read_speakers("timit_core_test.txt"))
    made = out / "made"
    prepare_synth(made, train + test, len(SENTENCES), seed, in_processes(2))
    for number, folder in enumerate(sorted(made.glob("TIMIT/*/*/*"))):
        in_test = number >= train
        name = listed[number - train] if 0 <= number - train < len(listed) else folder.name
        target = out / ("TEST" if in_test else "TRAIN") / folder.parent.name / name
        target.mkdir(parents=True)
        for path in sorted(folder.iterdir()):
            sentence = SENTENCES[(int(path.stem.removeprefix("SX")) - 1) % len(SENTENCES)]
            path.rename(target / (sentence + path.suffix))


if __name__ == "__main__":
    make_timit(Path(sys.argv[1]))
