"""Which transcripts do not match their audio: how well the reference phones of an utterance fit what the model hears.

In:  log-probabilities and the reference phones. Out: a fit, and whether the transcript is suspicious.
The fit compares the log-likelihood of the reference with two others of the same audio: that of the recognized phones, at
which it is 1, and the mean of random sequences of as many phones, at which it is 0. Noise, an unknown accent or a weak
model lower all three, so that one threshold serves for every model. The random phones are as frequent as in the corpus.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance
from asr.decoding.best_path import best_path
from asr.errors import InputError
from asr.inference.recognizer import Recognizer
from asr.inference.windows import compute_log_probs
from asr.nn.ctc import BLANK_ID, required_frames
from asr.system.progress import progress

THRESHOLD = 0.4
"""Transcripts with a lower fit are suspicious. On speech unlike the training data, right transcripts fit worse too."""
RANDOM_SEQUENCES = (2, 16)
RANDOM_PHONES = 400
"""Random sequences have about so many phones together, and there are at least 2 and at most 16 of them."""
FEW_NATS = 1e-3
"""Least difference of the log-likelihoods at which the fit is 1 and 0, so that it stays finite."""
TOO_LONG = -40.0
"""Natural-log likelihood per phone of a reference that needs more frames than there are."""
UTTERANCES_AT_ONCE = 64


@dataclass(frozen=True)
class Fit:
    """How well phones fit their audio: 1 as well as the recognized phones, 0 as random ones.

    ``loss`` is the log-likelihood ratio of the recognized phones and these, in nats per phone.
    """

    value: float
    loss: float


@dataclass(frozen=True)
class Verdict:
    """The fit of an utterance's reference phones, and what was recognized instead. With a problem, the fit is 0."""

    utterance: Utterance
    fit: Fit
    reference: tuple[str, ...]
    recognized: tuple[str, ...]
    problem: str = ""


def verify(recognizer: Recognizer, utterances: Sequence[Utterance]) -> Iterator[Verdict]:
    """Yield the verdict on each utterance, in order."""
    inventory = recognizer.bundle.inventory
    references = [_encode(recognizer, utterance) for utterance in utterances]
    counts = Counter(token for reference in references if isinstance(reference, list) for token in reference)
    weights = phone_weights(counts, len(inventory.symbols))
    batches = range(0, len(utterances), UTTERANCES_AT_ONCE)
    for start in progress(batches, "verifying", len(batches)):
        batch = utterances[start : start + UTTERANCES_AT_ONCE]
        features = [read_features_or_error(recognizer, utterance) for utterance in batch]
        usable = [each for each in features if not isinstance(each, InputError)]
        all_log_probs = iter(compute_log_probs(recognizer.bundle, usable))
        for index, found in enumerate(features, start):
            utterance, reference = utterances[index], references[index]
            recognized: list[int] = []
            if not isinstance(found, InputError):
                log_probs = next(all_log_probs)
                recognized = recognize_tokens(log_probs)
            problem = next((str(each) for each in (found, reference) if isinstance(each, InputError)), "")
            hypothesis = tuple(inventory.decode(recognized))
            if problem or isinstance(reference, InputError):
                yield Verdict(utterance, Fit(0.0, 0.0), utterance.phones, hypothesis, problem)
            else:
                fit = compute_fit(log_probs, reference, recognized, weights)
                yield Verdict(utterance, fit, tuple(inventory.decode(reference)), hypothesis)


def _encode(recognizer: Recognizer, utterance: Utterance) -> list[int] | InputError:
    try:
        return recognizer.bundle.inventory.encode(utterance.phones, utterance.id)
    except InputError as error:
        return error


def read_features_or_error(recognizer: Recognizer, utterance: Utterance) -> Tensor | InputError:
    """The normalized features (frames, dim) of an utterance, or why its audio cannot be used."""
    try:
        return read_features(recognizer, utterance.audio_path, utterance.start_s, utterance.duration_s)
    except InputError as error:
        return error


def read_features(recognizer: Recognizer, path: Path, start_s: float, duration_s: float) -> Tensor:
    """Compute the normalized features (frames, dim) of a part of a file.

    Raises:
        InputError: the file cannot be used, or is shorter.
    """
    samples = read_audio(path, recognizer.sample_rate_hz, start_s, duration_s)
    return recognizer.features(samples, recognizer.sample_rate_hz)[0]


