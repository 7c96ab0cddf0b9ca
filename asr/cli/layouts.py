"""`asr prepare LAYOUT`: any corpus in a known layout -> manifests."""

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from asr.cli.options import Cluster, Workers, check_workers, choose_run
from asr.errors import InputError

if TYPE_CHECKING:
    from data_prep.entries import Reader
    from data_prep.parts import Part

    Spread = Callable[[Callable[[], Callable[[Part], None]], Iterator[Part], int], Iterator[None]]

commands = typer.Typer()

Out = Annotated[Path, typer.Argument(help="output folder for cuts_{train,dev,test}.jsonl.gz and stats.json")]
Source = Annotated[Path, typer.Argument(help="folder of the corpus as downloaded")]
Jobs = Annotated[int, typer.Option(min=1, help="worker processes")]


@dataclass(frozen=True)
class Request:
    """The options that all layouts share."""

    jobs: Jobs = 2
    split: Annotated[
        str,
        typer.Option(
            help="own: the corpus's own splits; dev=0.05,test=0.05: shares of the utterances; test=FILE: a list of "
            "speakers; own,dev=0.05: a dev set from the corpus's training speakers; train: everything. "
            "Default: own if the corpus has all three, else the shares"
        ),
    ] = ""
    seed: Annotated[int, typer.Option(min=0, help="random seed of the shares")] = 1
    shared_speakers: Annotated[bool, typer.Option(help="accept a speaker in two of the corpus's own splits")] = False
    lexicon: Annotated[Path | None, typer.Option(help="pronunciation lexicon, for a corpus without phones")] = None
    g2p: Annotated[
        str, typer.Option(help="espeak, or a model of `asr g2p train`: pronounces words that the lexicon lacks")
    ] = ""
    language: Annotated[str, typer.Option(help="language for the manifests and espeak, such as de or cmn")] = ""
    oov: Annotated[
        str,
        typer.Option(
            help="words without a pronunciation: error, g2p, or drop, which leaves their utterances out. "
            "Default: g2p if one is given, else error"
        ),
    ] = ""
    units: Annotated[str, typer.Option(help="phones, or graphemes: the letters of the words")] = "phones"
    phones_map: Annotated[
        Path | None, typer.Option(help="table of phones: each line has one and its replacement, - to drop it")
    ] = None
    check: Annotated[str, typer.Option(help="samples: read all audio; headers: only its headers, faster")] = "samples"
    cluster: Cluster = ""
    workers: Workers = 0

    def run(self, reader: "Reader", out: Path) -> None:
        """Prepare a corpus and print its statistics."""
        from data_prep.pipeline import PrepareOptions, prepare
        from data_prep.pronouncing import Pronouncing
        from data_prep.splits import parse_splits

        oov = self.oov or ("g2p" if self.g2p else "error")
        pronouncing = Pronouncing(self.lexicon, self.g2p, self.language, oov, self.units, self.phones_map)
        splits = parse_splits(self.split, self.seed, self.shared_speakers)
        with self._spread() as spread:
            prepare(reader, out, PrepareOptions(splits, pronouncing, self.check, self.jobs, spread=spread))
        print_statistics(out)
        statistics = json.loads((out / "stats.json").read_text(encoding="utf-8"))
        for reason, count in statistics["left_out"].items():
            print(f"left out: {count} ({reason}) -> {out / 'left_out.tsv'}")

    @contextmanager
    def _spread(self) -> "Iterator[Spread | None]":
        """What writes the parts of the corpus on a cluster, if one is wanted."""
        check_workers(self.cluster, self.workers)
        if not self.cluster:
            yield None
            return
        with choose_run(self.cluster, self.workers) as run:

            def spread(
                make: "Callable[[], Callable[[Part], None]]", parts: "Iterator[Part]", total: int
            ) -> Iterator[None]:
                for outcome in run(make, parts, total):
                    if outcome.error is not None:
                        raise outcome.error
                    yield

            yield spread


def _layout(name: str) -> Callable[[Callable[..., None]], None]:
    """Register a command that has the options of `Request` in place of its last parameter, ``request``."""
    hints = get_type_hints(Request, include_extras=True)
    shared = [
        inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=item.default, annotation=hints[item.name])
        for item in fields(Request)
    ]

    def register(command: Callable[..., None]) -> None:
        own = list(inspect.signature(command).parameters.values())[:-1]

        def run(**values: Any) -> None:
            request = Request(**{item.name: values.pop(item.name) for item in shared})
            command(**values, request=request)

        vars(run)["__signature__"] = inspect.Signature([*own, *shared])
        run.__annotations__ = {item.name: item.annotation for item in [*own, *shared]}
        run.__doc__ = command.__doc__
        commands.command(name)(run)

    return register


@_layout("folder")
def _prepare_folder(
    source: Source,
    out: Out,
    tiers: Annotated[
        Path | None,
        typer.Option(help="folder of TextGrids to read instead of the texts, as `asr align --out` writes them"),
    ] = None,
    *,
    request: Request,
) -> None:
    """Prepare a folder of recordings with .lab, .txt or .TextGrid files beside them.

    Example: `asr prepare folder recordings data/mine --lexicon lexicon.txt`

    A speaker has a folder, as for the Montreal Forced Aligner. A .TextGrid may have words, phones, or both.
    """
    from data_prep.folder import read_folder

    request.run(partial(read_folder, source, tiers), out)


