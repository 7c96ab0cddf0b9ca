"""Transcript files of other systems: NIST's trn format, or an id and its phones on each line.

sh iy hv ae d (FDHC0_SX209)         trn, the format of sclite
FDHC0_SX209 sh iy hv ae d           plain, the format of Kaldi's text files
"""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from asr.corpus.notation import detect
from asr.corpus.phones import timit_folding
from asr.errors import InputError
from asr.scoring.conventions import CONVENTIONS, conventions_for
from asr.scoring.error_rate import TranscriptPair
from asr.scoring.results import Evaluation, evaluate_hypotheses
from asr.system.files import read_text

TRN = re.compile(r"(.*?)\s*\(([^()\s]+)\)")
EXPECTED = "lines of phones and (id), or lines of an id and phones"


def read_transcripts(path: Path) -> dict[str, list[str]]:
    """Read the phones of each id, in NFC and in the order of the file. The file is trn if its first line ends in (id).

    Raises:
        InputError: the file is not readable or empty, mixes both formats, repeats an id, or has alternatives.
    """
    text = read_text(path, EXPECTED).removeprefix("\ufeff")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith(";;")]
    if not lines:
        raise InputError(f"{path}: empty, expected {EXPECTED}")
    is_trn = bool(TRN.fullmatch(lines[0][1]))
    transcripts: dict[str, list[str]] = {}
    for number, line in lines:
        match = TRN.fullmatch(line)
        if bool(match) != is_trn:
            ending = "does not end in (id)" if is_trn else "ends in (id)"
            raise InputError(f"{path}:{number}: {ending}, expected the same format on all lines: {EXPECTED}")
        utterance, phones = (match[2], match[1].split()) if match else (line.split()[0], line.split()[1:])
        if utterance in transcripts:
            raise InputError(f"{path}:{number}: {utterance} appears twice, expected each id once")
        markup = [phone for phone in phones if is_trn and (phone[0] in "({@" or phone in ("/", "}"))]
        if markup:
            raise InputError(
                f"{path}:{number}: {markup[0]!r}, expected phones only, without alternatives or parentheses"
            )
        # A letter and its mark, or both in one: programs write either, and it is the same phone.
        transcripts[utterance] = [unicodedata.normalize("NFC", phone) for phone in phones]
    return transcripts


def pair_transcripts(reference: Path, hypothesis: Path, speakers: Path | None = None) -> list[TranscriptPair]:
    """Pair the utterances of two transcript files by id.

    ``speakers`` has an id and a speaker on each line. Without it the speaker is the part of the id before the first - or _,
    as in sclite, or the whole id.

    Raises:
        InputError: a file cannot be used, or an id is missing from one of them.
    """
    references, hypotheses = read_transcripts(reference), read_transcripts(hypothesis)
    for ids, others, path in ((references, hypotheses, hypothesis), (hypotheses, references, reference)):
        missing = [utterance for utterance in ids if utterance not in others]
        if missing:
            raise InputError(f"{path}: lacks {_shorten(missing)}, expected the ids of the other file")
    speaker_of = _speakers_by_id(references, speakers)
    return [
        (utterance, speaker_of[utterance], phones, hypotheses[utterance]) for utterance, phones in references.items()
    ]


def evaluate_transcripts(
    reference: Path, hypothesis: Path, timit: bool = False, convention: str | None = None, speakers: Path | None = None
) -> Evaluation:
    """Score the transcript files that `pair_transcripts` reads.

    With ``timit`` under all of TIMIT's conventions, else without folding. ``convention`` is the headline.

    Raises:
        InputError: a file cannot be used, the convention is unknown, or it does not know a phone.
    """
    headline = convention or ("kaldi" if timit else "plain")
    if headline not in CONVENTIONS or (timit and headline == "plain"):
        names = [name for name in CONVENTIONS if not (timit and name == "plain")]
        raise InputError(f"scoring convention {headline!r}, expected one of {', '.join(names)}")
    pairs = pair_transcripts(reference, hypothesis, speakers)
    phones = {phone for _, _, *sides in pairs for side in sides for phone in side}
    distinguished = timit_folding().keys() if phones <= timit_folding().keys() else ()
    notation = "timit" if timit else detect(phones)
    return evaluate_hypotheses(pairs, conventions_for(headline, distinguished), notation=notation)


def _speakers_by_id(ids: Mapping[str, object], path: Path | None) -> dict[str, str]:
    if path is None:
        return {utterance: re.split("[-_]", utterance, maxsplit=1)[0] or utterance for utterance in ids}
    speakers = {utterance: words[0] for utterance, words in read_transcripts(path).items() if len(words) == 1}
    missing = [utterance for utterance in ids if utterance not in speakers]
    if missing:
        raise InputError(f"{path}: no speaker for {_shorten(missing)}, expected an id and a speaker on each line")
    return speakers


def _shorten(ids: list[str]) -> str:
    """List the first five ids and count the rest."""
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
