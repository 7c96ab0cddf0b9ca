"""A cluster of two nodes on this machine, whose workers and second node are killed while it transcribes a manifest.

    python -m tests.faults.cluster CUTS [--model speechocean762-small] [--kills 10] [--unit-utterances 50]

The nodes are Ray's own processes, one processor each, started with ``ray start``. Every second kill is SIGKILL for a
worker, the others for all processes of the second node, which is then started again. Then the transcripts must be those of
the same command without a cluster, byte for byte, and each unit must have been noted down once.
"""

import argparse
import gzip
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

START_S = 180.0
TIMEOUT_S = 7200.0
ACTOR = b"ray::Actor"


class Node:
    """The processes of a node of Ray, in a session of their own."""

    def __init__(self, folder: Path, port: int, head: bool) -> None:
        self.log = folder / ("head.log" if head else f"node-{time.monotonic_ns()}.log")
        self.client_port = free_port()
        place = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
        command = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--num-cpus=1",
            "--block",
            "--disable-usage-stats",
        ]
        command += place if head else [f"--address=127.0.0.1:{port}"]
        command += [f"--ray-client-server-port={self.client_port}"] if head else []
        command += ["--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"]
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        deadline = time.monotonic() + START_S
        while b"Ray runtime started" not in self.log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise SystemExit(f"ray start: {self.log.read_text()[-1000:]}")
            time.sleep(0.2)

    def processes(self) -> dict[int, bytes]:
        """The command lines of the node's processes, by id."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and os.getsid(int(entry.name)) == self.process.pid:
                    found[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended
        return found

    def actors(self) -> list[int]:
        """The processes that do units."""
        return [pid for pid, command in self.processes().items() if command.startswith(ACTOR)]

    def kill(self) -> None:
        """Kill all processes of the node, the first one, which would name the deaths of the others, first."""
        for pid in [self.process.pid, *self.processes()]:
            kill(pid)
        self.process.wait()


def kill(pid: int) -> bool:
    """Kill a process; return False if it has ended before."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def split_manifest(cuts: Path, folder: Path, size: int) -> list[Path]:
    """Cut a manifest into small ones, each of which is a unit."""
    with gzip.open(cuts, "rt", encoding="utf-8") as file:
        lines = file.readlines()
    paths = []
    for start in range(0, len(lines), size):
        paths.append(folder / f"part{start // size:04}.jsonl")
        paths[-1].write_text("".join(lines[start : start + size]), encoding="utf-8")
    return paths


def command(model: str, parts: Sequence[Path], out: Path, *more: str) -> list[str]:
    """The command that transcribes the manifests."""
    formats = ["--format", "json", "--format", "ctm"]
    return [
        sys.executable,
        "-m",
        "asr",
        "transcribe",
        *map(str, parts),
        "--model",
        model,
        *formats,
        "--out",
        str(out),
        *more,
    ]


def units_done(out: Path) -> list[int]:
    """The numbers of the units in the list of those that are done, in its order."""
    path = out / "done.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
    return [json.loads(line)["unit"] for line in lines]


def run_with_kills(
    call: Sequence[str], out: Path, nodes: list[Node], port: int, folder: Path, kills: int
) -> Counter[str]:
    """Run the command; after each unit or so kill a worker, or the second node. Returns the number of kills by kind."""
    draw, done, deadline = random.Random(1), Counter[str](), time.monotonic() + TIMEOUT_S
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seen = 0
    while process.poll() is None and done.total() < kills and time.monotonic() < deadline:
        time.sleep(0.1)
        kind = "node" if done.total() % 2 else "worker"
        victims = nodes[1].actors() if kind == "node" else [pid for node in nodes for pid in node.actors()]
        if len(units_done(out)) <= seen or not victims:
            continue
        time.sleep(draw.uniform(0, 2))  # in the midst of a unit
        seen = len(units_done(out))
        if kind == "node":
            nodes[1].kill()
            nodes[1] = Node(folder, port, head=False)
            done[kind] += 1
        elif kill(draw.choice(victims)):
            done[kind] += 1
        print(f"kill {done.total()} ({kind}): {seen} units are done", flush=True)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    print(errors.decode(), end="")
    if process.returncode != 0:
        raise SystemExit(f"transcribe: exit status {process.returncode}")
    return done


def differences(first: Path, second: Path) -> list[str]:
    """The result files that two folders do not have in common, byte for byte."""
    contents = [
        {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "done.jsonl"}
        for folder in (first, second)
    ]
    return sorted(name for name in {**contents[0], **contents[1]} if contents[0].get(name) != contents[1].get(name))


def check(cuts: Path, model: str, kills: int, unit_utterances: int, folder: Path) -> list[str]:
    """Transcribe a manifest here and on a cluster with kills. Returns the files that differ."""
    parts = split_manifest(cuts, folder, unit_utterances)
    here, there = folder / "here", folder / "there"
    started = time.monotonic()
    subprocess.run(command(model, parts, here), check=True, capture_output=True, timeout=TIMEOUT_S)
    print(f"without a cluster: {time.monotonic() - started:.0f} s for {len(parts)} units", flush=True)
    port = free_port()
    nodes = [Node(folder / "ray", port, head=True)]
    try:
        nodes.append(Node(folder / "ray", port, head=False))
        call = command(model, parts, there, "--cluster", f"127.0.0.1:{port}")
        done = run_with_kills(call, there, nodes, port, folder / "ray", kills)
    finally:
        for node in nodes:
            node.kill()
    numbers = units_done(there)
    print(f"{done['worker']} workers and {done['node']} nodes killed; {len(numbers)} units noted down")
    if sorted(numbers) != list(range(len(parts))):
        raise SystemExit(f"units noted down: {numbers}, expected each of {len(parts)} once")
    return differences(here, there)


def main() -> None:
    """Check, print what differs, and exit with status 1 if anything does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cuts", type=Path)
    parser.add_argument("--model", default="speechocean762-small")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--unit-utterances", type=int, default=50)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="asr-ray-") as temporary:
        folder = Path(temporary)
        (folder / "ray").mkdir()
        different = check(args.cuts, args.model, args.kills, args.unit_utterances, folder)
    print(f"different: {', '.join(different) or 'nothing'}")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
