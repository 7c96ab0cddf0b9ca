"""Fuzz test of all file readers: each damaged file must be read or end in an `InputError` of one line.

    python -m tests.faults.fuzz [--inputs 20000] [--seed 1] [--only audio,cuts] [--keep FOLDER]

Files of every format are truncated, repeated, overwritten and given wrong numbers, then read in a process that may use 2
GiB more than at its start, and 10 s per file. Prints the outcomes and every finding: any other exception, an error of
several lines, a crash or a hang. ``--keep FOLDER`` keeps the files that led to findings. Exits with 1 if there is one.
"""

import argparse
import gzip
import multiprocessing
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file

LIMIT_S, LIMIT_BYTES = 10, 2 * 2**30
NOISE = 0.1 * np.random.default_rng(0).standard_normal(4000)
NUMBERS = [b"0", b"-1", b"2147483648", b"4294967295", b"99999999999999999999", b"1e308", b"nan", b"1e-320", b""]
WORDS = [
    b"\x00",
    b"\xff\xfe",
    b"\n",
    b"\r\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b"&a ",
    b"*a",
    b"../../../etc/passwd",
    b"!!python/object:os",
]
TEXT_SUFFIXES = (".txt", ".jsonl", ".yaml", ".arpa", ".trn", ".PHN", ".json", ".sph")


@dataclass(frozen=True)
class Reader:
    """A function that reads files of one format, and undamaged files to start from."""

    name: str
    files: tuple[Path, ...]
    read: Callable[[Path], object]


def readers(folder: Path) -> list[Reader]:
    """Write undamaged files of every format to ``folder``; return the readers with their files."""
    # Imported here, so that fuzz_guided can instrument these modules.
    from asr.cli.compose import compose
    from asr.corpus.audio import read_audio
    from asr.corpus.lexicon import read_lexicon
    from asr.corpus.manifest import read_manifest
    from asr.corpus.phones import inventory
    from asr.decoding.ngram import read_arpa
    from asr.inference.catalog import find_model
    from asr.inference.recognizer import load
    from asr.scoring.results import read_json
    from asr.scoring.transcripts import read_transcripts
    from asr.system.plain_yaml import read_yaml
    from data_prep.timit import read_phn

    audio = _write_audio(folder)
    soundfile.write(folder / "short.sph", NOISE, 16000, subtype="ULAW", format="NIST")
    _write_labels(folder, audio[0])
    bundle = _copy_bundle(folder)
    phones, recognizer = inventory("arpabet39"), load(find_model("speechocean762-small"))

    def read_sound(path: Path) -> object:
        return len(read_audio(path)), recognizer.features(path)

    def read_overrides(path: Path) -> object:
        return compose(["run_dir=x", *path.read_bytes().decode("utf-8", "replace").split()[:20]])

    return [
        Reader("audio", tuple(audio), read_sound),
        Reader("sphere", (folder / "short.sph",), read_audio),
        Reader("cuts", (folder / "cuts.jsonl", folder / "cuts_train.jsonl.gz"), read_manifest),
        Reader("phn", (folder / "a.PHN",), lambda path: read_phn(path, 16000)),
        Reader("transcripts", (folder / "a.trn", folder / "ids.txt"), read_transcripts),
        Reader("lexicon", (folder / "lexicon.txt",), lambda path: read_lexicon(path, phones)),
        Reader("arpa", (folder / "phones.arpa",), read_arpa),
        Reader("evaluation", (folder / "result.json",), read_json),
        Reader("yaml", (folder / "settings.yaml",), read_yaml),
        Reader("overrides", (folder / "overrides.txt",), read_overrides),
        Reader(
            "bundle",
            tuple(sorted(file for file in bundle.iterdir() if file.name != "README.md")),
            partial(_read_bundle_file, bundle),
        ),
    ]


