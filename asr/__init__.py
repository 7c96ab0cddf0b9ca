"""Phone recognition for TIMIT-style corpora: features, a bidirectional LSTM trained with CTC, decoding, scoring.

A model takes files, or arrays with their sample rate, here a second of noise, in which there is little to hear:

>>> import asr, numpy
>>> recognizer = asr.load("speechocean762-small")
>>> noise = 0.01 * numpy.random.default_rng(0).standard_normal(16000)
>>> heard = recognizer.transcribe(noise, sample_rate_hz=16000)
>>> heard.duration_s, all(phone.confidence < 0.5 for phone in heard.phones)
(1.0, True)
>>> recognizer.log_probs(noise, 16000).shape  # an output every 40 ms; the blank and 39 phones
(25, 40)
>>> aligned = recognizer.align(noise, ["HH", "AH", "L", "OW"], 16000)
>>> [phone.symbol for phone in aligned.phones]
['HH', 'AH', 'L', 'OW']
>>> aligned.phones[0].start_s >= 0 and aligned.phones[3].end_s <= 1
True
>>> len(recognizer.transcribe_batch([noise, noise[:8000]], 16000))
2
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from asr.inference.recognizer import Recognizer

__all__ = ["load"]


def load(model: "str | Path", device: str = "cpu", precision: str = "auto", decoder: str = "best_path") -> "Recognizer":
    """A recognizer from a model folder, or from the name of one that `asr models` lists.

    ``device`` is cpu, cuda or cuda:N, ``decoder`` best_path or beam. ``precision`` is
    float32, bfloat16, int8, or auto: bfloat16 where the device computes in it, else float32.

    Raises:
        asr.errors.InputError: no such model, or its parts do not fit together.
    """
    from asr.inference.catalog import find_model
    from asr.inference.recognizer import load as load_recognizer

    return load_recognizer(find_model(str(model)), device, precision, decoder)
