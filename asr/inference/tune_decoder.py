"""A phone n-gram for a model, and the search's weight and bonus chosen on a dev set."""

from collections.abc import Callable
from pathlib import Path

from asr.config import BeamConfig
from asr.corpus.manifest import read_manifest
from asr.corpus.phones import PhoneInventory
from asr.decoding.beam_search import BeamSearch, save_decoder
from asr.decoding.ngram import Automaton, NGram, compile_ngram, estimate, read_arpa
from asr.inference.bundle import load_bundle
from asr.inference.evaluate import choose_temperature, dataset_of, log_probs_of, score_hypotheses
from asr.scoring.calibration import save_temperature
from asr.scoring.error_rate import Score
from asr.system.progress import progress

WEIGHTS = tuple(step / 10 for step in range(11))
BONUSES = tuple(step / 4 for step in range(-2, 9))
TUNING_BEAM = 16
"""Narrow, for speed: what is best with it is best, or nearly so, with a wider one."""


def estimate_ngram(cuts: Path, order: int, phones: PhoneInventory) -> NGram:
    """The n-gram of a manifest's transcripts, in the phones of an inventory."""
    return estimate([phones.decode(tokens) for tokens in transcripts(cuts, phones)], order, phones.symbols[1:])


def transcripts(cuts: Path, phones: PhoneInventory) -> list[list[int]]:
    """Symbol ids of every utterance of a manifest."""
    return [phones.encode(utterance.phones, utterance.id) for utterance in read_manifest(cuts)]


def tune_decoder(model: Path, cuts: Path, ngram: Path, beam: int, device: str = "cpu") -> tuple[BeamConfig, Score]:
    """Choose weight and bonus of a beam search by the PER on a manifest, and put the search into the model's folder.

    Of equals the one with the smallest weight and bonus is taken. Returns the settings, and the score with them. The
    temperature for confidences is chosen there too.

    Raises:
        InputError: the bundle, the manifest or the n-gram cannot be used, or they have different phones.
    """
    bundle = load_bundle(model, device, "auto")
    arpa = read_arpa(ngram)
    automaton = compile_ngram(arpa, bundle.inventory)
    dataset = dataset_of(bundle, cuts)
    batches = [(ids, log_probs.cpu(), lengths) for ids, log_probs, lengths in log_probs_of(bundle, dataset)]

    def result(search: BeamSearch) -> Score:
        hypotheses = {
            name: bundle.inventory.decode(tokens)
            for ids, log_probs, lengths in batches
            for name, tokens in zip(ids, search(log_probs, lengths), strict=True)
        }
        return score_hypotheses(bundle, dataset, hypotheses)

    chosen = choose_search(automaton, result)
    chosen.beam = beam
    save_decoder(chosen, arpa, model)
    save_temperature(choose_temperature(bundle, dataset), model)
    return chosen, result(BeamSearch(chosen.beam, automaton, chosen.weight, chosen.bonus))


def choose_search(automaton: Automaton, score_of: Callable[[BeamSearch], Score]) -> BeamConfig:
    """Weight and bonus of the search with the fewest errors; of equals the smallest weight, then bonus."""
    grid = [BeamConfig(TUNING_BEAM, weight, bonus) for weight in WEIGHTS for bonus in BONUSES]
    errors = {
        index: score_of(BeamSearch(one.beam, automaton, one.weight, one.bonus)).total.errors
        for index, one in enumerate(progress(grid, "tuning", len(grid)))
    }
    return grid[min(errors, key=lambda index: (errors[index], grid[index].weight, abs(grid[index].bonus)))]