def _write_labels(folder: Path, audio: Path) -> None:
    """Write manifests, transcripts, a lexicon, an n-gram, an evaluation and settings."""
    from asr.corpus.manifest import Utterance, write_corpus
    from asr.corpus.phones import inventory
    from asr.decoding.ngram import estimate, write_arpa
    from asr.scoring.results import evaluate_hypotheses, write_json

    phones = ("HH", "AH", "L", "OW")
    times = tuple((k / 4, k / 4 + 0.25) for k in range(4))
    utterances = [Utterance(f"u{n}", audio, 16000, 1.0, "s", phones, "hello", times) for n in range(3)]
    write_corpus(folder, {"train": utterances}, {})
    (folder / "cuts.jsonl").write_bytes(gzip.decompress((folder / "cuts_train.jsonl.gz").read_bytes()))
    (folder / "a.PHN").write_text("0 1600 h#\n1600 3200 sh\n3200 8000 ix\n8000 16000 h#\n")
    (folder / "a.trn").write_text("HH AH L OW (s-u1)\nAH (s-u2)\n")
    (folder / "ids.txt").write_text("u1 HH AH L OW\nu2 AH\n")
    (folder / "lexicon.txt").write_text("HELLO HH AH0 L OW1\nA AH0\nA EY1\n")
    write_arpa(estimate([phones] * 5, 3, inventory("arpabet39").symbols[1:]), folder / "phones.arpa")
    pairs = [(utterance.id, utterance.speaker, phones, ("HH", "AA", "OW")) for utterance in utterances]
    write_json(evaluate_hypotheses(pairs, ["plain"]), folder / "result.json")
    (folder / "settings.yaml").write_text("model:\n  hidden: 16\n  layers: 1\ntrainer:\n  epochs: 2\n")
    (folder / "overrides.txt").write_text("experiment=synth\nmodel.hidden=16\noptimizer.betas=[0.9,0.99]\nseed=3\n")


def _copy_bundle(folder: Path) -> Path:
    """Copy the bundled model, with feature statistics added so that their file is read too."""
    from asr.inference.catalog import find_model

    bundle = folder / "bundle"
    shutil.copytree(find_model("speechocean762-small"), bundle)
    (bundle / "checksums.txt").unlink()  # otherwise the checksum alone would refuse damaged files
    save_file({"mean": torch.zeros(40), "std": torch.ones(40)}, bundle / "statistics.safetensors")
    config = (bundle / "config.yaml").read_text().replace("normalization: utterance", "normalization: global")
    (bundle / "config.yaml").write_text(config)
    return bundle


def _read_bundle_file(bundle: Path, path: Path) -> object:
    """Replace a file of a copy of the bundle with the damaged one, and transcribe."""
    from asr.inference.recognizer import load

    copy = path.parent / "model"
    if not copy.exists():
        shutil.copytree(bundle, copy)
    name = path.name.split("-", 1)[1]
    shutil.copyfile(path, copy / name)
    try:
        recognizer = load(copy, decoder="beam" if name in ("ngram.arpa", "decoder.yaml") else "best_path")
        return recognizer.transcribe(NOISE, 16000)
    finally:
        shutil.copyfile(bundle / name, copy / name)


def _write_audio(folder: Path) -> list[Path]:
    """Write the same noise in ten audio formats."""
    formats: dict[str, dict[str, str]] = {
        "a.wav": {},
        "b.wav": {"subtype": "PCM_24"},
        "c.wav": {"subtype": "FLOAT"},
        "a.flac": {},
        "a.ogg": {},
        "a.mp3": {},
        "a.sph": {"format": "NIST"},
        "a.aiff": {},
        "a.au": {},
        "a.opus": {"format": "OGG", "subtype": "OPUS"},
    }
    for name, options in formats.items():
        soundfile.write(folder / name, NOISE, 16000, **options)
    return [folder / name for name in formats]


