"""The package imports, transcribes and trains without the features that only Linux with glibc has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_train import FAST

ELSEWHERE = """
import ctypes, fcntl, os, sys

flags, real_fsync, real_library = fcntl.fcntl, os.fsync, ctypes.CDLL

def fsync(descriptor):
    if flags(descriptor, fcntl_getfl) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(9, "Bad file descriptor")  # as on Windows
    real_fsync(descriptor)

def library(name=None, *others, **named):
    if name is None:
        raise TypeError("no such thing as the program itself")  # as on Windows
    return real_library(name, *others, **named)

def link(*paths, **named):
    raise OSError(1, "no links for this user or on this file system")

fcntl_getfl = fcntl.F_GETFL
os.fsync, os.link, os.symlink, ctypes.CDLL = fsync, link, link, library
for name in ("fcntl", "resource", "pwd", "grp"):
    sys.modules[name] = None
for name in ("fork", "sched_getaffinity", "getuid"):
    if hasattr(os, name):
        delattr(os, name)

from asr.system.process import tune_process

tune_process()
"""


def run_elsewhere(program: str) -> str:
    """Run a program without POSIX and glibc features. Returns its output."""
    command, user = [sys.executable, "-c", ELSEWHERE + program], {"USERNAME": "someone"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **user})
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_recording_is_transcribed(tone_corpus: Path) -> None:
    audio = next(iter(sorted((tone_corpus / "test").glob("*.wav"))))
    printed = run_elsewhere(f"sys.argv = ['asr', 'transcribe', {str(audio)!r}]\nfrom asr.cli.app import main\nmain()\n")
    assert printed.startswith(f"{audio}\t")


def test_espeak_speaks(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: pip install 'asr-phones[synth]'")
    printed = run_elsewhere(f"""
from pathlib import Path
from data_prep.espeak import SpeakingStyle, make_data_folder, synthesize
make_data_folder(Path({str(tmp_path)!r}), {{"v": "language variant\\nname v\\n"}})
for _ in range(2):
    speech = synthesize(Path({str(tmp_path)!r}), "a good day", SpeakingStyle("v", 175, 50, 50), 1)
    print(*(phoneme.name for phoneme in speech.phonemes))
""")
    first, second = printed.splitlines()
    assert first == second
    assert "d" in first.split()
    assert not any(path.is_symlink() for path in tmp_path.iterdir())


@pytest.mark.slow
def test_a_model_is_trained_and_used(tone_corpus: Path, tmp_path: Path) -> None:
    settings = ["experiment=speechocean762", f"corpus.dir={tone_corpus}", f"run_dir={tmp_path}/run", *FAST]
    program = f"sys.argv = ['asr', 'train', *{settings!r}]\nfrom asr.cli.app import main\nmain()\n"
    run_elsewhere(program)
    model, audio = tmp_path / "run" / "model", tone_corpus / "test" / "e-0.wav"
    run_elsewhere(f"import asr\nprint(asr.load({str(model)!r}).transcribe({str(audio)!r}).symbols)\n")
    assert not (tmp_path / "run" / "checkpoints" / "before_last.pt").exists()
