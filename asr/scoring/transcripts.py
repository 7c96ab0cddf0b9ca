"""Transcripts in files of other systems: NIST's trn, or an id and its phones on each line.

sh iy hv ae d (FDHC0_SX209)         trn, as sclite reads it
FDHC0_SX209 sh iy hv ae d           plain, as Kaldi's text files
"""

import re
from collections.abc import Mapping
from pathlib import Path

from asr.corpus.phones import timit_folding
from asr.errors import InputError
from asr.scoring.conventions import CONVENTIONS, conventions_for
from asr.scoring.error_rate import Transcribed
from asr.scoring.results import Evaluation, evaluate_hypotheses
from asr.system.files import read_text

TRN = re.compile(r"(.*?)\s*\(([^()\s]+)\)")
EXPECTED = "lines of phones and (id), or of an id and phones"


def read_transcripts(path: Path) -> dict[str, list[str]]:
    """The phones of each id, in the order of the file; trn where the first line ends in an id in parentheses.

    Raises:
        InputError: not readable, empty, a line of neither kind, an id that comes twice, or alternatives among the phones.
    """
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path, EXPECTED).splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith(";;")]
    if not lines:
        raise InputError(f"{path}: empty, expected {EXPECTED}")
    is_trn = bool(TRN.fullmatch(lines[0][1]))
    found: dict[str, list[str]] = {}
    for number, line in lines:
        match = TRN.fullmatch(line)
        if bool(match) != is_trn:
            kind = "ends in no (id)" if is_trn else "ends in an (id)"
            raise InputError(f"{path}:{number}: {kind}, expected the same kind of line everywhere: {EXPECTED}")
        name, phones = (match[2], match[1].split()) if match else (line.split()[0], line.split()[1:])
        if name in found:
            raise InputError(f"{path}:{number}: {name} a second time, expected each id once")
        odd = [phone for phone in phones if phone[0] in "({@" or phone in ("/", "}")]
        if odd:
            raise InputError(
                f"{path}:{number}: {odd[0]!r}, expected phones alone: no alternatives, none in parentheses"
            )
        found[name] = phones
    return found


def pair(reference: Path, hypothesis: Path, speakers: Path | None = None) -> list[Transcribed]:
    """The utterances of two transcript files.

    ``speakers`` has an id and a speaker on each line; without it the speaker is what stands before the first - or _ of an
    id, as sclite has it, or the id itself.

    Raises:
        InputError: a file cannot be used, or an id is in one and not in the other.
    """
    said, heard = read_transcripts(reference), read_transcripts(hypothesis)
    for there, missing_from, path in ((said, heard, hypothesis), (heard, said, reference)):
        missing = [name for name in there if name not in missing_from]
        if missing:
            raise InputError(f"{path}: lacks {_some(missing)}, expected the ids of the other file")
    speaker_of = _speakers(said, speakers)
    return [(name, speaker_of[name], phones, heard[name]) for name, phones in said.items()]


def evaluate_transcripts(
    reference: Path, hypothesis: Path, timit: bool = False, convention: str | None = None, speakers: Path | None = None
) -> Evaluation:
    """Score two transcript files as `pair` reads them.

    With ``timit`` under all of TIMIT's conventions, else as the phones are. ``convention`` is the headline.

    Raises:
        InputError: a file cannot be used, an unknown convention, or a phone that it does not know.
    """
    headline = convention or ("kaldi" if timit else "plain")
    if headline not in CONVENTIONS or (timit and headline == "plain"):
        names = [name for name in CONVENTIONS if not (timit and name == "plain")]
        raise InputError(f"scoring convention {headline!r}, expected one of {', '.join(names)}")
    utterances = pair(reference, hypothesis, speakers)
    used = {phone for _, _, said, heard in utterances for phone in (*said, *heard)}
    told_apart = timit_folding().keys() if used <= timit_folding().keys() else ()
    return evaluate_hypotheses(utterances, conventions_for(headline, told_apart))


def _speakers(names: Mapping[str, object], path: Path | None) -> dict[str, str]:
    if path is None:
        return {name: re.split("[-_]", name, maxsplit=1)[0] or name for name in names}
    known = {name: words[0] for name, words in read_transcripts(path).items() if len(words) == 1}
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"{path}: no speaker for {_some(missing)}, expected an id and a speaker on each line")
    return known


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
