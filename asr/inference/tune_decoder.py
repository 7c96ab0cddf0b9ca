"""A dev set -> the n-gram weight and phone bonus of a model's beam search. Also estimates and mixes phone n-grams."""

from collections.abc import Callable, Iterable
from pathlib import Path

from asr.config import BeamConfig
from asr.corpus.manifest import read_manifest
from asr.corpus.phones import PhoneInventory
from asr.decoding.beam_search import SETTINGS_FILE, BeamSearch, save_decoder
from asr.decoding.ngram import Automaton, NGram, check_phones, compile_ngram, estimate, read_arpa
from asr.decoding.ngram_mixture import choose_weight, mix
from asr.inference.bundle import load_bundle
from asr.inference.calibrate import calibrate
from asr.inference.catalog import refuse_bundled
from asr.inference.evaluate import iterate_log_probs, load_dataset, score_hypotheses
from asr.inference.sources import MANIFEST_SUFFIXES
from asr.scoring.calibration import save_calibration
from asr.scoring.error_rate import Score
from asr.scoring.transcripts import read_transcripts
from asr.system.files import check_writable
from asr.system.progress import progress

WEIGHTS = tuple(step / 10 for step in range(11))
BONUSES = tuple(step / 4 for step in range(-2, 9))
TUNING_BEAM = 16
"""Narrow, for speed. Its best settings are also the best of wider beams, or nearly so."""


def estimate_ngram(texts: Iterable[Path], order: int, phones: PhoneInventory) -> NGram:
    """Estimate an n-gram from the references of manifests and transcript files, in the phones of an inventory."""
    tokens = [one for path in texts for one in reference_tokens(path, phones)]
    return estimate([phones.decode(one) for one in tokens], order, phones.symbols[1:])


def mix_ngram(model: NGram, other: Path, dev: Path, phones: PhoneInventory) -> tuple[NGram, float]:
    """Mix an n-gram with another one from an ARPA file; also returns its weight, with which the mixture fits dev best.

    Raises:
        InputError: a file cannot be used, or the other n-gram lacks a phone.
    """
    second = read_arpa(other)
    check_phones(second, phones)
    weight = choose_weight(model, second, [phones.decode(tokens) for tokens in reference_tokens(dev, phones)])
    return mix(model, second, weight), weight


def reference_tokens(texts: Path, phones: PhoneInventory) -> list[list[int]]:
    """The symbol ids of every reference in a manifest, or of every line of a transcript file (`read_transcripts`)."""
    if texts.name.endswith(MANIFEST_SUFFIXES):
        return [phones.encode(utterance.phones, utterance.id) for utterance in read_manifest(texts)]
    return [phones.encode(symbols, name) for name, symbols in read_transcripts(texts).items()]


def tune_decoder(model: Path, cuts: Path, ngram: Path, beam: int, device: str = "cpu") -> tuple[BeamConfig, Score]:
    """Choose weight and bonus of a beam search by the PER on a manifest, and save the search in the model's folder.

    Ties go to the smallest weight, then bonus. The calibration of confidences is chosen and saved too. Returns the settings
    and their score.

    Raises:
        InputError: the bundle, the manifest or the n-gram cannot be used, or they have different phones; the model ships
            with the package, or its folder cannot be written.
    """
    refuse_bundled(model)
    check_writable(model / SETTINGS_FILE)
    bundle = load_bundle(model, device, "auto")
    arpa = read_arpa(ngram)
    automaton = compile_ngram(arpa, bundle.inventory)
    dataset = load_dataset(bundle, cuts)
    batches = [(ids, log_probs.cpu(), lengths) for ids, log_probs, lengths in iterate_log_probs(bundle, dataset)]

    def score_search(search: BeamSearch) -> Score:
        hypotheses = {
            utterance_id: bundle.inventory.decode(tokens)
            for ids, log_probs, lengths in batches
            for utterance_id, tokens in zip(ids, search(log_probs, lengths), strict=True)
        }
        return score_hypotheses(bundle, dataset, hypotheses)

    chosen = choose_search(automaton, score_search)
    chosen.beam = beam
    save_decoder(chosen, arpa, model)
    save_calibration(calibrate(bundle, dataset), model)
    return chosen, score_search(BeamSearch(chosen.beam, automaton, chosen.weight, chosen.bonus))


def choose_search(automaton: Automaton, score_search: Callable[[BeamSearch], Score]) -> BeamConfig:
    """Choose the weight and bonus with the fewest errors. Ties go to the smallest weight, then absolute bonus."""
    grid = [BeamConfig(TUNING_BEAM, weight, bonus) for weight in WEIGHTS for bonus in BONUSES]
    errors = {
        index: score_search(BeamSearch(config.beam, automaton, config.weight, config.bonus)).total.errors
        for index, config in enumerate(progress(grid, "tuning", len(grid)))
    }
    return grid[min(errors, key=lambda index: (errors[index], grid[index].weight, abs(grid[index].bonus)))]
