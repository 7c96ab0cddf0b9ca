"""Phone recognition for TIMIT-style corpora: features, a bidirectional LSTM trained with CTC, decoding, scoring.

import asr
recognizer = asr.load("runs/first/model")
transcript = recognizer.transcribe("hello.wav")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from asr.recognizer import Recognizer

__all__ = ["load"]


def load(
    model: "str | Path", device: str = "cpu", precision: str = "float32", decoder: str = "best_path"
) -> "Recognizer":
    """A recognizer from a model folder, or from the name of one that `asr models` lists.

    ``device`` is cpu, cuda or cuda:N, ``precision`` float32, bfloat16 or int8, ``decoder`` best_path or beam.

    Raises:
        asr.errors.InputError: no such model, or its parts do not fit together.
    """
    from asr.models import find_model
    from asr.recognizer import load as load_recognizer

    return load_recognizer(find_model(str(model)), device, precision, decoder)
