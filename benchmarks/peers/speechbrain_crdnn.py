"""Train SpeechBrain's TIMIT CTC model (CRDNN) on our batches: training speed and recognized phones.

    python -m venv .speechbrain
    .speechbrain/bin/pip install "torch==2.11.*" "torchaudio==2.11.*" speechbrain soundfile
    .speechbrain/bin/python benchmarks/peers/speechbrain_crdnn.py JOB.json

JOB.json is {"batches": [[{"path", "start_s", "duration_s", "tokens"}, ...], ...], "symbols": N}. The script prints one line
of JSON per batch, with utterances and seconds; the first batch is for warming up. If the job also has {"dev": [[...], ...],
"minutes": M, "every": E}, the script cycles through the batches for M minutes of training and prints a line every E
minutes: the minutes, and the symbols of the best path of each dev utterance. The minutes do not include recognition.

Model, features, augmentation and optimizer have the settings of SpeechBrain 1.1's TIMIT recipe (CRDNN with LiGRU; the clean
signal plus copies with speed perturbation, dropped frequencies and dropped chunks; Adadelta), without the noise that the
recipe downloads.
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
    """The recipe's augmentation, features, model and optimizer."""

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
        self.model = CRDNN(input_size=40, time_pooling=True)  # defaults: 2 x CNN, 4 x 512 LiGRU, 2 x DNN
        self.output = Linear(input_size=512, n_neurons=symbols)
        parameters = [*self.model.parameters(), *self.output.parameters()]
        self.optimizer = torch.optim.Adadelta(parameters, lr=1.0, rho=0.95, eps=1e-8)

    def step(self, signals: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> float:
        """Update once on (batch, samples) with relative lengths (batch,); return the loss."""
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
        """Return the symbols of each best path, for (batch, samples) with relative lengths (batch,)."""
        modules = (self.model, self.output, self.normalize)
        for module in modules:
            module.eval()
        features = self.normalize(self.features(signals), lengths)
        log_probs = self.output(self.model(features)).log_softmax(dim=-1)
        for module in modules:
            module.train()
        hypotheses: list[list[int]] = ctc_greedy_decode(log_probs, lengths, blank_id=0)
        return hypotheses


def load(batch: list[dict[str, Any]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Read a batch: signals, relative lengths, tokens and relative token lengths."""
    signals = []
    for utterance in batch:
        start, frames = round(utterance["start_s"] * RATE_HZ), round(utterance["duration_s"] * RATE_HZ)
        samples, rate_hz = soundfile.read(utterance["path"], start=start, frames=frames, dtype="float32")
        if rate_hz != RATE_HZ:
            raise SystemExit(f"{utterance['path']}: {rate_hz} Hz, expected {RATE_HZ}")
        signals.append(torch.from_numpy(samples))
    tokens = [torch.tensor(utterance["tokens"]) for utterance in batch]
    padded = [torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True) for sequences in (signals, tokens)]
    relative = [
        torch.tensor([len(sequence) / tensor.shape[1] for sequence in sequences])
        for sequences, tensor in zip((signals, tokens), padded, strict=True)
    ]
    return padded[0], relative[0], padded[1], relative[1]


def train_and_recognize(recipe: Recipe, job: dict[str, Any]) -> None:
    """Train for the job's minutes and recognize dev at its interval."""
    trained_s, due_s, updates = 0.0, 60.0 * job["every"], 0
    while True:
        for batch in job["batches"]:
            started = time.perf_counter()
            loss = recipe.step(*load(batch))
            trained_s += time.perf_counter() - started
            updates += 1
            if trained_s >= due_s:
                due_s += 60.0 * job["every"]
                symbols = [tokens for dev_batch in job["dev"] for tokens in recipe.recognize(*load(dev_batch)[:2])]
                line = {"minutes": trained_s / 60, "updates": updates, "loss": loss, "symbols": symbols}
                print(json.dumps(line), flush=True)
            if trained_s >= 60.0 * job["minutes"]:
                return


def main() -> None:
    """Run the job: either the timed batches, or the training with recognition of dev."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.manual_seed(0)
    recipe = Recipe(job["symbols"])
    parameters = sum(p.numel() for module in (recipe.model, recipe.output) for p in module.parameters())
    if "minutes" in job:
        train_and_recognize(recipe, job)
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
