"""A folder of recordings with label files -> manifests.

    python prepare_folder.py SOURCE OUT

SOURCE/SPLIT/SPEAKER_NAME.wav     audio; SPLIT is train, dev or test
SOURCE/SPLIT/SPEAKER_NAME.lab     its phones in ARPAbet, separated by spaces
"""

import sys
from pathlib import Path

from asr.corpus.audio import probe_audio
from asr.corpus.manifest import Utterance, write_corpus
from asr.corpus.phones import inventory
from asr.errors import InputError
from data_prep.checking import check_audio

SPLITS = ("train", "dev", "test")


def prepare_folder(source: Path, out: Path, jobs: int = 2) -> None:
    """Write manifests of the splits and their statistics to ``out``.

    Raises:
        InputError: a label file is missing or has an unknown phone, or an audio file cannot be used.
    """
    splits = {split: [read_utterance(path) for path in sorted((source / split).glob("*.wav"))] for split in SPLITS}
    for utterances in splits.values():
        check_audio(utterances, jobs)  # reads every file, so that training does not stop at a broken one
    write_corpus(out, splits, left_out={})


def read_utterance(audio: Path) -> Utterance:
    """One recording and its labels."""
    labels = audio.with_suffix(".lab")
    if not labels.is_file():
        raise InputError(f"{audio}: no {labels.name} beside it, expected its phones")
    phones = tuple(labels.read_text(encoding="utf-8").split())
    inventory("arpabet39").encode(phones, audio.stem)  # raises InputError at an unknown phone
    info = probe_audio(audio)
    speaker = audio.stem.split("_")[0]
    return Utterance(audio.stem, audio.absolute(), info.sample_rate_hz, info.duration_s, speaker, phones)


if __name__ == "__main__":
    prepare_folder(Path(sys.argv[1]), Path(sys.argv[2]))
