"""A training epoch of TIMIT's size and recognition on a CUDA device, also relative to the rate of a matrix product.

    python -m benchmarks.gpu [--json FILE]

Two models, the recipe's default and one of 5 x 512, run in bfloat16 on random features in device memory: 3,696 utterances,
3.1 hours, in batches of the recipes' size and in larger ones. First, log-probabilities of the device and the CPU must
agree. The benchmark lists the most expensive operations of an epoch. Without a CUDA device it prints so and exits with
status 0.
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
from benchmarks.timing import build_parser, format_table, report_results

UTTERANCES, HOURS, SYMBOLS, PHONES = 3696, 3.1, 62, 38
BATCH_SECONDS, MATRIX_SIZE = (80, 640), 8192
MODELS = {"default": ["experiment=speechocean762"], "5 x 512": ["model.layers=5", "model.hidden=512"]}


def random_batches(device: torch.device, batch_seconds: float) -> list[tuple[Tensor, ...]]:
    """Return features, lengths, tokens and token lengths of an epoch, in batches of utterances of similar length."""
    generator = torch.Generator().manual_seed(0)
    mean = 100 * 3600 * HOURS / UTTERANCES
    lengths = (mean * (0.5 + torch.rand(UTTERANCES, generator=generator))).long().sort().values
    batches: list[tuple[Tensor, ...]] = []
    start = 0
    while start < UTTERANCES:
        count = max(1, int(batch_seconds * 100 / lengths[start]))
        batch_lengths = lengths[start : start + count]
        size = len(batch_lengths)
        features = torch.randn(size, int(batch_lengths[-1]), 40, generator=generator)
        tokens = torch.randint(1, SYMBOLS, (size, PHONES), generator=generator)
        tensors = (features, batch_lengths, tokens, torch.full((size,), PHONES))
        batches.append(tuple(tensor.to(device) for tensor in tensors))
        start += count
    return batches


def time_on_device(action: Callable[[], object]) -> float:
    """Measure the seconds of an action on the device, after one untimed run."""
    action()
    torch.cuda.synchronize()
    started = time.perf_counter()
    action()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def matrix_rate(device: torch.device) -> float:
    """Measure the operations per second of a plain bfloat16 matrix product."""
    matrix = torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device, dtype=torch.bfloat16)
    return 10 * 2 * MATRIX_SIZE**3 / time_on_device(lambda: [matrix @ matrix for _ in range(10)])


def operations_per_frame(config: TrainConfig, inputs: int) -> float:
    """Count the multiplications and additions of the recurrent layers per input frame, forward only."""
    hidden, layers = config.model.hidden, config.model.layers
    sizes = [inputs, *[2 * hidden] * (layers - 1)]
    return sum(2 * 2 * 4 * hidden * (size + hidden) for size in sizes)


def main() -> None:
    """Time training and recognition of each model."""
    args = build_parser(__doc__).parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing is measured")
        return
    device = torch.device("cuda")
    peak, rows, ratios = matrix_rate(device), [], {}
    sets = {seconds: random_batches(device, seconds) for seconds in BATCH_SECONDS}
    if not bfloat16_source(device):
        print("this device does not compute in bfloat16: the models run in float32")
    print(f"{torch.cuda.get_device_name()}: matrix product {peak / 1e12:.0f} TFLOP/s in bfloat16")
    for name, overrides in MODELS.items():
        config = compose(["run_dir=unused", *overrides])
        torch.manual_seed(0)
        model = AcousticModel(config.model, 40, SYMBOLS)
        check(model, device)
        model.to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        inputs = model.recurrent.layer_weights(0, "")[0].shape[1]
        for seconds, batches in sets.items():
            epoch_s = time_on_device(partial(train, model.train(), optimizer, batches))
            recognition_s = time_on_device(partial(recognize, model.eval(), batches))
            frames = sum(int(lengths.sum()) for _, lengths, _, _ in batches) / config.model.time_reduction
            operations = 3 * frames * operations_per_frame(config, inputs)
            speed, what = HOURS * 3600 / recognition_s, f"{name}, batches of {seconds} s"
            rows.append([what, f"{epoch_s:.2f}", f"{operations / epoch_s / peak:.3f}", f"{speed:.0f}"])
            ratios[f"{what}: 5 s over an epoch"] = 5 / epoch_s
            ratios[f"{what}: recognition over real time"] = speed
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            train(model.train(), optimizer, sets[BATCH_SECONDS[0]])
        print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=6, max_name_column_width=60))
    print(format_table(["", "epoch, s", "share of matrix rate", "times real time"], rows))
    report_results(ratios, {"matrix product, FLOP/s": peak}, args.json)


def check(model: AcousticModel, device: torch.device) -> None:
    """Exit if the log-probabilities of the device, in float32 or bfloat16, are not the CPU's in float32."""
    features, lengths = torch.randn(4, 200, 40), torch.tensor([200, 150, 3, 90])
    features = features * (torch.arange(200) < lengths[:, None])[..., None]
    model.eval()
    with torch.no_grad():
        on_cpu = model.cpu()(features, lengths)[0]
        for bfloat16, limit in ((False, 1e-3), (True, 5e-2)):
            with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
                on_device = model.to(device)(features.to(device), lengths.to(device))[0].cpu()
            if (worst := float((on_cpu - on_device).abs().max())) > limit:
                name = "bfloat16" if bfloat16 else "float32"
                raise SystemExit(f"in {name} CPU and device differ by {worst:.2g}, expected at most {limit:g}")


def train(model: AcousticModel, optimizer: torch.optim.Optimizer, batches: list[tuple[Tensor, ...]]) -> None:
    """Train for one epoch."""
    for features, lengths, tokens, token_lengths in batches:
        with torch.autocast("cuda", torch.bfloat16, enabled=bool(bfloat16_source(features.device))):
            log_probs, out_lengths = model(features, lengths)
        ctc_loss(log_probs, out_lengths, tokens, token_lengths)[0].mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.inference_mode()
def recognize(model: AcousticModel, batches: list[tuple[Tensor, ...]]) -> None:
    """Find the best symbol of every frame."""
    for features, lengths, _, _ in batches:
        with torch.autocast("cuda", torch.bfloat16, enabled=bool(bfloat16_source(features.device))):
            model(features, lengths)[0].argmax(dim=-1)


if __name__ == "__main__":
    main()
