"""What a device computes in: the instruction sets at hand, and the precision that goes with them.

oneDNN can be told by ``ONEDNN_MAX_CPU_ISA`` to leave out a processor's newer instructions; what is said here follows it.
"""

import os
import platform
from collections.abc import Mapping
from typing import NamedTuple

import torch

LIMITS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16")
"""Values of ``ONEDNN_MAX_CPU_ISA`` up to the first that has bfloat16, each with the instructions of those before."""

FIRST_CUDA_CAPABILITY = (8, 0)
"""Ampere, the first generation that computes in bfloat16."""


class Choice(NamedTuple):
    """A precision by name, in words why it was chosen, and what speaks against it, "" where nothing does."""

    name: str
    why: str
    warning: str = ""


def choose_precision(wanted: str, device: torch.device, has: Mapping[str, object] | None = None) -> Choice:
    """The precision to compute in: ``auto`` is bfloat16 where the device computes in it, else float32.

    Any other is taken as it is, with a warning where the device only emulates it. ``has`` stands in for the processor's
    abilities, as `torch.cpu.get_capabilities` gives them.
    """
    source = bfloat16_source(device, has)
    if wanted == "auto" and source:
        return Choice("bfloat16", source)
    if wanted == "auto":
        return Choice("float32", f"{_name(device)} does not compute in bfloat16")
    if wanted == "bfloat16" and not source:
        cost = "float32 is exact and more than ten times faster"
        return Choice(wanted, "as asked for", f"precision is bfloat16, which {_name(device)} only emulates: {cost}")
    return Choice(wanted, "as asked for")


def bfloat16_source(device: torch.device, has: Mapping[str, object] | None = None) -> str:
    """What in a device computes in bfloat16, "" where nothing does."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"CUDA compute capability {major}.{minor}" if (major, minor) >= FIRST_CUDA_CAPABILITY else ""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # whose products these are
        return ""
    has = torch.cpu.get_capabilities() if has is None else has
    sources = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512-BF16", "bf16": "bfloat16 instructions of ARM"}
    if has.get("architecture") in ("x86_64", "i386") and onednn_limit() in LIMITS[:-1]:
        return ""
    return next((f"the processor has {name}" for key, name in sources.items() if has.get(key)), "")


def uses_avx512(has: Mapping[str, object] | None = None) -> bool:
    """Whether oneDNN computes with AVX-512 here."""
    has = torch.cpu.get_capabilities() if has is None else has
    return bool(has.get("avx512_bw")) and onednn_limit() not in LIMITS[: LIMITS.index("AVX512_CORE")]


def onednn_limit() -> str:
    """The instruction set that oneDNN is told to stop at, "" where it may use them all."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()


def describe_processor() -> str:
    """The processor and its instruction sets, those that matter here, in words."""
    has = torch.cpu.get_capabilities()
    known = {
        "avx2": "AVX2",
        "avx512_bw": "AVX-512",
        "avx512_bf16": "AVX-512-BF16",
        "amx_bf16": "AMX",
        "bf16": "ARM bf16",
    }
    sets = ", ".join(name for key, name in known.items() if has.get(key)) or "none of the known instruction sets"
    limit = f"; oneDNN limited to {onednn_limit()}" if onednn_limit() else ""
    name = has.get("cpu_name") or platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads, {sets}{limit}"


def _name(device: torch.device) -> str:
    if device.type == "cpu":
        return "this processor" + (f" limited to {onednn_limit()}" if onednn_limit() else "")
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
