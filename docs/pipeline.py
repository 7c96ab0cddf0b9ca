"""Draw the pipeline for a real utterance: samples, features, posteriors, phones.

    python docs/pipeline.py MODEL UTTERANCE.WAV docs/pipeline.png

The phone labels, UTTERANCE.PHN, must be in the same folder as the audio.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from asr.corpus.audio import read_audio
from asr.decoding.best_path import best_path
from asr.features.filterbanks import extract
from asr.features.normalization import normalize
from asr.inference.bundle import load_bundle

MODULES = [
    "asr/corpus/audio.py",
    "asr/features/filterbanks.py",
    "asr/nn/lstm.py, asr/nn/acoustic_model.py",
    "asr/decoding/best_path.py",
    "asr/scoring/error_rate.py",
]
INK, ACCENT = "#1b2733", "#0a6e8a"


def main(model: Path, audio: Path, out: Path) -> None:
    """Draw the five steps on one time axis."""
    bundle = load_bundle(model)
    rate = bundle.features.sample_rate_hz
    samples = read_audio(audio, rate)
    seconds = len(samples) / rate
    log_mel = extract(samples, bundle.features)
    features = normalize(log_mel, bundle.features, "", bundle.statistics)
    with torch.inference_mode():
        log_probs, lengths = bundle.model(features[None], torch.tensor([len(features)]))
    phones = bundle.inventory.decode(best_path(log_probs, lengths)[0])
    segments = [line.split() for line in audio.with_suffix(".PHN").read_text().splitlines()]
    reference = [(int(start) / rate, int(end) / rate, phone) for start, end, phone in segments]

    plt.rcParams.update({"font.size": 9, "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK})
    figure, axes = plt.subplots(5, 1, figsize=(11, 8.6), sharex=True, height_ratios=[1, 1.5, 2.2, 0.7, 0.7])
    axes[0].plot(np.arange(len(samples)) / rate, samples, lw=0.4, color=INK)
    axes[1].imshow(features.T, origin="lower", aspect="auto", extent=(0, seconds, 0, features.shape[1]), cmap="magma")
    posteriors = log_probs[0].exp()
    used = torch.unique(posteriors.argmax(1))
    used = used[used != 0]
    axes[2].imshow(
        posteriors[:, used].T, origin="lower", aspect="auto", extent=(0, seconds, 0, len(used)), cmap="Blues", vmax=1
    )
    axes[2].set_yticks(np.arange(len(used)) + 0.5, bundle.inventory.decode(used.tolist()), fontsize=5.5)
    best = log_probs[0].argmax(1)
    step = seconds / len(best)
    starts = [t for t in range(len(best)) if best[t] != 0 and (t == 0 or best[t] != best[t - 1])]
    heights = (0.8, 0.5, 0.2)  # three lines of text, so that neighbours do not overlap
    for index, (frame, phone) in enumerate(zip(starts, phones, strict=True)):
        position = ((frame + 0.5) * step, heights[index % 3])
        axes[3].text(*position, phone, ha="center", va="center", fontsize=7, color=ACCENT, weight="bold")
    for index, (start, end, phone) in enumerate(reference):
        axes[4].axvline(start, lw=0.4, color="#b8c2cc")
        axes[4].text((start + end) / 2, heights[index % 3], phone, ha="center", va="center", fontsize=7)
    titles = [
        "audio file: samples at 16 kHz, mono",
        f"features: {bundle.features.bins} log-mel filterbank values every 10 ms, normalized",
        "acoustic model: probability of each phone in each output frame (the CTC blank has the rest)",
        "best path: the recognized phones",
        "reference: phone error rate = (S + D + I) / N",
    ]
    for axis, title, module in zip(axes, titles, MODULES, strict=True):
        decorate(axis, title, module)
    axes[4].set_xlim(0, seconds)
    axes[4].set_xlabel("seconds")
    figure.tight_layout(h_pad=0.6)
    figure.savefig(out, dpi=110)


def decorate(axis: Axes, title: str, module: str) -> None:
    """Put the title on the left and the module on the right, and remove unneeded axes."""
    axis.set_title(title, loc="left", fontsize=9.5, weight="bold")
    axis.set_title(module, loc="right", fontsize=8.5, color=ACCENT, family="monospace")
    if not axis.get_images():
        axis.set_yticks([])
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
