"""`asr transcribe` as whole processes: speed over a folder, start-up, precisions, and memory on a long file.

    python -m benchmarks.transcribe MODEL CUTS [--utterances 200] [--long-minutes 60] [--json FILE]

Speed is the seconds of audio per second once started: the time over a folder less the time of one short file. Start-up
stands against `python -c "import torch"` in the same run. The long file is the utterances one after the other, again and
again; before anything is timed, ten minutes of it must give the same phones in windows as in one piece, but for one in a
thousand. The errors of each precision are those of `asr evaluate` on the same manifest.
"""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import jiwer
import numpy as np
import soundfile

from asr.corpus.audio import read_audio
from asr.corpus.manifest import read_manifest
from asr.inference import windows
from asr.inference.bundle import PRECISIONS
from asr.inference.catalog import find_model
from asr.inference.recognizer import load
from benchmarks.timing import computed, finish, interleave, parser, table

RATE_HZ = 16000


def command(*arguments: object) -> Callable[[], str]:
    """A call that runs Python with these arguments and gives what it printed."""
    return lambda: (
        subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True, text=True).stdout
    )


def check_windows(model: Path, audio: Path) -> str:
    """Refuse to go on where windows change more than one phone in a thousand; else how many they change."""
    recognizer = load(model, precision="float32")  # rounding is not what is asked about
    in_windows = recognizer.transcribe(audio).symbols
    with patch.object(windows, "WINDOW_FRAMES", sys.maxsize):
        in_one = recognizer.transcribe(audio).symbols
    found = jiwer.process_words(" ".join(in_one), " ".join(in_windows))
    changed = found.substitutions + found.deletions + found.insertions
    if changed > len(in_one) / 1000:
        raise SystemExit(f"windows change {changed} of {len(in_one)} phones, expected at most 1 in 1,000")
    return f"windows change {changed} of {len(in_one)} phones"


def error_rates(model: Path, cuts: Path, folder: Path, precisions: Sequence[str]) -> dict[str, float]:
    """PER of each precision on the manifest."""
    rates = {}
    for precision in precisions:
        file = folder / f"{precision}.json"
        command("-m", "asr", "evaluate", model, cuts, "--precision", precision, "--json", file)()
        rates[precision] = float(json.loads(file.read_text(encoding="utf-8"))["per"])
    return rates


def main() -> None:
    """Write the audio to a folder, time the commands by turns, then transcribe the long file."""
    options = parser(__doc__)
    options.add_argument("model", type=find_model)
    options.add_argument("cuts", type=Path)
    options.add_argument("--utterances", type=int, default=200)
    options.add_argument("--long-minutes", type=float, default=60.0)
    chosen = options.parse_args()
    precisions = computed(PRECISIONS)
    signals = [read_audio(utterance.audio_path) for utterance in read_manifest(chosen.cuts)[: chosen.utterances]]
    audio_s = sum(map(len, signals)) / RATE_HZ
    everything = np.concatenate(signals)
    with tempfile.TemporaryDirectory() as temporary:
        folder, long, middle = Path(temporary, "short"), Path(temporary, "long.wav"), Path(temporary, "middle.wav")
        folder.mkdir()
        for index, samples in enumerate(signals):
            soundfile.write(folder / f"{index:04d}.wav", samples, RATE_HZ)
        soundfile.write(middle, everything[: 600 * RATE_HZ], RATE_HZ)
        print(f"ten minutes: {check_windows(chosen.model, middle)}")
        rates = error_rates(chosen.model, chosen.cuts, Path(temporary), precisions)
        run = ("-m", "asr", "transcribe", "--model", chosen.model)
        contenders = {
            "import torch": command("-c", "import torch"),
            "one short file": command(*run, folder / "0000.wav"),
            **{name: command(*run, folder, "--precision", name) for name in precisions},
        }
        assert len(contenders["float32"]().splitlines()) == len(signals)
        seconds = interleave(contenders, chosen.rounds)
        repeats = round(chosen.long_minutes * 60 / audio_s) or 1
        soundfile.write(long, np.tile(everything, repeats), RATE_HZ)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        long_s = interleave({"long": command(*run, long)}, 1)["long"]
        peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    speeds = {name: audio_s / (seconds[name] - seconds["one short file"]) for name in precisions}
    rows = [[name, f"{seconds[name]:.2f}", "", ""] for name in ("import torch", "one short file")]
    rows += [
        [f"{name}, folder", f"{seconds[name]:.2f}", f"{speeds[name]:.0f}", f"{rates[name]:.2%}"] for name in speeds
    ]
    print(f"{len(signals)} files, {audio_s:.0f} s of audio")
    print(table(["", "seconds", "times real time once started", "PER"], rows))
    long_audio_s = audio_s * repeats
    print(f"one file of {long_audio_s / 60:.0f} minutes: {long_s:.1f} s, {long_audio_s / long_s:.0f} times real time")
    print(f"peak memory {peak_gib:.2f} GiB (the short files: {before:.2f} GiB)")
    ratios = {f"{name} over real time": speed for name, speed in speeds.items()}
    ratios["import torch over start-up"] = seconds["import torch"] / seconds["one short file"]
    finish(ratios, {"seconds": seconds, "PER": rates, "long file, peak GiB": peak_gib}, chosen.json)


if __name__ == "__main__":
    main()
