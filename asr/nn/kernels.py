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
def has_kernels(device: torch.device, hidden: int, directions: int) -> bool:
    """Whether layers of this size work on a GPU in `asr.nn.lstm_cuda`, which is tried out and compared with torch once.

    torch brings Triton on Linux. A GPU on which the kernels fail or err is left to cuDNN, with a warning.
    """
    if torch.version.cuda is None or not bfloat16_source(device) or find_spec("triton") is None:
        return False
    try:
        from asr.nn.lstm_cuda import check

        check(device, hidden, directions)
    except Exception as error:  # Triton raises exceptions of many kinds
        reason = str(error).strip().split("\n")[0]
        hint = "" if isinstance(error, ArithmeticError) else "; Triton needs a C compiler"
        log.warning("LSTM layers run in cuDNN, which is slower: the kernels in Triton failed (%s)%s", reason, hint)
        return False
    return True


def uses_fused(device: torch.device, hidden: int, directions: int) -> bool:
    """Whether `asr.nn.lstm_cuda` computes layers of this size on a GPU, which it does in bfloat16."""
    bfloat16 = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") == torch.bfloat16
    return bfloat16 and hidden <= MAX_FUSED_HIDDEN and has_kernels(device, hidden, directions)
