"""A connection to a Ray cluster, or to a Ray instance that is started on this machine for one command."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
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


ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or Ray warns of a change in a later release
    "RAY_NUM_REDIS_GET_RETRIES": "3",  # with a wrong token, by default 20 seconds
    "RAY_worker_niceness": "0",  # that of the command; by default workers get the processors that no one else wants
}
"""Ray's settings for this process and what it starts. Those that are set already stay."""


@contextmanager
def connect(address: str) -> Iterator[str]:
    """Connect to a cluster and yield the address of its dashboard, "" if it has none.

    ``address`` is ``host:port`` of the head node, on a machine of the cluster; ``ray://host:port``, on any machine; or
    ``local``, which starts Ray here, without a dashboard (it has more processes than a small machine has cores). A process
    that is connected to Ray already stays so.

    Raises:
        InputError: Ray is not installed, or the address does not answer.
    """
    if find_spec("ray") is None:
        raise InputError("--cluster without Ray, expected `pip install 'asr-phones[ray]'`")
    if "ray" not in sys.modules:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    if address != LOCAL:
        _check_alive(address)
    import ray

    if ray.is_initialized():
        yield ""
        return
    try:
        context = _start(address)
    except Exception as error:  # Ray raises RuntimeError, ConnectionError, ValueError and its own exceptions
        raise InputError(f"--cluster {address}: {_describe(error)}, expected a Ray cluster of this release") from error
    try:
        yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()


def _start(address: str) -> Any:
    """Start or connect Ray, without the output of its workers: what concerns users is in results and errors."""
    import ray

    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    # Ray prints to standard output, where results go, that a worker has died. The engine says that on standard error.
    vars(ray._private.worker)["_worker_logs_enabled"] = False
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
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray finds the token, but does not look for it unasked
                return
            silent = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            reason = "no answer" if silent else f"no Ray ({error.code().name})"
            raise InputError(f"--cluster {address}: {reason}, expected the address of a Ray cluster") from error


def _describe(error: Exception) -> str:
    """An error on one line: the last cause, which says most."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return " ".join(str(error).split())[:200]
