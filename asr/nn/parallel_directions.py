"""Both directions of a recurrent layer at once: one thread each, with half of the cores, in both passes."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

MIN_PARALLEL_THREADS = 2
"""The directions run in parallel if torch has at least this many threads; measured by `benchmarks/threads.py`."""


class ParallelDirections(torch.autograd.Function):
    """Two directions in parallel, forward and backward pass; the weights are the forward, then the backward direction's."""

    @staticmethod
    def forward(ctx: Any, directions: Sequence[Callable[..., Tensor]], hidden: Tensor, *weights: Tensor) -> Tensor:
        """Run both directions on (packed, input_size) and concatenate their outputs: (packed, 2 hidden)."""
        half = len(weights) // 2
        ctx.leaves = [_detach(hidden, *weights[:half]), _detach(hidden, *weights[half:])]
        ctx.outputs = run_in_parallel(
            [partial(run, *leaves) for run, leaves in zip(directions, ctx.leaves, strict=True)], grad=True
        )
        return torch.cat([output.detach() for output in ctx.outputs], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the input, summed over the directions, and of the weights that require one."""
        triples = zip(ctx.outputs, ctx.leaves, gradients[0].chunk(2, dim=1), strict=True)
        first, second = run_in_parallel([partial(_leaf_gradients, *triple) for triple in triples], grad=True)
        total = None if first[0] is None or second[0] is None else first[0] + second[0]
        return None, total, *first[1:], *second[1:]


def _detach(*tensors: Tensor) -> list[Tensor]:
    """The same values as leaves of a new graph, requiring gradients as before."""
    return [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors]


def _leaf_gradients(output: Tensor, leaves: list[Tensor], gradient: Tensor) -> list[Tensor | None]:
    """Gradient of each leaf, None if it requires none."""
    required = [leaf for leaf in leaves if leaf.requires_grad]
    computed = iter(torch.autograd.grad(output, required, gradient.contiguous()) if required else ())
    return [next(computed) if leaf.requires_grad else None for leaf in leaves]


def run_in_parallel(calls: Sequence[Callable[[], T]], *, grad: bool = False) -> list[T]:
    """Run two calls, each in a thread with half of the cores, and return their results in order."""

    def run(call: Callable[[], T]) -> T:
        with torch.set_grad_enabled(grad):
            return call()

    workers = _workers(os.getpid(), torch.get_num_threads())
    futures = [worker.submit(run, call) for worker, call in zip(workers, calls, strict=True)]
    return [future.result() for future in futures]


@cache
def _workers(_process: int, threads: int) -> list[ThreadPoolExecutor]:
    """Two threads with half of torch's threads each. One pair per process: a fork does not inherit threads."""
    workers = [
        ThreadPoolExecutor(1, "direction", partial(_set_threads, count))
        for count in (threads - threads // 2, threads // 2)
    ]
    for worker in workers:
        worker.submit(int).result()
    torch.set_num_threads(threads)  # the last call in any thread sets the default for new threads
    return workers


def _set_threads(count: int) -> None:
    torch.get_num_threads()  # the first call in a thread applies the default, even over an earlier setting
    torch.set_num_threads(count)
