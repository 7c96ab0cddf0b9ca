"""The Buckeye corpus, conversations with 40 speakers of Ohio, with phones labelled by hand -> entries.

    SOURCE/s01/s0101a.wav      a part of the conversation with speaker s01, about 10 minutes
    SOURCE/s01/s0101a.phones   header, a line with #, then lines: end in seconds, color, phone
    SOURCE/s01/s0101a.words    the same with words: end, color, word; canonical phones; phones; part of speech
    SOURCE/s01/s0101a.txt      the text, which is not read

Source: M. Pitt et al., "Buckeye Corpus of Conversational Speech" (2nd release), Ohio State University, 2007. Manual:
S. Kiesling et al., "The Variation in Conversation (ViC) Project: Creation of the Buckeye Corpus", 2006.

The phones of the speaker are labelled in lower case (``ah``, ``tq``, ``nx``); a semicolon begins a comment. All else is in
capitals or brackets. Silence, noise and laughter (`PAUSES`) are gaps. The interviewer and third speakers (`OTHERS`) always
end an utterance, since their words are not transcribed. Every other label, such as UNKNOWN, is speech without phones: it
ends an utterance too, and is left out. Utterances are cut at pauses, see `data_prep.tiers.cut_at_pauses`.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.errors import InputError
from data_prep.entries import Entry, LeftOut
from data_prep.folder import refuse_archives
from data_prep.textgrid import Interval, read_text
from data_prep.tiers import cut_at_pauses, is_too_long, relative_times, span_id, within

PAUSES = frozenset({"SIL", "NOISE", "VOCNOISE", "LAUGH", "B_TRANS", "E_TRANS"})
"""Labels of gaps, without brackets: silence, noise, sounds of the voice, laughter, start and end of the transcription."""

OTHERS = frozenset({"IVER", "B_THIRD_SPKR", "E_THIRD_SPKR"})
"""Labels, without brackets, of what others say: the interviewer, and where a third speaker starts and ends."""

SUFFIXES = (".wav", ".phones", ".words")

RECORDING = re.compile(r"(s\d\d)\d\d[a-z]")

LABEL = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s+\d+(?:\s+(.*))?")
"""A line: end in seconds, color, label."""

PHONE = re.compile(r"[a-z]+")

SPOKEN = re.compile(r"(?:<(?:EXT|HES|LAUGH)-)?([^<>{}=]+)>?")
"""A word, also one that is lengthened, hesitated over or laughed."""


def read_buckeye(source: Path) -> Iterator[Entry | LeftOut]:
    """Yield the utterances of the corpus, recording by recording.

    Ids have the form ``s0101a-00012340-00015000``, with start and end in milliseconds.

    Raises:
        InputError: there is no such folder, it has no recording of the corpus, or an archive that was not unpacked.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder, expected one with the Buckeye corpus")
    source = source.absolute()
    refuse_archives(source)
    paths = sorted(path for path in source.rglob("s*") if path.suffix in SUFFIXES and RECORDING.fullmatch(path.stem))
    files: dict[str, dict[str, Path]] = {}
    for path in paths:
        first = files.setdefault(path.stem, {}).setdefault(path.suffix, path)
        if first != path:
            raise InputError(f"{path}: {first} has the same name, expected one of them")
    if not any(".wav" in found for found in files.values()):
        raise InputError(f"{source}: no recording of the Buckeye corpus, expected files such as s01/s0101a.wav")
    for name, found in sorted(files.items()):
        if missing := [suffix for suffix in SUFFIXES if suffix not in found]:
            where = str(next(iter(found.values())).with_suffix(missing[0]))
            yield LeftOut(where, "text without audio" if missing[0] == ".wav" else f"recording without {missing[0]}")
            continue
        try:
            yield from _read_recording(name, *(found[suffix] for suffix in SUFFIXES))
        except InputError as error:
            yield LeftOut(str(error), "labels that are not readable")


def read_labels(path: Path) -> list[Interval]:
    """Read a file of labels. A label starts where the one before it ended; those that run backwards end before they start.

    Raises:
        InputError: the file cannot be read, has no ``#`` after its header, or a line is no label.
    """
    labels: list[Interval] = []
    start_s, in_header = 0.0, True
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if in_header:
            in_header = line.strip() != "#"
            continue
        match = LABEL.fullmatch(line.rstrip())
        if match is None and line.strip():
            raise InputError(f"{path}: line {number}: {line.strip()[:40]!r}, expected: end, color, label")
        if match is not None:
            labels.append(Interval(start_s, float(match[1]), (match[2] or "").split(";")[0].strip()))
            start_s = max(start_s, float(match[1]))
    if in_header:
        raise InputError(f"{path}: no line with # alone, expected one after the header")
    return labels


def _read_recording(name: str, audio_path: Path, phones_path: Path, words_path: Path) -> Iterator[Entry | LeftOut]:
    words = [
        interval._replace(label=match[1].replace("_", " "))
        for interval in read_labels(words_path)
        if (match := SPOKEN.fullmatch(interval.label))
    ]
    speech: list[Interval] = []
    start_s = end_s = 0.0
    for label in [*read_labels(phones_path), None]:
        if label is not None and PHONE.fullmatch(label.label):
            speech.append(label)
        elif label is None or label.label.strip("<>{}").upper() not in PAUSES:
            limit_s = end_s if label is None else label.start_s
            for begin, end, phones in cut_at_pauses(speech, start_s, limit_s):
                yield _make_entry(name, audio_path, phones_path, begin, end, phones, words)
            speech = []
            if label is not None:
                start_s = max(label.start_s, label.end_s)
                if label.label.strip("<>{}").upper() not in OTHERS:
                    where = f"{phones_path}: {label.label!r} from {label.start_s:g} s to {label.end_s:g} s"
                    yield LeftOut(where, "speech without phones")
        if label is not None:
            end_s = max(end_s, label.end_s)


def _make_entry(
    name: str,
    audio_path: Path,
    phones_path: Path,
    start_s: float,
    end_s: float,
    phones: Sequence[Interval],
    words: Sequence[Interval],
) -> Entry | LeftOut:
    where = f"{phones_path}: {start_s:g} s to {end_s:g} s"
    for phone in phones:
        if phone.end_s <= phone.start_s:
            at = f"{where}: {phone.label!r} from {phone.start_s:g} s to {phone.end_s:g} s"
            return LeftOut(at, "phone of no length" if phone.end_s == phone.start_s else "phone that runs backwards")
    if is_too_long(start_s, end_s):
        return LeftOut(where, "long speech without a pause")
    return Entry(
        id=span_id(name, start_s, end_s),
        audio_path=audio_path,
        speaker=name[:3],
        where=where,
        words=" ".join(word.label for word in within(words, start_s, end_s)),
        phones=tuple(phone.label for phone in phones),
        phone_times_s=relative_times(phones, start_s, end_s),
        start_s=start_s,
        end_s=end_s,
    )
