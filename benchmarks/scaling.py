"""How time and memory of training grow: with the corpus, the utterances' length, and the seconds in a batch.

    python -m benchmarks.scaling CUTS [--json FILE]

Each point is a process of its own that trains the default model of the recipe on real speech for one epoch: 48 utterances
of CUTS repeated 1 to 32 times; the same joined to utterances of 1 to 16 times the length; batches of 20 to 320 seconds.
Features are cached up to a limit that the smallest corpus fills. The exponents of time and of peak memory are fitted: the
first power of the corpus' frames is linear, and 0 is flat. Before that, each kind of joining must give as many phones as
the corpus has. The JSON's ratios are seconds a frame at the first point over those at the last: 1 is linear.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

from asr.cli.compose import compose
from asr.corpus.audio import read_audio
from asr.corpus.manifest import Utterance, read_manifest
from asr.corpus.phones import inventory
from asr.features.dataset import Dataset, plan_training
from asr.nn.acoustic_model import AcousticModel
from asr.nn.ctc import ctc_loss
from asr.system.processor import choose_precision
from benchmarks.timing import CPU, Apart, finish, parser, table

UTTERANCES, CACHE_GIB = 48, 0.003
REPEATS, JOINED, BATCH_SECONDS = (1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16), (20, 40, 80, 160, 320)


def epoch(corpus: Sequence[Utterance], batch_seconds: float) -> Callable[[], object]:
    """A training epoch for a process of its own: a call gives its frames, seconds, and peak memory in MiB."""
    torch.manual_seed(0)
    config = compose(["experiment=speechocean762", "run_dir=unused"])
    phones = inventory(config.corpus.inventory)
    dataset = Dataset(corpus, config.features, phones, CACHE_GIB)
    model = AcousticModel(config.model, config.features.bins, len(phones.symbols)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    half = choose_precision("auto", CPU).name == "bfloat16"
    plan = plan_training([u.duration_s for u in corpus], [1.0], batch_seconds, 10**6, (1, 0))

    def run() -> tuple[int, float, float]:
        started, frames = time.perf_counter(), 0
        for _ in dataset.fill_cache([1.0]):
            pass
        for batch in dataset.batches(plan, config.augment, (1, 0)):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                log_probs, lengths = model(batch.features, batch.feature_lengths)
            losses, _ = ctc_loss(log_probs, lengths, batch.tokens, batch.token_lengths)
            losses.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            frames += int(batch.feature_lengths.sum())
        return frames, time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    return run


def joined(utterances: Sequence[Utterance], count: int, folder: Path) -> list[Utterance]:
    """The utterances, ``count`` of them one after the other in each."""
    groups = [utterances[start : start + count] for start in range(0, len(utterances), count)]
    results = []
    for group in groups:
        samples = np.concatenate([read_audio(one.audio_path, 16000, one.start_s, one.duration_s) for one in group])
        path = folder / f"{count}_{group[0].id}.wav"
        soundfile.write(path, samples, 16000)
        spoken = tuple(phone for one in group for phone in one.phones)
        duration_s = len(samples) / 16000
        results.append(Utterance(f"{group[0].id}-{count}", path, 16000, duration_s, group[0].speaker, spoken))
    if sum(len(one.phones) for one in results) != sum(len(one.phones) for one in utterances):
        raise SystemExit(f"{count} utterances joined: phones were lost, expected all of them")
    return results


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The power of size that fits the values best, by least squares on a double logarithmic scale."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def main() -> None:
    """Measure every point of the three lines and fit them."""
    options = parser(__doc__)
    options.set_defaults(rounds=1)
    options.add_argument("cuts", type=Path)
    chosen = options.parse_args()
    corpus = read_manifest(chosen.cuts)[:UTTERANCES]
    with tempfile.TemporaryDirectory() as temporary:
        lines = {
            "corpus, times": {count: (corpus * count, 80.0) for count in REPEATS},
            "utterance length, times": {n: (joined(corpus, n, Path(temporary)) * 4, 80.0) for n in JOINED},
            "seconds in a batch": {seconds: (corpus * 8, float(seconds)) for seconds in BATCH_SECONDS},
        }
        rows, ratios, fits = [], {}, {}
        for line, points in lines.items():
            found = {size: measure(partial(epoch, *arguments), chosen.rounds) for size, arguments in points.items()}
            for size, (frames, seconds, peak) in found.items():
                rows.append(
                    [f"{line} {size}", f"{frames}", f"{seconds:.1f}", f"{1e6 * seconds / frames:.0f}", f"{peak:.0f}"]
                )
            sizes, (first, *_, last) = list(found), found.values()
            of_time, of_memory = (exponent(sizes, [one[place] for one in found.values()]) for place in (1, 2))
            fits[line] = {"time": of_time, "memory": of_memory}
            ratios[f"{line}: time a frame, first over last"] = (first[1] / first[0]) / (last[1] / last[0])
    print(table(["", "frames", "seconds", "microseconds a frame", "peak MiB"], rows))
    for line, fit in fits.items():
        print(f"{line}: time grows as size^{fit['time']:.2f}, memory as size^{fit['memory']:.2f}")
    finish(ratios, {"exponents": fits}, chosen.json)


def measure(make: Callable[[], Callable[[], object]], rounds: int) -> tuple[int, float, float]:
    """Frames, the least seconds of some epochs after one that does not count, and peak memory in MiB."""
    process = Apart(make)
    results = [process() for _ in range(rounds + 1)]
    process.close()
    found = [result for result in results if isinstance(result, tuple)]
    frames, _, peak = found[-1]
    return frames, min(seconds for _, seconds, _ in found[1:]), peak


if __name__ == "__main__":
    main()
