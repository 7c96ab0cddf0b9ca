"""A server under load and faults: no failure, no hang, right answers, constant resources, an orderly end.

    python -m tests.faults.serve [--minutes 5] [--clients 64] [--phase-s 20]

A real `asr serve` on loopback. First only well-formed requests from 1, 8 and ``--clients`` clients, for figures. Then all
kinds of clients of `serve_clients` at once, in two halves; after each, when all is quiet, memory, open files and threads of
the server's processes are measured. At last SIGTERM while requests run: those end with their answers, and the server within
10 s. Exits with 1 if anything is found.
"""

import argparse
import asyncio
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

from asr.corpus.audio import resample
from asr.inference.catalog import find_model
from asr.inference.recognizer import Recognizer, load
from asr.serve.streams import Stream
from tests.conftest import REAL_CORPUS
from tests.faults.serve_clients import HOST, STREAM_MESSAGE_SAMPLES, Clients, Recording
from tests.faults.soak import Usage

MODEL = "speechocean762-small"
PRECISION = "float32"
"""In bfloat16, rounding depends on the batch, and a doubtful phone may differ."""
OPTIONS: Mapping[str, float | str] = {
    "upload-mb": 2,
    "duration-s": 60,
    "request-s": 30,
    "queue": 256,
    "streams": 16,
} | {"precision": PRECISION}
LIMIT_S = 45.0
"""A client that has no answer by then hangs: the limit of a request, and that of an idle stream, are 30 s."""
STOP_S = 10.0
QUIET_S = 12.0
"""After this, threads that wait for work have ended, and connections that are kept alive."""
GROWTH_BYTES = 16 * 2**20
"""Less than one upload of 2 MB and its samples for each 8 of 64 clients."""
FAILURES = ("request failed", "stream failed", "Exception in ASGI application")
"""Lines of the log that precede the traceback of a failure. Damaged handshakes of WebSockets are logged with one too."""
FORMATS: tuple[tuple[str, int, int, dict[str, str]], ...] = (
    ("wav", 16000, 1, {}),
    ("wav", 44100, 2, {"subtype": "FLOAT"}),
    ("wav", 8000, 1, {"subtype": "ULAW"}),
    ("wav", 16000, 1, {"subtype": "PCM_24"}),
    ("flac", 16000, 1, {}),
    ("ogg", 22050, 1, {}),
    ("ogg", 48000, 1, {"subtype": "OPUS"}),
    ("mp3", 16000, 1, {}),
    ("sph", 16000, 1, {"format": "NIST", "subtype": "PCM_16"}),
)
"""Suffix, rate in Hz, channels and options of soundfile."""
WEIGHTS = {"well_formed": 10, "aligned": 2, "slow": 3, "broken_off": 4, "malformed": 4, "mutated": 40} | {
    "streamed": 1,
    "wrong_message": 2,
    "wrong_frame": 3,
    "wrong_handshake": 1,
}


class Server:
    """A running `asr serve`."""

    def __init__(self, folder: Path, options: Mapping[str, float | str] = OPTIONS) -> None:
        """Start it and wait until it answers."""
        with socket.socket() as free:
            free.bind((HOST, 0))
            self.port = free.getsockname()[1]
        given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "asr", "serve", "--model", MODEL, "--port", str(self.port), *given]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log)
        until_s = time.monotonic() + 120
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > until_s:
                raise SystemExit(f"the server does not start: {self.log.read_text()}")
            time.sleep(0.1)

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection((HOST, self.port), 1):
            return True
        return False

    def processes(self) -> list[int]:
        """The server's process and its children."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [self.process.pid, *(int(child) for path in children for child in path.read_text().split())]

    def usage(self) -> Usage:
        """Resources of all processes together."""
        memory = files = threads = 0
        for process in (Path(f"/proc/{pid}") for pid in self.processes()):
            memory += 4096 * int((process / "statm").read_text().split()[1])
            files += len(list((process / "fd").iterdir()))
            threads += len(list((process / "task").iterdir()))
        return Usage(0, memory, files, threads)

    def end(self, number: int = signal.SIGTERM) -> float:
        """Send a signal; returns the seconds until the process has ended."""
        start_s = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(60)
        return time.monotonic() - start_s


def recordings(folder: Path, recognizer: Recognizer, count: int = 27) -> list[Recording]:
    """Recordings of every format with their phones: real speech if the corpus is there, otherwise gliding tones."""
    draw, made = np.random.default_rng(0), []
    speech = [line.split()[1] for line in _lines(REAL_CORPUS / "train" / "wav.scp")[:count]]
    for number in range(count):
        suffix, rate_hz, channels, options = FORMATS[number % len(FORMATS)]
        samples = _read(REAL_CORPUS / speech[number]) if speech else _glide(draw)
        samples = resample(samples, 16000, rate_hz)
        path = folder / f"{number}.{suffix}"
        soundfile.write(path, np.stack([samples] * channels, 1), rate_hz, **options)
        transcript = recognizer.transcribe(path)
        made.append(Recording(path.name, path.read_bytes(), transcript.duration_s, transcript.symbols))
    return made


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _read(path: Path) -> np.ndarray:
    return soundfile.read(path if path.is_file() else path.with_suffix(".flac"), dtype="float32")[0]


def _glide(draw: np.random.Generator) -> np.ndarray:
    time_s = np.arange(int(16000 * draw.uniform(1, 5))) / 16000
    tone = np.sin(2 * np.pi * (300 + 200 * np.sin(draw.uniform(5, 12) * time_s)) * time_s)
    return (0.3 * tone * (np.sin(7 * time_s) > 0) + 0.01 * draw.standard_normal(len(time_s))).astype(np.float32)


def stream(folder: Path, recognizer: Recognizer) -> tuple[np.ndarray, list[str]]:
    """16-bit samples at 16 kHz, and the phones of a stream of them, recognized window by window in this process."""
    samples = soundfile.read(next(folder.glob("0.wav")), dtype="int16")[0]
    local, found = Stream(16000, recognizer.sample_rate_hz), []
    for at in range(0, len(samples), STREAM_MESSAGE_SAMPLES):
        if local.add(samples[at : at + STREAM_MESSAGE_SAMPLES].tobytes()):
            found += local.update(recognizer.transcribe(local.window(), recognizer.sample_rate_hz), False)[0]
    local.end()
    found += local.update(recognizer.transcribe(local.window(), recognizer.sample_rate_hz), True)[0]
    return samples, [phone.symbol for phone in found]


async def load_phase(clients: Clients, count: int, seconds: float, kinds: dict[str, int]) -> list[str]:
    """Run clients of these kinds, drawn by weight, ``count`` at once; returns what was found."""
    until_s = time.monotonic() + seconds
    findings: list[str] = []

    async def client() -> None:
        while time.monotonic() < until_s and len(findings) < 20:
            kind: Callable[[], Awaitable[None]] = getattr(
                clients, clients.draw.choices(*zip(*kinds.items(), strict=True))[0]
            )
            if (found := await clients.within(kind)) is not None:
                findings.append(found)

    await asyncio.gather(*(client() for _ in range(count)))
    return findings


async def figures(clients: Clients, count: int, seconds: float) -> list[str]:
    """Well-formed requests alone; prints how fast they were."""
    clients.latencies_s, clients.audio_s, start_s = [], 0.0, time.monotonic()
    findings = await load_phase(clients, count, seconds, {"well_formed": 1})
    took_s, latencies = time.monotonic() - start_s, sorted(clients.latencies_s)
    if latencies:
        rates = f"{len(latencies) / took_s:.1f} requests and {clients.audio_s / took_s:.0f} s of audio a second"
        slowest = latencies[int(0.99 * (len(latencies) - 1))]
        print(
            f"{count} clients: {rates}, latency {statistics.median(latencies):.3f} s, 99 % below {slowest:.3f} s",
            flush=True,
        )
    return findings


async def quiet(server: Server, clients: Clients, seconds: float = QUIET_S) -> Usage:
    """The server's resources when no client is there."""
    await asyncio.sleep(seconds)
    await clients.streamed()  # lets go of the threads that have been idle
    await asyncio.sleep(1)
    return server.usage()


