"""Units of work -> outcomes, by Ray actors that load a model once.

Actors rather than Ray Data: units that write their own results need no data flow, and a pipeline of Ray Data may wait for
ever for an actor that has ended (ray-project/ray, issues 41258 and 62746).

    units    are taken from an iterable when an actor is free, so that few are in memory
    actors   fill the cluster; some more wait for room, which Ray's autoscaler takes as demand
    deaths   the unit of an actor that ends, alone or with its node, goes to another actor
    nodes    a unit that fails is tried on another node; a node whose units succeed elsewhere is left out
"""

import os
import queue
import sys
import time
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from asr.cluster.actor import Actor, Resources, installed_releases, kill
from asr.cluster.connection import connect
from asr.cluster.nodes import Nodes
from asr.errors import InputError
from asr.inference.units import Make, Outcome, R, Run, U, WorkersEndedError

MAX_DEATHS = 5
"""A unit whose actors have ended so often is given up: it may be what ends them. So are starts, one after another."""
WAITING_S = 30.0
"""After so long without an actor, a line says so. For so long a worker on another node is awaited."""
POLL_S = 1.0


@contextmanager
def open_cluster(address: str, workers: int = 0, gpus: int = 0) -> Iterator[Run]:
    """Connect to a cluster, name its dashboard on standard error, and yield what does units there.

    Raises:
        InputError: as `asr.cluster.connection.connect`.
    """
    with connect(address) as dashboard:
        if dashboard:
            print(f"asr: dashboard {dashboard}", file=sys.stderr)
        yield partial(run_on_cluster, resources=Resources(1, gpus, workers))


def run_on_cluster(
    make: Make[U, R], units: Iterable[U], total: int, resources: Resources | None = None
) -> Generator[Outcome[U, R]]:
    """Do units on the cluster that this process is connected to, and yield their outcomes as they finish, each once.

    ``total`` is their number, or more: there are no more workers than that, except one for units that failed on all nodes
    with workers. ``make`` and units are pickled. A unit may be done twice, the second time after its actor has ended: it
    must write the same files, whole or not at all. An exception that is not an `InputError` ends the run.

    Raises:
        InputError: no machine can do the work.
    """
    if total:
        yield from _Run(make, units, total, resources or Resources())


@dataclass(eq=False)
class _Task:
    number: int
    unit: Any
    deaths: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    """As `Nodes` counts them."""
    error: InputError | None = None


@dataclass(eq=False)
class _Worker:
    actor: Any
    node: str = ""
    """The id of its node, "" until it has started."""
    task: _Task | None = None


