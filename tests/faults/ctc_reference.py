"""CTC a second time: the forward-backward recursions of the textbook in float64, to hold `asr.nn.ctc` against.

Graves et al., 2006, sections 4.1 and 4.2, with logarithms in place of their rescaling. It shares no code with torch, and is
itself held against brute force over all paths in `tests/test_ctc.py`.
"""

import math

import numba
import numpy as np


@numba.njit(cache=True)
def log_add(one: float, other: float) -> float:
    """log(exp(one) + exp(other)), where both may be -inf."""
    if one < other:
        one, other = other, one
    return one if other == -math.inf else one + math.log1p(math.exp(other - one))


@numba.njit(cache=True)
def forward(log_probs: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Log-probability of being in each state at each frame, with what was before it: (frames, states) float64.

    ``states`` are the labels with a blank (0) before, between and after them; ``log_probs`` is (frames, symbols).
    """
    frames, count = len(log_probs), len(states)
    alpha = np.full((frames, count), -math.inf)
    for state in range(min(2, count)):
        alpha[0, state] = log_probs[0, states[state]]
    for frame in range(1, frames):
        for state in range(count):
            total = alpha[frame - 1, state]
            if state > 0:
                total = log_add(total, alpha[frame - 1, state - 1])
            if state > 1 and states[state] != 0 and states[state] != states[state - 2]:
                total = log_add(total, alpha[frame - 1, state - 2])
            alpha[frame, state] = total + log_probs[frame, states[state]]
    return alpha


def loss_and_gradient(log_probs: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Negative log-likelihood of labels in nats, and its gradient with respect to the log-probabilities.

    (frames, symbols) and (labels,) -> inf and zeros where no path of so many frames has these labels. The gradient at a
    frame and symbol is minus the probability of being in one of its states then, given the labels: each frame's sum is -1.
    """
    log_probs = np.asarray(log_probs, dtype=np.float64)
    states = np.zeros(2 * len(labels) + 1, dtype=np.int64)
    states[1::2] = labels
    gradient = np.zeros_like(log_probs)
    if len(log_probs) == 0:
        return (0.0 if len(labels) == 0 else math.inf), gradient
    alpha = forward(log_probs, states)
    # Backwards it is the same recursion on everything reversed. Both count the frame's own log-probability.
    beta = forward(log_probs[::-1].copy(), states[::-1].copy())[::-1, ::-1]
    likelihood = np.logaddexp.reduce(alpha[-1, -2:])
    if likelihood == -math.inf:
        return math.inf, gradient
    occupied = np.exp(alpha + beta - log_probs[:, states] - likelihood)
    for state, symbol in enumerate(states):
        gradient[:, symbol] -= occupied[:, state]
    return -float(likelihood), gradient
