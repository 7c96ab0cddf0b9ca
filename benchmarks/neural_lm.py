"""PER with a neural language model of phones beside the n-gram: an LSTM rescores the hypotheses of the beam search.

    python -m benchmarks.neural_lm TRAIN_CUTS DEV_CUTS MODEL [--sets CUTS...] [--sentences FOLDER_OR_FILE]

The LSTM learns the phones of TRAIN_CUTS and of sentences through CMUdict (WordNet's examples, or a text file with one on
each line). The score of a hypothesis is that of the beam search with the model's n-gram, plus ``weight`` times the natural
log of the probability that the LSTM gives it, plus ``bonus`` for each phone. Both are chosen on the dev set.
Source: Mikolov et al., "Recurrent neural network based language model", 2010.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from asr.corpus.manifest import read_manifest
from asr.decoding.beam_search import BeamSearch, load_decoder
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.catalog import find_model
from asr.inference.evaluate import iterate_log_probs, load_dataset, score_hypotheses
from asr.scoring.results import headline
from data_prep.voices_texts import WORDNET, load_texts

EDGE = 0
"""The symbol before and after an utterance: the id of the blank, which no text contains."""
IGNORED = -1
EPOCHS, BATCH, LEARNING_RATE, HIDDEN, SEED = 5, 64, 2e-3, 256, 1
CORPUS_TIMES = 4
"""How often an epoch has the texts of the corpus, which are few beside the sentences."""
HYPOTHESES = 50
"""Rescored for each utterance."""
WEIGHTS, BONUSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8), (-0.5, 0.0, 0.5, 1.0, 1.5)


class PhoneLstm(nn.Module):
    """Two LSTM layers over phones: (batch, phones) int64 -> log-probabilities of the next one (batch, phones, symbols)."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, 64)
        self.layers = nn.LSTM(64, HIDDEN, 2, batch_first=True, dropout=0.2)
        self.output = nn.Linear(HIDDEN, symbols)

    def forward(self, phones: Tensor) -> Tensor:
        """Log-probabilities, natural log."""
        log_probs: Tensor = self.output(self.layers(self.embedding(phones))[0]).log_softmax(-1)
        return log_probs

    def log_likelihoods(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """The natural log of the probability of each text with its end."""
        if not texts:
            return []
        inputs, targets = to_batch(texts)
        with torch.inference_mode():
            log_probs = self(inputs)
        picked = log_probs.gather(2, targets.clamp_min(0)[..., None])[..., 0]
        sums: list[float] = (picked * (targets != IGNORED)).sum(1).tolist()
        return sums

    def perplexity(self, texts: Sequence[Sequence[int]]) -> float:
        """Per phone, the end of a text counted as one."""
        return math.exp(-sum(self.log_likelihoods(texts)) / sum(len(text) + 1 for text in texts))


class Searched(NamedTuple):
    """An utterance: its id, the hypotheses of the beam search, their scores, and ln p of the LSTM."""

    id: str
    hypotheses: list[list[int]]
    scores: np.ndarray
    neural: np.ndarray


def to_batch(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (batch, phones + 1) int64 each; targets beyond a text are `IGNORED`."""
    inputs = [torch.tensor([EDGE, *text]) for text in texts]
    targets = [torch.tensor([*text, EDGE]) for text in texts]
    return pad_sequence(inputs, True), pad_sequence(targets, True, IGNORED)


def train(texts: Sequence[Sequence[int]], dev: Sequence[Sequence[int]], symbols: int) -> PhoneLstm:
    """Train the LSTM; prints the perplexity on dev after each epoch."""
    torch.manual_seed(SEED)
    generator = np.random.default_rng(SEED)
    model = PhoneLstm(symbols)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.01)
    steps = EPOCHS * math.ceil(len(texts) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    lengths = np.array([len(text) for text in texts])
    for epoch in range(EPOCHS):
        order = np.argsort(lengths * generator.uniform(0.9, 1.1, len(lengths)))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        model.train()
        for index in generator.permutation(len(batches)):
            inputs, targets = to_batch([texts[number] for number in batches[index]])
            loss = functional.nll_loss(model(inputs).transpose(1, 2), targets, ignore_index=IGNORED)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: perplexity on dev {model.eval().perplexity(dev):.2f}", flush=True)
    return model.eval()


def search_all(bundle: Bundle, search: BeamSearch, model: PhoneLstm, cuts: Path) -> Iterator[Searched]:
    """The hypotheses of each utterance of a manifest."""
    for ids, log_probs, lengths in iterate_log_probs(bundle, load_dataset(bundle, cuts)):
        for index, name in enumerate(ids):
            found = search.decode(log_probs[index, : int(lengths[index])].float().numpy(), HYPOTHESES)
            phones = [one.tokens for one in found]
            scores = np.array([one.score for one in found])
            yield Searched(name, phones, scores, np.array(model.log_likelihoods(phones)))


def rescore(utterance: Searched, weight: float, bonus: float) -> list[int]:
    """The best hypothesis."""
    lengths = np.array([len(one) for one in utterance.hypotheses])
    return utterance.hypotheses[int(np.argmax(utterance.scores + weight * utterance.neural + bonus * lengths))]


def main(train_cuts: Path, dev: Path, name: str, sets: Sequence[Path], sentences: Path) -> None:
    """Train, and print the PER without and with the LSTM on each set."""
    bundle = load_bundle(find_model(name), precision="auto")
    phones = bundle.inventory
    search = load_decoder(find_model(name), phones)
    corpus = [phones.encode(one.phones, one.id) for one in read_manifest(train_cuts)]
    lexicon = load_texts(sentences)
    texts = [
        phones.encode([phone for word in sentence for phone in lexicon.pronunciations[word][0]], "sentence")
        for sentence in lexicon.sentences
    ]
    dev_texts = [phones.encode(one.phones, one.id) for one in read_manifest(dev)]
    print(f"{len(corpus)} texts of the corpus, {len(texts)} sentences, {sum(map(len, texts))} phones")
    assert search.ngram is not None
    print(f"n-gram: perplexity on dev {search.ngram.perplexity(dev_texts):.2f}")
    started = time.process_time()
    model = train([*corpus * CORPUS_TIMES, *texts], dev_texts, len(phones.symbols))
    print(f"{(time.process_time() - started) / 60:.1f} minutes of processor time")
    chosen: tuple[float, float] | None = None
    for cuts in [dev, *sets]:
        dataset = load_dataset(bundle, cuts)
        utterances = list(search_all(bundle, search, model, cuts))
        results = {
            setting: score_hypotheses(bundle, dataset, {u.id: phones.decode(rescore(u, *setting)) for u in utterances})
            for setting in ([(0.0, 0.0), chosen] if chosen else product(WEIGHTS, BONUSES))
        }
        chosen = chosen or min(results, key=lambda setting: results[setting].total.per)
        print(f"{cuts}, n-gram alone: {headline(results[0.0, 0.0])}")
        print(f"{cuts}, LSTM weight {chosen[0]}, bonus {chosen[1]}: {headline(results[chosen])}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train_cuts", type=Path)
    parser.add_argument("dev_cuts", type=Path)
    parser.add_argument("model", help="model folder or name")
    parser.add_argument("--sets", type=Path, nargs="*", default=[], help="manifests to evaluate")
    parser.add_argument("--sentences", type=Path, default=WORDNET)
    args = parser.parse_args()
    main(args.train_cuts, args.dev_cuts, args.model, args.sets, args.sentences)
