"""The vote of several models, against hand work and NIST's rover."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.rover import Hypothesis, combine, vote

ROVER = shutil.which("rover", path="/usr/lib/sctk/bin:/usr/bin:/usr/local/bin")


def said(text: str, confidence: float = 0.5) -> Hypothesis:
    return [(phone, confidence) for phone in text.split()]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["K AE T", "K AE T", "K AA T"], "K AE T"),  # two against one
        (["K AE T", "K T", "K AE T"], "K AE T"),  # one leaves a phone out
        (["K AE T", "K T", "K T"], "K T"),  # two leave it out
        (["K T", "K AE T", "K AE T"], "K AE T"),  # it comes later
        (["", "AE", "AE"], "AE"),
    ],
)
def test_the_majority_wins(texts: list[str], expected: str) -> None:
    assert vote(combine([said(text) for text in texts]), len(texts), share=1.0, nothing=0.5) == expected.split()


def test_confidence_may_outvote_the_majority() -> None:
    """0.5 * 1/3 + 0.5 * 0.9 = 0.617 for AA, 0.5 * 2/3 + 0.5 * 0.5 = 0.583 for AE."""
    slots = combine([said("AA", 0.9), said("AE", 0.5), said("AE", 0.5)])
    assert vote(slots, 3, share=0.5, nothing=0.5) == ["AA"]
    assert vote(slots, 3, share=0.7, nothing=0.5) == ["AE"]


def test_nothing_has_a_confidence_too() -> None:
    slots = combine([said("K AE T", 0.6), said("K T", 0.6)])
    assert vote(slots, 2, share=0.5, nothing=0.5) == ["K", "AE", "T"]
    assert vote(slots, 2, share=0.5, nothing=0.7) == ["K", "T"]


@pytest.mark.skipif(ROVER is None, reason="SCTK IS NOT INSTALLED: THE VOTE IS NOT COMPARED WITH NIST'S ROVER")
def test_it_agrees_with_nist_where_the_alignment_is_unique(tmp_path: Path) -> None:
    """Each phone occurs once, a system changes it to one that no other has, or leaves it out; neighbours stay."""
    generator = random.Random(1)
    hypotheses: list[Hypothesis] = [[] for _ in range(3)]
    for position in range(400):
        changed = generator.randrange(3) if position % 6 == 3 else None
        for system, hypothesis in enumerate(hypotheses):
            phone = f"p{position}" if system != changed else generator.choice(["", f"p{position}x{system}"])
            if phone:
                hypothesis.append((phone, round(generator.uniform(0.05, 0.95), 2)))
    arguments = []
    for system, hypothesis in enumerate(hypotheses):
        lines = (
            f"u 1 {0.1 * number:.2f} 0.08 {phone} {confidence}" for number, (phone, confidence) in enumerate(hypothesis)
        )
        path = tmp_path / f"{system}.ctm"
        path.write_text("\n".join(lines) + "\n")
        arguments += ["-h", str(path), "ctm"]
    out = tmp_path / "out.ctm"
    command = [str(ROVER), *arguments, "-o", str(out), "-m", "meth1", "-a", "0.5", "-c", "0.4"]
    subprocess.run(command, check=True, capture_output=True)
    expected = [line.split()[4] for line in out.read_text().splitlines()]
    assert vote(combine(hypotheses), 3, share=0.5, nothing=0.4) == expected
