"""`asr transcribe` as whole processes: speed over a folder, start-up, and memory on a long file.

    python benchmarks/transcribe.py MODEL CUTS [--utterances 200] [--long-minutes 60] [--json FILE]

Speed is the seconds of audio per second once started: the time over a folder less the time of one short file. Start-up
stands against `python -c "import torch"` in the same run. The long file is the utterances one after the other, again
and again.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import read_audio
from asr.manifest import read_manifest
from benchmarks.timing import finish, interleave, parser, table

RATE_HZ = 16000


def command(*arguments: object) -> Callable[[], str]:
    """A call that runs Python with these arguments and gives what it printed."""
    return lambda: (
        subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True, text=True).stdout
    )


def main() -> None:
    """Write the audio to a folder, time the commands by turns, then transcribe the long file."""
    options = parser(__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("cuts", type=Path)
    options.add_argument("--utterances", type=int, default=200)
    options.add_argument("--long-minutes", type=float, default=60.0)
    chosen = options.parse_args()
    signals = [read_audio(utterance.audio_path) for utterance in read_manifest(chosen.cuts)[: chosen.utterances]]
    audio_s = sum(map(len, signals)) / RATE_HZ
    with tempfile.TemporaryDirectory() as temporary:
        folder, long = Path(temporary, "short"), Path(temporary, "long.wav")
        folder.mkdir()
        for index, samples in enumerate(signals):
            soundfile.write(folder / f"{index:04d}.wav", samples, RATE_HZ)
        transcribe = ("-m", "asr", "transcribe", chosen.model)
        contenders = {
            "import torch": command("-c", "import torch"),
            "one short file": command(*transcribe, folder / "0000.wav"),
            "the folder": command(*transcribe, folder),
        }
        assert len(contenders["the folder"]().splitlines()) == len(signals)
        seconds = interleave(contenders, chosen.rounds)
        everything = np.concatenate(signals)
        repeats = round(chosen.long_minutes * 60 / audio_s) or 1
        soundfile.write(long, np.tile(everything, repeats), RATE_HZ)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        long_s = interleave({"long": command(*transcribe, long)}, 1)["long"]
        peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    speed = audio_s / (seconds["the folder"] - seconds["one short file"])
    print(table(["", "seconds"], [[name, f"{value:.2f}"] for name, value in seconds.items()]))
    print(f"{len(signals)} files, {audio_s:.0f} s of audio: {speed:.0f} times real time once started")
    long_audio_s = audio_s * repeats
    print(f"one file of {long_audio_s / 60:.0f} minutes: {long_s:.1f} s, {long_audio_s / long_s:.0f} times real time")
    print(f"peak memory {peak_gib:.2f} GiB (the short files: {before / 2**20:.2f} GiB)")
    ratios = {
        "speed over real time": speed,
        "import torch over start-up": seconds["import torch"] / seconds["one short file"],
    }
    finish(ratios, {"seconds": seconds, "long file, peak GiB": peak_gib}, chosen.json)


if __name__ == "__main__":
    main()