async def ended_while_running(server: Server, clients: Clients, count: int, endless: int) -> list[str]:
    """SIGTERM while requests run and others never end: the first get their answers, and the server ends in time."""
    running = [asyncio.create_task(clients.within(clients.well_formed)) for _ in range(count)]
    incomplete = b"".join(clients.request(clients.recordings[0]))[:-9]
    waiting = [asyncio.create_task(clients.break_off([incomplete], 60)) for _ in range(endless)]
    await asyncio.sleep(0.3)
    children = server.processes()[1:]
    took_s = await asyncio.to_thread(server.end)
    findings = [f"at the end: {found}" for found in await asyncio.gather(*running) if found]
    for task in waiting:
        task.cancel()
    print(f"SIGTERM with {count} requests: ended after {took_s:.1f} s", flush=True)
    findings += [f"ended after {took_s:.1f} s, expected {STOP_S:g}"] if took_s > STOP_S else []
    return findings + [f"process {child} is left over" for child in children if Path(f"/proc/{child}").exists()]


def compare(middle: Usage, end: Usage) -> list[str]:
    """Print the resources in the middle and at the end; returns what has grown."""
    for name in ("memory", "files", "threads"):
        print(f"{name}: {getattr(middle, name)} in the middle, {getattr(end, name)} at the end")
    growth = {"memory": GROWTH_BYTES, "files": 0, "threads": 0}
    return [
        f"{name} grew by {getattr(end, name) - getattr(middle, name)}"
        for name, most in growth.items()
        if getattr(end, name) - getattr(middle, name) > most
    ]


async def run(
    server: Server, clients: Clients, count: int, phase_s: float, minutes: float, quiet_s: float, endless: int
) -> list[str]:
    """All phases; returns what was found."""
    findings: list[str] = []
    for at_once in sorted({1, 8, count}):
        findings += await figures(clients, at_once, phase_s)
    usages = []
    for _ in range(2):
        findings += await load_phase(clients, count, 30 * minutes, WEIGHTS)
        usages.append(await quiet(server, clients, quiet_s))
    findings += compare(*usages)
    findings += await ended_while_running(server, clients, min(8, count), endless)
    log = server.log.read_text()
    findings += [f"log: {log[log.index(line) :][:4000]}" for line in FAILURES if line in log]
    print(", ".join(f"{name}: {number}" for name, number in sorted(clients.statuses.items())))
    return findings


def check(
    minutes: float, count: int, phase_s: float, quiet_s: float = QUIET_S, recorded: int = 27, endless: int = 4
) -> list[str]:
    """Start a server and run all phases; returns what was found."""
    recognizer = load(find_model(MODEL), precision=PRECISION)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = recordings(folder, recognizer, recorded)
        server = Server(folder)
        try:
            clients = Clients(server.port, MODEL, files, stream(folder, recognizer), LIMIT_S)
            return asyncio.run(run(server, clients, count, phase_s, minutes, quiet_s, endless))
        finally:
            server.process.kill()


def main() -> None:
    """Run, print, and exit with 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--phase-s", type=float, default=20.0)
    args = parser.parse_args()
    findings = check(args.minutes, args.clients, args.phase_s)
    for finding in findings[:50]:
        print(f"FOUND {finding}")
    print(f"{len(findings)} findings")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
