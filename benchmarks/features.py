"""Log-mel filterbanks on one core, in seconds of audio per second: ours against four libraries on the same utterances.

    python -m benchmarks.features CUTS [--utterances 200] [--json FILE]

torchaudio, kaldi-native-fbank (C++) and lhotse compute the same Kaldi features; first, they must agree with ours. librosa's
features have the same size but another definition (its own mel scale and window, no pre-emphasis). Reading the files and
converting samples to the type that a library expects is not timed.
"""

from collections.abc import Callable
from pathlib import Path

import kaldi_native_fbank
import librosa
import numpy as np
import torch
import torchaudio
from lhotse.features.kaldi.extractors import Fbank, FbankConfig

from asr.cli.compose import compose
from asr.corpus.audio import read_audio
from asr.corpus.manifest import read_manifest
from asr.features.filterbanks import fbank
from benchmarks.timing import build_parser, format_table, report_results, time_interleaved

SCALE = 32768.0
Extractor = Callable[[int], object]


def kaldi_native(samples: list[float]) -> np.ndarray:
    """Compute features (frames, 40) with kaldi-native-fbank."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 40
    options.energy_floor = 0.0
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(16000, samples)
    computer.input_finished()
    return np.stack([computer.get_frame(index) for index in range(computer.num_frames_ready)])


def make_extractors(signals: list[np.ndarray]) -> dict[str, Extractor]:
    """Return, by name, functions from an utterance's index to its features."""
    config = compose(["run_dir=unused", "features=fbank"]).features
    lists = [(samples * SCALE).tolist() for samples in signals]
    tensors = [torch.from_numpy(samples)[None] * SCALE for samples in signals]
    scaled = [samples * np.float32(SCALE) for samples in signals]
    lhotse = Fbank(FbankConfig(num_filters=40, snip_edges=True, high_freq=0.0))
    return {
        "ours": lambda i: fbank(signals[i], config).numpy(),
        "kaldi-native-fbank": lambda i: kaldi_native(lists[i]),
        "torchaudio": lambda i: torchaudio.compliance.kaldi.fbank(
            tensors[i], num_mel_bins=40, energy_floor=0.0
        ).numpy(),
        "lhotse": lambda i: lhotse.extract(scaled[i], 16000),
        "librosa": lambda i: np.log(
            librosa.feature.melspectrogram(y=signals[i], sr=16000, n_fft=400, hop_length=160, n_mels=40, center=False)
            + 1e-10
        ),
    }


def check(extractors: dict[str, Extractor], count: int) -> dict[str, float]:
    """Return each library's largest difference from ours; exit if more than 0.1 % of the values differ.

    In bins that are nearly empty, larger differences from rounding are allowed.
    """
    differences: dict[str, float] = {}
    for name in ("kaldi-native-fbank", "torchaudio", "lhotse"):
        pairs = [(np.asarray(extractors["ours"](i)), np.asarray(extractors[name](i))) for i in range(count)]
        distances = np.concatenate([np.abs(ours - theirs).ravel() for ours, theirs in pairs])
        differences[name] = float(distances.max())
        if np.mean(distances > 1e-3) > 1e-3:
            raise SystemExit(
                f"{name} differs from ours in {np.mean(distances > 1e-3):.2%} of values, expected at most 0.1 %"
            )
    return differences


def main() -> None:
    """Time every system over all utterances."""
    parser = build_parser(__doc__)
    parser.add_argument("cuts", type=Path)
    parser.add_argument("--utterances", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    signals = [read_audio(utterance.audio_path) for utterance in read_manifest(args.cuts)[: args.utterances]]
    audio_s = sum(len(samples) for samples in signals) / 16000
    extractors = make_extractors(signals)
    differences = check(extractors, len(signals))

    def run(extract: Extractor) -> Callable[[], object]:
        return lambda: [extract(i) for i in range(len(signals))]

    seconds = time_interleaved({name: run(extract) for name, extract in extractors.items()}, args.rounds)
    rows = [
        [name, f"{audio_s / value:.0f}", f"{value / seconds['ours']:.2f}", f"{differences.get(name, 0):.4f}"]
        for name, value in seconds.items()
    ]
    print(f"{len(signals)} utterances, {audio_s:.0f} s of audio, one core")
    print(format_table(["", "seconds of audio per second", "speed-up of ours", "largest difference"], rows))
    report_results(
        {f"ours over {name}": value / seconds["ours"] for name, value in seconds.items() if name != "ours"},
        {},
        args.json,
    )


if __name__ == "__main__":
    main()
