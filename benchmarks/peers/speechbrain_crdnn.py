"""SpeechBrain's TIMIT CTC model (CRDNN) on a manifest of ours: how fast it trains, and what it recognizes.

    python -m venv .speechbrain
    .speechbrain/bin/pip install "torch==2.11.*" "torchaudio==2.11.*" speechbrain soundfile
    .speechbrain/bin/python benchmarks/peers/speechbrain_crdnn.py JOB.json

Reads {"batches": [[{"path", "start_s", "duration_s", "tokens"}, ...], ...], "symbols": N} and prints a line of JSON for
every batch: utterances and seconds; the first one is for warming up. With {"dev": [[...], ...], "minutes": M, "every": E}
beside them it goes over the batches again and again for M minutes of training, and every E minutes it prints a line with
the minutes and the symbols of the best path for each utterance of dev; the minutes do not count that.

The model, features, augmentation and optimizer have the settings of SpeechBrain 1.1's TIMIT recipe (CRDNN with LiGRU,
speed perturbation, dropped frequencies and chunks beside the clean signal, Adadelta), but for the noise that the recipe
downloads.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import soundfile
import torch
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.time_domain import DropChunk, DropFreq, SpeedPerturb
from speechbrain.decoders import ctc_greedy_decode
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.CRDNN import CRDNN
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.losses import ctc_loss
from speechbrain.processing.features import InputNormalization
from torch import Tensor

RATE_HZ = 16000


class Recipe:
    """The parts of the recipe, and one training step of them."""

    def __init__(self, symbols: int) -> None:
        self.augment = Augmenter(
            concat_original=True,
            min_augmentations=3,
            max_augmentations=3,
            augment_prob=1.0,
            augmentations=[
                SpeedPerturb(orig_freq=RATE_HZ, speeds=[95, 100, 105]),
                DropFreq(drop_freq_low=0, drop_freq_high=1, drop_freq_count_low=1, drop_freq_count_high=3),
                DropChunk(drop_length_low=1000, drop_length_high=2000, drop_count_low=1, drop_count_high=5),
            ],
        )
        self.features = Fbank(sample_rate=RATE_HZ, n_fft=400, n_mels=40)
        self.normalize = InputNormalization(norm_type="global")
        self.model = CRDNN(input_size=40, time_pooling=True)  # all else is its default: 2 x CNN, 4 x 512 LiGRU, 2 x DNN
        self.output = Linear(input_size=512, n_neurons=symbols)
        parameters = [*self.model.parameters(), *self.output.parameters()]
        self.optimizer = torch.optim.Adadelta(parameters, lr=1.0, rho=0.95, eps=1e-8)

    def step(self, signals: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> float:
        """One update on (batch, samples) with relative lengths (batch,); the loss."""
        signals, lengths = self.augment(signals, lengths)
        copies = len(signals) // len(tokens)
        tokens, token_lengths = tokens.repeat(copies, 1), token_lengths.repeat(copies)
        features = self.normalize(self.features(signals), lengths)
        log_probs = self.output(self.model(features)).log_softmax(dim=-1)
        loss = ctc_loss(log_probs, tokens, lengths, token_lengths, blank_index=0)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)

    @torch.no_grad()
    def recognize(self, signals: Tensor, lengths: Tensor) -> list[list[int]]:
        """Symbols of the best path for each of (batch, samples) with relative lengths (batch,)."""
        parts = (self.model, self.output, self.normalize)
        for part in parts:
            part.eval()
        features = self.normalize(self.features(signals), lengths)
        log_probs = self.output(self.model(features)).log_softmax(dim=-1)
        for part in parts:
            part.train()
        found: list[list[int]] = ctc_greedy_decode(log_probs, lengths, blank_id=0)
        return found


def load(batch: list[dict[str, Any]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Signals, relative lengths, tokens and relative token lengths of a batch, read from its files."""
    signals = []
    for one in batch:
        start, frames = round(one["start_s"] * RATE_HZ), round(one["duration_s"] * RATE_HZ)
        samples, rate_hz = soundfile.read(one["path"], start=start, frames=frames, dtype="float32")
        if rate_hz != RATE_HZ:
            raise SystemExit(f"{one['path']}: {rate_hz} Hz, expected {RATE_HZ}")
        signals.append(torch.from_numpy(samples))
    tokens = [torch.tensor(one["tokens"]) for one in batch]
    padded = [torch.nn.utils.rnn.pad_sequence(some, batch_first=True) for some in (signals, tokens)]
    relative = [
        torch.tensor([len(one) / whole.shape[1] for one in some])
        for some, whole in zip((signals, tokens), padded, strict=True)
    ]
    return padded[0], relative[0], padded[1], relative[1]


def learn(recipe: Recipe, job: dict[str, Any]) -> None:
    """Train for so many minutes, and recognize dev every few of them."""
    trained_s, due_s, updates = 0.0, 60.0 * job["every"], 0
    while True:
        for batch in job["batches"]:
            started = time.perf_counter()
            loss = recipe.step(*load(batch))
            trained_s += time.perf_counter() - started
            updates += 1
            if trained_s >= due_s:
                due_s += 60.0 * job["every"]
                symbols = [found for some in job["dev"] for found in recipe.recognize(*load(some)[:2])]
                line = {"minutes": trained_s / 60, "updates": updates, "loss": loss, "symbols": symbols}
                print(json.dumps(line), flush=True)
            if trained_s >= 60.0 * job["minutes"]:
                return


def main() -> None:
    """Train on each batch in turn."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.manual_seed(0)
    recipe = Recipe(job["symbols"])
    parameters = sum(p.numel() for part in (recipe.model, recipe.output) for p in part.parameters())
    if "minutes" in job:
        learn(recipe, job)
        return
    for batch in job["batches"]:
        started = time.perf_counter()
        loss = recipe.step(*load(batch))
        seconds = time.perf_counter() - started
        print(
            json.dumps({"utterances": len(batch), "seconds": seconds, "loss": loss, "parameters": parameters}),
            flush=True,
        )


if __name__ == "__main__":
    main()
