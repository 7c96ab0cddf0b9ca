"""Seconds of audio per second on one core: our log-mel filterbank against others on the same utterances.

    python -m benchmarks.features CUTS [--utterances 200] [--json FILE]

torchaudio, kaldi-native-fbank (C++) and lhotse compute the same Kaldi features, and must agree with ours before anything
is timed; librosa's are of another definition (its own mel scale and window, no pre-emphasis) and of the same size. Reading
the files is not timed, nor is turning them into the type that a contender wants.
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
from benchmarks.timing import finish, interleave, parser, table

SCALE = 32768.0
Extractor = Callable[[int], object]


def kaldi_native(samples: list[float]) -> np.ndarray:
    """Features by kaldi-native-fbank, (frames, 40)."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 40
    options.energy_floor = 0.0
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(16000, samples)
    computer.input_finished()
    return np.stack([computer.get_frame(index) for index in range(computer.num_frames_ready)])


def contenders(signals: list[np.ndarray]) -> dict[str, Extractor]:
    """Name -> the features of utterance i."""
    config = compose(["run_dir=unused", "features=fbank"]).features
    lists = [(samples * SCALE).tolist() for samples in signals]
    rows = [torch.from_numpy(samples)[None] * SCALE for samples in signals]
    scaled = [samples * np.float32(SCALE) for samples in signals]
    lhotse = Fbank(FbankConfig(num_filters=40, snip_edges=True, high_freq=0.0))
    return {
        "ours": lambda i: fbank(signals[i], config).numpy(),
        "kaldi-native-fbank": lambda i: kaldi_native(lists[i]),
        "torchaudio": lambda i: torchaudio.compliance.kaldi.fbank(rows[i], num_mel_bins=40, energy_floor=0.0).numpy(),
        "lhotse": lambda i: lhotse.extract(scaled[i], 16000),
        "librosa": lambda i: np.log(
            librosa.feature.melspectrogram(y=signals[i], sr=16000, n_fft=400, hop_length=160, n_mels=40, center=False)
            + 1e-10
        ),
    }


def check(extractors: dict[str, Extractor], count: int) -> dict[str, float]:
    """Each contender's largest difference from ours, which must be small but where a bin is nearly empty."""
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
    """Time every contender over all utterances."""
    options = parser(__doc__)
    options.add_argument("cuts", type=Path)
    options.add_argument("--utterances", type=int, default=200)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    signals = [read_audio(utterance.audio_path) for utterance in read_manifest(chosen.cuts)[: chosen.utterances]]
    audio_s = sum(len(samples) for samples in signals) / 16000
    extractors = contenders(signals)
    differences = check(extractors, len(signals))

    def run(extract: Extractor) -> Callable[[], object]:
        return lambda: [extract(i) for i in range(len(signals))]

    seconds = interleave({name: run(extract) for name, extract in extractors.items()}, chosen.rounds)
    rows = [
        [name, f"{audio_s / value:.0f}", f"{value / seconds['ours']:.2f}", f"{differences.get(name, 0):.4f}"]
        for name, value in seconds.items()
    ]
    print(f"{len(signals)} utterances, {audio_s:.0f} s of audio, one core")
    print(table(["", "seconds of audio a second", "ours is faster by", "largest difference"], rows))
    finish(
        {f"ours over {name}": value / seconds["ours"] for name, value in seconds.items() if name != "ours"},
        {},
        chosen.json,
    )


if __name__ == "__main__":
    main()