def recognize_tokens(log_probs: Tensor) -> list[int]:
    """Decode (output frames, symbols) natural-log probabilities to the symbol ids of the best path."""
    return best_path(log_probs[None], torch.tensor([len(log_probs)]))[0]


def phone_weights(counts: Mapping[int, int], symbols: int) -> np.ndarray:
    """How frequent each symbol is, (symbols,) float64 that sum to 1, from counts of symbol ids.

    Each phone counts once more, so that none is impossible.
    """
    weights = np.array([0.0 if symbol == BLANK_ID else 1.0 + counts.get(symbol, 0) for symbol in range(symbols)])
    return weights / weights.sum()


def compute_fit(log_probs: Tensor, tokens: Sequence[int], recognized: Sequence[int], weights: np.ndarray) -> Fit:
    """Compare reference and recognized symbol ids with random ones of these weights.

    ``log_probs`` is (output frames, symbols), natural log. The same reference always meets the same random sequences.
    """
    if len(log_probs) == 0 or not tokens:
        return Fit(1.0 if not tokens and not recognized else 0.0, 0.0)
    generator = np.random.default_rng(crc32(bytes(str(list(tokens)), "ascii")))
    fewest, most = RANDOM_SEQUENCES
    count = min(most, max(fewest, RANDOM_PHONES // len(tokens)))
    random = generator.choice(len(weights), (count, len(tokens)), p=weights)
    reference, best, *others = _log_likelihoods(log_probs, [tokens, recognized, *random.tolist()])
    best, zero = max(best, reference), float(np.mean(others))
    value = (reference - zero) / max(best - zero, FEW_NATS)
    return Fit(value, (best - reference) / max(len(tokens), len(recognized)))


def _log_likelihoods(log_probs: Tensor, sequences: Sequence[Sequence[int]]) -> list[float]:
    """Natural-log likelihoods of symbol ids, each summed over all of its CTC paths."""
    frames = len(log_probs)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    tokens = torch.zeros(len(sequences), max(1, int(lengths.max())), dtype=torch.long)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence, dtype=torch.long)
    losses = functional.ctc_loss(
        log_probs.float().cpu()[:, None].expand(-1, len(sequences), -1),
        tokens,
        torch.full_like(lengths, frames),
        lengths,
        blank=BLANK_ID,
        reduction="none",
    )
    too_long = required_frames(tokens, lengths) > frames
    return torch.where(too_long, TOO_LONG * lengths, -losses).tolist()


def format_tsv(verdicts: Sequence[Verdict], threshold: float) -> str:
    """A table of verdicts: fit, loss in nats per phone, whether suspicious, words, reference, recognized, problem."""
    lines = ["utterance\tfit\tloss\tsuspicious\twords\treference\trecognized\taudio\tproblem\n"]
    for verdict in verdicts:
        flag = "yes" if verdict.fit.value < threshold else "no"
        words = " ".join(verdict.utterance.words.split())
        lines.append(
            f"{verdict.utterance.id}\t{verdict.fit.value:.3f}\t{verdict.fit.loss:.3f}\t{flag}\t{words}\t"
            f"{' '.join(verdict.reference)}\t{' '.join(verdict.recognized)}\t{verdict.utterance.audio_path}\t"
            f"{verdict.problem}\n"
        )
    return "".join(lines)


def format_json(verdicts: Sequence[Verdict], threshold: float) -> str:
    """The threshold, counts, and all verdicts as JSON."""
    utterances = [
        {
            "id": verdict.utterance.id,
            "audio": str(verdict.utterance.audio_path),
            "fit": round(verdict.fit.value, 4),
            "loss": round(verdict.fit.loss, 4),
            "suspicious": verdict.fit.value < threshold,
            "words": verdict.utterance.words,
            "reference": list(verdict.reference),
            "recognized": list(verdict.recognized),
            "problem": verdict.problem,
        }
        for verdict in verdicts
    ]
    suspicious = sum(verdict.fit.value < threshold for verdict in verdicts)
    content = {"threshold": threshold, "suspicious": suspicious, "utterances": utterances}
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"
