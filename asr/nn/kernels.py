"""Whether a GPU runs LSTM layers in the kernels of `asr.nn.lstm_cuda`, which cannot be imported everywhere."""

import logging
from functools import cache
from importlib.util import find_spec

import torch

from asr.system.processor import bfloat16_source

log = logging.getLogger("asr.nn")

MAX_FUSED_HIDDEN = 256
"""Most cells of a direction for which `asr.nn.lstm_cuda` is faster than cuDNN: with 256 a layer of 27 utterances takes
2.6 ms to train instead of 9.9, with 512 one of 128 utterances 17 instead of 11 (H100)."""


@cache
def has_kernels(device: torch.device) -> bool:
    """Whether `asr.nn.lstm_cuda` works on a GPU: torch brings Triton on Linux, which needs a C compiler."""
    if torch.version.cuda is None or not bfloat16_source(device) or find_spec("triton") is None:
        return False
    from asr.nn.lstm_cuda import try_out

    try:
        try_out(device)
    except Exception as error:  # Triton raises exceptions of many kinds
        reason = str(error).strip().split("\n")[0]
        log.warning("LSTM layers run in cuDNN, which is slower: Triton failed (%s); it needs a C compiler", reason)
        return False
    return True


def uses_fused(device: torch.device) -> bool:
    """Whether `asr.nn.lstm_cuda` computes on a GPU, which it does in bfloat16."""
    bfloat16 = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") == torch.bfloat16
    return bfloat16 and has_kernels(device)
