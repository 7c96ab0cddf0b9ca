"""Coverage-guided fuzzing of the text readers of `tests.faults.fuzz`, with atheris (libFuzzer for Python).

    pip install atheris
    python -m tests.faults.fuzz_guided [--seconds 60] [--only phn,arpa] [--keep FOLDER]

Only ``asr`` and ``data_prep`` are instrumented, without the modules that numba compiles. C and Rust decoders (libsndfile,
gzip, safetensors) give no coverage; `tests.faults.fuzz` damages their files. Each reader runs for ``--seconds`` in its own
process, which ends at the first finding: an exception other than `InputError`, an error of several lines, more than 10 s,
or 2 GiB more than at the start. ``--keep`` is the folder for inputs that led to findings. Exits with 1 if there is one.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.fuzz import LIMIT_S, NUMBERS, TEXT_SUFFIXES, WORDS, limit_memory, read_undamaged, readers

GUIDED = ("cuts", "phn", "transcripts", "lexicon", "arpa", "evaluation", "yaml", "overrides", "bundle", "sphere")
COMPILED = [
    "asr.inference.forced_alignment",
    "asr.decoding.beam_search",
    "asr.scoring.alignment",
    "asr.decoding.words",
    "asr.nn.ctc",
]
MAX_BYTES = 8192


def guide(name: str, seconds: int, keep: Path, folder: Path) -> None:
    """Fuzz one reader; this ends the process."""
    import atheris

    with atheris.instrument_imports(include=["asr", "data_prep"], exclude=COMPILED):
        from asr.errors import InputError

        (reader,) = (reader for reader in readers(folder) if reader.name == name)
    files = [file for file in reader.files if file.suffix in TEXT_SUFFIXES and file.stat().st_size < MAX_BYTES]
    read_undamaged(reader, folder)
    (folder / "corpus").mkdir()
    for number, file in enumerate(files):  # the first byte of an input chooses the file
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

    limits = [f"-max_total_time={seconds}", f"-timeout={LIMIT_S}", f"-max_len={MAX_BYTES}", "-rss_limit_mb=0"]
    paths = [f"-artifact_prefix={keep}/{name}-", f"-dict={folder / 'words'}", str(folder / "corpus")]
    limit_memory()
    atheris.Setup([sys.argv[0], "-print_final_stats=1", *limits, *paths], read)
    atheris.Fuzz()


def main() -> None:
    """Fuzz the readers in sequence, each in its own process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only", default=",".join(GUIDED))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "findings")
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.keep.mkdir(parents=True, exist_ok=True)
    if args.reader:
        with tempfile.TemporaryDirectory() as folder:
            guide(args.reader, args.seconds, args.keep, Path(folder))
    findings = 0
    for name in args.only.split(","):
        call = [sys.executable, "-m", "tests.faults.fuzz_guided", "--reader", name, "--keep", str(args.keep)]
        done = subprocess.run([*call, "--seconds", str(args.seconds)], capture_output=True, text=True, errors="replace")
        covered = re.findall(r"#\d+\s+\w+\s+cov: (\d+)", done.stderr)
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        summary = (
            f"{runs[1] if runs else 'no'} inputs, coverage {covered[0]} to {covered[-1]}"
            if covered
            else "did not start"
        )
        print(f"{name}: {summary}, {'a finding' if done.returncode else 'no finding'}", flush=True)
        if done.returncode:
            print(done.stderr[-4000:], done.stdout[-2000:], flush=True)
        findings += bool(done.returncode)
    print(f"{findings} findings")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
