"""A Slurm cluster of the tests' own, of this machine alone: its daemons in a temporary folder, gone afterwards."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONFIGURATION = """\
ClusterName=asr
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def start_slurm() -> Iterator[dict[str, str]]:
    """Start the daemons and yield the environment in which `sbatch` finds them; skip the test if Slurm is not installed."""
    if not all(map(shutil.which, ("munged", "slurmctld", "slurmd", "sbatch"))) or os.geteuid() != 0:
        pytest.skip("SLURM IS NOT TESTED: not root, or no Slurm (Debian: apt-get install slurm-wlm munge)")
    folder = Path(tempfile.mkdtemp(prefix="asr-slurm-", dir="/tmp"))
    folder.chmod(0o755)  # munge refuses a socket that others cannot reach
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    ports = {"controller_port": free_port(), "node_port": free_port()}
    text = CONFIGURATION.format(host=host, folder=folder, cpus=os.cpu_count(), **ports)
    (folder / "slurm.conf").write_text(text)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = [
        f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "key-file", "log-file", "seed-file")
    ]
    daemons = [
        ["munged", "--foreground", "--force", f"--pid-file={folder}/munge.pid", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    running = []
    try:
        for command in daemons:
            with (folder / f"{command[0]}.log").open("w") as log:
                running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            until = time.monotonic() + 30
            while command[0] == "munged" and not (folder / "munge.socket").exists() and time.monotonic() < until:
                time.sleep(0.1)
        until = time.monotonic() + 60
        while subprocess.run(["srun", "-n1", "true"], env=environment, capture_output=True, timeout=120).returncode:
            assert time.monotonic() < until, (folder / "slurmctld.log").read_text()
            time.sleep(1)
        yield environment
    finally:
        subprocess.run(["scancel", "--me", "--full"], env=environment, capture_output=True, timeout=60)
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
