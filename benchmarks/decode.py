"""Beam search with a phone n-gram against flashlight-text's, on a trained model's log-probabilities, on one core.

    python -m benchmarks.decode MODEL CUTS... --lm PHONES.arpa [--beam 50] [--json FILE]

Both search without a lexicon, with the same beam, n-gram and weight, and sum over the paths of a hypothesis. If their best
hypotheses differ, both are scored exactly, over all their paths. flashlight-text comes with the extra `words`.
"""

import math
from pathlib import Path

import numpy as np
import torch
from flashlight.lib.text import decoder, dictionary
from flashlight.lib.text.decoder.kenlm import KenLM

from asr.decoding.beam_search import BeamSearch
from asr.decoding.ngram import Automaton, compile_ngram, read_arpa
from asr.inference.bundle import Bundle, load_bundle
from asr.inference.evaluate import iterate_log_probs, load_dataset
from asr.nn.ctc import ctc_loss
from benchmarks.timing import build_parser, format_table, report_results, time_interleaved

WEIGHT = 0.5


def compute_log_probs(bundle: Bundle, cuts: list[Path]) -> tuple[list[np.ndarray], float]:
    """Return the log-probabilities (frames, symbols) of every utterance, and their total duration in seconds."""
    utterances, seconds = [], 0.0
    for path in cuts:
        dataset = load_dataset(bundle, path)
        seconds += sum(utterance.duration_s for utterance in dataset.utterances)
        for _, log_probs, lengths in iterate_log_probs(bundle, dataset):
            batch = zip(log_probs.float().numpy(), lengths.tolist(), strict=True)
            utterances += [np.ascontiguousarray(padded[:length]) for padded, length in batch]
    return utterances, seconds


class Flashlight:
    """flashlight-text's search without a lexicon."""

    def __init__(self, symbols: tuple[str, ...], arpa: Path, beam: int) -> None:
        """Set up the search; the blank is symbol 0."""
        options = decoder.LexiconFreeDecoderOptions(
            beam_size=beam,
            beam_size_token=len(symbols),
            beam_threshold=25,
            lm_weight=WEIGHT * math.log(10),
            sil_score=0,
            log_add=True,
            criterion_type=decoder.CriterionType.CTC,
        )
        ngram = KenLM(str(arpa), dictionary.Dictionary(list(symbols)))
        self.search = decoder.LexiconFreeDecoder(options, ngram, 0, 0, [])

    def decode(self, log_probs: np.ndarray) -> list[int]:
        """Return the symbol ids of the best hypothesis."""
        path = self.search.decode(log_probs.ctypes.data, *log_probs.shape)[0].tokens
        return [token for frame, token in enumerate(path) if token > 0 and (frame == 0 or path[frame - 1] != token)]


def exact_score(log_probs: np.ndarray, tokens: list[int], ngram: Automaton) -> float:
    """Return ln p(phones | audio), summed over all paths, plus the weighted score of the n-gram."""
    lengths = torch.tensor([len(log_probs)]), torch.tensor([len(tokens)])
    loss, _ = ctc_loss(torch.from_numpy(log_probs)[None].double(), lengths[0], torch.tensor([tokens]), lengths[1])
    return WEIGHT * ngram.score(tokens) - float(loss)


def main() -> None:
    """Compare the hypotheses, then time both searches."""
    parser = build_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("cuts", type=Path, nargs="+")
    parser.add_argument("--lm", type=Path, required=True)
    parser.add_argument("--beam", type=int, default=50)
    args = parser.parse_args()
    bundle = load_bundle(args.model)
    utterances, seconds = compute_log_probs(bundle, args.cuts)
    torch.set_num_threads(1)
    ngram = compile_ngram(read_arpa(args.lm), bundle.inventory)
    ours = BeamSearch(args.beam, ngram, WEIGHT, 0.0)
    flashlight = Flashlight(bundle.inventory.symbols, args.lm, args.beam)
    gaps = []
    for log_probs in utterances:
        our_best, flashlight_best = ours.decode(log_probs)[0].tokens, flashlight.decode(log_probs)
        if our_best != flashlight_best:
            gaps.append(exact_score(log_probs, our_best, ngram) - exact_score(log_probs, flashlight_best, ngram))
    identical = len(utterances) - len(gaps)
    better = sum(gap > 0 for gap in gaps)
    print(f"identical best hypotheses: {identical} of {len(utterances)}; of the rest, ours is better {better} times")
    if gaps:
        print(f"exact scores, ours minus flashlight-text's: {min(gaps):.3f} to {max(gaps):.3f} nats")
    timed = time_interleaved(
        {
            "ours": lambda: [ours.decode(log_probs) for log_probs in utterances],
            "flashlight-text": lambda: [flashlight.decode(log_probs) for log_probs in utterances],
        },
        args.rounds,
    )
    rows = [[name, f"{value:.2f}", f"{seconds / value:.0f}"] for name, value in timed.items()]
    print(format_table(["search", "seconds", "times real time"], rows))
    ratios = {"over flashlight-text": timed["flashlight-text"] / timed["ours"]}
    report_results(ratios, {"alike": identical, "utterances": len(utterances), "seconds": timed}, args.json)


if __name__ == "__main__":
    main()
