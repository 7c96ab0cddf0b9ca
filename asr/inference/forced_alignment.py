"""The times of known phones: a small network classifies frames, and a Viterbi search finds the best segmentation.

CTC tells which phones were uttered but not when: its peaks are short and may be anywhere in a phone. Here a convolutional
network that sees 15 frames assigns each frame to a phone or to silence. The search keeps the phones in their order and
allows silence between them (the hybrid of Bourlard and Morgan, "Connectionist speech recognition", 1994).
`asr.training.frame_classifier` trains the network, which is stored in the model's folder.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from asr.corpus.phones import SILENCES, PhoneInventory
from asr.inference.weights import load_weights
from asr.system.deferred_compilation import defer_compilation
from asr.system.files import write_bytes

ALIGNER_FILE = "aligner.safetensors"
SILENCE = 0
"""The class of silence, in place of CTC's blank. The class of a phone is its symbol id."""
CHANNELS = 128
KERNELS = ((5, 1), (3, 2), (3, 3))
"""Width and dilation of each layer."""
CONTEXT = sum((width - 1) // 2 * dilation for width, dilation in KERNELS)
"""Frames on either side that the class of a frame depends on."""
PRIOR_WEIGHT = 0.5
"""Posteriors are divided by the class priors raised to this power: 1 gives scaled likelihoods, 0 plain posteriors."""
MIN_PHONE_FRAMES = 2
MAX_PIECE_FRAMES = 3000
"""A longer recording is aligned in pieces of half a minute, cut half way between two of CTC's peaks."""
PEAK_FRAMES = 2.0
"""A phone begins at most this long after its CTC peak and ends at most this long before it: CTC is late or early by some
frames, never by a word."""
PEAK_COST = 2.0
"""What each further frame costs, in natural log. Without it, a phone that nobody hears is put into any silence."""
IMPOSSIBLE = -1e30
"""The score of a path that does not exist, in natural log."""
FRAME_STEPS = 20
"""Steps of plain Python that take as long as a frame of the search."""


class FrameClassifier(nn.Module):
    """(batch, frames, dim) normalized features -> (batch, frames, classes) natural-log probabilities."""

    log_priors: Tensor

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        sizes = [dim, *[CHANNELS] * len(KERNELS)]
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, width, dilation=dilation, padding=(width - 1) // 2 * dilation)
            for before, after, (width, dilation) in zip(sizes, sizes[1:], KERNELS, strict=False)
        )
        self.output = nn.Conv1d(CHANNELS, classes, 1)
        self.register_buffer("log_priors", torch.zeros(classes))

    def forward(self, features: Tensor) -> Tensor:
        """Classify every frame. Frames beyond the end of an utterance must be zero."""
        hidden = features.transpose(1, 2)
        for layer in self.layers:
            hidden = functional.gelu(layer(hidden))
        return self.output(hidden).transpose(1, 2).log_softmax(2)

    def scores(self, features: Tensor, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Compute the input of `segment`, (frames, classes) float64, for frames ``start`` to ``stop`` of (frames, dim)."""
        stop = len(features) if stop is None else stop
        first, last = max(0, start - CONTEXT), min(len(features), stop + CONTEXT)
        with torch.inference_mode():
            log_probs = self(features[None, first:last])[0] - PRIOR_WEIGHT * self.log_priors
        return log_probs[start - first : stop - first].double().cpu().numpy()


def load_aligner(model: Path, dim: int, classes: int) -> FrameClassifier | None:
    """Load the aligner in a model's folder, None if it has none.

    Raises:
        InputError: it is damaged, or for other features or phones.
    """
    path = model / ALIGNER_FILE
    if not path.exists():
        return None
    network = FrameClassifier(dim, classes)
    load_weights(network, path)
    return network.eval()


def save_aligner(network: FrameClassifier, model: Path) -> None:
    """Save an aligner in a model's folder.

    Raises:
        InputError: it cannot be written.
    """
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(model / ALIGNER_FILE, save(weights))


def non_silence_positions(tokens: Sequence[int], phones: PhoneInventory) -> list[int]:
    """The positions of the tokens that are not silence."""
    return [position for position, token in enumerate(tokens) if phones.symbols[token] not in SILENCES]


def align_phones(
    network: FrameClassifier, features: Tensor, classes: Sequence[int], peaks: Sequence[float]
) -> list[tuple[int, int]]:
    """Find the frames of each phone of a recording of any length, as (first, one past the last).

    features: (frames, dim); peaks: about where each phone is, in frames, in ascending order.
    """
    spans: list[tuple[int, int]] = []
    start, first = 0, 0
    for index, peak in enumerate(peaks):
        following = peaks[index + 1] if index + 1 < len(peaks) else None
        if following is not None and following - start < MAX_PIECE_FRAMES:
            continue
        stop = len(features) if following is None else max(start + 1, round((peak + following) / 2))
        near = [peak - start for peak in peaks[first : index + 1]]
        piece = segment(network.scores(features, start, stop), classes[first : index + 1], near)
        spans += [(start + phone_start, start + phone_stop) for phone_start, phone_stop in piece]
        start, first = stop, index + 1
    return spans


def segment(scores: np.ndarray, classes: Sequence[int], peaks: Sequence[float] | None = None) -> list[tuple[int, int]]:
    """Find the frames of each phone in the best segmentation, as (first, one past the last).

    scores: (frames, classes) float64, natural log; classes: of the phones, in order. Silence may occur before, between and
    after them. peaks: about where each phone is, in frames; far from there, it costs. With fewer than `MIN_PHONE_FRAMES`
    frames per phone, the frames are divided evenly.
    """
    if len(scores) < MIN_PHONE_FRAMES * len(classes):
        edges = [len(scores) * index // max(1, len(classes)) for index in range(len(classes) + 1)]
        return list(pairwise(edges))
    states = np.full(2 * len(classes) + 1, SILENCE)
    states[1::2] = classes
    bounds = np.tile([np.inf, -np.inf], (len(states), 1))
    if peaks is not None:
        bounds[1::2] = np.add.outer(peaks, [PEAK_FRAMES, -PEAK_FRAMES])
    return [(int(start), int(stop)) for start, stop in _trace_back(_viterbi(scores, states, bounds), states)]


@defer_compilation(lambda scores, states, bounds: FRAME_STEPS * len(scores))
def _viterbi(scores: np.ndarray, states: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Find the predecessor of each (frame, state, repetition) on the best path to it, int8.

    0 is the same repetition, 1 the repetition before, 2 the state before, 3 the state two before. Silences and phones
    alternate as states. A phone has `MIN_PHONE_FRAMES` repetitions, silence the last of them alone; only the last may be
    repeated. ``bounds`` has the last frame to enter each state and the first to leave it free of cost.
    """
    count, last = len(states), MIN_PHONE_FRAMES - 1
    origin = np.zeros((len(scores), count, MIN_PHONE_FRAMES), np.int8)
    best = np.full((count, MIN_PHONE_FRAMES), IMPOSSIBLE)
    for frame in range(len(scores)):
        entered = np.full(count, IMPOSSIBLE)
        if frame == 0:
            entered[:2] = 0.0
        else:
            left = best[:, last] - PEAK_COST * np.maximum(bounds[:, 1] - frame, 0.0)
            entered[1:] = left[:-1]
            entered[3::2] = np.maximum(left[1:-2:2], entered[3::2])  # from phone to phone, without silence between them
            origin[frame, 3::2, 0] = left[1:-2:2] > left[2:-1:2]
            entered[1:] -= PEAK_COST * np.maximum(frame - bounds[1:, 0], 0.0)
        origin[frame, 1::2, 0] += 2
        origin[frame, ::2, last] = 2
        origin[frame, 1::2, 1:] = 1  # from the repetition before
        reached = np.full((count, MIN_PHONE_FRAMES), IMPOSSIBLE)
        reached[1::2, 0] = entered[1::2]
        reached[::2, last] = entered[::2]
        reached[1::2, 1:] = best[1::2, :last]
        origin[frame, :, last] *= best[:, last] <= reached[:, last]  # else 0: the last repetition goes on
        reached[:, last] = np.maximum(best[:, last], reached[:, last])
        best = reached + scores[frame][states].reshape(-1, 1)
    # The path ends in the last silence or the last phone. The unused first repetition of silence records which.
    if count > 1 and best[count - 2, last] > best[count - 1, last]:
        origin[0, 0, 0] = 1
    return origin


@defer_compilation(lambda origin, states: len(origin))
def _trace_back(origin: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Follow the best path backward. Returns the frames of each phone, (phones, 2)."""
    spans = np.zeros((len(states) // 2, 2), np.int64)
    state, repetition = len(states) - 1 - int(origin[0, 0, 0]), MIN_PHONE_FRAMES - 1
    stop = len(origin)
    for frame in range(len(origin) - 1, -1, -1):
        came = int(origin[frame, state, repetition])
        if came == 1:
            repetition -= 1
        elif came > 1:
            if state % 2:
                spans[state // 2, 0], spans[state // 2, 1] = frame, stop
            state, stop = state - came + 1, frame
            repetition = MIN_PHONE_FRAMES - 1
    return spans
