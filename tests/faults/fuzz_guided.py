"""Inputs that coverage leads to new code of ours: fuzz.py's readers of text under atheris (libFuzzer for Python).

    pip install atheris
    python -m tests.faults.fuzz_guided [--seconds 60] [--only phn,arpa] [--keep FOLDER]

``asr`` and ``data_prep`` alone are instrumented, but for the modules that numba compiles. What C and Rust decode
(libsndfile, gzip, safetensors) gives no coverage to go by: `tests.faults.fuzz` damages files of that kind. Each reader
gets so many seconds in a process of its own, which ends at its first finding: another exception than `InputError`, one
of several lines, more than 10 s, or more than 2 GiB beyond what the process starts with. What led there is kept in
``--keep``. Exits with 1 where there is one.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.fuzz import LIMIT_S, NUMBERS, TEXTS, WORDS, limit_memory, read_whole, readers

GUIDED = ("cuts", "phn", "transcripts", "lexicon", "arpa", "evaluation", "yaml", "overrides", "bundle", "sphere")
COMPILED = [
    "asr.inference.forced_alignment",
    "asr.decoding.beam_search",
    "asr.scoring.alignment",
    "asr.decoding.words",
    "asr.nn.ctc",
]
LONGEST_BYTES = 8192


def guide(name: str, seconds: int, keep: Path, folder: Path) -> None:
    """Fuzz one reader; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["asr", "data_prep"], exclude=COMPILED):
        from asr.errors import InputError

        (reader,) = (one for one in readers(folder) if one.name == name)
    files = [file for file in reader.files if file.suffix in TEXTS and file.stat().st_size < LONGEST_BYTES]
    read_whole(reader, folder)
    (folder / "corpus").mkdir()
    for number, file in enumerate(files):  # the first byte says which file it is
        (folder / "corpus" / str(number)).write_bytes(bytes([number]) + file.read_bytes())
    words = ["".join(f"\\x{byte:02x}" for byte in word) for word in (*WORDS, *NUMBERS) if word]
    (folder / "words").write_text("".join(f'"{word}"\n' for word in words))

    def read(data: bytes) -> None:
        if data:
            path = folder / f"0-{files[data[0] % len(files)].name}"
            path.write_bytes(data[1:])
            try:
                reader.read(path)
            except InputError as error:
                if "\n" in str(error):
                    raise RuntimeError("an error of several lines") from error

    limits = [f"-max_total_time={seconds}", f"-timeout={LIMIT_S}", f"-max_len={LONGEST_BYTES}", "-rss_limit_mb=0"]
    places = [f"-artifact_prefix={keep}/{name}-", f"-dict={folder / 'words'}", str(folder / "corpus")]
    limit_memory()
    atheris.Setup([sys.argv[0], "-print_final_stats=1", *limits, *places], read)
    atheris.Fuzz()


def main() -> None:
    """One reader after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only", default=",".join(GUIDED))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "findings")
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.keep.mkdir(parents=True, exist_ok=True)
    if chosen.reader:
        with tempfile.TemporaryDirectory() as folder:
            guide(chosen.reader, chosen.seconds, chosen.keep, Path(folder))
    findings = 0
    for name in chosen.only.split(","):
        call = [sys.executable, "-m", "tests.faults.fuzz_guided", "--reader", name, "--keep", str(chosen.keep)]
        done = subprocess.run(
            [*call, "--seconds", str(chosen.seconds)], capture_output=True, text=True, errors="replace"
        )
        covered = re.findall(r"#\d+\s+\w+\s+cov: (\d+)", done.stderr)
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        said = (
            f"{runs[1] if runs else 'no'} inputs, {covered[0]} to {covered[-1]} places reached"
            if covered
            else "no start"
        )
        print(f"{name}: {said}, {'a finding' if done.returncode else 'no finding'}", flush=True)
        if done.returncode:
            print(done.stderr[-4000:], done.stdout[-2000:], flush=True)
        findings += bool(done.returncode)
    print(f"{findings} findings")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
