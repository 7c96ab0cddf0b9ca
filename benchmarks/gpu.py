"""On a CUDA device: the time of a TIMIT-size epoch, the speed of recognition, and what part of the matrix rate that is.

    python -m benchmarks.gpu [--json FILE]

Two models, the recipe's default and one of 5 x 512, in bfloat16, on features of noise that lie on the device, in TIMIT's
size: 3,696 utterances, 3.1 hours. Before anything is timed the device's log-probabilities must be the CPU's. The most
costly operations of an epoch are listed. Without a CUDA device it says so and ends with status 0.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from asr.cli.compose import compose
from asr.config import TrainConfig
from asr.nn.acoustic_model import AcousticModel
from asr.nn.ctc import ctc_loss
from asr.system.processor import bfloat16_source
from benchmarks.timing import finish, parser, table

UTTERANCES, HOURS, SYMBOLS, PHONES = 3696, 3.1, 62, 38
BATCH_SECONDS, MATRIX_SIZE = 640, 8192
MODELS = {"default": ["experiment=speechocean762"], "5 x 512": ["model.layers=5", "model.hidden=512"]}


def made_batches(device: torch.device) -> list[tuple[Tensor, ...]]:
    """Features, lengths, tokens and token lengths of an epoch, in batches of similar length."""
    generator = torch.Generator().manual_seed(0)
    mean = 100 * 3600 * HOURS / UTTERANCES
    lengths = (mean * (0.5 + torch.rand(UTTERANCES, generator=generator))).long().sort().values
    batches: list[tuple[Tensor, ...]] = []
    start = 0
    while start < UTTERANCES:
        count = max(1, int(BATCH_SECONDS * 100 / lengths[start]))
        some = lengths[start : start + count]
        features = torch.randn(len(some), int(some[-1]), 40, generator=generator)
        tokens = torch.randint(1, SYMBOLS, (len(some), PHONES), generator=generator)
        parts = (features, some, tokens, torch.full((len(some),), PHONES))
        batches.append(tuple(part.to(device) for part in parts))
        start += count
    return batches


def timed(action: Callable[[], object]) -> float:
    """Seconds of an action on the device, after one that does not count."""
    action()
    torch.cuda.synchronize()
    started = time.perf_counter()
    action()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def matrix_rate(device: torch.device) -> float:
    """Operations a second of a plain bfloat16 matrix product."""
    matrix = torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device, dtype=torch.bfloat16)
    return 10 * 2 * MATRIX_SIZE**3 / timed(lambda: [matrix @ matrix for _ in range(10)])


def operations_per_frame(config: TrainConfig, inputs: int) -> float:
    """Multiplications and additions of the recurrent layers for a frame of theirs, forward."""
    hidden, layers = config.model.hidden, config.model.layers
    sizes = [inputs, *[2 * hidden] * (layers - 1)]
    return sum(2 * 2 * 4 * hidden * (size + hidden) for size in sizes)


def main() -> None:
    """Train and recognize with each model."""
    chosen = parser(__doc__).parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device is at hand: nothing is measured")
        return
    device = torch.device("cuda")
    batches, peak, rows, ratios = made_batches(device), matrix_rate(device), [], {}
    if not bfloat16_source(device):
        print("this device does not compute in bfloat16: the models run in float32")
    print(f"{torch.cuda.get_device_name()}: matrix product {peak / 1e12:.0f} TFLOP/s in bfloat16")
    for name, overrides in MODELS.items():
        config = compose(["run_dir=unused", *overrides])
        torch.manual_seed(0)
        model = AcousticModel(config.model, 40, SYMBOLS)
        check(model, device)
        model.to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        epoch_s = timed(partial(train, model, optimizer, batches))
        model.eval()
        recognition_s = timed(partial(recognize, model, batches))
        frames = sum(int(lengths.sum()) for _, lengths, _, _ in batches) / config.model.time_reduction
        done = 3 * frames * operations_per_frame(config, model.recurrent.layer_weights(0, "")[0].shape[1])
        speed = HOURS * 3600 / recognition_s
        rows.append([name, f"{epoch_s:.2f}", f"{done / epoch_s / peak:.3f}", f"{speed:.0f}"])
        ratios[f"{name}: 5 s over an epoch"] = 5 / epoch_s
        ratios[f"{name}: recognition over real time"] = speed
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            train(model.train(), optimizer, batches)
        print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=6, max_name_column_width=60))
    print(table(["", "epoch, s", "of matrix rate", "times real time"], rows))
    finish(ratios, {"matrix product, FLOP/s": peak}, chosen.json)


def check(model: AcousticModel, device: torch.device) -> None:
    """Refuse to go on where the device and the CPU give different log-probabilities."""
    features, lengths = torch.randn(4, 200, 40), torch.tensor([200, 150, 3, 90])
    features = features * (torch.arange(200) < lengths[:, None])[..., None]
    model.eval()
    with torch.inference_mode():
        there = model.to(device)(features.to(device), lengths.to(device))[0].cpu()
        here = model.cpu()(features, lengths)[0]
    if (worst := float((here - there).abs().max())) > 1e-2:
        raise SystemExit(f"CPU and device differ by {worst:.2g}, expected at most 1e-2")


def train(model: AcousticModel, optimizer: torch.optim.Optimizer, batches: list[tuple[Tensor, ...]]) -> None:
    """An epoch."""
    for features, lengths, tokens, token_lengths in batches:
        with torch.autocast("cuda", torch.bfloat16, enabled=bool(bfloat16_source(features.device))):
            log_probs, out_lengths = model(features, lengths)
        ctc_loss(log_probs, out_lengths, tokens, token_lengths)[0].mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.inference_mode()
def recognize(model: AcousticModel, batches: list[tuple[Tensor, ...]]) -> None:
    """Best symbols of every frame."""
    for features, lengths, _, _ in batches:
        with torch.autocast("cuda", torch.bfloat16, enabled=bool(bfloat16_source(features.device))):
            model(features, lengths)[0].argmax(dim=-1)


if __name__ == "__main__":
    main()