@_layout("kaldi")
def _prepare_kaldi(
    source: Source,
    out: Out,
    text_is_phones: Annotated[bool, typer.Option(help="the file text has phones instead of words")] = False,
    *,
    request: Request,
) -> None:
    """Prepare a Kaldi data directory, or a folder of them: wav.scp, segments, text, utt2spk.

    Example: `asr prepare kaldi egs/mine/s5/data data/mine --lexicon lexicon.txt`

    Directories called train, dev and test are the corpus's own splits. Commands in wav.scp are refused.
    """
    from data_prep.kaldi import read_kaldi

    request.run(partial(read_kaldi, source, text_is_phones), out)


@_layout("librispeech")
def _prepare_librispeech(source: Source, out: Out, request: Request) -> None:
    """Prepare LibriSpeech, or a corpus in its layout.

    Example: `asr prepare librispeech ~/corpora/LibriSpeech data/librispeech --lexicon librispeech-lexicon.txt`
    """
    from data_prep.librispeech import read_librispeech

    request.run(partial(read_librispeech, source), out)


@_layout("commonvoice")
def _prepare_commonvoice(source: Source, out: Out, request: Request) -> None:
    """Prepare a language of Common Voice.

    Example: `asr prepare commonvoice cv-corpus/de data/de --g2p espeak --language de`
    """
    from data_prep.commonvoice import read_commonvoice

    request.run(partial(read_commonvoice, source), out)


@_layout("table")
def _prepare_table(
    source: Annotated[Path, typer.Argument(help="file .csv, .tsv, .jsonl or .parquet with an utterance on each row")],
    out: Out,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="ROLE=NAME: the column of a role, such as audio=path; once for each. Roles are id, audio, speaker, words, "
            "phones, start, end, sex and split; another becomes a detail"
        ),
    ] = None,
    *,
    request: Request,
) -> None:
    """Prepare a table.

    Example: `asr prepare table calls.csv data/calls --column audio=file --column words=text --units graphemes`
    """
    from data_prep.table import read_table

    columns: dict[str, str] = {}
    for item in column or []:
        role, equals, name = item.partition("=")
        if not (role and equals) or role in columns:
            raise InputError(f"column: {item!r}, expected ROLE=NAME, each role once")
        columns[role] = name
    request.run(partial(read_table, source, columns), out)


@_layout("l2arctic")
def _prepare_l2arctic(source: Source, out: Out, request: Request) -> None:
    """Prepare L2-ARCTIC: non-native English with the phones as they were perceived.

    Example: `asr prepare l2arctic ~/corpora/l2arctic data/l2arctic`
    """
    from data_prep.l2arctic import read_l2arctic

    request.run(partial(read_l2arctic, source), out)


@_layout("buckeye")
def _prepare_buckeye(source: Source, out: Out, request: Request) -> None:
    """Prepare the Buckeye corpus: conversations in English with phone times.

    Example: `asr prepare buckeye ~/corpora/buckeye data/buckeye`
    """
    from data_prep.buckeye import read_buckeye

    request.run(partial(read_buckeye, source), out)


@_layout("lhotse")
def _prepare_lhotse(
    source: Annotated[Path, typer.Argument(help="file of Lhotse cuts, or a folder with cuts_*.jsonl.gz")],
    out: Out,
    request: Request,
) -> None:
    """Prepare Lhotse cuts that another program wrote.

    Example: `asr prepare lhotse cuts.jsonl.gz data/mine --lexicon lexicon.txt`
    """
    from data_prep.lhotse_cuts import read_cuts

    request.run(partial(read_cuts, source), out)


@_layout("auto")
def _prepare_auto(
    source: Annotated[Path, typer.Argument(help="folder or file of a corpus in any known layout")],
    out: Out,
    request: Request,
) -> None:
    """Prepare a corpus in the layout that it is found to have.

    Example: `asr prepare auto recordings data/mine --lexicon lexicon.txt`
    """
    from data_prep import speechocean762, timit
    from data_prep.auto import detect

    found = detect(source)
    print(f"{source}: {found.name} ({found.why})")
    if found.reader is not None:
        request.run(found.reader, out)
        return
    if request != Request(jobs=request.jobs):
        raise InputError(f"{source}: {found.name}, expected no option but --jobs: it has its own splits and phones")
    prepare = {"timit": timit.prepare_timit, "speechocean762": speechocean762.prepare_speechocean762}[found.name]
    prepare(source, out, request.jobs)
    print_statistics(out)


def print_statistics(out: Path) -> None:
    """Print what a preparation has written: a line for each split."""
    statistics = json.loads((out / "stats.json").read_text(encoding="utf-8"))
    for name, split in statistics["splits"].items():
        print(
            f"{name}: {split['utterances']} utterances, {split['speakers']} speakers, {split['hours']:.2f} h, "
            f"{split['phones']} phones -> {out / f'cuts_{name}.jsonl.gz'}"
        )
