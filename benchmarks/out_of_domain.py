"""PER and speed of our models, PocketSphinx and Whisper on the same sets, in the same run, as a markdown table.

    python -m benchmarks.out_of_domain CUTS... [--model NAME_OR_FOLDER ...] [--pocketsphinx PYTHON] [--whisper PYTHON]
        [--limit N] [--rounds 1] [--json FILE]

Runs the bundled models and those given, by best path, and by beam search if the model has an n-gram. Each PYTHON belongs
to an environment with the peer (see benchmarks/peers/pocketsphinx_allphone.py and benchmarks/peers/whisper_words.py). CUTS
are manifests whose references are ARPAbet's 39 phones; all systems are scored in these phones. ``--limit`` takes N
utterances of each set, evenly spaced, for all systems.

All systems read the same files: one per utterance, 16-bit mono at 16 kHz. Speed is seconds of audio per second of a
complete process, start-up included, and per second of processor time, which suffers less from other work on the machine.
The systems take turns, ``--rounds`` times; the table has medians. Ratios compare the peers with the first of our systems.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import soundfile

from asr.corpus.audio import SAMPLE_RATE_HZ, read_audio
from asr.corpus.manifest import Utterance, read_manifest
from asr.corpus.phones import inventory
from asr.decoding.beam_search import SETTINGS_FILE
from asr.errors import InputError
from asr.inference.catalog import bundled_models, display_name, find_model
from asr.scoring.error_rate import confidence_interval
from asr.scoring.results import Evaluation, evaluate_hypotheses, percent, to_json
from benchmarks.timing import build_parser, report_results

PHONES = inventory("arpabet39")
CONVENTION = "plain"
PEERS = {"PocketSphinx 5, allphone": "pocketsphinx_allphone.py", "Whisper tiny.en and CMUdict": "whisper_words.py"}


class Transcribed(NamedTuple):
    """What a system says about a file; ``words`` and those of them without phones are empty for phone recognizers."""

    phones: list[str]
    words: Sequence[str] = ()
    unknown: Sequence[str] = ()


@dataclass(frozen=True)
class System:
    """A command to which the folder of audio is appended, and the function that reads its output, by file name."""

    name: str
    command: Sequence[object]
    read: Callable[[str], dict[str, Transcribed]]


@dataclass(frozen=True)
class EvaluationSet:
    """Utterances of a manifest, ``available`` of them before the limit."""

    name: str
    utterances: Sequence[Utterance]
    available: int

    @property
    def audio_s(self) -> float:
        """Duration of all utterances in seconds."""
        return sum(utterance.duration_s for utterance in self.utterances)


@dataclass(frozen=True)
class Result:
    """A system on a set: its scores, its words and those of them without phones, and the median times of a run."""

    evaluated: EvaluationSet
    system: str
    evaluation: Evaluation
    words: int
    unknown: Mapping[str, int]
    wall_s: float
    processor_s: float


def read_lines(output: str) -> dict[str, Transcribed]:
    """Read the output of `asr transcribe`: a path, a tab and phones per line."""
    lines = (line.partition("\t") for line in output.splitlines())
    return {Path(path).name: Transcribed(phones.split()) for path, _, phones in lines}


def read_json_lines(output: str) -> dict[str, Transcribed]:
    """Read the output of a peer: an object per line."""
    lines = map(json.loads, output.splitlines())
    return {line["file"]: Transcribed(line["phones"], line.get("words", ()), line.get("unknown", ())) for line in lines}


def own_systems(models: Iterable[Path]) -> list[System]:
    """Each model by best path, and by beam search if it has an n-gram."""
    systems = []
    for model in models:
        transcribe = [sys.executable, "-m", "asr", "transcribe", "--model", model, "--notation", "arpabet", "--decoder"]
        systems.append(System(f"{display_name(model)}, best path", [*transcribe, "best_path"], read_lines))
        if (model / SETTINGS_FILE).is_file():
            systems.append(System(f"{display_name(model)}, n-gram", [*transcribe, "beam"], read_lines))
    return systems


def read_set(cuts: Path, limit: int | None) -> EvaluationSet:
    """Read a manifest, named after its folder and split; take ``limit`` utterances of it, evenly spaced.

    Raises:
        InputError: the manifest cannot be used, or a reference has other phones than ARPAbet's 39.
    """
    utterances = read_manifest(cuts)
    for utterance in utterances:
        PHONES.encode(utterance.phones, f"{utterance.id} of {cuts}")
    name = f"{cuts.absolute().parent.name} {cuts.name.split('.')[0].removeprefix('cuts_')}"
    return EvaluationSet(name, take_evenly(utterances, limit), len(utterances))


def take_evenly(utterances: Sequence[Utterance], limit: int | None) -> list[Utterance]:
    """Take ``limit`` utterances at equal distances, all of them if there are fewer or if there is no limit."""
    count = len(utterances) if limit is None else min(limit, len(utterances))
    return [utterances[index * len(utterances) // count] for index in range(count)]


def write_audio(utterances: Sequence[Utterance], folder: Path) -> dict[str, Utterance]:
    """Write a 16-bit file at 16 kHz for each utterance. Returns the utterances by file name."""
    files = {f"{index:05d}.wav": utterance for index, utterance in enumerate(utterances)}
    for name, utterance in files.items():
        samples = read_audio(utterance.audio_path, SAMPLE_RATE_HZ, utterance.start_s, utterance.duration_s)
        integers = np.clip(np.rint(samples * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
        soundfile.write(folder / name, integers, SAMPLE_RATE_HZ)
    return files


def run_system(system: System, folder: Path) -> tuple[str, float, float]:
    """Run a system on a folder. Returns its output, and the seconds of the clock and of the processors that it took.

    Raises:
        InputError: the command cannot be run, or fails.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        done = subprocess.run([*map(str, system.command), folder], capture_output=True, text=True)
    except OSError as error:
        python, reason = system.command[0], error.strerror
        raise InputError(f"{system.name}: {python} cannot be run ({reason}), expected a Python") from error
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        last_line = (done.stderr.splitlines() or ["no message"])[-1]
        raise InputError(f"{system.name}: exit status {done.returncode} ({last_line}), expected 0")
    print(f"{system.name}: {wall_s:.1f} s", file=sys.stderr, flush=True)
    return done.stdout, wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(evaluated: EvaluationSet, systems: Sequence[System], rounds: int) -> list[Result]:
    """Run all systems on a set, interleaved, and score the output of the first round."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = write_audio(evaluated.utterances, folder)
        runs = [[run_system(system, folder) for system in systems] for _ in range(rounds)]
    return [
        score_system(evaluated, system, files, own_runs)
        for system, own_runs in zip(systems, zip(*runs, strict=True), strict=True)
    ]


def score_system(
    evaluated: EvaluationSet, system: System, files: Mapping[str, Utterance], runs: Sequence[tuple[str, float, float]]
) -> Result:
    """Score the output of a system's first run under `CONVENTION`.

    Raises:
        InputError: the system has left out a file, or says other phones than ARPAbet's 39.
    """
    outputs, wall_s, processor_s = zip(*runs, strict=True)
    transcribed = system.read(outputs[0])
    if transcribed.keys() != files.keys():
        missing = len(files.keys() - transcribed.keys())
        raise InputError(f"{system.name} on {evaluated.name}: {missing} of {len(files)} files missing, expected all")
    pairs = []
    for name, utterance in files.items():
        PHONES.encode(transcribed[name].phones, f"{utterance.id} by {system.name}")
        pairs.append((utterance.id, utterance.speaker, utterance.phones, transcribed[name].phones))
    unknown = Counter(word for result in transcribed.values() for word in result.unknown)
    words = sum(len(result.words) for result in transcribed.values())
    evaluation = evaluate_hypotheses(pairs, [CONVENTION])
    return Result(evaluated, system.name, evaluation, words, unknown, median(wall_s), median(processor_s))


def markdown_table(results: Sequence[Result]) -> list[str]:
    """One line for each system on each set. Speeds are seconds of audio per second."""
    header = ["set", "system", "PER, %", "95 % interval", "S", "D", "I", "N", "utterances", "speakers"]
    header += ["times real time", "per processor second"]
    rows = [header, ["---"] * len(header)]
    for result in results:
        evaluated, scored = result.evaluated, result.evaluation.headline
        interval, total, used = confidence_interval(scored), scored.total, len(evaluated.utterances)
        counts = (total.substitutions, total.deletions, total.insertions, total.reference_phones)
        rows.append([evaluated.name, result.system, percent(total.per)])
        rows[-1].append(" to ".join(map(percent, interval)) if interval else "")
        rows[-1] += [f"{count:,}" for count in counts]
        rows[-1] += [f"{used} of {evaluated.available}" if used < evaluated.available else f"{used}"]
        rows[-1] += [f"{len(scored.speakers)}"]
        rows[-1] += [f"{evaluated.audio_s / seconds:.1f}" for seconds in (result.wall_s, result.processor_s)]
    return [f"| {' | '.join(row)} |" if row[0] != "---" else f"|{'|'.join(row)}|" for row in rows]


def unknown_words_lines(results: Sequence[Result]) -> list[str]:
    """Words without phones of each system that recognizes words, the most frequent first."""
    lines = []
    for result in results:
        if result.words:
            named = ", ".join(f"{word} ({count})" for word, count in Counter(result.unknown).most_common())
            found = f"{sum(result.unknown.values())} of {result.words} words have no phones"
            lines.append(f"{result.system} on {result.evaluated.name}: {found}{': ' if named else ''}{named}")
    return lines


def compare_with_peers(results: Sequence[Result], own: str) -> dict[str, float]:
    """Ratios of PER and of speed between each peer and our system on each set; above 1, ours is better."""
    ours = {result.evaluated.name: result for result in results if result.system == own}
    ratios = {}
    for result in results:
        if result.system in PEERS:
            name, reference = f"{result.evaluated.name}: {own} over {result.system}", ours[result.evaluated.name]
            ratios[f"{name}, speed"] = result.wall_s / reference.wall_s
            ratios[f"{name}, speed by processor time"] = result.processor_s / reference.processor_s
            if reference.evaluation.headline.total.errors:
                ratios[f"{name}, PER"] = result.evaluation.headline.total.per / reference.evaluation.headline.total.per
    return ratios


def to_record(result: Result) -> dict[str, object]:
    """Convert a result to JSON values: the file of `asr evaluate --json`, with set, system, times and words."""
    return {
        "set": result.evaluated.name,
        "system": result.system,
        "audio_s": result.evaluated.audio_s,
        "wall_s": result.wall_s,
        "processor_s": result.processor_s,
        "words": result.words,
        "unknown": result.unknown,
        **to_json(result.evaluation),
    }


def measure_all(args: argparse.Namespace) -> tuple[list[Result], str]:
    """Measure every system on every set. Returns the results and the name of the first of our systems.

    Raises:
        InputError: a number, a manifest, a model or a peer cannot be used.
    """
    for option in ("rounds", "limit"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise InputError(f"--{option}: {value}, expected at least 1")
    sets = [read_set(cuts, args.limit) for cuts in args.cuts]
    for name, count in Counter(evaluated.name for evaluated in sets).items():
        if count > 1:
            raise InputError(f"{name}: {count} manifests with this folder and split, expected different ones")
    systems = own_systems(dict.fromkeys([*bundled_models().values(), *map(find_model, args.model)]))
    for (name, script), python in zip(PEERS.items(), (args.pocketsphinx, args.whisper), strict=True):
        if python:
            systems.append(System(name, [python, Path(__file__).parent / "peers" / script], read_json_lines))
    return [result for evaluated in sets for result in measure(evaluated, systems, args.rounds)], systems[0].name


def main() -> None:
    """Measure; print words without phones, the table and the ratios."""
    parser = build_parser(__doc__)
    parser.add_argument("cuts", type=Path, nargs="+")
    parser.add_argument("--model", nargs="+", default=[])
    parser.add_argument("--pocketsphinx", type=Path)
    parser.add_argument("--whisper", type=Path)
    parser.add_argument("--limit", type=int)
    parser.set_defaults(rounds=1)
    args = parser.parse_args()
    try:
        results, own = measure_all(args)
    except InputError as error:
        print(f"out_of_domain: {error}", file=sys.stderr)
        sys.exit(2)
    print("\n".join([*unknown_words_lines(results), "", *markdown_table(results)]))
    details = {"results": [to_record(result) for result in results]}
    report_results(compare_with_peers(results, own), details, args.json)


if __name__ == "__main__":
    main()
