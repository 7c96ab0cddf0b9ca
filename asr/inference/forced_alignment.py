"""Where phones begin and end: a small network that classifies frames, and the best segmentation under it.

CTC says what was said but not when: its peaks are short and may lie anywhere in a phone. Here each frame of the features is
given to a phone or to silence by a convolutional network that sees 15 of them, and a Viterbi search finds the segmentation
that says the phones in their order, with silence between them where there is any (the hybrid of Bourlard and Morgan,
"Connectionist speech recognition", 1994). `asr.training.frame_classifier` trains it; it lies in a model's folder.
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

FILE = "aligner.safetensors"
SILENCE = 0
"""The class of silence, in the place of CTC's blank; a phone's class is its symbol id."""
CHANNELS = 128
KERNELS = ((5, 1), (3, 2), (3, 3))
"""Width and dilation of each layer."""
CONTEXT = sum((width - 1) // 2 * dilation for width, dilation in KERNELS)
"""Frames on either side that a frame's class depends on."""
PRIOR_WEIGHT = 0.5
"""Power of the classes' frequencies that posteriors are divided by: 1 gives likelihoods, 0 leaves them as they are."""
LEAST_FRAMES = 2
"""Of a phone."""
MOST_FRAMES = 3000
"""A longer recording is aligned in pieces of half a minute, cut half way between two of CTC's peaks."""
NEVER = -1e30


class FrameClassifier(nn.Module):
    """(batch, frames, dim) normalized features -> (batch, frames, classes) natural-log probabilities."""

    log_priors: Tensor

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        sizes = [dim, *[CHANNELS] * len(KERNELS)]
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, width, dilation=step, padding=(width - 1) // 2 * step)
            for before, after, (width, step) in zip(sizes, sizes[1:], KERNELS, strict=False)
        )
        self.output = nn.Conv1d(CHANNELS, classes, 1)
        self.register_buffer("log_priors", torch.zeros(classes))

    def forward(self, features: Tensor) -> Tensor:
        """Classes of every frame; frames beyond an utterance's end must be zero."""
        hidden = features.transpose(1, 2)
        for layer in self.layers:
            hidden = functional.gelu(layer(hidden))
        return self.output(hidden).transpose(1, 2).log_softmax(2)

    def scores(self, features: Tensor, start: int = 0, stop: int | None = None) -> np.ndarray:
        """What `segment` takes, of frames ``start`` to ``stop`` of (frames, dim) features: (frames, classes) float64."""
        stop = len(features) if stop is None else stop
        first, last = max(0, start - CONTEXT), min(len(features), stop + CONTEXT)
        with torch.inference_mode():
            log_probs = self(features[None, first:last])[0] - PRIOR_WEIGHT * self.log_priors
        return log_probs[start - first : stop - first].double().cpu().numpy()


def without_silence(tokens: Sequence[int], phones: PhoneInventory) -> list[int]:
    """The places of the tokens that are no silence."""
    return [place for place, token in enumerate(tokens) if phones.symbols[token] not in SILENCES]


def save_aligner(network: FrameClassifier, model: Path) -> None:
    """Put an aligner into a model's folder.

    Raises:
        InputError: it cannot be written.
    """
    write_bytes(model / FILE, save({name: one.contiguous() for name, one in network.state_dict().items()}))


def load_aligner(model: Path, dim: int, classes: int) -> FrameClassifier | None:
    """The aligner in a model's folder, None where it has none.

    Raises:
        InputError: it is damaged, or for other features or phones.
    """
    path = model / FILE
    if not path.exists():
        return None
    network = FrameClassifier(dim, classes)
    load_weights(network, path)
    return network.eval()


def segment(scores: np.ndarray, classes: Sequence[int]) -> list[tuple[int, int]]:
    """The frames of each phone, as (first, one past the last), in the best segmentation.

    scores: (frames, classes) float64, natural log; classes: of the phones in their order. Silence may stand before, between
    and after them. Where frames are too few for `LEAST_FRAMES` each, they are shared out evenly.
    """
    if len(scores) < LEAST_FRAMES * len(classes):
        places = [len(scores) * number // max(1, len(classes)) for number in range(len(classes) + 1)]
        return list(pairwise(places))
    states = np.full(2 * len(classes) + 1, SILENCE)
    states[1::2] = classes
    return [(int(start), int(stop)) for start, stop in _trace(_best(scores, states), states)]


def align(
    network: FrameClassifier, features: Tensor, classes: Sequence[int], peaks: Sequence[float]
) -> list[tuple[int, int]]:
    """The frames of each phone of a recording of any length, as (first, one past the last).

    features: (frames, dim); ``peaks`` say about where each phone lies, in frames, in ascending order.
    """
    spans: list[tuple[int, int]] = []
    start, first = 0, 0
    for number, peak in enumerate(peaks):
        following = peaks[number + 1] if number + 1 < len(peaks) else None
        if following is not None and following - start < MOST_FRAMES:
            continue
        stop = len(features) if following is None else max(start + 1, round((peak + following) / 2))
        found = segment(network.scores(features, start, stop), classes[first : number + 1])
        spans += [(start + one, start + two) for one, two in found]
        start, first = stop, number + 1
    return spans


@defer_compilation(lambda scores, states: len(scores) * len(states))
def _best(scores: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Where the best path to each frame, state and repetition came from: 0 the same, 1 the repetition before, 2 and 3 the
    state that is one or two before. States are silence and phones by turns; a phone has `LEAST_FRAMES` repetitions, of
    which the last may go on.
    """
    frames, count = len(scores), len(states)
    origin = np.zeros((frames, count, LEAST_FRAMES), np.int8)
    best = np.full((count, LEAST_FRAMES), NEVER)
    for frame in range(frames):
        new = np.full((count, LEAST_FRAMES), NEVER)
        for state in range(count):
            last = LEAST_FRAMES - 1 if state % 2 else 0
            for repetition in range(last + 1):
                value, came = NEVER, 0
                if repetition > 0:
                    value, came = best[state, repetition - 1], 1
                elif frame == 0:
                    value, came = (0.0, 2) if state < 2 else (NEVER, 2)
                elif state > 0:
                    value, came = best[state - 1, 0 if state % 2 else LEAST_FRAMES - 1], 2
                    if state % 2 and state > 1 and best[state - 2, LEAST_FRAMES - 1] > value:
                        value, came = best[state - 2, LEAST_FRAMES - 1], 3
                if repetition == last and frame > 0 and best[state, repetition] > value:
                    value, came = best[state, repetition], 0
                new[state, repetition] = value + scores[frame, states[state]]
                origin[frame, state, repetition] = came
        best = new
    # The path ends in the last silence or in the last phone: the first frame's row has room to say which.
    if count > 1 and best[count - 2, LEAST_FRAMES - 1] > best[count - 1, 0]:
        origin[0, 0, 1] = 1
    return origin


@defer_compilation(lambda origin, states: len(origin))
def _trace(origin: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The frames of each phone on the best path, (phones, 2)."""
    spans = np.zeros((len(states) // 2, 2), np.int64)
    state = len(states) - 2 if origin[0, 0, 1] else len(states) - 1
    repetition = LEAST_FRAMES - 1 if state % 2 else 0
    stop = len(origin)
    for frame in range(len(origin) - 1, -1, -1):
        came = int(origin[frame, state, repetition])
        if came == 1:
            repetition -= 1
        elif came > 1:
            if state % 2:
                spans[state // 2, 0], spans[state // 2, 1] = frame, stop
            state, stop = state - came + 1, frame
            repetition = LEAST_FRAMES - 1 if state % 2 else 0
    return spans
