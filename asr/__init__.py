"""Phone recognition with bidirectional LSTMs and CTC: features, training, decoding, scoring.

A recognizer takes files, or arrays with their sample rate. Here the input is a second of noise, so confidences are low:

>>> import asr, numpy
>>> recognizer = asr.load("english")
>>> noise = 0.01 * numpy.random.default_rng(0).standard_normal(16000)
>>> transcript = recognizer.transcribe(noise, sample_rate_hz=16000)
>>> transcript.duration_s, all(phone.confidence < 0.5 for phone in transcript.phones)
(1.0, True)
>>> recognizer.log_probs(noise, 16000).shape  # a frame per 20 ms, 0.25 s before and after included; blank and 39 phones
(74, 40)
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
    """Load a recognizer from a model folder, or by a name that `asr models` lists.

    ``device`` is cpu, cuda or cuda:N. ``decoder`` is best_path or beam. ``precision`` is float32, bfloat16, int8, or auto:
    bfloat16 if the device computes in it, else float32.

    Raises:
        asr.errors.InputError: no such model, or its files do not fit together.
    """
    from asr.inference.catalog import find_model
    from asr.inference.recognizer import load as load_recognizer

    return load_recognizer(find_model(str(model)), device, precision, decoder)
