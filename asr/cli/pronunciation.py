"""`asr g2p`: train grapheme-to-phoneme models, and pronounce words with them or with espeak-ng."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from asr.errors import InputError

commands = typer.Typer(no_args_is_help=True, help="Pronounce words: train grapheme-to-phoneme models and apply them.")

ESPEAK = "espeak:"
NAMED = 10
"""Words that a message names."""


@commands.command("train")
def train_g2p(
    lexicon: Annotated[Path, typer.Argument(help="pronunciation lexicon: CMUdict, or Kaldi's or MFA's format")],
    out: Annotated[Path, typer.Argument(help="file to write the model to")],
    order: Annotated[int, typer.Option(help="order of the n-gram, 1 to 6")] = 6,
    held_out: Annotated[
        float, typer.Option(help="share of the words to measure error rates on, without training on them")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="random seed of the held-out words")] = 1,
) -> None:
    """Train a grapheme-to-phoneme model on a lexicon.

    Example: `asr g2p train cmudict.dict english.g2p`

    Prints word and phone error rates on the held-out words. With --held-out 0, the model learns from all words. The
    stress of ARPAbet's vowels (the 1 of AH1) is dropped, so pronunciations by the model have none.
    """
    from asr.corpus.lexicon import read_lexicon
    from asr.decoding import g2p, g2p_training
    from asr.inference.evaluate_g2p import evaluate_g2p, g2p_error_lines

    learned, unseen = g2p_training.split_lexicon(read_lexicon(lexicon), held_out, seed)
    trained = g2p_training.train_g2p(learned, order)
    g2p.save_g2p(trained.model, out)
    print(
        f"{out}: order {order}, {len(trained.model.graphones)} graphones, "
        f"{len(learned)} words with {trained.pairs} pronunciations"
    )
    if trained.left_out:
        named = ", ".join(f"{word} {' '.join(phones)}" for word, phones in trained.left_out[:NAMED])
        print(f"left out: {len(trained.left_out)} pronunciations of more than two phones a letter: {named}")
    if unseen:
        print(f"held out: {len(unseen)} words, seed {seed}")
        print("\n".join(g2p_error_lines(evaluate_g2p(trained.model, unseen))))


@commands.command("apply")
def apply_g2p(
    model: Annotated[str, typer.Argument(help="model of `asr g2p train`, or espeak:LANGUAGE, such as espeak:de")],
    words: Annotated[list[str], typer.Argument(help="words, or - for words on standard input")],
    count: Annotated[int, typer.Option(min=1, help="most pronunciations of a word")] = 1,
) -> None:
    """Print a lexicon of words.

    Example: `asr g2p apply english.g2p phonetician segmental`

    Words that cannot be pronounced are named on standard error. espeak-ng gives one pronunciation of each word.
    """
    pronounce, missing = _load(model, count), []
    for word in _read_words() if words == ["-"] else words:
        pronunciations = pronounce(word)
        if not pronunciations:
            missing.append(word)
        for phones in pronunciations:
            print(f"{word}\t{' '.join(phones)}")
    if missing:
        named = ", ".join(repr(word) for word in missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
        print(f"asr: {len(missing)} words without a pronunciation: {named}", file=sys.stderr)


def _load(model: str, count: int) -> Callable[[str], list[tuple[str, ...]]]:
    """What gives at most ``count`` pronunciations of a word."""
    if model.startswith(ESPEAK):
        from data_prep.espeak_g2p import EspeakG2P

        return EspeakG2P(model.removeprefix(ESPEAK)).pronounce
    from asr.decoding.g2p import load_g2p

    return partial(load_g2p(Path(model)).pronounce, count=count)


def _read_words() -> Iterator[str]:
    """The words on standard input, separated by white space."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield from line.decode("utf-8").split()
        except UnicodeDecodeError as error:
            raise InputError(f"standard input: line {number} is not UTF-8, expected words in UTF-8") from error
