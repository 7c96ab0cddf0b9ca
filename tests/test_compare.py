import json
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asr.errors import InputError
from asr.scoring.alignment import align
from asr.scoring.comparison import compare, comparison_lines, segment_errors
from asr.scoring.error_rate import Score, score
from asr.scoring.results import evaluate_hypotheses, read_json, write_json

PHONES = [f"p{number}" for number in range(12)]


def corrupted(phones: list[str], rate: float, generator: np.random.Generator) -> list[str]:
    """Phones with random substitutions, deletions and insertions, sometimes before the first phone."""
    hypothesis = [PHONES[generator.integers(12)]] if generator.random() < rate else []
    for phone in phones:
        fate = generator.random()
        if fate >= rate:
            hypothesis.append(phone)
        elif fate < rate / 3:
            hypothesis += [phone, PHONES[generator.integers(12)]]
        elif fate < 2 * rate / 3:
            hypothesis.append(PHONES[generator.integers(12)])
    return hypothesis


def two_systems(rates: tuple[float, float], seed: int, utterances: int = 200) -> tuple[Score, Score]:
    generator = np.random.default_rng(seed)
    references = [[PHONES[i] for i in generator.integers(0, 12, generator.integers(0, 25))] for _ in range(utterances)]
    first, second = (
        score(
            [
                (f"s{n % 5}-{n}", f"s{n % 5}", phones, corrupted(phones, rate, generator))
                for n, phones in enumerate(references)
            ],
            "plain",
        )
        for rate in rates
    )
    return first, second


@pytest.mark.parametrize("seed", range(4))
def test_the_matched_pairs_test_is_that_of_sc_stats(seed: int, sctk: Path, tmp_path: Path) -> None:
    systems = two_systems((0.15 + 0.1 * seed, 0.18 + 0.1 * seed), seed)
    lines = {"r": [one.reference for one in systems[0].utterances]}
    lines |= {name: [one.hypothesis for one in system.utterances] for name, system in zip("ab", systems, strict=True)}
    ids = [one.id for one in systems[0].utterances]
    for name, all_phones in lines.items():
        text = "".join(f"{' '.join(phones)} ({one})\n" for one, phones in zip(ids, all_phones, strict=True))
        (tmp_path / f"{name}.trn").write_text(text)
    for name in "ab":
        options = f"-r r.trn trn -h {name}.trn trn -i spu_id -o sgml -n {name} -O ."
        subprocess.run([sctk / "sclite", *options.split()], cwd=tmp_path, check=True, capture_output=True)
    alignments = b"".join((tmp_path / f"{name}.sgml").read_bytes() for name in "ab")
    command = [str(sctk / "sc_stats"), *["-p", "-t", "mapsswe", "-v", "-n", "-"]]
    printed = subprocess.run(command, cwd=tmp_path, input=alignments, capture_output=True, check=True).stdout.decode()
    found = re.search(r"# segs: (\d+)\).*Z Stat: +(-?[\d.]+)\) \(Stat Diff: (\w+)\)", printed)
    assert found
    ours = compare(*systems).matched_pairs
    assert (str(ours.segments), f"{ours.z:.3f}") == found.groups()[:2]
    assert (ours.p < 0.05) == (found[3] == "Yes")
    assert ours.p == pytest.approx(1 - math.erf(abs(ours.z) / math.sqrt(2)))


def test_segments_worked_by_hand() -> None:
    reference = ["a", "b", "c", "d", "e", "f", "g", "h"]
    first = align(reference, ["x", "b", "c", "d", "e", "f", "g", "h"])
    second = align(reference, ["a", "b", "x", "d", "x", "e", "f", "g"])
    # Errors: a of the first system; c, an insertion before e, and h of the second. Only d is correct between c and e;
    # f and g are correct after e.
    assert segment_errors(first, second) == [(1, 2), (0, 1)]
    assert segment_errors(first, first) == [(1, 1)]
    assert segment_errors(align(reference, reference), align(reference, reference)) == []
    assert segment_errors(align([], ["a"]), align([], [])) == [(1, 0)]


