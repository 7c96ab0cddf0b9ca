"""Checks of recordings: their headers, and all of their samples once, however many utterances are in a recording."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asr.corpus.audio import AudioInfo, probe_audio, read_blocks
from asr.errors import InputError
from data_prep.entries import Entry
from data_prep.leaving_out import Unusable

CHECKS = ("samples", "headers")

CACHED_RECORDINGS = 2**12

SLACK_S = 0.01
"""How far an utterance or a phone may end beyond its audio: times in texts are rounded. It then ends with the audio."""

SILENCE_S = 0.01
"""Shorter stretches of zeros are not remembered: no utterance is that short."""

REASONS = {
    "no such file": "audio missing",
    "a folder": "audio missing",
    "empty file": "audio empty",
    "0 samples": "audio empty",
    "truncated": "audio truncated",
    "all ": "audio silent",
    "sample rate": "sample rate implausible",
    "sample ": "samples not finite, or far too large",
    "not readable": "audio not readable",
    "sample_coding": "audio compressed with shorten",
}
"""How an error of `asr.corpus.audio` starts, after the path -> why the utterance is left out."""

OTHER_REASON = "audio not usable"


class Place(NamedTuple):
    """An utterance in its recording, in seconds. ``shortened`` tells that it ended up to `SLACK_S` beyond the audio."""

    start_s: float
    duration_s: float
    shortened: bool


class Recording(NamedTuple):
    """A recording that was checked: its header, and where samples are zero, (stretches, 2) with start and end."""

    info: AudioInfo
    zeros: np.ndarray


class Recordings:
    """Checks each recording once, as long as it is among the last `CACHED_RECORDINGS`."""

    def __init__(self, check: str) -> None:
        """``check`` is one of `CHECKS`: all samples, or headers alone."""
        self.samples = check == "samples"
        self._check = lru_cache(CACHED_RECORDINGS)(self._check_once)

    def find(self, entry: Entry) -> tuple[AudioInfo, Place]:
        """The header of an utterance's recording, and its place there.

        Raises:
            Unusable: the recording cannot be used, the utterance is not in it, or all of its samples are zero.
        """
        recording = self._check(entry.audio_path)
        if isinstance(recording, Unusable):  # raised anew: an exception keeps every place that it was raised at
            raise Unusable(recording.reason, recording.detail)
        place = place_utterance(entry, recording.info)
        first = round(place.start_s * recording.info.sample_rate_hz)
        if _covers(recording.zeros, first, first + round(place.duration_s * recording.info.sample_rate_hz)):
            raise Unusable("audio silent", f"all samples from {place.start_s:g} s for {place.duration_s:g} s are zero")
        return recording.info, place

    def _check_once(self, path: Path) -> "Recording | Unusable":
        try:
            info = probe_audio(path)
            if not self.samples:
                return Recording(info, np.zeros((0, 2), np.int64))
            # At the recording's own rate: checking samples does not need resampling.
            zeros = find_zeros(read_blocks(path, info.sample_rate_hz), round(SILENCE_S * info.sample_rate_hz))
            return Recording(info, zeros)
        except InputError as error:
            message = str(error)
            said = message.removeprefix(f"{path}: ")
            reason = next((why for start, why in REASONS.items() if said.startswith(start)), OTHER_REASON)
            return Unusable(reason, message)
        except OSError as error:  # a name that is too long, a folder that may not be read
            return Unusable("audio missing", f"{path}: {error.strerror}")


def place_utterance(entry: Entry, info: AudioInfo) -> Place:
    """Find an utterance in its recording, at whole samples if it would end after the last one.

    Raises:
        Unusable: it is not in the recording, or has no samples.
    """
    start_s, end_s = entry.start_s, info.duration_s if entry.end_s is None else entry.end_s
    if not 0 <= start_s < end_s:
        raise Unusable("it ends before it starts, or starts before its audio", f"{start_s:g} s to {end_s:g} s")
    if start_s >= info.duration_s or end_s > info.duration_s + SLACK_S:
        raise Unusable("end beyond the audio", f"{start_s:g} s to {end_s:g} s of {info.duration_s:g} s")
    shortened = end_s > info.duration_s
    end_s = min(end_s, info.duration_s)
    duration_s = end_s if start_s == 0 else round(end_s - start_s, 9)
    first, rate = round(start_s * info.sample_rate_hz), info.sample_rate_hz
    if first + round(duration_s * rate) > info.num_samples:
        duration_s = (info.num_samples - first) / rate
    if round(duration_s * rate) < 1:
        raise Unusable("shorter than a sample", f"{start_s:g} s to {end_s:g} s")
    return Place(start_s, duration_s, shortened)


def find_zeros(blocks: Iterable[np.ndarray], shortest: int) -> np.ndarray:
    """Find stretches of at least ``shortest`` zeros in the samples of blocks: (stretches, 2) int64, start and end."""
    stretches: list[np.ndarray] = []
    position, open_start = 0, -1  # of the stretch at the end of the last block
    for block in blocks:
        padded = np.concatenate(([False], block == 0, [False]))
        edges = np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2) + position
        position += len(block)
        if open_start >= 0 and len(edges) and edges[0, 0] == position - len(block):
            edges[0, 0] = open_start
        elif open_start >= 0:
            stretches.append(np.array([[open_start, position - len(block)]]))
        open_start = -1
        if len(edges) and edges[-1, 1] == position:
            open_start, edges = int(edges[-1, 0]), edges[:-1]
        stretches.append(edges[edges[:, 1] - edges[:, 0] >= shortest])
    if open_start >= 0:
        stretches.append(np.array([[open_start, position]]))
    found = np.concatenate([np.zeros((0, 2), np.int64), *stretches])
    return found[found[:, 1] - found[:, 0] >= shortest]


def _covers(stretches: np.ndarray, start: int, end: int) -> bool:
    """Whether a stretch contains the samples from ``start`` to ``end``."""
    if not len(stretches):
        return False
    index = int(np.searchsorted(stretches[:, 0], start, "right")) - 1
    return index >= 0 and bool(stretches[index, 1] >= end)
