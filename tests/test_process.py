"""The settings of the process, and how the command ends."""

import os
import signal
import subprocess
import sys

import pytest

from asr.cli import app as cli
from asr.errors import InputError, Interrupted, TrainingError
from asr.system.process import SPIN_COUNT, tune_process


def test_what_the_environment_says_goes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    tune_process()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    tune_process()
    assert os.environ["GOMP_SPINCOUNT"] == SPIN_COUNT


@pytest.mark.parametrize("command", [["serve"], ["transcribe", "none.wav"], ["train", "run_dir=unused"]], ids=" ".join)
def test_kernels_are_kept_for_few_shapes(command: list[str]) -> None:
    """The settings come before torch, which reads them once."""
    program = f"""
import os, sys
from asr.cli import app as cli
NAMES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
class Torch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(*(os.environ[name] for name in NAMES), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Torch())
sys.argv = ["asr", *{command}]
cli.main()
"""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["32", "16"], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_freed_memory_is_kept() -> None:
    program = """
import resource
from asr.cli import app as cli
from asr.errors import InputError, Interrupted, TrainingError
from asr.system.process import TRAINING_KEPT_BYTES, tune_process
if {tuned}:
    tune_process(TRAINING_KEPT_BYTES)
import numpy
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.ones(8_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    counts = [
        int(subprocess.run([sys.executable, "-c", program.format(tuned=tuned)], capture_output=True, check=True).stdout)
        for tuned in (False, True)
    ]
    assert counts[1] < counts[0] / 10


def test_the_command_is_ready_before_torch_is_imported() -> None:
    program = "import sys, asr.cli.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_command_tunes_its_process_first(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(cli, "tune_process", lambda: calls.append("tuned"))
    monkeypatch.setattr(cli, "app", lambda: calls.append("ran"))
    cli.main()
    assert calls == ["tuned", "ran"]


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (InputError("x.wav: empty file, expected audio"), 2),
        (TrainingError("loss is nan"), 1),
        (Interrupted("stopped after 3 updates", signal.SIGTERM), 143),
        (Interrupted("stopped after 3 updates", signal.SIGINT), 130),
        (OSError(28, "No space left on device", "x.json"), 2),
    ],
    ids=repr,
)
def test_how_the_command_ends(
    raised: Exception, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise raised

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == status
    message = capsys.readouterr().err
    assert message.startswith("asr: ")
    assert message.count("\n") == 1
