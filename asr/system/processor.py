"""The instruction sets of a processor, and the precision that a device computes in.

``ONEDNN_MAX_CPU_ISA`` makes oneDNN ignore a processor's newer instructions. The functions here take it into account.
"""

import os
import platform
from collections.abc import Mapping
from typing import NamedTuple

import torch

from asr.errors import InputError

ISA_LEVELS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16")
"""Values of ``ONEDNN_MAX_CPU_ISA`` up to the first with bfloat16. Each includes the instructions of those before."""

BFLOAT16_CUDA_CAPABILITY = (8, 0)
"""Ampere, the first generation that computes in bfloat16."""


LOADING_THREADS = 2
"""More of them hold up the thread that starts the GPU's work: Python runs one at a time."""


class PrecisionChoice(NamedTuple):
    """A precision by name, the reason for it, and a warning against it, "" if there is none."""

    name: str
    why: str
    warning: str = ""


def choose_precision(
    wanted: str, device: torch.device, capabilities: Mapping[str, object] | None = None
) -> PrecisionChoice:
    """Choose the precision to compute in: for ``auto`` bfloat16 if the device computes in it, else float32.

    Any other is kept, with a warning if the device only emulates it. ``capabilities`` replaces the result of
    `torch.cpu.get_capabilities`.
    """
    source = bfloat16_source(device, capabilities)
    if wanted == "auto" and source:
        return PrecisionChoice("bfloat16", source)
    if wanted == "auto":
        return PrecisionChoice("float32", f"{_name(device)} does not compute in bfloat16")
    if wanted == "bfloat16" and not source:
        cost = "float32 is exact and more than ten times faster"
        warning = f"precision is bfloat16, which {_name(device)} only emulates: {cost}"
        return PrecisionChoice(wanted, "set explicitly", warning)
    return PrecisionChoice(wanted, "set explicitly")


def bfloat16_source(device: torch.device, capabilities: Mapping[str, object] | None = None) -> str:
    """The hardware of a device that computes in bfloat16, "" if there is none."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"CUDA compute capability {major}.{minor}" if (major, minor) >= BFLOAT16_CUDA_CAPABILITY else ""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # oneDNN computes the products
        return ""
    capabilities = torch.cpu.get_capabilities() if capabilities is None else capabilities
    sources = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512-BF16", "bf16": "bfloat16 instructions of ARM"}
    if capabilities.get("architecture") in ("x86_64", "i386") and onednn_limit() in ISA_LEVELS[:-1]:
        return ""
    return next((f"the processor has {name}" for key, name in sources.items() if capabilities.get(key)), "")


def require_device(name: torch.device | str) -> torch.device:
    """Get a device by name and make sure that it is available.

    Raises:
        InputError: an unknown name, or no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device is {name}, expected cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):  # torch knows the names of devices that it was not built for
        raise InputError(f"device is {name}, expected cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            expected = f"at most cuda:{count - 1}" if count else "cpu: no CUDA device is available"
            raise InputError(f"device is {name}, expected {expected}")
        set_cudnn_exact()
    return device


def loading_threads(device: torch.device) -> int:
    """Threads that make batches ahead while a GPU computes; 0 on a CPU, where the model needs all processors."""
    return min(LOADING_THREADS, torch.get_num_threads()) if device.type == "cuda" else 0


def set_cudnn_exact() -> None:
    """Make cuDNN compute in float32 what is float32, and sum gradients in one order, in this process.

    By default it rounds the factors of float32 products to 10 bits (TF32).
    """
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True


def uses_avx512(capabilities: Mapping[str, object] | None = None) -> bool:
    """Whether oneDNN computes with AVX-512 on this processor."""
    capabilities = torch.cpu.get_capabilities() if capabilities is None else capabilities
    return bool(capabilities.get("avx512_bw")) and onednn_limit() not in ISA_LEVELS[: ISA_LEVELS.index("AVX512_CORE")]


def onednn_limit() -> str:
    """The newest instruction set that oneDNN may use, "" if all."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()


def describe_processor() -> str:
    """Describe the processor and its relevant instruction sets."""
    capabilities = torch.cpu.get_capabilities()
    known = {
        "avx2": "AVX2",
        "avx512_bw": "AVX-512",
        "avx512_bf16": "AVX-512-BF16",
        "amx_bf16": "AMX",
        "bf16": "ARM bf16",
    }
    present = [name for key, name in known.items() if capabilities.get(key)]
    sets = ", ".join(present) or "none of the known instruction sets"
    limit = f"; oneDNN limited to {onednn_limit()}" if onednn_limit() else ""
    name = capabilities.get("cpu_name") or platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads, {sets}{limit}"


def _name(device: torch.device) -> str:
    if device.type == "cpu":
        return "this processor" + (f" limited to {onednn_limit()}" if onednn_limit() else "")
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
