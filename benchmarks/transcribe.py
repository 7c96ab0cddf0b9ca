"""`asr transcribe` as complete processes: speed on a folder, start-up time, precisions, and memory on a long file.

    python -m benchmarks.transcribe MODEL CUTS [--utterances 200] [--long-minutes 60] [--json FILE]

Speed is seconds of audio per second after start-up: the time for a folder minus the time for one short file. Start-up is
compared with `python -c "import torch"` in the same run. The long file repeats all utterances. First, on ten minutes of it,
recognition in windows may change at most one phone in a thousand compared with recognition in one piece. The PER of each
precision is that of `asr evaluate` on the same manifest.
"""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
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
from benchmarks.timing import build_parser, format_table, report_results, skip_emulated, time_interleaved

RATE_HZ = 16000


def command(*arguments: object) -> Callable[[], str]:
    """Return a function that runs Python with these arguments and returns its output."""
    return lambda: (
        subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True, text=True).stdout
    )


def check_windows(model: Path, audio: Path) -> str:
    """Report how many phones windows change; exit if it is more than one in a thousand."""
    recognizer = load(model, precision="float32")  # lower precisions would add differences from rounding
    in_windows = recognizer.transcribe(audio).symbols
    with patch.object(windows, "WINDOW_FRAMES", sys.maxsize):
        in_one_piece = recognizer.transcribe(audio).symbols
    counts = jiwer.process_words(" ".join(in_one_piece), " ".join(in_windows))
    changed = counts.substitutions + counts.deletions + counts.insertions
    if changed > len(in_one_piece) / 1000:
        raise SystemExit(f"windows change {changed} of {len(in_one_piece)} phones, expected at most 1 in 1,000")
    return f"windows change {changed} of {len(in_one_piece)} phones"


def error_rates(model: Path, cuts: Path, folder: Path, precisions: Sequence[str]) -> dict[str, float]:
    """Measure the PER of each precision on the manifest."""
    rates = {}
    for precision in precisions:
        file = folder / f"{precision}.json"
        command("-m", "asr", "evaluate", model, cuts, "--precision", precision, "--json", file)()
        rates[precision] = float(json.loads(file.read_text(encoding="utf-8"))["per"])
    return rates


def write_folder(folder: Path, signals: Sequence[np.ndarray]) -> None:
    """Write one file per utterance."""
    folder.mkdir()
    for index, samples in enumerate(signals):
        soundfile.write(folder / f"{index:04d}.wav", samples, RATE_HZ)


def children_peak_gib() -> float:
    """Return the peak memory in GiB of any child process so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def print_speeds(seconds: Mapping[str, float], speeds: Mapping[str, float], rates: Mapping[str, float]) -> None:
    """Print start-up times, and the speed and PER of each precision."""
    rows = [[name, f"{seconds[name]:.2f}", "", ""] for name in ("import torch", "one short file")]
    rows += [
        [f"{name}, folder", f"{seconds[name]:.2f}", f"{speeds[name]:.0f}", f"{rates[name]:.2%}"] for name in speeds
    ]
    print(format_table(["", "seconds", "times real time after start-up", "PER"], rows))


def main() -> None:
    """Write the audio to a folder, time the commands interleaved, then transcribe the long file."""
    parser = build_parser(__doc__)
    parser.add_argument("model", type=find_model)
    parser.add_argument("cuts", type=Path)
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--long-minutes", type=float, default=60.0)
    args = parser.parse_args()
    precisions = skip_emulated(PRECISIONS)
    signals = [read_audio(utterance.audio_path) for utterance in read_manifest(args.cuts)[: args.utterances]]
    audio_s = sum(map(len, signals)) / RATE_HZ
    everything = np.concatenate(signals)
    with tempfile.TemporaryDirectory() as temporary:
        folder, long, ten_minutes = (Path(temporary, name) for name in ("short", "long.wav", "ten_minutes.wav"))
        write_folder(folder, signals)
        soundfile.write(ten_minutes, everything[: 600 * RATE_HZ], RATE_HZ)
        print(f"ten minutes: {check_windows(args.model, ten_minutes)}")
        rates = error_rates(args.model, args.cuts, Path(temporary), precisions)
        run = ("-m", "asr", "transcribe", "--model", args.model)
        systems = {
            "import torch": command("-c", "import torch"),
            "one short file": command(*run, folder / "0000.wav"),
            **{name: command(*run, folder, "--precision", name) for name in precisions},
        }
        assert len(systems["float32"]().splitlines()) == len(signals)
        seconds = time_interleaved(systems, args.rounds)
        short_peak_gib = children_peak_gib()
        repeats = round(args.long_minutes * 60 / audio_s) or 1
        soundfile.write(long, np.tile(everything, repeats), RATE_HZ)
        long_s = time_interleaved({"long": command(*run, long)}, 1)["long"]
        long_peak_gib = children_peak_gib()
    print(f"{len(signals)} files, {audio_s:.0f} s of audio")
    speeds = {name: audio_s / (seconds[name] - seconds["one short file"]) for name in precisions}
    print_speeds(seconds, speeds, rates)
    long_audio_s = audio_s * repeats
    print(f"one file of {long_audio_s / 60:.0f} minutes: {long_s:.1f} s, {long_audio_s / long_s:.0f} times real time")
    print(f"peak memory {long_peak_gib:.2f} GiB (short files: {short_peak_gib:.2f} GiB)")
    ratios = {f"{name} over real time": speed for name, speed in speeds.items()}
    ratios["import torch over start-up"] = seconds["import torch"] / seconds["one short file"]
    report_results(ratios, {"seconds": seconds, "PER": rates, "long file, peak GiB": long_peak_gib}, args.json)


if __name__ == "__main__":
    main()
