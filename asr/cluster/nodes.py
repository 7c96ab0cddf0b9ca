"""The nodes of a cluster: how many workers they have room for, and which of them fail."""

import sys
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from asr.cluster.actor import Resources
from asr.errors import InputError

MAX_BLAMES = 3
"""A node is left out when so many of its failed units have succeeded elsewhere, and none on it meanwhile."""
KNOWN_S = 10.0
"""For so long the nodes are taken as known."""


class Nodes:
    """Nodes by id. A unit's failures are a mapping from node to the number of units that had succeeded until then.

    When a store is away for a while, units fail on all nodes: such failures have one number, and count once.
    """

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.names: dict[str, str] = {}
        """For messages."""
        self.usable: set[str] = set()
        """Those that have room for a worker, were they free."""
        self.capacity = 0
        """The number of workers that they have room for."""
        self.left_out: set[str] = set()
        self._blames: dict[str, set[int]] = defaultdict(set)
        self._successes = 0
        self._known_until = 0.0

    def refresh(self) -> bool:
        """Ask the cluster for its nodes, once in a while. Returns whether they may be others."""
        import ray

        if time.monotonic() < self._known_until:
            return False
        need, kind = (self.resources.gpus, "GPU") if self.resources.gpus else (self.resources.cpus, "CPU")
        room = {node["NodeID"]: int(node["Resources"].get(kind, 0) // need) for node in ray.nodes() if node["Alive"]}
        self.usable = {node for node, workers in room.items() if workers} - self.left_out
        self.capacity = sum(room[node] for node in self.usable)
        self._known_until = time.monotonic() + KNOWN_S
        return True

    def options(self, avoid: Collection[str] = ()) -> dict[str, Any]:
        """Ray's options for a new actor, on no node that is left out or to avoid."""
        options: dict[str, Any] = {"num_cpus": self.resources.cpus, "num_gpus": self.resources.gpus}
        if others := self.left_out.union(avoid):
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(others))})"}
        return options

    def note_failure(self, node: str, failures: dict[str, int]) -> None:
        """Add a failure on a node to those of a unit."""
        failures[node] = self._successes

    def note_success(self, node: str, failures: Mapping[str, int]) -> list[str]:
        """A unit with these failures has succeeded on a node. Returns the nodes to leave out."""
        self._successes += 1
        self._blames.pop(node, None)
        for other, successes in failures.items():
            self._blames[other].add(successes)
        return [other for other in failures if len(self._blames[other]) >= MAX_BLAMES and other not in self.left_out]

    def leave_out(self, node: str, error: InputError) -> None:
        """Leave a node out, and say so. Raises the error if there is no other."""
        self.left_out.add(node)
        self.usable.discard(node)
        if not self.usable:
            raise error
        print(f"asr: {self.names[node]}: left out ({error})", file=sys.stderr)