def mutate(content: bytes, draw: random.Random, text: bool) -> bytes:
    """Damage the content in one to four positions."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(data) + 1) if draw.random() < 0.5 else min(draw.randrange(200), len(data))
        length = draw.choice([1, 2, 4, 8, 64, 1000])
        kind = draw.randrange(8)
        if kind == 0:
            del data[start:]
        elif kind == 1:
            del data[start : start + length]
        elif kind == 2:
            data[start:start] = data[start : start + length] * draw.choice([1, 3, 100])
        elif kind == 3:
            data[start : start + length] = draw.randbytes(length)
        elif kind == 4 and data:
            data[min(start, len(data) - 1)] ^= 1 << draw.randrange(8)
        elif kind == 5:
            data[start : start + 4] = draw.choice(
                [b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00"]
            )
        elif kind == 6 and text:
            numbers = list(re.finditer(rb"-?\d+(\.\d+)?", data))
            if numbers:
                number = draw.choice(numbers)
                data[number.start() : number.end()] = draw.choice(NUMBERS)
        else:
            data[start:start] = draw.choice(WORDS)
    return bytes(data)


def damage(file: Path, draw: random.Random) -> bytes:
    """Return damaged content of the file; half of the time, a gzip file is damaged inside."""
    content = file.read_bytes()
    if file.suffix == ".gz" and draw.random() < 0.5:
        return gzip.compress(mutate(gzip.decompress(content), draw, True))
    return mutate(content, draw, file.suffix in TEXT_SUFFIXES)


def limit_memory() -> None:
    """Limit this process to 2 GiB more than it has now; allocations beyond that fail."""
    used = int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_DATA, (used + LIMIT_BYTES, resource.getrlimit(resource.RLIMIT_DATA)[1]))


@contextmanager
def limits() -> Iterator[None]:
    """Limit the context to 2 GiB and 10 s; beyond them, raise MemoryError or TimeoutError."""

    def raise_timeout(*_: object) -> None:
        raise TimeoutError(f"longer than {LIMIT_S} s")

    memory, handler = resource.getrlimit(resource.RLIMIT_DATA), signal.signal(signal.SIGALRM, raise_timeout)
    limit_memory()
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_DATA, memory)


def read_undamaged(reader: Reader, folder: Path) -> None:
    """Read the undamaged files, which must succeed; this also lets numba compile before the time limit applies."""
    for file in reader.files:
        reader.read(shutil.copyfile(file, folder / f"whole-{file.name}"))


def _work(folder: Path, name: str, first: int, last: int, seed: int, pipe: Connection) -> None:
    """Run one reader on its inputs and send the outcome of each."""
    from asr.errors import InputError

    with tempfile.TemporaryDirectory() as own:
        (reader,) = (reader for reader in readers(Path(own)) if reader.name == name)
        read_undamaged(reader, folder)
        for number in range(first, last):
            draw = random.Random(f"{seed} {name} {number}")
            file = draw.choice(reader.files)
            path = folder / f"{number}-{file.name}"
            path.write_bytes(damage(file, draw))
            pipe.send((number, "started", ""))
            try:
                with limits():
                    reader.read(path)
                outcome, details = "read", ""
            except InputError as error:
                outcome, details = ("refused", "") if "\n" not in str(error) else ("several lines", repr(str(error)))
            except BaseException as error:
                outcome, details = type(error).__name__, str(error)[:300]
            pipe.send((number, outcome, details))
            if outcome in ("read", "refused"):
                path.unlink()


def fuzz(name: str, count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Fuzz one reader with ``count`` inputs; return the counts of outcomes and a description of each finding.

    Files that led to findings stay in ``folder``.
    """
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    context, number = multiprocessing.get_context("forkserver"), 0
    context.set_forkserver_preload([__name__])  # else each process would import torch
    while number < count:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(folder, name, number, count, seed, sender))
        process.start()
        sender.close()
        outcome = "crash"
        try:
            while number < count:
                if not receiver.poll(60 if outcome == "crash" else 3 * LIMIT_S):
                    process.kill()
                    outcome = "hang"
                    break
                number, outcome, details = receiver.recv()
                if outcome == "started":
                    continue
                outcomes[outcome] += 1
                if outcome not in ("read", "refused"):
                    findings.append(f"{name} {number}: {outcome}: {details}")
                number += 1
        except EOFError:
            outcome = "crash"
        process.join()
        if number < count or outcome in ("started", "hang"):
            outcomes["crash or hang"] += 1
            findings.append(f"{name} {number}: exit status {process.exitcode} of the process")
            number += 1
    return outcomes, findings


def main() -> None:
    """Fuzz all readers in sequence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        names = [reader.name for reader in readers(Path(temporary))]
        names = [name for name in names if not args.only or name in args.only.split(",")]
        folder = args.keep or Path(temporary) / "inputs"
        folder.mkdir(parents=True, exist_ok=True)
        findings: list[str] = []
        for name in names:
            outcomes, new = fuzz(name, -(-args.inputs // len(names)), args.seed, folder)
            print(f"{name}: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common())}", flush=True)
            print("\n".join(new[:10]), end="\n" if new else "", flush=True)
            findings += new
    print(f"{len(findings)} findings")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
