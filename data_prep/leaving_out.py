"""What a preparation leaves out: an exception with a reason, and the lines that report it."""

from collections import Counter
from collections.abc import Iterable, Mapping

from data_prep.entries import LeftOut

MAX_PLACE = 500
"""Characters of the longest place in ``left_out.tsv``."""

SEPARATORS = str.maketrans("\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029", " " * 11)


class Unusable(Exception):  # noqa: N818  not an error of the program
    """An utterance that is left out. ``reason`` is one of few; ``detail`` has the values, "" if there are none."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail

    def at(self, where: str) -> LeftOut:
        """What is left out, at a place in the corpus."""
        return LeftOut(f"{where}: {self.detail}" if self.detail else where, self.reason)


def table_line(*cells: object) -> str:
    """A line of a table: cells with tabs between them and none in them, of bounded length, in UTF-8."""
    texts = (str(cell)[:MAX_PLACE].translate(SEPARATORS).encode("utf-8", "backslashreplace").decode() for cell in cells)
    return "\t".join(texts) + "\n"


def describe(counts: Mapping[str, int], firsts: Mapping[str, str]) -> list[str]:
    """A line for each reason, the most frequent first: its count, and the first place."""
    ordered = sorted(counts, key=lambda reason: (-counts[reason], reason))
    return [f"left out: {counts[reason]} ({reason}), the first: {firsts[reason]}" for reason in ordered]


def count_reasons(left_out: Iterable[LeftOut]) -> Counter[str]:
    """Reason -> how often."""
    return Counter(reason for _, reason in left_out)
