"""Recognize phones with PocketSphinx 5 in allphone mode: the US English model of its package and its own phone n-gram.

    python -m venv .pocketsphinx
    .pocketsphinx/bin/pip install "pocketsphinx==5.1.*"
    .pocketsphinx/bin/python benchmarks/peers/pocketsphinx_allphone.py FOLDER

FOLDER has WAV files, 16-bit mono at 16 kHz. The script prints one line of JSON per file, in the order of their names:
{"file", "phones"}, phones of ARPAbet's 39.

All settings are the defaults of the package: context-independent phones, language weight 6.5. Features start anew with each
file, so that the result does not depend on the files before it.
"""

# mypy: disable-error-code="import-not-found, import-untyped"

import json
import sys
import wave
from collections.abc import Sequence
from pathlib import Path

SILENCE = "SIL"
RATE_HZ = 16000


def to_arpabet(units: Sequence[str]) -> list[str]:
    """Drop silence and noise marks (``SIL``, ``+NSN+``, ``+SPN+``). The other units are ARPAbet's 39 phones."""
    return [unit for unit in units if unit != SILENCE and not unit.startswith("+")]


def read_samples(path: Path) -> bytes:
    """Read the 16-bit samples of a file."""
    with wave.open(str(path)) as file:
        found = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        if found != (1, 2, RATE_HZ):
            raise SystemExit(f"{path}: (channels, bytes, Hz) are {found}, expected {(1, 2, RATE_HZ)}")
        return file.readframes(file.getnframes())


def main() -> None:
    """Recognize every file of the folder."""
    from pocketsphinx import Decoder, get_model_path

    decoder = Decoder(
        hmm=get_model_path("en-us/en-us"),
        allphone=get_model_path("en-us/en-us-phone.lm.bin"),
        lm=None,
        dict=None,
        loglevel="ERROR",
    )
    for path in sorted(Path(sys.argv[1]).glob("*.wav")):
        decoder.reinit_feat()
        decoder.start_utt()
        decoder.process_raw(read_samples(path), full_utt=True)
        decoder.end_utt()
        phones = to_arpabet([segment.word for segment in decoder.seg() or ()])
        print(json.dumps({"file": path.name, "phones": phones}), flush=True)


if __name__ == "__main__":
    main()
