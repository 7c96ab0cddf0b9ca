"""The two directions of a recurrent layer at once, each in a thread with its half of the cores, forward and backward."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

FEWEST_THREADS = 2
"""Of torch's, from which on the directions run at once; `benchmarks/threads.py` holds it against one after the other."""


class ParallelDirections(torch.autograd.Function):
    """Two directions at once, in a thread each, forward and backward; the weights are the first's, then the second's."""

    @staticmethod
    def forward(ctx: Any, runs: Sequence[Callable[..., Tensor]], hidden: Tensor, *weights: Tensor) -> Tensor:
        """Both directions' outputs side by side, (rows, 2 hidden)."""
        half = len(weights) // 2
        ctx.leaves = [_leaves(hidden, *weights[:half]), _leaves(hidden, *weights[half:])]
        ctx.outputs = run_in_parallel(
            [partial(run, *leaves) for run, leaves in zip(runs, ctx.leaves, strict=True)], grad=True
        )
        return torch.cat([output.detach() for output in ctx.outputs], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs, summed, and of the weights that want one."""
        parts = gradients[0].chunk(2, dim=1)
        triples = zip(ctx.outputs, ctx.leaves, parts, strict=True)
        one, other = run_in_parallel([partial(_gradients, *triple) for triple in triples], grad=True)
        total = None if one[0] is None or other[0] is None else one[0] + other[0]
        return None, total, *one[1:], *other[1:]


def _leaves(*tensors: Tensor) -> list[Tensor]:
    """The same values outside any graph, with gradients where they are wanted."""
    return [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors]


def _gradients(output: Tensor, leaves: list[Tensor], gradient: Tensor) -> list[Tensor | None]:
    """Gradients of the leaves that want one, None for the others."""
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    found = iter(torch.autograd.grad(output, wanted, gradient.contiguous()) if wanted else ())
    return [next(found) if leaf.requires_grad else None for leaf in leaves]


def run_in_parallel(calls: Sequence[Callable[[], T]], *, grad: bool = False) -> list[T]:
    """What two calls return, each run in a thread that has half of the cores to itself."""

    def run(call: Callable[[], T]) -> T:
        with torch.set_grad_enabled(grad):
            return call()

    workers = _workers(os.getpid(), torch.get_num_threads())
    futures = [worker.submit(run, call) for worker, call in zip(workers, calls, strict=True)]
    return [future.result() for future in futures]


@cache
def _workers(_process: int, threads: int) -> list[ThreadPoolExecutor]:
    """Two threads with half of torch's threads each, for this process: a fork has none of its parent's threads."""
    workers = [
        ThreadPoolExecutor(1, "direction", partial(_use_threads, count))
        for count in (threads - threads // 2, threads // 2)
    ]
    for worker in workers:
        worker.submit(int).result()
    torch.set_num_threads(threads)  # the last one to set it sets the default of threads to come
    return workers


def _use_threads(count: int) -> None:
    torch.get_num_threads()  # the first call in a thread sets the default, whatever was set before
    torch.set_num_threads(count)
