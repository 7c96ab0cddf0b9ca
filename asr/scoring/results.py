"""An evaluation: one set of hypotheses scored under all conventions, as lines, as JSON, and back from JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import InputError
from asr.scoring.alignment import Counts
from asr.scoring.conventions import CONVENTIONS
from asr.scoring.error_rate import Score, Transcribed, interval, score
from asr.system.files import read_text, write_text


@dataclass(frozen=True)
class Evaluation:
    """The scores by convention, the headline first; what the hypotheses are from is None where nobody knows."""

    scores: Mapping[str, Score]
    decoder: str | None = None
    precision: str | None = None

    @property
    def headline(self) -> Score:
        """The score under the first convention."""
        return next(iter(self.scores.values()))

    def under(self, convention: str) -> Score:
        """The score under a convention.

        Raises:
            InputError: the hypotheses were not scored under it.
        """
        if convention not in self.scores:
            raise InputError(f"scoring convention {convention!r}, expected one of {', '.join(self.scores)}")
        return self.scores[convention]


def evaluate_hypotheses(
    utterances: Iterable[Transcribed],
    conventions: Sequence[str],
    decoder: str | None = None,
    precision: str | None = None,
) -> Evaluation:
    """Score utterances under each convention.

    Raises:
        InputError: a phone that a convention does not know.
    """
    listed = list(utterances)
    return Evaluation({name: score(listed, name) for name in conventions}, decoder, precision)


def headline(result: Score) -> str:
    """PER, its interval, counts, utterances and speakers in a line."""
    total = result.total
    return (
        f"PER {percent(total.per)} % ({result.convention}{_between(result)}): S {total.substitutions} D {total.deletions} "
        f"I {total.insertions} N {total.reference_phones}, {len(result.utterances)} utterances, "
        f"{len(result.speakers)} speakers"
    )


def report_lines(evaluation: Evaluation) -> list[str]:
    """The evaluation in words: the headline, the conventions where there are several, and a line for each speaker."""
    result = evaluation.headline
    lines = [headline(result)]
    if len(evaluation.scores) > 1:
        rows = {f"* {name}" if one is result else f"  {name}": one.total for name, one in evaluation.scores.items()}
        lines += ["", *_table("  convention", rows, [CONVENTIONS[name].summary for name in evaluation.scores]), ""]
    return lines + _table("speaker", result.speakers)


def _table(title: str, rows: Mapping[str, Counts], notes: Sequence[str] = ()) -> list[str]:
    width = max(len(name) for name in [title, *rows])
    lines = [f"{title:<{width}}    PER %      S      D      I      N"]
    for name, one in rows.items():
        numbers = (one.substitutions, one.deletions, one.insertions, one.reference_phones)
        lines.append(f"{name:<{width}} {percent(one.per):>8} " + " ".join(f"{number:>6}" for number in numbers))
    return [lines[0], *(f"{line}  {note}" for line, note in zip(lines[1:], notes, strict=True))] if notes else lines


def percent(fraction: float) -> str:
    """A fraction in percent with two decimals."""
    return f"{100 * fraction:.2f}"


def _between(result: Score) -> str:
    found = interval(result)
    return f", 95 % interval {percent(found[0])} to {percent(found[1])}" if found else ""


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON values; ``per`` is a fraction, or null where there is no reference phone."""
    result = evaluation.headline
    return {
        **_figures(result),
        "utterances": len(result.utterances),
        "speakers": len(result.speakers),
        "convention": result.convention,
        "decoder": evaluation.decoder,
        "precision": evaluation.precision,
        "conventions": {name: _figures(one) for name, one in evaluation.scores.items()},
        "per_speaker": {speaker: _counts(counts) for speaker, counts in result.speakers.items()},
        "speaker_of": {one.id: one.speaker for one in result.utterances},
        "references": {one.id: " ".join(one.reference) for one in result.utterances},
        "hypotheses": {one.id: " ".join(one.hypothesis) for one in result.utterances},
    }


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write `to_json` to a file, whole or not at all."""
    write_text(path, json.dumps(to_json(evaluation), indent=1) + "\n")


def read_json(path: Path) -> Evaluation:
    """The evaluation in a file that `write_json` has written, scored again from its references and hypotheses.

    Raises:
        InputError: the file cannot be read or is something else.
    """
    expected = "figures as `asr evaluate --json` writes them"
    try:
        found = json.loads(read_text(path, expected))
        names = [found["convention"], *(name for name in found["conventions"] if name != found["convention"])]
        utterances = [
            (name, str(found["speaker_of"][name]), phones.split(), found["hypotheses"][name].split())
            for name, phones in found["references"].items()
        ]
        unknown = [name for name in names if name not in CONVENTIONS]
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error}), expected {expected}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or deep nesting
        raise InputError(f"{path}: not readable ({type(error).__name__}), expected {expected}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no {error} in it, expected {expected}") from error
    if unknown:
        raise InputError(f"{path}: scoring convention {unknown[0]!r}, expected one of {', '.join(CONVENTIONS)}")
    return evaluate_hypotheses(utterances, names, found.get("decoder"), found.get("precision"))


def _figures(result: Score) -> dict[str, Any]:
    found = interval(result)
    return {**_counts(result.total), "interval": list(found) if found else None}


def _counts(counts: Counts) -> dict[str, Any]:
    return {
        "per": counts.per if counts.reference_phones else None,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "reference_phones": counts.reference_phones,
    }
