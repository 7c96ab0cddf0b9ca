"""A connection to a Ray cluster, or to a Ray instance that is started on this machine for one command."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asr.errors import InputError

LOCAL = "local"
CLIENT = "ray://"
ANSWER_S = 8.0
"""How long a cluster has to answer."""

OBJECT_STORE_BYTES = 100 * 2**20
"""Ray's object store on this machine. Units and their results are small; audio does not pass through it."""

ALIVE_METHODS = {True: "/ray.rpc.RayletDriver/ClusterInfo", False: "/ray.rpc.NodeInfoGcsService/CheckAlive"}
"""A method of the Ray client's server (true), or of the head node, that answers an empty request."""


@contextmanager
def connect(address: str) -> Iterator[str]:
    """Connect to a cluster and yield the address of its dashboard, "" if it has none.

    ``address`` is ``host:port`` of the head node, on a machine of the cluster; ``ray://host:port``, on any machine; or
    ``local``, which starts Ray here, without a dashboard (it has more processes than a small machine has cores). A process
    that is connected to Ray already stays so.

    Raises:
        InputError: Ray is not installed, or the address does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("--cluster without Ray, expected `pip install 'asr-phones[ray]'`") from error
    if ray.is_initialized():
        yield ""
        return
    if address != LOCAL:
        _check_alive(address)
    try:
        context = _start(address)
    except Exception as error:  # Ray raises RuntimeError, ConnectionError, ValueError and its own exceptions
        raise InputError(f"{address}: {_one_line(error)}, expected a Ray cluster") from error
    try:
        yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()


def _start(address: str) -> Any:
    """Start or connect Ray, without the output of its workers: what concerns users is in results and errors."""
    import ray

    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns of a change in a later release
    # Ray prints to standard output, where results go, that a worker has died. The engine says that on standard error.
    ray._private.worker._worker_logs_enabled = False
    if address == LOCAL:
        return ray.init(include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **settings)
    return ray.init(address, **settings)


def _check_alive(address: str) -> None:
    """Refuse an address where no Ray answers. Ray itself tries for two minutes."""
    import grpc

    target = address.removeprefix(CLIENT)
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--cluster {address}, expected local, host:port or ray://host:port")
    if os.environ.get("RAY_USE_TLS", "0") != "0":  # then only Ray itself knows how to connect
        return
    with grpc.insecure_channel(target) as channel:
        try:
            channel.unary_unary(ALIVE_METHODS[address.startswith(CLIENT)])(b"", timeout=ANSWER_S)
        except grpc.RpcError as error:
            reasons = {grpc.StatusCode.UNAVAILABLE: "no answer", grpc.StatusCode.DEADLINE_EXCEEDED: "no answer"}
            reason = reasons.get(error.code(), f"no Ray ({error.code().name})")
            raise InputError(f"--cluster {address}: {reason}, expected the address of a Ray cluster") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
