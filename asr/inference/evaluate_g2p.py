"""A grapheme-to-phoneme model and a lexicon -> word and phone error rates."""

from dataclasses import dataclass

from asr.corpus.lexicon import Lexicon
from asr.decoding.g2p import G2P
from asr.scoring.alignment import Counts, align, count_edits


@dataclass(frozen=True)
class G2PErrors:
    """Wrong words, words without a pronunciation among them, and phone errors against the nearest reference."""

    words: int
    wrong: int
    unpronounced: int
    phones: Counts


def evaluate_g2p(model: G2P, lexicon: Lexicon) -> G2PErrors:
    """Pronounce the words of a lexicon. A word is right if its first pronunciation is any of the lexicon's."""
    wrong, unpronounced, total = 0, 0, Counts()
    for word, references in lexicon.items():
        hypothesis = next(iter(model.pronounce(word)), ())
        unpronounced += not hypothesis
        wrong += hypothesis not in references
        counts = (count_edits(align(reference, hypothesis)) for reference in references)
        total += min(counts, key=lambda count: count.errors)
    return G2PErrors(len(lexicon), wrong, unpronounced, total)


def g2p_error_lines(result: G2PErrors) -> list[str]:
    """Both rates with their counts, as lines of text."""
    phones = result.phones
    counts = f"S {phones.substitutions} D {phones.deletions} I {phones.insertions} N {phones.reference_phones}"
    return [
        f"WER {100 * result.wrong / max(result.words, 1):.2f} %: {result.wrong} of {result.words} words wrong, "
        f"{result.unpronounced} of them without a pronunciation",
        f"PER {100 * phones.per:.2f} %: {counts}",
    ]
