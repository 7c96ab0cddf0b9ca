"""Transcripts -> the bodies of answers: OpenAI's shapes, subtitles, and our own formats."""

import html
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from asr.inference.transcript_formats import FORMATS, Phone, Transcript

PAUSE_S = 0.5
"""A longer pause between phones ends a segment."""
SEGMENT_S = 10.0
"""A segment ends at the first gap between phones after this time."""

MEDIA_TYPES = {
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "textgrid": "text/plain; charset=utf-8",
    "ctm": "text/plain; charset=utf-8",
    "phn": "text/plain; charset=utf-8",
}
"""The formats that are not JSON."""
RESPONSE_FORMATS = ("json", "verbose_json", *MEDIA_TYPES)


def json_answer(transcript: Transcript) -> dict[str, object]:
    """OpenAI's ``json``: the phones, separated by spaces, as the text."""
    return {"text": " ".join(transcript.symbols)}


def verbose_answer(transcript: Transcript, granularities: Sequence[str], unusual: bool) -> dict[str, object]:
    """OpenAI's ``verbose_json``, with each phone as a word; and the phones with their confidences, which it lacks.

    Its clients expect a language, which bundles do not state.
    """
    answer: dict[str, object] = {
        "task": "transcribe",
        "language": "unknown",
        "duration": round(transcript.duration_s, 4),
        "text": " ".join(transcript.symbols),
        "phones": [{name: _rounded(value) for name, value in asdict(phone).items()} for phone in transcript.phones],
        "unusual": unusual,
    }
    if "word" in granularities:
        answer["words"] = [
            {"word": phone.symbol, "start": round(phone.start_s, 4), "end": round(phone.end_s, 4)}
            for phone in transcript.phones
        ]
    if "segment" in granularities:
        answer["segments"] = [
            {"id": index, "seek": 0, "start": round(phones[0].start_s, 4), "end": round(phones[-1].end_s, 4)}
            | {"text": " ".join(phone.symbol for phone in phones), "tokens": [], "temperature": 0.0}
            | {"avg_logprob": _mean_log(phones), "compression_ratio": 0.0, "no_speech_prob": 0.0}
            for index, phones in enumerate(split_at_pauses(transcript.phones))
        ]
    return answer


def text_answer(transcript: Transcript, response_format: str) -> str:
    """The body in one of `MEDIA_TYPES`."""
    if response_format == "text":
        return " ".join(transcript.symbols) + "\n"
    if response_format in ("srt", "vtt"):
        return subtitles(transcript, response_format)
    return FORMATS[response_format][1](transcript, Path("audio"))


def subtitles(transcript: Transcript, response_format: str) -> str:
    """SubRip or WebVTT, with a caption for each stretch of phones without a pause."""
    mark = "," if response_format == "srt" else "."
    captions = [
        f"{_clock(phones[0].start_s, mark)} --> {_clock(phones[-1].end_s, mark)}\n"
        f"{_caption([phone.symbol for phone in phones], response_format)}\n"
        for phones in split_at_pauses(transcript.phones)
    ]
    if response_format == "srt":
        captions = [f"{number}\n{caption}" for number, caption in enumerate(captions, 1)]
    return "\n".join(captions if response_format == "srt" else ["WEBVTT\n", *captions])


def split_at_pauses(phones: Sequence[Phone]) -> list[list[Phone]]:
    """Split the phones of a recording at its pauses, and long stretches at their first gap after `SEGMENT_S`."""
    segments: list[list[Phone]] = []
    for phone in phones:
        if segments:
            segment = segments[-1]
            gap_s, length_s = phone.start_s - segment[-1].end_s, phone.start_s - segment[0].start_s
            if gap_s <= PAUSE_S and (length_s <= SEGMENT_S or gap_s <= 0):
                segment.append(phone)
                continue
        segments.append([phone])
    return segments


def _caption(symbols: Sequence[str], response_format: str) -> str:
    """The text of a caption. WebVTT has tags and entities, so the < and & of X-SAMPA are escaped; SubRip has no way to."""
    text = " ".join(symbols)
    return html.escape(text, quote=False) if response_format == "vtt" else text


def _mean_log(phones: Sequence[Phone]) -> float:
    """The mean natural log of the phones' confidences."""
    return round(sum(math.log(max(phone.confidence, 1e-6)) for phone in phones) / len(phones), 4)


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{mark}{milliseconds % 1000:03d}"


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value
