"""An evaluation: one set of hypotheses scored under several conventions, as lines of text and as JSON.

In:  a `TranscriptPair` for each utterance, or a JSON file written earlier.
Out: an `Evaluation`, its report lines, its JSON file.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from asr.errors import InputError
from asr.scoring.alignment import Counts
from asr.scoring.conventions import CONVENTIONS
from asr.scoring.error_rate import Score, TranscriptPair, confidence_interval, score
from asr.scoring.feature_error_rate import FeatureErrors, feature_errors
from asr.system.files import read_text, write_text


@dataclass(frozen=True)
class Evaluation:
    """Scores by convention, the headline first. Decoder and precision are those of the hypotheses, None if unknown.

    ``left_out`` utterances, whose audio could not be used, are not in the scores.
    """

    scores: Mapping[str, Score]
    decoder: str | None = None
    precision: str | None = None
    left_out: int = 0

    @property
    def headline(self) -> Score:
        """The score under the first convention."""
        return next(iter(self.scores.values()))

    @cached_property
    def feature_errors(self) -> FeatureErrors | None:
        """The phone feature errors of the headline; None without panphon, or for phones in no known notation."""
        return feature_errors(self.headline) if self.scores else None

    def under(self, convention: str) -> Score:
        """The score under a convention.

        Raises:
            InputError: the hypotheses were not scored under it.
        """
        if convention not in self.scores:
            raise InputError(f"scoring convention {convention!r}, expected one of {', '.join(self.scores)}")
        return self.scores[convention]


def evaluate_hypotheses(
    utterances: Iterable[TranscriptPair],
    conventions: Sequence[str],
    decoder: str | None = None,
    precision: str | None = None,
    notation: str = "",
) -> Evaluation:
    """Score utterances under each convention. Their phones are in ``notation``, "" if it is not known.

    Raises:
        InputError: a convention does not know a phone.
    """
    pairs = list(utterances)
    return Evaluation({name: score(pairs, name, notation) for name in conventions}, decoder, precision)


def headline(result: Score) -> str:
    """PER or CER, its interval, counts, utterances and speakers in one line."""
    total = result.total
    return (
        f"{result.rate_name} {percent(total.per)} % ({result.convention}{_format_interval(confidence_interval(result))}): "
        f"S {total.substitutions} D {total.deletions} I {total.insertions} N {total.reference_phones}, "
        f"{len(result.utterances)} utterances, {len(result.speakers)} speakers"
    )


def feature_line(errors: FeatureErrors) -> str:
    """PFER, its interval, the distance and the reference segments in one line."""
    text = f"PFER {percent(errors.pfer)} % (features of panphon{_format_interval(errors.interval)}): "
    text += f"distance {errors.distance:.2f} N {errors.reference_segments} segments"
    return text + (f"; features are missing for {' '.join(errors.unread)}" if errors.unread else "")


def report_lines(evaluation: Evaluation) -> list[str]:
    """Describe an evaluation: the headline, PFER, a table of conventions if there are several, and a line per speaker."""
    result = evaluation.headline
    lines = [headline(result)]
    if evaluation.left_out:
        lines.append(f"without {evaluation.left_out} utterances, whose audio cannot be used")
    if evaluation.feature_errors:
        lines.append(feature_line(evaluation.feature_errors))
    if len(evaluation.scores) > 1:
        totals = {
            f"{'*' if scored is result else ' '} {name}": scored.total for name, scored in evaluation.scores.items()
        }
        summaries = [CONVENTIONS[name].summary for name in evaluation.scores]
        lines += ["", *_table("  convention", result.rate_name, totals, summaries), ""]
    return lines + _table("speaker", result.rate_name, result.speakers)


def _table(title: str, rate: str, counts_by_name: Mapping[str, Counts], notes: Sequence[str] = ()) -> list[str]:
    width = max(len(name) for name in [title, *counts_by_name])
    lines = [f"{title:<{width}}    {rate} %      S      D      I      N"]
    for name, counts in counts_by_name.items():
        columns = (counts.substitutions, counts.deletions, counts.insertions, counts.reference_phones)
        lines.append(f"{name:<{width}} {percent(counts.per):>8} " + " ".join(f"{number:>6}" for number in columns))
    return [lines[0], *(f"{line}  {note}" for line, note in zip(lines[1:], notes, strict=True))] if notes else lines


def percent(fraction: float) -> str:
    """Format a fraction in percent with two decimals."""
    return f"{100 * fraction:.2f}"


def _format_interval(interval: tuple[float, float] | None) -> str:
    return f", 95 % interval {percent(interval[0])} to {percent(interval[1])}" if interval else ""


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Convert an evaluation to JSON values; ``per`` is a fraction, null without reference phones.

    For graphemes ``per`` and ``reference_phones`` are those of graphemes; ``rate`` is then CER and ``units`` graphemes.
    ``pfer`` is null without panphon, or for phones in no known notation.
    """
    result = evaluation.headline
    return {
        **_score_json(result),
        "rate": result.rate_name,
        "units": f"{result.unit}s",
        "notation": result.notation,
        "pfer": _feature_json(evaluation.feature_errors),
        "utterances": len(result.utterances),
        "speakers": len(result.speakers),
        "left_out": evaluation.left_out,
        "convention": result.convention,
        "decoder": evaluation.decoder,
        "precision": evaluation.precision,
        "conventions": {name: _score_json(scored) for name, scored in evaluation.scores.items()},
        "per_speaker": {speaker: _counts_json(counts) for speaker, counts in result.speakers.items()},
        "speaker_of": {utterance.id: utterance.speaker for utterance in result.utterances},
        "references": {utterance.id: " ".join(utterance.reference) for utterance in result.utterances},
        "hypotheses": {utterance.id: " ".join(utterance.hypothesis) for utterance in result.utterances},
    }


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write an evaluation to a JSON file, completely or not at all."""
    write_text(path, json.dumps(to_json(evaluation), indent=1) + "\n")


def read_json(path: Path) -> Evaluation:
    """Read a file written by `write_json`, and score its references and hypotheses again.

    Raises:
        InputError: the file cannot be read, or has other content.
    """
    expected = "results written by `asr evaluate --json`"
    try:
        content = json.loads(read_text(path, expected))
        names = [content["convention"], *(name for name in content["conventions"] if name != content["convention"])]
        utterances = [
            (utterance, str(content["speaker_of"][utterance]), phones.split(), content["hypotheses"][utterance].split())
            for utterance, phones in content["references"].items()
        ]
        unknown = [name for name in names if name not in CONVENTIONS]
        left_out = int(content.get("left_out", 0))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error}), expected {expected}") from error
    except (ValueError, RecursionError) as error:  # a number with thousands of digits, or deep nesting
        raise InputError(f"{path}: not readable ({type(error).__name__}), expected {expected}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: missing or malformed entry ({error}), expected {expected}") from error
    if unknown:
        raise InputError(f"{path}: scoring convention {unknown[0]!r}, expected one of {', '.join(CONVENTIONS)}")
    decoder, precision, notation = (content.get(key) for key in ("decoder", "precision", "notation"))
    return replace(evaluate_hypotheses(utterances, names, decoder, precision, str(notation or "")), left_out=left_out)


def _score_json(result: Score) -> dict[str, Any]:
    interval = confidence_interval(result)
    return {**_counts_json(result.total), "interval": list(interval) if interval else None}


def _counts_json(counts: Counts) -> dict[str, Any]:
    return {
        "per": counts.per if counts.reference_phones else None,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "reference_phones": counts.reference_phones,
    }


def _feature_json(errors: FeatureErrors | None) -> dict[str, Any] | None:
    if errors is None:
        return None
    return {
        "pfer": errors.pfer if errors.reference_segments else None,
        "interval": list(errors.interval) if errors.interval else None,
        "distance": errors.distance,
        "reference_segments": errors.reference_segments,
        "unread": list(errors.unread),
    }
