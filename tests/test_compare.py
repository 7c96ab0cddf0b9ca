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
from asr.scoring.comparison import compare, comparison_lines, segments
from asr.scoring.error_rate import Score, score
from asr.scoring.results import evaluate_hypotheses, read_json, write_json

PHONES = [f"p{number}" for number in range(12)]


def corrupted(phones: list[str], rate: float, generator: np.random.Generator) -> list[str]:
    """Phones with substitutions, deletions and insertions, and now and then one in front."""
    heard = [PHONES[generator.integers(12)]] if generator.random() < rate else []
    for phone in phones:
        fate = generator.random()
        if fate >= rate:
            heard.append(phone)
        elif fate < rate / 3:
            heard += [phone, PHONES[generator.integers(12)]]
        elif fate < 2 * rate / 3:
            heard.append(PHONES[generator.integers(12)])
    return heard


def two_systems(rates: tuple[float, float], seed: int, utterances: int = 200) -> tuple[Score, Score]:
    generator = np.random.default_rng(seed)
    said = [[PHONES[i] for i in generator.integers(0, 12, generator.integers(0, 25))] for _ in range(utterances)]
    first, second = (
        score(
            [(f"s{n % 5}-{n}", f"s{n % 5}", one, corrupted(one, rate, generator)) for n, one in enumerate(said)],
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
    said = ["a", "b", "c", "d", "e", "f", "g", "h"]
    first = align(said, ["x", "b", "c", "d", "e", "f", "g", "h"])
    second = align(said, ["a", "b", "x", "d", "x", "e", "f", "g"])
    # wrong: a by the first; c, an insertion before e, h by the second. Only one phone, d, is right between c and e;
    # f and g are right after e.
    assert segments(first, second) == [(1, 2), (0, 1)]
    assert segments(first, first) == [(1, 1)]
    assert segments(align(said, said), align(said, said)) == []
    assert segments(align([], ["a"]), align([], [])) == [(1, 0)]


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
    # Nobody resampled speakers alike if the paired interval were as wide as two separate ones.
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
    with pytest.raises(InputError, match="1 utterances of one system alone, u2 first"):
        compare(first, score(base[:1], "kaldi"))
    for other in (("u2", "s", ["ih"], ["sil"]), ("u2", "t", ["sil"], ["sil"])):
        with pytest.raises(InputError, match="utterance u2: two references or speakers"):
            compare(first, score([base[0], other], "kaldi"))


def test_figures_come_back_from_json(tmp_path: Path) -> None:
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
        (lambda found: "[]", "expected figures as"),
        (lambda found: "[" * 100_000, "not readable (RecursionError), expected figures as"),
        (lambda found: "9" * 5000, "not readable (ValueError), expected figures as"),
        (lambda found: json.dumps({key: found[key] for key in found if key != "references"}), "no 'references' in it"),
        (lambda found: json.dumps(found | {"convention": "x"}), "scoring convention 'x', expected one of plain"),
        (lambda found: json.dumps(found | {"hypotheses": {}}), "no 'u1' in it"),
        (lambda found: json.dumps(found | {"references": ["u1"]}), "expected figures as"),
    ],
)
def test_damaged_figures_are_refused(
    damage: Callable[[dict[str, object]], str], complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    write_json(evaluate_hypotheses([("u1", "s", ["a"], ["a"])], ["plain"]), path)
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(InputError, match=re.escape(f"{path}: ") + ".*" + re.escape(complaint)):
        read_json(path)
