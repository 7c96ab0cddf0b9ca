"""Damaged files through the real readers: each must end in success or in our own one-line error.

    python -m tests.faults.fuzz [--inputs 20000] [--seed 1] [--only audio,cuts] [--keep FOLDER]

Files of every format are made, then cut, repeated, overwritten and given numbers that lie, and read in a process that may
not take more than 2 GiB beyond what it starts with, nor longer than 10 s for a file. Prints what was tried, and every
finding: any other exception, an error of several lines, a crash, a hang. ``--keep FOLDER`` keeps the files that were
findings. Exits with 1 where there is one.
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
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file

LIMIT_S, LIMIT_BYTES = 10, 2 * 2**30
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
TEXTS = (".txt", ".jsonl", ".yaml", ".arpa", ".trn", ".PHN", ".json", ".sph")


@dataclass(frozen=True)
class Reader:
    """A function that takes a file of ours, and sound files to start from."""

    name: str
    files: tuple[Path, ...]
    read: Callable[[Path], object]


def readers(folder: Path) -> list[Reader]:
    """Sound files of every kind, and what reads them."""
    from asr.cli.compose import compose
    from asr.corpus.audio import read_audio
    from asr.corpus.lexicon import read_lexicon
    from asr.corpus.manifest import Utterance, read_manifest, write_corpus
    from asr.corpus.phones import inventory
    from asr.decoding.ngram import estimate, read_arpa, write_arpa
    from asr.inference.catalog import find_model
    from asr.inference.recognizer import load
    from asr.scoring.results import evaluate_hypotheses, read_json, write_json
    from asr.scoring.transcripts import read_transcripts
    from asr.system.plain_yaml import read_yaml
    from data_prep.timit import read_phn

    noise = 0.1 * np.random.default_rng(0).standard_normal(4000)
    phones, small = inventory("arpabet39"), find_model("speechocean762-small")
    audio, recognizer = _sounds(folder), load(small)
    said = ("HH", "AH", "L", "OW")
    spoken = [
        Utterance(f"u{n}", audio[0], 16000, 1.0, "s", said, "hello", tuple((k / 4, k / 4 + 0.25) for k in range(4)))
        for n in range(3)
    ]
    write_corpus(folder, {"train": spoken}, {})
    (folder / "cuts.jsonl").write_bytes(gzip.decompress((folder / "cuts_train.jsonl.gz").read_bytes()))
    soundfile.write(folder / "short.sph", noise, 16000, subtype="ULAW", format="NIST")
    (folder / "a.PHN").write_text("0 1600 h#\n1600 3200 sh\n3200 8000 ix\n8000 16000 h#\n")
    (folder / "a.trn").write_text("HH AH L OW (s-u1)\nAH (s-u2)\n")
    (folder / "ids.txt").write_text("u1 HH AH L OW\nu2 AH\n")
    (folder / "lexicon.txt").write_text("HELLO HH AH0 L OW1\nA AH0\nA EY1\n")
    write_arpa(estimate([said] * 5, 3, phones.symbols[1:]), folder / "phones.arpa")
    heard = [(one.id, one.speaker, said, ("HH", "AA", "OW")) for one in spoken]
    write_json(evaluate_hypotheses(heard, ["plain"]), folder / "result.json")
    (folder / "settings.yaml").write_text("model:\n  hidden: 16\n  layers: 1\ntrainer:\n  epochs: 2\n")
    bundle = folder / "bundle"
    shutil.copytree(small, bundle)
    (bundle / "checksums.txt").unlink()  # without which damage gets as far as the code that reads the rest
    statistics = {"mean": torch.zeros(40), "std": torch.ones(40)}
    save_file(statistics, bundle / "statistics.safetensors")
    lines = (bundle / "config.yaml").read_text().replace("normalization: utterance", "normalization: global")
    (bundle / "config.yaml").write_text(lines)

    def read_sound(path: Path) -> object:
        return len(read_audio(path)), recognizer.features(path)

    def read_part(path: Path) -> object:
        """A damaged file of a bundle, in its place."""
        whole = path.parent / "model"
        if not whole.exists():
            shutil.copytree(bundle, whole)
        name = path.name.split("-", 1)[1]
        shutil.copyfile(path, whole / name)
        try:
            damaged = load(whole, decoder="beam" if name in ("ngram.arpa", "decoder.yaml") else "best_path")
            return damaged.transcribe(noise, 16000)
        finally:
            shutil.copyfile(bundle / name, whole / name)

    def overrides(path: Path) -> object:
        return compose(["run_dir=x", *path.read_bytes().decode("utf-8", "replace").split()[:20]])

    (folder / "overrides.txt").write_text("experiment=synth\nmodel.hidden=16\noptimizer.betas=[0.9,0.99]\nseed=3\n")
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
        Reader("overrides", (folder / "overrides.txt",), overrides),
        Reader("bundle", tuple(sorted(one for one in bundle.iterdir() if one.name != "README.md")), read_part),
    ]


def _sounds(folder: Path) -> list[Path]:
    noise = 0.1 * np.random.default_rng(0).standard_normal(4000)
    kinds: dict[str, dict[str, str]] = {
        "a.wav": {},
        "b.wav": {"subtype": "PCM_24"},
        "c.wav": {"subtype": "FLOAT"},
        "a.flac": {},
        "a.ogg": {},
    }
    kinds |= {
        "a.mp3": {},
        "a.sph": {"format": "NIST"},
        "a.aiff": {},
        "a.au": {},
        "a.opus": {"format": "OGG", "subtype": "OPUS"},
    }
    for name, options in kinds.items():
        soundfile.write(folder / name, noise, 16000, **options)
    return [folder / name for name in kinds]


def mutate(content: bytes, draw: random.Random, text: bool) -> bytes:
    """The content, damaged in one to four places."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(data) + 1) if draw.random() < 0.5 else min(draw.randrange(200), len(data))
        length = draw.choice([1, 2, 4, 8, 64, 1000])
        kind = draw.randrange(8)
        if kind == 0:
            del data[place:]
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2:
            data[place:place] = data[place : place + length] * draw.choice([1, 3, 100])
        elif kind == 3:
            data[place : place + length] = draw.randbytes(length)
        elif kind == 4 and data:
            data[min(place, len(data) - 1)] ^= 1 << draw.randrange(8)
        elif kind == 5:
            data[place : place + 4] = draw.choice(
                [b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00"]
            )
        elif kind == 6 and text:
            found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
            if found:
                number = draw.choice(found)
                data[number.start() : number.end()] = draw.choice(NUMBERS)
        else:
            data[place:place] = draw.choice(WORDS)
    return bytes(data)


def damaged(file: Path, draw: random.Random) -> bytes:
    """A damaged copy's content; what is in a gzip file is damaged inside half of the time."""
    content = file.read_bytes()
    if file.suffix == ".gz" and draw.random() < 0.5:
        return gzip.compress(mutate(gzip.decompress(content), draw, True))
    return mutate(content, draw, file.suffix in TEXTS)


def limit_memory() -> None:
    """Let this process take 2 GiB more than it has; an allocation beyond them fails."""
    held = int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_DATA, (held + LIMIT_BYTES, resource.getrlimit(resource.RLIMIT_DATA)[1]))


