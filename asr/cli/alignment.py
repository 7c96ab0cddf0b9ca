"""`asr align`, `asr realign` and `asr verify`: known words or phones, and where they are in the audio."""

import os
import sys
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import Cluster, Device, Model, SkipBad, Workers, choose_run, finite
from asr.cli.transcribe import Format, Notation, Written
from asr.errors import InputError
from asr.inference.catalog import find_model

if TYPE_CHECKING:
    from asr.corpus.pronunciations import WordPronunciations
    from asr.inference.align_corpus import Items
    from asr.inference.realign import Realigned
    from asr.inference.sources import Source
    from asr.inference.units import Run

commands = typer.Typer()

CORPUS_SUFFIXES = (".jsonl.gz", ".jsonl", ".tsv", ".csv", ".parquet")
NAMED_WORDS = 10
"""Words without a pronunciation that a message names."""

Lexicon = Annotated[
    Path | None, typer.Option(help="pronunciation lexicon: a word and its phones per line; several per word")
]
G2p = Annotated[
    str, typer.Option(help="espeak, or a model of `asr g2p train`: pronounces words that the lexicon lacks")
]
Language = Annotated[str, typer.Option(help="language for espeak, such as de or cmn")]
Cuts = Annotated[Path, typer.Argument(help="manifest, for example data/timit/cuts_train.jsonl.gz")]


@commands.command()
def align(
    model: Annotated[str, typer.Argument(help="model folder, or a name from `asr models`")],
    audio: Annotated[
        str, typer.Argument(help="audio file; with --out a corpus: a folder, a manifest, a table or shards")
    ],
    phones: Annotated[str | None, typer.Option(help='reference phones in the model\'s inventory: "HH AH L OW"')] = None,
    text: Annotated[str | None, typer.Option(help="reference words, with --lexicon")] = None,
    lexicon: Lexicon = None,
    formats: Annotated[Format, typer.Option("--format", help="output format of a single file")] = Format.ctm,
    notation: Written = Notation.model,
    out: Annotated[Path | None, typer.Option(help="folder for the TextGrids of a corpus")] = None,
    g2p: G2p = "",
    language: Language = "",
    force: Annotated[bool, typer.Option("--force", help="overwrite existing tiers")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="threads for a corpus; 0: one a processor")] = 0,
    device: Device = "cpu",
    cluster: Cluster = "",
    workers: Workers = 0,
    skip_bad: SkipBad = False,
) -> None:
    """Align a recording, or a whole corpus, with its reference phones or words.

    Example: `asr align runs/first/model hello.wav --phones "HH AH L OW" --format textgrid`

    A corpus: `asr align english corpus/ --lexicon cmudict.dict --out tiers` reads any layout of `asr prepare` and writes a
    TextGrid for each recording to the same place below tiers, of shards a tar file of TextGrids. What exists is skipped, so
    the same command resumes. What does not fit is in tiers/errors.tsv; the exit status is then 1, or 2 if nothing fits.
    """
    path, pronounce = Path(audio), partial(_load_words, lexicon, g2p, language)
    sources = _find_shards(audio)
    if sources or out is not None or path.is_dir() or path.name.lower().endswith(CORPUS_SUFFIXES):
        if formats is not Format.ctm or notation is not Notation.model:
            raise InputError(f"{audio}: a corpus with --format or --notation, expected TextGrids in the model's phones")
        if phones is not None or text is not None:
            raise InputError(f"{audio}: a corpus with --phones or --text, expected its own texts")
        if out is None:
            raise InputError(f"{audio}: a corpus without --out, expected a folder for its tiers")
        request = {"pronunciation": _describe_pronunciation(lexicon, g2p, language)}
        with choose_run(cluster, workers, device) as run:
            _align_corpus(model, sources or path, out, pronounce, request, force, jobs, device, run, skip_bad)
    else:
        if force or jobs or cluster or workers or skip_bad:
            raise InputError(f"{audio}: a single file with --force, --jobs, --cluster or --skip-bad, expected a corpus")
        _align_file(model, path, phones, text, pronounce, formats, notation, device)


