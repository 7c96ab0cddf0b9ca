"""A sentence and a recording of it -> each expected phone, and what was heard in its place."""

from collections.abc import Mapping, Sequence

from asr.corpus.notation import SILENCES
from asr.inference.transcript_formats import Phone, Transcript
from asr.scoring.alignment import align


def compare(
    words: Sequence[tuple[str, Sequence[str]]],
    expected: Transcript,
    heard: Transcript,
    symbols: Mapping[str, str | None],
) -> list[dict[str, object]]:
    """What was heard for each phone of each word.

    ``expected`` has the words' phones with their times, ``heard`` what was recognized freely. Phones heard in addition
    belong to the expected one before them, but for silences: nobody hears these. ``symbols`` translates to a notation;
    phones that have none there, such as closures in ARPAbet, keep their own.
    """
    heard_for: list[list[Phone]] = [[] for _ in expected.phones]
    reference, hypothesis = -1, -1
    for edit in align(expected.symbols, heard.symbols):
        reference += edit.reference is not None
        hypothesis += edit.hypothesis is not None
        if edit.hypothesis is not None and edit.hypothesis not in SILENCES and heard_for:
            heard_for[max(0, reference)].append(heard.phones[hypothesis])
    answer: list[dict[str, object]] = []
    at = 0
    for word, phones in words:
        parts = []
        for phone, others in zip(expected.phones[at : at + len(phones)], heard_for[at : at + len(phones)], strict=True):
            sure = min((other.confidence for other in others), default=phone.confidence)
            written = [symbols.get(other.symbol) or other.symbol for other in others]
            parts.append(
                {"symbol": symbols.get(phone.symbol) or phone.symbol, "start_s": round(phone.start_s, 4)}
                | {"end_s": round(phone.end_s, 4), "heard": written, "confidence": round(sure, 4)}
            )
        answer.append({"word": word, "phones": parts})
        at += len(phones)
    return answer