def test_the_same_system_twice_is_no_difference() -> None:
    first, _ = two_systems((0.3, 0.3), 1)
    result = compare(first, first)
    assert (result.difference, result.interval, list(result.changed)) == (0, (0, 0), [])
    assert (result.matched_pairs.z, result.matched_pairs.p) == (0, 1)


def test_a_clear_difference_is_found_and_its_interval_holds_it() -> None:
    first, second = two_systems((0.4, 0.2), 2)
    result = compare(first, second)
    assert result.interval
    assert result.interval[0] < result.difference < result.interval[1] < 0
    assert result.matched_pairs.p < 1e-6
    one, two = result.changed[0]
    change = abs(two.counts.errors - one.counts.errors)
    assert change == max(
        abs(b.counts.errors - a.counts.errors) for a, b in zip(first.utterances, second.utterances, strict=True)
    )
    lines = comparison_lines(result, "old", "new", shown=3)
    assert lines[2].startswith(f"difference {100 * result.difference:+.2f} points, 95 % interval ")
    assert len(lines) == 5 + 3
    # Unless both systems have the same resampled speakers, the interval is as wide as two separate ones.
    assert result.interval[1] - result.interval[0] < 0.2


def test_nothing_to_compare() -> None:
    result = compare(score([], "plain"), score([], "plain"))
    assert (result.difference, result.interval, result.matched_pairs.p) == (0, None, 1)
    assert "no interval: one speaker" in comparison_lines(result, "a", "b")[2]


def test_other_utterances_or_conventions_are_refused() -> None:
    base = [("u1", "s", ["sil"], ["sil"]), ("u2", "s", ["sil"], ["sil"])]
    first = score(base, "kaldi")
    with pytest.raises(InputError, match="conventions kaldi and no-sil, expected the same"):
        compare(first, score(base, "no-sil"))
    with pytest.raises(InputError, match="1 utterances of one system only, u2 first"):
        compare(first, score(base[:1], "kaldi"))
    for other in (("u2", "s", ["ih"], ["sil"]), ("u2", "t", ["sil"], ["sil"])):
        with pytest.raises(InputError, match="utterance u2: references or speakers differ"):
            compare(first, score([base[0], other], "kaldi"))


def test_an_evaluation_comes_back_from_json(tmp_path: Path) -> None:
    utterances = [("u1", "s", ["h#", "sh"], ["h#"]), ("u2", "t", [], ["q"])]
    result = evaluate_hypotheses(utterances, ["no-sil", "kaldi"], "beam")
    write_json(result, tmp_path / "x.json")
    assert read_json(tmp_path / "x.json") == result
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["conventions"]["no-sil"] | {"convention": "no-sil"} == {
        key: found[key] for key in [*found["conventions"]["no-sil"], "convention"]
    }


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda found: "{", "not JSON"),
        (lambda found: "[]", "expected results written by"),
        (lambda found: "[" * 100_000, "not readable (RecursionError), expected results written by"),
        (lambda found: "9" * 5000, "not readable (ValueError), expected results written by"),
        (
            lambda found: json.dumps({key: found[key] for key in found if key != "references"}),
            "missing or malformed entry ('references')",
        ),
        (lambda found: json.dumps(found | {"convention": "x"}), "scoring convention 'x', expected one of plain"),
        (lambda found: json.dumps(found | {"hypotheses": {}}), "missing or malformed entry ('u1')"),
        (lambda found: json.dumps(found | {"references": ["u1"]}), "expected results written by"),
    ],
)
def test_a_damaged_evaluation_is_refused(
    damage: Callable[[dict[str, object]], str], complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    write_json(evaluate_hypotheses([("u1", "s", ["a"], ["a"])], ["plain"]), path)
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(InputError, match=re.escape(f"{path}: ") + ".*" + re.escape(complaint)):
        read_json(path)
