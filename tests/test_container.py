"""recipes/serve/Containerfile, without a program that builds containers: its steps in an empty virtual environment."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer.main

from asr.cli.app import app as command_line

ROOT = Path(__file__).parents[1]
FILE = ROOT / "recipes" / "serve" / "Containerfile"
KNOWN = {"FROM", "COPY", "RUN", "ENV", "WORKDIR", "USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
NOWHERE = "/proc"
"""A folder in which nobody can create files, root included."""


def instructions() -> list[tuple[str, str]]:
    """The instructions in their order, with their arguments."""
    lines = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def last(name: str) -> str:
    return [rest for found, rest in instructions() if found == name][-1]


def server_arguments() -> list[str]:
    found: list[str] = json.loads(last("ENTRYPOINT")) + json.loads(last("CMD"))
    return found


def health_check() -> list[str]:
    command: list[str] = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    return command


def copied() -> list[str]:
    """What is copied from the repository."""
    parts = [rest.split() for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    return [source for *sources, _ in parts for source in sources]


def test_the_file_says_what_it_promises() -> None:
    assert {name for name, _ in instructions()} <= KNOWN
    assert [rest.split()[0] for name, rest in instructions() if name == "FROM"] == ["python:3.12-slim"] * 2
    assert last("USER") not in ("", "0", "root")
    names = [name for name, _ in instructions()]
    assert "RUN" not in names[names.index("USER") :]
    assert all((ROOT / source).exists() for source in copied())
    program, subcommand, *arguments = server_arguments()
    assert (program, subcommand) == ("asr", "serve")
    known = {
        option
        for parameter in typer.main.get_command(command_line).commands["serve"].params  # type: ignore[attr-defined]
        for option in parameter.opts
    }
    assert {part for part in arguments if part.startswith("--")} <= known
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert given["--host"] == "0.0.0.0"
    assert given["--port"] == last("EXPOSE")
    assert f":{given['--port']}/healthz" in health_check()[-1]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The RUN steps: a virtual environment with the package built from what is copied, and borrowed dependencies."""
    source, target = tmp_path / "source", tmp_path / "venv"
    source.mkdir()
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    create, install = (shlex.split(rest) for name, rest in instructions() if name == "RUN")
    assert create == ["python", "-m", "venv", "/opt/asr"]
    assert install == ["/opt/asr/bin/pip", "install", "--no-cache-dir", "/source[serve]"]
    venv.create(target, with_pip=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    pip = [str(target / "bin" / "pip"), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    (site,) = (target / "lib").glob("python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return target


@pytest.fixture
def container(installed: Path, tmp_path: Path) -> Iterator[tuple[int, dict[str, str], Path]]:
    """The command, with no place to write but the temporary folder: port, environment and temporary folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "key").write_text("k" * 32)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = dict(part.split("=", 1) for part in last("ENV").split())
    environment = {name: value.replace("/tmp", str(temporary)) for name, value in environment.items()}
    environment |= {"PATH": f"{installed / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(temporary), "HOME": NOWHERE}
    given = {"8000": str(port), "/run/secrets/key": str(tmp_path / "key")}
    program, *arguments = server_arguments()
    command = [str(installed / "bin" / program), *(given.get(part, part) for part in arguments)]
    process = subprocess.Popen([*command, "--model", "speechocean762-small"], cwd=NOWHERE, env=environment)
    try:
        yield port, environment, temporary
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        process.kill()


def healthy(port: int, environment: dict[str, str]) -> bool:
    program, *arguments = [part.replace(":8000/", f":{port}/") for part in health_check()]
    python = shutil.which(program, path=environment["PATH"])
    assert python is not None
    done = subprocess.run([python, *arguments], env=environment, cwd=NOWHERE, capture_output=True)
    return done.returncode == 0


@pytest.mark.slow
def test_the_steps_work_where_only_the_temporary_folder_can_be_written(
    installed: Path, container: tuple[int, dict[str, str], Path], tmp_path: Path
) -> None:
    port, environment, temporary = container
    before = {path for path in installed.rglob("*") if path.is_file()}
    assert not healthy(1, environment)
    for _ in range(300):
        if healthy(port, environment):
            break
        time.sleep(0.2)
    draw = np.random.default_rng(0)
    time_s = np.arange(20 * 16000) / 16000  # long enough that the alignment is compiled
    tone = np.sin(2 * np.pi * (300 + 200 * np.sin(9 * time_s)) * time_s) * (np.sin(7 * time_s) > 0)
    soundfile.write(tmp_path / "a.wav", 0.3 * tone + 0.01 * draw.standard_normal(len(time_s)), 16000)
    fields = ['--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nspeechocean762-small\r\n--b\r\n']
    fields.append('Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n')
    body = "".join(fields).encode() + (tmp_path / "a.wav").read_bytes() + b"\r\n--b--\r\n"
    address = f"http://127.0.0.1:{port}/v1/audio/transcriptions"
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Authorization": f"Bearer {'k' * 32}"}
    for _ in range(4):
        with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=100) as answer:
            assert len(json.load(answer)["text"].split()) > 10
    del headers["Authorization"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=100)
    assert list((temporary / "numba").rglob("*.nbi"))  # compiled functions, which would be kept beside the package
    assert {path for path in installed.rglob("*") if path.is_file()} == before
