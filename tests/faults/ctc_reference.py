"""A reference implementation of CTC for `asr.nn.ctc`: the textbook's forward-backward recursions in float64.

Source: Graves et al., 2006, sections 4.1 and 4.2, with logarithms instead of their rescaling. It shares no code with torch;
`tests/test_ctc.py` compares it with brute force over all paths.
"""

import math

import numba
import numpy as np


@numba.njit(cache=True)
def log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b)); a and b may be -inf."""
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))


@numba.njit(cache=True)
def forward(log_probs: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Compute alpha (frames, states) float64: the log-probability of all path prefixes that end in a state at a frame.

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
    """Return the negative log-likelihood of the labels in nats, and its gradient with respect to the log-probabilities.

    ``log_probs`` is (frames, symbols), ``labels`` (labels,). If no path has these labels, the result is inf and zeros. The
    gradient at a frame and symbol is minus the posterior probability of the symbol's states, so each frame sums to -1.
    """
    log_probs = np.asarray(log_probs, dtype=np.float64)
    states = np.zeros(2 * len(labels) + 1, dtype=np.int64)
    states[1::2] = labels
    gradient = np.zeros_like(log_probs)
    if len(log_probs) == 0:
        return (0.0 if len(labels) == 0 else math.inf), gradient
    alpha = forward(log_probs, states)
    # Beta is the same recursion on the reversed sequence. Alpha and beta both include the frame's own log-probability.
    beta = forward(log_probs[::-1].copy(), states[::-1].copy())[::-1, ::-1]
    likelihood = np.logaddexp.reduce(alpha[-1, -2:])
    if likelihood == -math.inf:
        return math.inf, gradient
    occupied = np.exp(alpha + beta - log_probs[:, states] - likelihood)
    for state, symbol in enumerate(states):
        gradient[:, symbol] -= occupied[:, state]
    return -float(likelihood), gradient