@contextmanager
def limited() -> Iterator[None]:
    """2 GiB and 10 s for what is done inside; beyond them it ends in a MemoryError or a TimeoutError."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"longer than {LIMIT_S} s")

    memory, handler = resource.getrlimit(resource.RLIMIT_DATA), signal.signal(signal.SIGALRM, too_long)
    limit_memory()
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_DATA, memory)


def read_whole(reader: Reader, folder: Path) -> None:
    """Read the files undamaged, which they must survive; numba compiles meanwhile."""
    for file in reader.files:
        reader.read(shutil.copyfile(file, folder / f"whole-{file.name}"))


def _work(folder: Path, name: str, first: int, last: int, seed: int, pipe: Connection) -> None:
    """Read the inputs of one reader, and say what became of each."""
    from asr.errors import InputError

    with tempfile.TemporaryDirectory() as own:
        (reader,) = (one for one in readers(Path(own)) if one.name == name)
        read_whole(reader, folder)
        for number in range(first, last):
            draw = random.Random(f"{seed} {name} {number}")
            file = draw.choice(reader.files)
            path = folder / f"{number}-{file.name}"
            path.write_bytes(damaged(file, draw))
            pipe.send((number, "started", ""))
            try:
                with limited():
                    reader.read(path)
                outcome, words = "read", ""
            except InputError as error:
                outcome, words = ("refused", "") if "\n" not in str(error) else ("several lines", repr(str(error)))
            except BaseException as error:
                outcome, words = type(error).__name__, str(error)[:300]
            pipe.send((number, outcome, words))
            if outcome in ("read", "refused"):
                path.unlink()


def fuzz(name: str, count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Outcomes of so many inputs of one reader, and the findings in words; files that were findings stay in ``folder``."""
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    context, number = multiprocessing.get_context("spawn"), 0
    while number < count:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(folder, name, number, count, seed, theirs))
        process.start()
        theirs.close()
        outcome = "crash"
        try:
            while number < count:
                if not ours.poll(60 if outcome == "crash" else 3 * LIMIT_S):
                    process.kill()
                    outcome = "hang"
                    break
                number, outcome, words = ours.recv()
                if outcome == "started":
                    continue
                outcomes[outcome] += 1
                if outcome not in ("read", "refused"):
                    findings.append(f"{name} {number}: {outcome}: {words}")
                number += 1
        except EOFError:
            outcome = "crash"
        process.join()
        if number < count or outcome in ("started", "hang"):
            outcomes["crash or hang"] += 1
            findings.append(f"{name} {number}: the process ended with {process.exitcode}")
            number += 1
    return outcomes, findings


def main() -> None:
    """Try all readers, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        names = [reader.name for reader in readers(Path(temporary))]
        names = [name for name in names if not chosen.only or name in chosen.only.split(",")]
        folder = chosen.keep or Path(temporary) / "inputs"
        folder.mkdir(parents=True, exist_ok=True)
        findings: list[str] = []
        for name in names:
            outcomes, found = fuzz(name, -(-chosen.inputs // len(names)), chosen.seed, folder)
            print(f"{name}: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common())}", flush=True)
            print("\n".join(found[:10]), end="\n" if found else "", flush=True)
            findings += found
    print(f"{len(findings)} findings")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
