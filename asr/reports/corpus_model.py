"""What a model makes of a corpus: its error rate on each utterance, against the utterance's own transcript.

In:  a `Tally` and a model folder.
Out: an error rate for each row of the tally.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance
from asr.inference.recognizer import Recognizer, load
from asr.reports.corpus_tally import Tally, read_usable
from asr.scoring.alignment import align, count_edits
from asr.system.progress import progress

BATCH = 16


def error_rates(tally: Tally, model: Path) -> np.ndarray:
    """Recognize every utterance, and return its error rates, (utterances,) float64, NaN where it has no phones.

    Phones are compared in the inventory of the model.

    Raises:
        InputError: the model cannot be used, or it lacks a phone of the corpus.
    """
    recognizer = load(model)
    total = len(tally.columns["position"])
    utterances = progress(read_usable(tally), "recognizing", total)
    iterator = iter(utterances)
    rates: list[float] = []
    while batch := list(islice(iterator, BATCH)):
        rates.extend(_rates(recognizer, batch))
    return np.array(rates)


def _rates(recognizer: Recognizer, batch: list[Utterance]) -> Iterator[float]:
    inventory, rate = recognizer.bundle.inventory, recognizer.sample_rate_hz
    references = [inventory.decode(inventory.encode(one.phones, one.id)) for one in batch]
    samples = [read_audio(one.audio_path, rate, one.start_s, one.duration_s) for one in batch]
    for reference, transcript in zip(references, recognizer.transcribe_batch(samples, rate), strict=True):
        hypothesis = [phone.symbol for phone in transcript.phones]
        yield count_edits(align(reference, hypothesis)).errors / len(reference) if reference else float("nan")