def _align_corpus(
    model: str,
    source: "Path | list[Source]",
    out: Path,
    load_words: "Callable[[Collection[str]], WordPronunciations | None]",
    request: dict[str, str],
    force: bool,
    jobs: int,
    device: str,
    run: "Run",
    skip_bad: bool,
) -> None:
    """Write the tiers of a corpus or of shards, and print what was done."""
    from asr.inference.align_corpus import Spread, align_corpus
    from asr.inference.align_shards import align_shards
    from asr.inference.recognizer import load
    from asr.inference.result_files import ERRORS_FILE
    from asr.inference.sources import describe_request
    from asr.inference.units import fix_precision, run_here

    if force and (isinstance(source, list) or out.resolve() == source.resolve()):
        raise InputError(f"{out}: --force in the corpus itself, or with shards, expected another folder")
    folder, loading, here = find_model(model).absolute(), fix_precision((device, "auto", "best_path")), run is run_here
    recognizer = load(folder, *loading) if here else load(folder)
    pronounce = partial(load_words, recognizer.bundle.inventory.mapping)
    threads = partial(run_here, threads=jobs or os.cpu_count() or 1)
    spread = Spread(threads, lambda: recognizer) if here else Spread(run, partial(load, folder, *loading))
    if isinstance(source, list):
        described = describe_request("tiers 1", folder, loading, source) | request
        summary = align_shards(source[0], recognizer, pronounce, described, out, spread, skip_bad)
    else:
        items, root = _read_corpus(source, pronounce())
        summary = align_corpus(recognizer, items, out, root, force, spread=spread)
    what = "shards" if isinstance(source, list) else "recordings"
    hours = summary.seconds / 3600
    print(f"{summary.recordings} {what}, {summary.utterances} utterances, {hours:.2f} hours of audio -> {out}")
    if summary.skipped:
        print(f"skipped: {summary.skipped} {what}, tiers exist")
    for reason, count in sorted(summary.problems.items()):
        print(f"left out: {count} ({reason}) -> {out / ERRORS_FILE}")
    if summary.problems:
        raise typer.Exit(1 if summary.recordings or summary.skipped else 2)


def _find_shards(location: str) -> "list[Source]":
    """The shards at a location, if there are any."""
    from asr.corpus.shards import INDEX
    from asr.corpus.stores import is_url

    if not is_url(location) and not (Path(location) / INDEX).is_file():
        return []
    from asr.inference.sources import open_sources

    return open_sources([location])


def _describe_pronunciation(lexicon: Path | None, g2p: str, language: str) -> str:
    """The pronunciations that tiers depend on. Files count with their content."""
    from data_prep.resuming import digest_file

    return " ".join([g2p, language, digest_file(lexicon) if lexicon else "", digest_file(Path(g2p)) if g2p else ""])


def _align_file(
    model: str,
    audio: Path,
    phones: str | None,
    text: str | None,
    load_words: "Callable[[Collection[str]], WordPronunciations | None]",
    formats: Format,
    notation: Notation,
    device: str,
) -> None:
    """Align one recording and print its phones."""
    from asr.corpus.pronunciations import pronounce
    from asr.inference.recognizer import load
    from asr.inference.transcript_formats import FORMATS

    recognizer = load(find_model(model), device)
    pronunciations = load_words(recognizer.bundle.inventory.mapping)
    if (phones is None) == (text is None) or (text is None) != (pronunciations is None):
        raise InputError("nothing to align, expected --phones, or --text with --lexicon or --g2p")
    reference = phones.split() if phones is not None else []
    if text is not None and pronunciations is not None:
        reference = [phone for _, found in pronounce(text, pronunciations, "text") for phone in found]
    transcript = recognizer.align(audio, reference)
    if notation is not Notation.model:
        transcript = transcript.in_notation(notation.value, recognizer.bundle.inventory)
    print(FORMATS[formats.value][1](transcript, audio), end="")


def _load_words(lexicon: Path | None, g2p: str, language: str, known: Collection[str]) -> "WordPronunciations | None":
    """What knows the pronunciations of words; None if neither lexicon nor g2p is given. ``known`` phones keep stress."""
    from asr.corpus.lexicon import read_lexicon
    from asr.corpus.pronunciations import WordPronunciations
    from data_prep.pronouncing import load_g2p

    if language and not g2p:
        raise InputError(f"language: {language!r} without --g2p, expected --g2p espeak")
    if lexicon is None and not g2p:
        return None
    model = load_g2p(g2p, language).pronounce if g2p else None
    return WordPronunciations(read_lexicon(lexicon, known=known) if lexicon is not None else {}, model)


