"""A stand-in for Ray with machines, workers and time that are simulated, for `benchmarks.scheduler`.

The engine of bulk work (`asr.cluster.engine`) runs as it is. What it calls of Ray starts actors on simulated machines, and
what these answer comes at a simulated time. So one processor plays a cluster of thousands, and an hour lasts seconds.
"""

import heapq
import queue
import random
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from types import ModuleType
from typing import Any
from unittest.mock import patch

from asr.errors import InputError

Action = Callable[[], None]

EVERYWHERE = {"ray.io/node-id": "!in()"}
"""The selector of an actor that may use every machine."""


class RayError(Exception):
    """A worker has ended."""


class RayTaskError(RayError):
    """The code of a worker has raised an exception; never happens here."""


@dataclass(frozen=True)
class Scenario:
    """What happens on the cluster. Times in seconds.

    ``deaths`` and ``failures`` are shares of the units: their worker ends, or the store does not answer for them. From
    ``outage_s[0]`` to ``outage_s[1]``, the store answers for no unit. ``broken`` machines fail each unit, in a second.
    """

    machines: int
    workers: int
    deaths: float = 0.0
    failures: float = 0.0
    outage_s: tuple[float, float] = (0.0, 0.0)
    broken: int = 0
    start_s: float = 5.0
    unit_s: float = 60.0
    seed: int = 1


class Cluster:
    """Simulated machines, each with room for some workers, and the events to come."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.now_s = scenario, 0.0
        self.random = random.Random(scenario.seed)
        self.names = [f"machine{number}" for number in range(scenario.machines)]
        self.room = dict.fromkeys(self.names, scenario.workers)
        self.broken = set(self.names[: scenario.broken])
        self.pending: deque[Actor] = deque()
        self.deaths = self.failures = 0
        self._coming: list[tuple[float, int, Action]] = []
        self._order = count()

    def later(self, delay_s: float, action: Action) -> None:
        """Do something after a simulated time."""
        heapq.heappush(self._coming, (self.now_s + delay_s, next(self._order), action))

    def step(self) -> None:
        """Go on to the next event. Raises queue.Empty if there is none."""
        if not self._coming:
            raise queue.Empty
        self.now_s, _, action = heapq.heappop(self._coming)
        action()

    def place(self) -> None:
        """Give waiting actors room, in their order, on the first machine that has some and that they may use."""
        for actor in list(self.pending):
            machine = next((name for name in self.room if name not in actor.avoid), None)
            if machine is None:
                return
            self.pending.remove(actor)
            self.room[machine] -= 1
            if not self.room[machine]:
                del self.room[machine]
            actor.run_on(machine)

    def store_answers(self) -> bool:
        """Whether the store answers now, by chance and outage."""
        begin_s, end_s = self.scenario.outage_s
        return not begin_s <= self.now_s < end_s and self.random.random() >= self.scenario.failures


class Actor:
    """A simulated worker, with the methods of the engine's actor."""

    def __init__(self, cluster: Cluster, avoid: Collection[str]) -> None:
        self.cluster, self.avoid, self.machine, self.ended = cluster, avoid, "", False
        self.started: Future[Any] = Future()
        self.start, self.do = Remote(lambda *_: self.started), Remote(self._do)
        cluster.pending.append(self)
        cluster.place()

    def run_on(self, machine: str) -> None:
        """Start on a machine."""
        self.machine = machine
        self.cluster.later(self.cluster.scenario.start_s, lambda: self.started.set_result((machine, machine, None)))

    def end(self) -> None:
        """End, and make room for another."""
        if self.ended:
            return
        self.ended = True
        if self.machine:
            self.cluster.room[self.machine] = self.cluster.room.get(self.machine, 0) + 1
        else:
            self.cluster.pending.remove(self)
        self.cluster.place()

    def _do(self, unit: Any) -> "Future[Any]":
        cluster, answer = self.cluster, Future[Any]()
        duration_s = cluster.scenario.unit_s * cluster.random.uniform(0.5, 1.5)

        def die() -> None:
            cluster.deaths += 1
            self.end()
            answer.set_exception(RayError("the worker died"))

        def finish() -> None:
            if self.machine not in cluster.broken and cluster.store_answers():
                answer.set_result((unit, None))
            else:
                cluster.failures += 1
                answer.set_result((None, InputError("s3://bucket/shards: no answer, expected a store that answers")))

        if cluster.random.random() < cluster.scenario.deaths:
            cluster.later(duration_s * cluster.random.random(), die)
        else:
            cluster.later(1.0 if self.machine in cluster.broken else duration_s, finish)
        return answer


class Remote:
    """What ``actor.method`` is in Ray: ``remote`` calls it and returns a reference, which has a ``future``."""

    def __init__(self, call: Callable[..., "Future[Any]"]) -> None:
        self.call = call

    def remote(self, *arguments: Any) -> "Reference":
        """Call the method."""
        return Reference(self.call(*arguments))


@dataclass
class Reference:
    """What a call returns."""

    answer: "Future[Any]"

    def future(self) -> "Future[Any]":
        """The future of the answer."""
        return self.answer


class Events:
    """The engine's queue of events; waiting for one lets the simulated time go on."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.waiting = cluster, deque[Any]()

    def put(self, event: Any) -> None:
        """Add an event."""
        self.waiting.append(event)

    def get(self, timeout: float) -> Any:
        """The next event. Raises queue.Empty if nothing will happen any more."""
        while not self.waiting:
            self.cluster.step()
        return self.waiting.popleft()


@contextmanager
def simulated_ray(cluster: Cluster) -> Iterator[None]:
    """Put a simulated cluster in the place of Ray."""
    ray, exceptions = ModuleType("ray"), ModuleType("ray.exceptions")
    size = {"CPU": float(cluster.scenario.machines * cluster.scenario.workers)}

    class ActorClass:
        def __init__(self, avoid: str = "") -> None:
            self.avoid = avoid

        def options(self, label_selector: Mapping[str, str] = EVERYWHERE, **_: object) -> "ActorClass":
            return ActorClass(label_selector["ray.io/node-id"])

        def remote(self) -> Actor:
            return Actor(cluster, self.avoid.removeprefix("!in(").removesuffix(")").split(","))

    names: dict[str, Any] = {
        "exceptions": exceptions,
        "put": lambda value: value,
        "cluster_resources": lambda: size,
        "available_resources": lambda: size,
        "remote": lambda _: ActorClass(),
        "kill": lambda actor: actor.end(),
        "nodes": lambda: [
            {"NodeID": name, "Alive": True, "Resources": {"CPU": float(cluster.scenario.workers)}}
            for name in cluster.names
        ],
    }
    vars(ray).update(names)
    vars(exceptions).update({"RayError": RayError, "RayTaskError": RayTaskError})
    with patch.dict(sys.modules, {"ray": ray, "ray.exceptions": exceptions}):
        yield
