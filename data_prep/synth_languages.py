"""A synthetic corpus in any language of espeak-ng: 16 kHz FLAC, and manifests with phones in IPA and their times.

It is easier than real speech. Use it for a first run in a language, and to compare settings; its error rates say little
about real speech. The same seed gives the same files, for any number of jobs.
"""

import shutil
from contextlib import closing
from pathlib import Path

from asr.corpus.audio import SAMPLE_RATE_HZ
from asr.corpus.manifest import Utterance, write_corpus
from asr.errors import InputError
from asr.system.progress import progress
from data_prep.checking import warn
from data_prep.entries import SPLITS, LeftOut
from data_prep.espeak_languages import Language, find_language
from data_prep.language_speakers import LanguageRecording, LanguageTask, record_language
from data_prep.language_texts import draw_sentences, read_sentences, words_in
from data_prep.leaving_out import count_reasons, describe, table_line
from data_prep.speakers import Speaker, make_speaker
from data_prep.spreading import Spread, check_seen
from data_prep.synth import check_folder, check_numbers, split_of

NOTE = "made with espeak-ng: easier than real speech"

Recordings = list[list[LanguageRecording | LeftOut]]
"""What each speaker recorded."""


def prepare_language(
    out: Path,
    language: str,
    speakers: int,
    utterances: int,
    seed: int,
    spread: Spread,
    text: Path | None = None,
    *,
    tones: bool = True,
) -> dict[str, list[Utterance]]:
    """Make a corpus of ``speakers`` times ``utterances`` in a language.

    ``out`` gets ``audio/SPEAKER/NUMBER.flac``, the manifests, ``stats.json``, ``phones.txt`` with the phones of all splits,
    and ``left_out.tsv`` if an utterance is left out. Splits share no speaker and no sentence. The sentences are those of
    ``text``, one on each line, or random words. ``tones=False`` leaves tones out of the phones.

    Raises:
        InputError: a number is out of range; espeak-ng is missing or lacks the language; the text cannot be used, or
            without a text, no words of the language are known; ``out`` is not empty or cannot be written.
    """
    check_numbers(speakers, utterances, seed)
    found = find_language(language)
    out = out.absolute()
    check_folder(out)
    count = speakers * utterances
    texts = draw_sentences(found, count, seed) if text is None else read_sentences(text, count, seed)
    shares = [tuple(texts.sentences[index * utterances : (index + 1) * utterances]) for index in range(speakers)]
    partial = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left by a killed run
        partial.mkdir(parents=True)
        recordings = _record_speakers(partial, found, shares, seed, spread, tones)
        left_out = [result for results in recordings for result in results if isinstance(result, LeftOut)]
        corpus = _make_utterances(out, found, recordings, seed)
        _check_splits(out, corpus, left_out)
        notes = (NOTE, f"{found.name}, {texts.source}, seed {seed}", *texts.notes)
        write_corpus(partial, corpus, texts.left_out + count_reasons(left_out), notes, found.code)
        _write_tables(partial, corpus, left_out)
        partial.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}), expected a folder with room") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return corpus


def _record_speakers(
    partial: Path, language: Language, shares: list[tuple[str, ...]], seed: int, spread: Spread, tones: bool
) -> Recordings:
    """Record every speaker, with files under ``partial``."""
    tasks = [
        LanguageTask(
            index,
            seed,
            language.file,
            language.code if tones else "",
            partial / _folder(make_speaker(index, seed)),
            sentences,
        )
        for index, sentences in enumerate(shares)
    ]
    results = []
    with closing(spread(record_language, tasks)) as recorded:
        for task, recordings in progress(recorded, "speakers", len(tasks)):
            for recording in recordings:
                if isinstance(recording, LanguageRecording):
                    check_seen(task.folder / f"{recording.number}.flac")
            results.append(recordings)
    return results


def _folder(speaker: Speaker) -> Path:
    return Path("audio", speaker.name)


def _make_utterances(out: Path, language: Language, recordings: Recordings, seed: int) -> dict[str, list[Utterance]]:
    """Split -> utterances, with audio paths under ``out``."""
    corpus: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    for index, results in enumerate(recordings):
        speaker = make_speaker(index, seed)
        corpus[split_of(index, len(recordings))] += [
            _make_utterance(out / _folder(speaker), speaker, recording, language)
            for recording in results
            if isinstance(recording, LanguageRecording)
        ]
    return corpus


def _make_utterance(folder: Path, speaker: Speaker, recording: LanguageRecording, language: Language) -> Utterance:
    return Utterance(
        id=f"{speaker.name}_{recording.number}",
        audio_path=folder / f"{recording.number}.flac",
        sample_rate_hz=SAMPLE_RATE_HZ,
        duration_s=recording.num_samples / SAMPLE_RATE_HZ,
        speaker=speaker.name,
        phones=tuple(segment.phone for segment in recording.segments),
        words=words_in(recording.text),
        phone_times_s=tuple(
            (segment.start / SAMPLE_RATE_HZ, segment.end / SAMPLE_RATE_HZ) for segment in recording.segments
        ),
        sex=speaker.sex,
        details={"language": language.code},
    )


def _check_splits(out: Path, corpus: dict[str, list[Utterance]], left_out: list[LeftOut]) -> None:
    """Raise InputError if all utterances of a split are left out."""
    for name, split in corpus.items():
        if not split:
            reasons = ", ".join(f"{count} ({reason})" for reason, count in count_reasons(left_out).items())
            raise InputError(f"{out}: split {name} has 0 utterances, left out: {reasons}, expected at least 1")


def _write_tables(partial: Path, corpus: dict[str, list[Utterance]], left_out: list[LeftOut]) -> None:
    """Write the phones of all splits, in sorted order, and what is left out, and warn of it."""
    phones = sorted({phone for split in corpus.values() for utterance in split for phone in utterance.phones})
    (partial / "phones.txt").write_text("".join(f"{phone}\n" for phone in phones), encoding="utf-8")
    if left_out:
        lines = "".join(table_line(where, reason) for where, reason in left_out)
        (partial / "left_out.tsv").write_text(lines, encoding="utf-8")
        firsts: dict[str, str] = {}
        for where, reason in left_out:
            firsts.setdefault(reason, where)
        warn(describe(count_reasons(left_out), firsts))