def _read_corpus(source: Path, pronunciations: "WordPronunciations | None") -> "tuple[Items, Path | None]":
    """The utterances of a manifest or of a corpus in a known layout, and the folder that the tiers mirror, if any."""
    from asr.corpus.pronunciations import split_words
    from asr.inference.align_utterance import Item, Problem
    from data_prep.auto import detect
    from data_prep.entries import Entry

    found = detect(source)
    reader = found.reader
    if reader is None:
        raise InputError(f"{source}: {found.name}, expected its manifest: asr prepare {found.name} {source} DATA")
    print(f"asr: {source}: {found.name}, {found.why}", file=sys.stderr)

    def items() -> Iterator[Item | Problem]:
        without, aligned = "", False
        for entry in reader():
            if not isinstance(entry, Entry):
                yield Problem(entry.where, "", entry.reason)
            elif entry.phones is None and pronunciations is None:
                without = without or entry.where
                yield Problem(entry.id, str(entry.audio_path), "words without phones, and no lexicon or g2p")
            else:
                words, aligned = split_words(entry.words), True
                known = tuple(pronunciations.find(word) for word in words) if pronunciations is not None else ()
                yield Item(
                    entry.id, entry.audio_path, words, known, entry.phones, entry.start_s, entry.end_s, entry.speaker
                )
        if without and not aligned:
            raise InputError(f"{without}: words without phones, expected --lexicon or --g2p")

    return items, source if source.is_dir() else None


@commands.command()
def realign(
    model: Model,
    cuts: Cuts,
    out: Annotated[Path, typer.Argument(help="manifest to write, such as data/timit/realigned/cuts_train.jsonl.gz")],
    lexicon: Lexicon = None,
    g2p: G2p = "",
    language: Language = "",
    device: Device = "cpu",
) -> None:
    """Choose the pronunciation of each word in a manifest by alignment.

    Example: `asr realign english data/mine/cuts_train.jsonl.gz data/mine/realigned/cuts_train.jsonl.gz --lexicon FILE`

    Of a word's pronunciations, the one that the model finds most probable in the audio replaces the phones of the manifest.
    """
    from asr.inference.realign import realign as realign_manifest
    from asr.inference.recognizer import load

    recognizer = load(model, device)
    pronunciations = _load_words(lexicon, g2p, language, recognizer.bundle.inventory.mapping)
    if pronunciations is None:
        raise InputError("no pronunciations, expected --lexicon or --g2p")
    _print_realigned(realign_manifest(recognizer, cuts, out, pronunciations.find))
    print(f"manifest: {out}")


def _print_realigned(report: "Realigned") -> None:
    share = report.changed_words / max(1, report.words)
    print(
        f"changed: {report.changed_words} of {report.words} words ({100 * share:.1f} %), "
        f"{report.changed_utterances} of {report.utterances} utterances"
    )
    if report.unknown:
        print(f"not counted: words of {report.unknown} utterances, whose phones the lexicon does not give")
    for reason, count in sorted(report.kept.items()):
        print(f"kept as they are: {count} utterances ({reason})")
    if report.missing:
        named = ", ".join(f"{word} ({count})" for word, count in report.missing.most_common(NAMED_WORDS))
        print(f"without a pronunciation: {len(report.missing)} words: {named}")


@commands.command()
def verify(
    model: Model,
    cuts: Cuts,
    json_file: Annotated[Path | None, typer.Option("--json", help="also write all verdicts to this JSON file")] = None,
    tsv_file: Annotated[Path | None, typer.Option("--tsv", help="also write all verdicts to this table")] = None,
    threshold: Annotated[
        float | None, typer.Option(callback=finite, help="a fit below it is suspicious: higher finds and accuses more")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Find the transcripts of a manifest that do not match their audio.

    Example: `asr verify english data/mine/cuts_train.jsonl.gz --tsv suspicious.tsv`

    The fit of an utterance is 1 if its reference is as probable as what the model recognizes, and 0 if it is no more
    probable than random phones. The worst fits come first.
    """
    from asr.corpus.manifest import read_manifest
    from asr.inference.recognizer import load
    from asr.inference.verify import THRESHOLD, format_json, format_tsv
    from asr.inference.verify import verify as verify_utterances
    from asr.system.files import check_writable, write_text

    check_writable(json_file, tsv_file)
    limit = THRESHOLD if threshold is None else threshold
    verdicts = sorted(verify_utterances(load(model, device), read_manifest(cuts)), key=lambda one: one.fit.value)
    suspicious = [verdict for verdict in verdicts if verdict.fit.value < limit]
    for path, write in ((json_file, format_json), (tsv_file, format_tsv)):
        if path is not None:
            write_text(path, write(verdicts, limit))
    print(format_tsv(suspicious, limit), end="")
    print(f"suspicious: {len(suspicious)} of {len(verdicts)} transcripts, fit below {limit:g}", file=sys.stderr)
