"""Beam search with a phone n-gram against flashlight-text's, on a model's real log-probabilities, on one core.

    python -m benchmarks.decode MODEL CUTS... --lm PHONES.arpa [--beam 50] [--json FILE]

Both search without a lexicon, with the same beam, n-gram and weight, and add up the paths of a hypothesis. Where their best
hypotheses differ, each is scored exactly, over all its paths. flashlight-text is the extra `words`.
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
from asr.inference.evaluate import dataset_of, log_probs_of
from asr.nn.ctc import ctc_loss
from benchmarks.timing import finish, interleave, parser, table

WEIGHT = 0.5


def utterances_of(bundle: Bundle, cuts: list[Path]) -> tuple[list[np.ndarray], float]:
    """Log-probabilities (frames, symbols) of every utterance, and how long they last in seconds."""
    found, seconds = [], 0.0
    for path in cuts:
        dataset = dataset_of(bundle, path)
        seconds += sum(one.duration_s for one in dataset.utterances)
        for _, log_probs, lengths in log_probs_of(bundle, dataset):
            rows = zip(log_probs.float().numpy(), lengths.tolist(), strict=True)
            found += [np.ascontiguousarray(row[:length]) for row, length in rows]
    return found, seconds


class Flashlight:
    """flashlight-text's search without a lexicon."""

    def __init__(self, symbols: tuple[str, ...], arpa: Path, beam: int) -> None:
        """The blank is symbol 0."""
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

    def decode(self, frames: np.ndarray) -> list[int]:
        """Symbol ids of the best hypothesis."""
        path = self.search.decode(frames.ctypes.data, *frames.shape)[0].tokens
        return [token for place, token in enumerate(path) if token > 0 and (place == 0 or path[place - 1] != token)]


def exact_score(frames: np.ndarray, tokens: list[int], ngram: Automaton) -> float:
    """Ln p(phones | audio) over all paths and the weighted n-gram's."""
    lengths = torch.tensor([len(frames)]), torch.tensor([len(tokens)])
    loss, _ = ctc_loss(torch.from_numpy(frames)[None].double(), lengths[0], torch.tensor([tokens]), lengths[1])
    return WEIGHT * ngram.score(tokens) - float(loss)


def main() -> None:
    """Compare, then measure and print."""
    options = parser(__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("cuts", type=Path, nargs="+")
    options.add_argument("--lm", type=Path, required=True)
    options.add_argument("--beam", type=int, default=50)
    chosen = options.parse_args()
    bundle = load_bundle(chosen.model)
    frames, seconds = utterances_of(bundle, chosen.cuts)
    torch.set_num_threads(1)
    ngram = compile_ngram(read_arpa(chosen.lm), bundle.inventory)
    ours = BeamSearch(chosen.beam, ngram, WEIGHT, 0.0)
    theirs = Flashlight(bundle.inventory.symbols, chosen.lm, chosen.beam)
    gaps = []
    for one in frames:
        best, other = ours.decode(one)[0].tokens, theirs.decode(one)
        if best != other:
            gaps.append(exact_score(one, best, ngram) - exact_score(one, other, ngram))
    same = len(frames) - len(gaps)
    better = sum(gap > 0 for gap in gaps)
    print(f"best hypotheses alike: {same} of {len(frames)}; of the others ours is the better one {better} times")
    if gaps:
        print(f"exact scores, ours less theirs: {min(gaps):.3f} to {max(gaps):.3f} nats")
    timed = interleave(
        {
            "ours": lambda: [ours.decode(one) for one in frames],
            "flashlight-text": lambda: [theirs.decode(one) for one in frames],
        },
        chosen.rounds,
    )
    rows = [[name, f"{value:.2f}", f"{seconds / value:.0f}"] for name, value in timed.items()]
    print(table(["search", "seconds", "times real time"], rows))
    ratios = {"over flashlight-text": timed["flashlight-text"] / timed["ours"]}
    finish(ratios, {"alike": same, "utterances": len(frames), "seconds": timed}, chosen.json)


if __name__ == "__main__":
    main()