class _Run:
    """One run over units."""

    def __init__(self, make: Make[Any, Any], units: Iterable[Any], total: int, resources: Resources) -> None:
        import ray

        self.units, self.exhausted, self.left = enumerate(units), False, total
        self.interrupted: deque[_Task] = deque()
        """Units whose workers have ended."""
        self.failed: list[_Task] = []
        """Units that have failed on some nodes."""
        self.nodes = Nodes(resources)
        self.workers: set[_Worker] = set()
        self.free: deque[_Worker] = deque()
        self.ready: Counter[str] = Counter()
        """The number of workers by node, without those that are starting."""
        self.busy = self.failed_starts = 0
        self.elsewhere: tuple[_Worker, float] | None = None
        """A worker asked for on another node, for units that failed on all nodes with workers, and until when."""
        self.deaths: Counter[str] = Counter()
        self.events: queue.SimpleQueue[tuple[_Worker, Any]] = queue.SimpleQueue()
        self.make, self.releases, self.said = ray.put(make), installed_releases(), time.monotonic()

    def __iter__(self) -> Iterator[Outcome[Any, Any]]:
        """The outcomes of all units."""
        try:
            while True:
                yield from self._hire()
                self._assign()
                if self.exhausted and not (self.busy or self.interrupted or self._hire_elsewhere()):
                    yield from self._give_up_failed(self.ready)
                    if not self.failed:
                        return
                yield from self._handle_event()
        finally:
            for worker in self.workers:
                kill(worker.actor)
            for node, count in self.deaths.items():
                print(f"asr: {self.nodes.names[node]}: {count} workers ended, others did their units", file=sys.stderr)

    def _hire(self) -> Iterator[Outcome[Any, Any]]:
        """Start actors up to what the cluster and the units that are left have room for."""
        if self.nodes.refresh():
            yield from self._give_up_failed()
        most = self.nodes.resources.workers or self.nodes.capacity + max(1, self.ready.total() // 2)
        for _ in range(len(self.workers), min(most, self.left)):
            self._start_worker()

    def _hire_elsewhere(self) -> bool:
        """Ask for a worker on a node without any, if units failed on all others. Returns whether to wait for it."""
        if not self.failed or not self.nodes.usable - self.ready.keys():
            return False
        if self.elsewhere is None:
            print(
                "asr: units failed on all machines with workers; waiting for a worker on another one", file=sys.stderr
            )
            self.elsewhere = self._start_worker(self.ready.keys()), time.monotonic() + WAITING_S
        worker, until = self.elsewhere
        return worker in self.workers and time.monotonic() < until

    def _start_worker(self, avoid: Collection[str] = ()) -> _Worker:
        import ray

        worker = _Worker(ray.remote(Actor).options(**self.nodes.options(avoid)).remote())
        self.workers.add(worker)
        self._follow(worker, worker.actor.start.remote(self.make, self.releases, os.getcwd()))
        return worker

    def _follow(self, worker: _Worker, reference: Any) -> None:
        reference.future().add_done_callback(lambda done: self.events.put((worker, done)))

    def _assign(self) -> None:
        """Give units to free workers."""
        idle = []
        while self.free and (self.interrupted or self.failed or not self.exhausted):
            worker = self.free.popleft()
            if worker not in self.workers:
                continue
            worker.task = self._take(worker.node)
            if worker.task is None:
                idle.append(worker)
            else:
                self.busy += 1
                self._follow(worker, worker.actor.do.remote(worker.task.unit))
        self.free.extend(idle)

    def _take(self, node: str) -> _Task | None:
        """A unit that this node may do."""
        if self.interrupted:
            return self.interrupted.popleft()
        for index, task in enumerate(self.failed):
            if node not in task.failures:
                return self.failed.pop(index)
        for number, unit in self.units:
            return _Task(number, unit)
        self.exhausted = True
        return None

    def _give_up_failed(self, nodes: Collection[str] = ()) -> Iterator[Outcome[Any, Any]]:
        """The units that have failed on all nodes, or on all of some."""
        wanted = set(nodes) or self.nodes.usable
        tasks, self.failed = self.failed, []
        for task in tasks:
            if wanted <= task.failures.keys():
                yield self._close(task, None, task.error)
            else:
                self.failed.append(task)

    def _handle_event(self) -> Iterator[Outcome[Any, Any]]:
        """Wait for what happens next."""
        from ray.exceptions import RayError, RayTaskError

        try:
            worker, done = self.events.get(timeout=POLL_S)
        except queue.Empty:
            self._say_if_idle()
            return
        if worker not in self.workers:
            return
        error = done.exception()
        if isinstance(error, RayError) and not isinstance(error, RayTaskError):
            yield from self._replace(worker, error)
        elif error is not None:
            raise error
        elif worker.node:
            yield from self._finish(worker, *done.result())
        else:
            self._welcome(worker, *done.result())

    def _welcome(self, worker: _Worker, node: str, name: str, error: InputError | None) -> None:
        """A worker has started."""
        self.nodes.names[node], self.failed_starts = name, 0
        if self.elsewhere and self.elsewhere[0] is worker:
            self.elsewhere = None
        if node in self.nodes.left_out:  # it was asked for before
            self._dismiss(worker)
            return
        worker.node = node
        self.ready[node] += 1
        self.free.append(worker)
        if error is not None:
            self._leave_out(node, error)

    def _finish(self, worker: _Worker, result: Any, error: InputError | None) -> Iterator[Outcome[Any, Any]]:
        """A worker has done its unit, or failed to."""
        task = self._release(worker)
        self.free.append(worker)
        assert task is not None
        if error is None:
            yield self._close(task, result, None)
            for node in self.nodes.note_success(worker.node, task.failures):
                assert task.error is not None
                self._leave_out(node, task.error)
            return
        task.error = error
        self.nodes.note_failure(worker.node, task.failures)
        if self.nodes.usable <= task.failures.keys():
            yield self._close(task, None, error)
        else:
            self.failed.append(task)

    def _replace(self, worker: _Worker, error: Exception) -> Iterator[Outcome[Any, Any]]:
        """A worker has ended, or cannot be reached and is taken for dead."""
        reason = " ".join(str(error).split())[:200]
        task = self._dismiss(worker)
        if not worker.node:
            self.failed_starts += 1
            if self.failed_starts == MAX_DEATHS:
                raise InputError(f"{MAX_DEATHS} workers ended while they started ({reason}), expected one to stay")
            return
        self.deaths[worker.node] += 1
        if task is None:
            return
        task.deaths += 1
        if task.deaths == MAX_DEATHS:
            message = f"{MAX_DEATHS} workers ended while they did it ({reason}), expected one to stay"
            yield self._close(task, None, WorkersEndedError(message))
        else:
            self.interrupted.append(task)

    def _release(self, worker: _Worker) -> _Task | None:
        task, worker.task = worker.task, None
        self.busy -= task is not None
        return task

    def _dismiss(self, worker: _Worker) -> _Task | None:
        """Do without a worker. Returns its unit, if it has one."""
        self.workers.discard(worker)
        kill(worker.actor)
        if worker.node:
            self.ready[worker.node] -= 1
            if self.ready[worker.node] == 0:
                del self.ready[worker.node]
        return self._release(worker)

    def _close(self, task: _Task, result: Any, error: InputError | None) -> Outcome[Any, Any]:
        self.left -= 1
        return Outcome(task.number, task.unit, result, error)

    def _leave_out(self, node: str, error: InputError) -> None:
        """Use a node no more. Raises the error if there is no other."""
        self.nodes.leave_out(node, error)
        for worker in [each for each in self.workers if each.node == node]:
            task = self._dismiss(worker)
            if task is not None:
                self.interrupted.append(task)

    def _say_if_idle(self) -> None:
        """Say once in a while that no worker finds room."""
        import ray

        if self.ready:
            self.said = time.monotonic()
        elif time.monotonic() - self.said > WAITING_S:
            self.said = time.monotonic()
            free, total = ray.available_resources().get("CPU", 0), ray.cluster_resources().get("CPU", 0)
            print(f"asr: no worker yet: {free:g} of {total:g} CPUs of the cluster are free", file=sys.stderr)
