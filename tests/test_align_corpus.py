"""Whole corpora to tiers, long recordings, and pronunciations chosen by alignment: a bundled model on synthetic speech."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from praatio import textgrid
from typer.testing import CliRunner

from asr.cli import alignment
from asr.corpus.audio import read_audio
from asr.corpus.lexicon import read_lexicon
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.corpus.phones import PhoneInventory, make_inventory
from asr.corpus.pronunciations import WordPronunciations, split_words
from asr.errors import InputError
from asr.inference import align_corpus as corpus_module
from asr.inference import align_recordings, align_sequences
from asr.inference.align_anchors import Match, find_segments
from asr.inference.align_corpus import Summary, align_corpus
from asr.inference.align_long import LongRecording
from asr.inference.align_pronunciations import choose_pronunciations
from asr.inference.align_tiers import overlaps, write_tiers
from asr.inference.align_utterance import Aligned, Interval, Item, Problem, UtteranceAligner, split_phones
from asr.inference.bundle import Bundle, build_model, save_bundle
from asr.inference.catalog import find_model
from asr.inference.recognizer import Recognizer, load
from asr.inference.result_files import ERRORS_FILE, HEADER
from asr.inference.verify import phone_weights
from data_prep.made import prepare_made
from data_prep.spreading import in_processes
from tests.conftest import TINY_MODEL, settings

MODEL = "speechocean762-small"
LEXICON = """A AH0
A EY1
AFTER AE1 F T ER0
ARE AA1 R
AND AH0 N D
BOOK B UH1 K
CAT K AE1 T
CHILDREN CH IH1 L D R AH0 N
COFFEE K AO1 F IY0
EVERY EH1 V R IY0
FATHER F AA1 DH ER0
GOES G OW1 Z
GREEN G R IY1 N
HOUSE HH AW1 S
IN IH0 N
IS IH1 Z
KITCHEN K IH1 CH AH0 N
LIKES L AY1 K S
MORNING M AO1 R N IH0 NG
MOTHER M AH1 DH ER0
MUSIC M Y UW1 Z IH0 K
MY M AY1
OF AH1 V
OPEN OW1 P AH0 N
PLAYING P L EY1 IH0 NG
READS R IY1 D Z
RIVER R IH1 V ER0
SCHOOL S K UW1 L
SISTER S IH1 S T ER0
SITTING S IH1 T IH0 NG
TABLE T EY1 B AH0 L
TEACHER T IY1 CH ER0
THE DH AH0
THE DH IY0
TO T UW1
UNDER AH1 N D ER0
WATER W AO1 T ER0
WINDOW W IH1 N D OW0
YELLOW Y EH1 L OW0
"""
TEXTS = """MY MOTHER LIKES GREEN COFFEE IN THE MORNING
THE CHILDREN ARE PLAYING MUSIC AFTER SCHOOL
THE YELLOW CAT IS SITTING UNDER THE TABLE
EVERY TEACHER READS A BOOK TO THE CHILDREN
MY SISTER GOES TO THE RIVER AND THE HOUSE
THE WINDOW OF THE KITCHEN IS OPEN EVERY MORNING
MY FATHER LIKES THE WATER OF THE RIVER
THE CAT GOES TO THE OPEN WINDOW AND THE TABLE""".splitlines()


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return load(find_model(MODEL))


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.txt"
    path.write_text(LEXICON)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, lexicon: Path) -> list[Utterance]:
    """Synthetic speech of two speakers with 12 utterances each."""
    pytest.importorskip("espeakng_loader", reason="ALIGNMENT IS NOT TESTED: pip install 'asr-phones[synth]'")
    source = tmp_path_factory.mktemp("texts")
    soundfile.write(source / "a.wav", np.full(16000, 0.1), 16000)
    texts = [Utterance(f"u{i}", source / "a.wav", 16000, 1.0, "s", ("K",), text) for i, text in enumerate(TEXTS)]
    write_corpus(source, {"train": texts}, {})
    out = tmp_path_factory.mktemp("made") / "out"
    prepare_made(source / "cuts_train.jsonl.gz", lexicon, out, 2, 12, 3, in_processes(1))
    return read_manifest(out / "cuts_train.jsonl.gz")


Find = Callable[[str], tuple[tuple[str, ...], ...]]


@pytest.fixture(scope="module")
def find(lexicon: Path) -> Find:
    return WordPronunciations(read_lexicon(lexicon)).find


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, made: list[Utterance]) -> Path:
    """The made speech as a folder: a folder for each speaker, a text beside each recording."""
    root = tmp_path_factory.mktemp("folder") / "corpus with spaces"
    for utterance in made:
        path = root / utterance.speaker / f"{utterance.id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, read_audio(utterance.audio_path), 16000)
        path.with_suffix(".lab").write_text(utterance.words)
    return root


def items_of(folder: Path, utterances: Iterable[Utterance], find: Find) -> list[Item]:
    return [
        Item(
            utterance.id,
            folder / utterance.speaker / f"{utterance.id}.wav",
            split_words(utterance.words),
            tuple(find(word) for word in utterance.words.split()),
            speaker=utterance.speaker,
        )
        for utterance in utterances
    ]


def align(recognizer: Recognizer, items: Sequence[Item | Problem], out: Path, **options: object) -> Summary:
    return align_corpus(recognizer, lambda: items, out, **options)  # type: ignore[arg-type]


def read_tiers(path: Path) -> dict[str, list[tuple[str, float, float]]]:
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    return {tier.name: [(label, start, end) for start, end, label in tier.entries] for tier in grid.tiers}


def read_problems(out: Path) -> list[list[str]]:
    return [line.split("\t") for line in (out / ERRORS_FILE).read_text().splitlines()[1:]]


# The parts.


def collapse(path: Iterable[int]) -> tuple[int, ...]:
    merged = [label for index, label in enumerate(path) if index == 0 or label != path[index - 1]]  # type: ignore[index]
    return tuple(label for label in merged if label)


@pytest.mark.parametrize("seed", range(12))
def test_the_chosen_path_is_the_best_of_all(seed: int) -> None:
    generator = random.Random(seed)
    log_probs = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)).mul(2).log_softmax(1)
    words = [
        [tuple(generator.randint(1, 3) for _ in range(generator.randint(1, 2))) for _ in range(generator.randint(1, 3))]
        for _ in range(2)
    ]
    scores: dict[tuple[int, ...], float] = {}
    for path in product(range(4), repeat=6):
        total = sum(float(log_probs[frame, label]) for frame, label in enumerate(path))
        scores[collapse(path)] = max(total, scores.get(collapse(path), -np.inf))
    expected = max(scores.get(first + second, -np.inf) for first, second in product(*words))
    found = choose_pronunciations(log_probs, words)
    if expected == -np.inf:
        assert found is None
        return
    assert found is not None
    assert found.tokens == [token for word, choice in zip(words, found.choices, strict=True) for token in word[choice]]
    labels = [0] * 6
    for token, (start, stop) in zip(found.tokens, found.spans, strict=True):
        labels[start:stop] = [token] * (stop - start)
    assert collapse(labels) == tuple(found.tokens)
    assert sum(float(log_probs[frame, label]) for frame, label in enumerate(labels)) == pytest.approx(
        expected, abs=1e-4
    )


def test_no_path_through_too_few_frames() -> None:
    log_probs = torch.zeros(3, 4).log_softmax(1)
    assert choose_pronunciations(log_probs, [[(1, 2)], [(3,)]]) is not None
    assert choose_pronunciations(log_probs, [[(1, 1)], [(1,)]]) is None
    assert choose_pronunciations(log_probs, [[(1, 1), (2,)], [(1,)]]) is not None
    assert choose_pronunciations(torch.zeros(0, 4), [[(1,)]]) is None


def alignment_cost(first: Sequence[int], second: Sequence[int], pairs: Sequence[tuple[int, int]]) -> int:
    """The cost of pairs, with gaps counted by hand."""
    cost = 0
    for (row, column), (next_row, next_column) in pairwise([(-1, -1), *pairs, (len(first), len(second))]):
        for gap in (next_row - row - 1, next_column - column - 1):
            cost += align_sequences.OPENING + (gap - 1) * align_sequences.EXTENSION if gap else 0
    return cost + sum(align_sequences.SUBSTITUTION for row, column in pairs if first[row] != second[column])


def all_pairings(rows: int, columns: int) -> Iterator[tuple[tuple[int, int], ...]]:
    yield ()
    for row in range(rows):
        for column in range(columns):
            for rest in all_pairings(row, column):
                yield (*rest, (row, column))


@pytest.mark.parametrize("stripe", [1, 2, 256])
@pytest.mark.parametrize("seed", range(5))
def test_sequences_are_matched_at_the_lowest_cost(seed: int, stripe: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align_sequences, "STRIPE_ROWS", stripe)
    generator = random.Random(seed)
    first, second = ([generator.randint(1, 3) for _ in range(generator.randint(1, 5))] for _ in range(2))
    places = align_sequences.match_sequences(first, second)
    pairs = [(row, column) for row, column in enumerate(places) if column >= 0]
    lowest = min(alignment_cost(first, second, each) for each in all_pairings(len(first), len(second)))
    assert alignment_cost(first, second, pairs) == lowest


def test_what_one_long_sequence_lacks_spoils_nothing_else() -> None:
    generator = np.random.default_rng(0)
    text = generator.integers(1, 40, 3000).tolist()
    truth, speech = [], []
    for index, phone in enumerate(text):
        if index == 2000:
            speech += generator.integers(1, 40, 300).tolist()
        if 1000 <= index < 1200 or generator.random() < 0.08:
            continue
        truth.append((index, len(speech)))
        speech.append(phone if generator.random() < 0.85 else int(generator.integers(1, 40)))
    places = align_sequences.match_sequences(text, speech)
    assert np.mean([places[index] == place for index, place in truth]) > 0.95
    assert sum(place >= 0 for place in places[1000:1200]) < 10


def test_words_that_the_recording_lacks_and_speech_that_the_text_lacks_are_outside_of_segments() -> None:
    words, width = 60, 4
    text = np.random.default_rng(1).integers(1, 40, words * width).tolist()
    speech = [*text[:80], *([40] * 30), *text[80:160], *text[200:]]  # words 40 to 50 are missing
    spans = [(4 * place + 1, 4 * place + 2) for place in range(len(speech))]
    match = Match(speech, spans, 4 * len(speech), 0.02, text, align_sequences.match_sequences(text, speech))
    segments = find_segments(match, range(0, words * width + 1, width))
    assert [(segment.first, segment.stop) for segment in segments] == [(0, 20), (20, 40), (50, 60)]
    assert [segment.start for segment in segments] == pytest.approx([0, 4 * 110, 4 * 190], abs=8)
    assert [segment.end for segment in segments] == pytest.approx([4 * 80, 4 * 190, 4 * len(speech)], abs=8)


def test_phones_are_split_into_words() -> None:
    words = [[("DH", "AH"), ("DH",)], [("AH", "K"), ("K",)]]
    assert split_phones(("DH", "AH", "K"), words) == [("DH", "AH"), ("K",)]
    assert split_phones(("DH", "AH", "AH", "K"), words) == [("DH", "AH"), ("AH", "K")]
    assert split_phones(("DH", "K", "K"), words) is None


def test_words_are_looked_up_as_texts_have_them() -> None:
    find = WordPronunciations({"it's": [("IH", "T", "S")], "CAFÉ": [("K",), ("F",)]}, lambda word: [(word,)]).find
    assert find("“It\N{RIGHT SINGLE QUOTATION MARK}s,") == (("IH", "T", "S"),)
    assert find("cafe\N{COMBINING ACUTE ACCENT}") == (("K",), ("F",))
    assert find("café-café") == (("K", "K"), ("K", "F"), ("F", "K"), ("F", "F"))
    assert find("Other!") == (("other",),)
    assert split_words("— a , b.") == ("a", "b.")


# Tiers.


def spans(labels: str, *edges_s: float) -> tuple[Interval, ...]:
    """Intervals of labels from each edge to the next."""
    return tuple(Interval(*values) for values in zip(labels.split(), edges_s, edges_s[1:], strict=False))


def test_utterances_that_overlap_a_little_are_written_in_order(tmp_path: Path) -> None:
    late = Aligned(spans("c", 1.0, 2.0), spans("C D", 1.0, 1.5, 2.0))
    early = Aligned(spans("a b", 0.1, 0.5, 1.04), spans("A B", 0.1, 0.5, 1.04))
    assert not overlaps(late, [early])
    write_tiers(tmp_path / "a.TextGrid", {"ann": [late, early]}, 2.5)
    tiers = read_tiers(tmp_path / "a.TextGrid")
    assert tiers["words"] == [("a", 0.1, 0.5), ("b", 0.5, 1.0), ("c", 1.0, 2.0)]
    assert tiers["phones"] == [("A", 0.1, 0.5), ("B", 0.5, 1.0), ("C", 1.0, 1.5), ("D", 1.5, 2.0)]


def test_intervals_that_lose_their_length_are_left_out(tmp_path: Path) -> None:
    first = Aligned(spans("a", 0.0, 1.0), (Interval("A", 0.0, 0.98), Interval("B", 0.98, 1.0)))
    second = Aligned(
        spans("b", 0.98, 2.0), (Interval("C", 0.98, 1.5), Interval("D", 1.5, 2.02), Interval("E", 2.0, 2.02))
    )
    write_tiers(tmp_path / "a.TextGrid", {"ann": [first, second]}, 2.0)
    tiers = read_tiers(tmp_path / "a.TextGrid")
    assert tiers["phones"] == [("A", 0.0, 0.98), ("C", 0.98, 1.5), ("D", 1.5, 2.0)]
    assert tiers["words"] == [("a", 0.0, 0.98), ("b", 0.98, 2.0)]


def test_a_tier_may_be_empty(tmp_path: Path) -> None:
    write_tiers(tmp_path / "a.TextGrid", {"ann": [Aligned((), spans("A", 0.2, 0.4))]}, 1.0)
    assert read_tiers(tmp_path / "a.TextGrid") == {"words": [], "phones": [("A", 0.2, 0.4)]}


# A corpus.


def test_tiers_are_those_of_aligning_each_file(
    recognizer: Recognizer, made: list[Utterance], folder: Path, find: Find, tmp_path: Path
) -> None:
    summary = align(recognizer, items_of(folder, made, find), tmp_path)
    assert (summary.recordings, summary.utterances, summary.problems) == (len(made), len(made), {})
    assert summary.seconds == pytest.approx(sum(utterance.duration_s for utterance in made), abs=0.1)
    for utterance in made:
        tiers = read_tiers(tmp_path / utterance.speaker / f"{utterance.id}.TextGrid")
        assert list(tiers) == ["words", "phones"]
        assert [label for label, _, _ in tiers["words"]] == utterance.words.split()
        chosen = [label for label, _, _ in tiers["phones"]]
        expected = recognizer.align(folder / utterance.speaker / f"{utterance.id}.wav", chosen).phones
        for (_, start_s, end_s), phone in zip(tiers["phones"], expected, strict=True):
            assert (start_s, end_s) == pytest.approx((phone.start_s, phone.end_s), abs=1e-3)
        parts = split_phones(tuple(chosen), [find(word) for word in utterance.words.split()])
        assert parts is not None
        edges = np.cumsum([0, *map(len, parts)])
        for (_, start_s, end_s), first, stop in zip(tiers["words"], edges, edges[1:], strict=False):
            assert (start_s, end_s) == (tiers["phones"][first][1], tiers["phones"][stop - 1][2])


def test_of_several_pronunciations_the_uttered_one_is_chosen(
    recognizer: Recognizer, made: list[Utterance], folder: Path, find: Find, tmp_path: Path
) -> None:
    others = list(find("MUSIC") + find("FATHER") + find("WINDOW"))

    def add_wrong(item: Item) -> Item:
        words = tuple((*others, *right) for right in item.pronunciations)
        return Item(item.id, item.audio_path, item.words, words, speaker=item.speaker)

    items = items_of(folder, made[:8], find)
    align(recognizer, [add_wrong(item) for item in items], tmp_path)
    chosen = right = 0
    for item in items:
        tiers = read_tiers(next(tmp_path.rglob(f"{item.id}.TextGrid")))
        for (_, start_s, end_s), pronunciations in zip(tiers["words"], item.pronunciations, strict=True):
            phones = tuple(label for label, start, _ in tiers["phones"] if start_s <= start < end_s)
            chosen, right = chosen + 1, right + (phones in pronunciations)
    assert right >= 0.95 * chosen


def test_what_does_not_fit_is_named_and_the_rest_is_done(
    recognizer: Recognizer, made: list[Utterance], folder: Path, find: Find, tmp_path: Path
) -> None:
    good, long, other, unknown, silent, missing, foreign, outside = items_of(folder, made[:8], find)
    zeros = tmp_path / "zeros.wav"
    soundfile.write(zeros, np.zeros(16000), 16000)
    wrong = split_words("SCHOOL TEACHER RIVER FATHER COFFEE MORNING EVERY BOOK")
    items: list[Item | Problem] = [
        good,
        Item("long", long.audio_path, long.words * 20, long.pronunciations * 20),
        Item("other", other.audio_path, wrong, tuple(find(word) for word in wrong)),
        Item("unknown", unknown.audio_path, ("XYZZY", *unknown.words), ((), *unknown.pronunciations)),
        Item("silent", zeros, silent.words, silent.pronunciations),
        Item("missing", folder / "none.wav", missing.words, missing.pronunciations),
        Item("foreign", foreign.audio_path, ("A",), phones=("Ø", "AH")),
        Item("outside", outside.audio_path, outside.words, outside.pronunciations, start_s=1.0, end_s=99.0),
        Problem("a/b.lab", "", "text without audio"),
    ]
    summary = align(recognizer, items, tmp_path / "out", root=tmp_path.parent.parent.parent)
    problems = {where: (reason, detail) for where, _, reason, detail in read_problems(tmp_path / "out")}
    assert {where: reason for where, (reason, _) in problems.items()} == {
        "long": "text too long for the audio",
        "other": "text does not fit the audio",
        "unknown": "no pronunciation",
        "silent": "audio that cannot be used",
        "missing": "audio that cannot be used",
        "foreign": "phones that the model lacks",
        "outside": "audio that cannot be used",
        "a/b.lab": "text without audio",
    }
    assert problems["unknown"][1] == "XYZZY"
    assert problems["foreign"][1] == "Ø"
    assert "none.wav: no such file" in problems["missing"][1]
    assert sum(summary.problems.values()) == 8
    assert [path.stem for path in (tmp_path / "out").rglob("*.TextGrid")] == [good.id]


def test_utterances_of_a_recording_share_its_file(
    recognizer: Recognizer, made: list[Utterance], find: Find, tmp_path: Path
) -> None:
    parts = [read_audio(utterance.audio_path) for utterance in made[:3]]
    soundfile.write(tmp_path / "all.wav", np.concatenate(parts), 16000)
    edges = np.cumsum([0, *map(len, parts)]) / 16000
    items = [
        Item(
            utterance.id,
            tmp_path / "all.wav",
            split_words(utterance.words),
            tuple(find(word) for word in utterance.words.split()),
            start_s=start,
            end_s=end,
            speaker=speaker,
        )
        for utterance, start, end, speaker in zip(made, edges, edges[1:], ["ann", "bob", "ann"], strict=False)
    ]
    twice = Item("twice", items[0].audio_path, items[0].words, items[0].pronunciations, None, 0.0, edges[1], "ann")
    summary = align(recognizer, [items[2], items[0], items[1], twice], tmp_path / "out")
    tiers = read_tiers(tmp_path / "out" / "all.TextGrid")
    assert sorted(tiers) == ["ann - phones", "ann - words", "bob - phones", "bob - words"]
    ann = [label for label, _, _ in tiers["ann - words"]]
    assert ann == [*made[0].words.split(), *made[2].words.split()]
    assert all(edges[1] <= start and end <= edges[2] for _, start, end in tiers["bob - words"])
    assert [problem[0] for problem in read_problems(tmp_path / "out")] == ["twice"]
    assert summary.utterances == 3


def test_existing_tiers_are_skipped_and_their_problems_stay(
    recognizer: Recognizer, made: list[Utterance], folder: Path, find: Find, tmp_path: Path
) -> None:
    items: list[Item | Problem] = list(items_of(folder, made[:4], find))
    align(recognizer, items, tmp_path)
    kept, redone = sorted(tmp_path.rglob("*.TextGrid"))[:2]
    times = kept.stat().st_mtime_ns
    redone_text = redone.read_text()
    redone.unlink()
    errors = tmp_path / ERRORS_FILE
    lines = [f"{name}\t{items[index].audio_path}\treason\t\n" for name, index in (("x", 0), ("y", 1))]  # type: ignore[union-attr]
    assert not errors.exists()
    errors.write_text("".join([HEADER.line(), *lines, "z\tcut off"]))
    summary = align(recognizer, items, tmp_path)
    assert (summary.recordings, summary.skipped) == (1, 3)
    assert (kept.stat().st_mtime_ns, redone.read_text()) == (times, redone_text)
    done = {path.stem for path in tmp_path.rglob("*.TextGrid")} - {redone.stem}
    assert {problem[0] for problem in read_problems(tmp_path)} == {
        name
        for name, index in (("x", 0), ("y", 1))
        if items[index].audio_path.stem in done  # type: ignore[union-attr]
    }
    assert align(recognizer, items, tmp_path, force=True).recordings == 4


def test_threads_change_nothing(
    recognizer: Recognizer,
    made: list[Utterance],
    folder: Path,
    find: Find,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(corpus_module, "UNIT_UTTERANCES", 3)
    for jobs in (1, 3):
        align(recognizer, items_of(folder, made, find), tmp_path / str(jobs), jobs=jobs)
    for path in (tmp_path / "1").rglob("*.TextGrid"):
        assert path.read_text() == (tmp_path / "3" / path.relative_to(tmp_path / "1")).read_text()


@pytest.mark.slow
def test_a_killed_alignment_resumes(folder: Path, lexicon: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from asr.cli.alignment import commands; commands()"]
    arguments = ["align", MODEL, str(folder), "--lexicon", str(lexicon), "--out", str(tmp_path / "out"), "--jobs", "1"]
    slow = "import asr.inference.align_corpus as a; a.UNIT_UTTERANCES = 1; " + command[-1]
    process = subprocess.Popen([*command[:-1], slow, *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while len(list((tmp_path / "out").rglob("*.TextGrid"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.read_text() for path in (tmp_path / "out").rglob("*.TextGrid")}
    assert 3 <= len(before) < len(list(folder.rglob("*.wav")))
    result = CliRunner().invoke(alignment.commands, arguments)
    assert result.exit_code == 0, result.output
    assert f"skipped: {len(before)} recordings" in result.output
    after = {path: path.read_text() for path in (tmp_path / "out").rglob("*.TextGrid")}
    assert {path.stem for path in after} == {path.stem for path in folder.rglob("*.wav")}
    assert before.items() <= after.items()
    arguments[-3] = str(tmp_path / "again")
    assert CliRunner().invoke(alignment.commands, arguments).exit_code == 0
    assert all((tmp_path / "again" / path.relative_to(tmp_path / "out")).read_text() == after[path] for path in after)


def with_spoiled_part(made: Sequence[Utterance], folder: Path) -> Path:
    """A manifest of two recordings: the first has an utterance with a phone that the model lacks, in a name with spaces."""
    folder = folder / "two  spaces"
    folder.mkdir()
    both = [read_audio(utterance.audio_path) for utterance in made[:2]]
    soundfile.write(folder / "both.wav", np.concatenate(both), 16000)
    soundfile.write(folder / "one.wav", read_audio(made[2].audio_path), 16000)
    first = replace(made[0], audio_path=folder / "both.wav")
    start_s = len(both[0]) / 16000
    wrong = replace(made[1], audio_path=folder / "both.wav", start_s=start_s, phones=("Ø",), phone_times_s=None)
    write_corpus(folder, {"test": [first, wrong, replace(made[2], audio_path=folder / "one.wav")]}, {})
    return folder / "cuts_test.jsonl.gz"


def test_a_resumed_corpus_reports_as_an_uninterrupted_one(made: list[Utterance], tmp_path: Path) -> None:
    arguments = ["align", MODEL, with_spoiled_part(made, tmp_path), "--out", tmp_path / "out"]
    status, output, _ = run(*arguments)
    assert (status, "left out: 1 (phones that the model lacks)" in output) == (1, True)
    errors = (tmp_path / "out" / ERRORS_FILE).read_text()
    for lost, recordings in (("one.TextGrid", 1), ("", 0)):
        if lost:
            (tmp_path / "out" / lost).unlink()
        resumed, output, _ = run(*arguments)
        assert resumed == status
        assert f"{recordings} recordings" in output
        assert "left out: 1 (phones that the model lacks)" in output
        assert (tmp_path / "out" / ERRORS_FILE).read_text() == errors


def tiny_bundle(phones: PhoneInventory) -> Bundle:
    """A model of a few random weights."""
    config = settings(*TINY_MODEL)
    return Bundle(build_model(config.model, config.features, phones), config.model, config.features, phones, "plain")


def test_phones_of_one_symbol_are_counted_together() -> None:
    """Their frequencies weigh random phones, to which the fit of a text is compared."""
    recognizer = Recognizer(tiny_bundle(make_inventory("two", {"AH": "AH", "AX": "AH", "T": "T"})))
    item = Item("u", Path("a.wav"), ("A",), phones=("AH", "AH", "AX", "T"))
    folded = replace(item, phones=("AH", "AH", "AH", "T"))
    (_, first), (_, second) = (corpus_module.survey(recognizer, list(each).copy) for each in ([item], [folded]))
    np.testing.assert_array_equal(first, second)
    assert first[1] > first[2]


def copy_twice(made: Sequence[Utterance], *folders: Path) -> list[Utterance]:
    """Utterances in files of the same name in different folders."""
    copied = []
    for utterance, folder in zip(made, folders, strict=False):
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "same.wav", read_audio(utterance.audio_path), 16000)
        copied.append(replace(utterance, audio_path=folder / "same.wav"))
    return copied


@pytest.mark.parametrize("layout", ["kaldi", "cuts", "folder of cuts"])
@pytest.mark.parametrize("inside", [False, True])
def test_tiers_of_audio_that_is_elsewhere(
    layout: str, inside: bool, made: list[Utterance], lexicon: Path, tmp_path: Path
) -> None:
    """Audio may be outside of the folder that describes it, all or some of it; equal names get tiers of their own."""
    source, out = tmp_path / "data" / "source", tmp_path / "out"
    source.mkdir(parents=True)
    first, second = copy_twice(made, (source if inside else tmp_path / "audio") / "a", tmp_path / "audio" / "b")
    if layout == "kaldi":
        rows = {"wav.scp": lambda u: u.audio_path, "text": lambda u: u.words, "utt2spk": lambda u: u.speaker}
        for name, value in rows.items():
            (source / name).write_text("".join(f"{u.id} {value(u)}\n" for u in (first, second)))
    else:
        write_corpus(source, {"test": [first, second]}, {})
    given = source / "cuts_test.jsonl.gz" if layout == "cuts" else source
    places = ("data/source/a", "audio/b") if inside else ("a", "b")
    arguments = ["align", MODEL, given, "--lexicon", lexicon, "--out", out]
    status, output, error = run(*arguments)
    assert status == 0, (output, error)
    assert sorted(out.rglob("*.TextGrid")) == sorted(out / place / "same.TextGrid" for place in places)
    for place, utterance in zip(places, (first, second), strict=True):
        words = read_tiers(out / place / "same.TextGrid")["words"]
        assert [label for label, _, _ in words] in (utterance.words.split(), [utterance.words])
    (out / places[0] / "same.TextGrid").write_text("corrected")
    assert run(*arguments)[0] == 0
    assert (out / places[0] / "same.TextGrid").read_text() == "corrected"


def test_tiers_beside_the_audio_replace_none(folder: Path, lexicon: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    for number, path in enumerate(sorted(folder.rglob("*.wav"))[:2]):
        (corpus / str(number)).mkdir(parents=True)
        (corpus / str(number) / "a.wav").write_bytes(path.read_bytes())
        (corpus / str(number) / "a.lab").write_text(path.with_suffix(".lab").read_text())
    (corpus / "0" / "a.lab").unlink()
    own = '"ooTextFile" "TextGrid" 0 9 <exists> 1 "IntervalTier" "ann" 0 9 1 0 9 "MY MOTHER"'
    (corpus / "0" / "a.TextGrid").write_text(own)
    arguments = ["align", MODEL, corpus, "--lexicon", lexicon, "--out", corpus]
    status, output, _ = run(*arguments)
    assert (status, "1 recordings" in output, "skipped: 1 recordings" in output) == (0, True, True)
    assert (corpus / "0" / "a.TextGrid").read_text() == own
    assert "words" in read_tiers(corpus / "1" / "a.TextGrid")
    _, _, error = run(*arguments, "--force")
    assert "--force in the corpus itself" in str(error)
    assert (corpus / "0" / "a.TextGrid").read_text() == own


# A long recording.


def join(utterances: Sequence[Utterance], path: Path, times: int = 1) -> tuple[list[str], list[float]]:
    """Write utterances one after another; returns the words of each, and its start in seconds."""
    parts = [read_audio(utterance.audio_path) for utterance in utterances] * times
    soundfile.write(path, np.concatenate(parts), 16000)
    starts_s = np.cumsum([0, *map(len, parts[:-1])]) / 16000
    return [utterance.words for utterance in utterances] * times, starts_s.tolist()


def word_starts(recognizer: Recognizer, made: Sequence[Utterance], find: Find, out: Path) -> list[list[float]]:
    """The starts of the words of each utterance, aligned by itself."""
    items = [
        Item(u.id, u.audio_path, split_words(u.words), tuple(find(word) for word in u.words.split())) for u in made
    ]
    align(recognizer, items, out, root=Path("/"))
    files = [out / u.audio_path.relative_to("/").with_suffix(".TextGrid") for u in made]
    return [[start for _, start, _ in read_tiers(file)["words"]] for file in files]


def test_a_long_recording_is_aligned_as_its_parts_are(
    recognizer: Recognizer, made: list[Utterance], find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(align_recordings, "LONG_S", 20.0)
    expected = word_starts(recognizer, made, find, tmp_path / "parts")
    texts, starts_s = join(made, tmp_path / "long.wav")
    lacking, extra = 5, 11  # the text lacks one utterance, and has one that the recording lacks
    spoken = [text for index, text in enumerate(texts) if index != lacking]
    words = [word for text in [*spoken[:extra], "XYZZY", TEXTS[0], TEXTS[1], *spoken[extra:]] for word in text.split()]
    item = Item("long", tmp_path / "long.wav", tuple(words), tuple(find(word) for word in words))
    summary = align(recognizer, [item], tmp_path / "out")
    found = read_tiers(tmp_path / "out" / "long.TextGrid")["words"]
    wanted = [
        start + s
        for i, (starts, s) in enumerate(zip(expected, starts_s, strict=True))
        for start in starts
        if i != lacking
    ]
    near = [min(abs(start - time_s) for _, start, _ in found) for time_s in wanted]
    assert np.median(near) <= 0.02  # two frames: each piece has other means than its utterances
    assert np.mean(np.array(near) <= 0.1) >= 0.85
    inside = [label for label, start, _ in found if starts_s[lacking] + 0.3 < start < starts_s[lacking + 1] - 0.5]
    assert len(inside) <= 6
    assert 0.9 * len(wanted) <= len(found) <= len(wanted) + 8
    reasons = {problem[2]: problem[3] for problem in read_problems(tmp_path / "out")}
    assert reasons.keys() == {"no pronunciation", "text that the audio lacks", "audio that the text lacks"}
    assert reasons["no pronunciation"].endswith(": XYZZY")
    start_s, end_s = map(float, reasons["audio that the text lacks"].removesuffix(" s").split(" to "))
    overlap_s = min(end_s, starts_s[lacking + 1]) - max(start_s, starts_s[lacking])
    assert overlap_s >= 0.5 * (end_s - start_s) > 0
    unheard = [problem[3] for problem in read_problems(tmp_path / "out") if problem[2] == "text that the audio lacks"]
    assert any(f": {TEXTS[0]}" in text for text in unheard)
    assert (
        summary.problems.total() == 2 + len(unheard) <= 5
    )  # espeak-ng says a few words that the small model does not hear


def test_a_long_recording_with_the_text_of_another_is_refused(
    recognizer: Recognizer, made: list[Utterance], find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(align_recordings, "LONG_S", 20.0)
    join(made[:8], tmp_path / "long.wav")
    words = ("SCHOOL", "TEACHER", "YELLOW", "BOOK", "FATHER") * 20
    item = Item("long", tmp_path / "long.wav", words, tuple(find(word) for word in words))
    align(recognizer, [item], tmp_path / "out")
    assert [problem[2] for problem in read_problems(tmp_path / "out")] == ["text does not fit the audio"]


def test_a_long_recording_with_phones_that_no_words_agree_with(
    recognizer: Recognizer, made: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(align_recordings, "LONG_S", 20.0)
    texts, _ = join(made[:10], tmp_path / "long.wav")
    phones = tuple(phone for utterance in made[:10] for phone in utterance.phones)
    words = split_words(" ".join(texts))
    align(recognizer, [Item("long", tmp_path / "long.wav", words, phones=phones)], tmp_path / "out")
    tiers = read_tiers(tmp_path / "out" / "long.TextGrid")
    found = [label for label, _, _ in tiers["phones"]]
    assert len(found) >= 0.9 * len(phones)
    assert tiers["words"] == [(" ".join(words), tiers["phones"][0][1], tiers["phones"][-1][2])]
    more = Item("more", tmp_path / "long.wav", words, phones=(*phones, *phones[:120]))
    align(recognizer, [more], tmp_path / "more")
    lacking = [problem[3] for problem in read_problems(tmp_path / "more") if problem[2] == "text that the audio lacks"]
    assert lacking
    assert all(re.fullmatch(r"groups of phones \d+ to \d+ of \d+", detail) for detail in lacking)


def test_a_long_recording_with_long_silences(
    recognizer: Recognizer, made: list[Utterance], find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a window of zeros, at the start, inside and at the end."""
    monkeypatch.setattr(align_recordings, "LONG_S", 20.0)
    silence, halves = np.zeros(70 * 16000, np.float32), (made[:6], made[6:12])
    speech = [np.concatenate([read_audio(utterance.audio_path) for utterance in half]) for half in halves]
    soundfile.write(tmp_path / "long.wav", np.concatenate([silence, speech[0], silence, speech[1], silence]), 16000)
    words = split_words(" ".join(utterance.words for utterance in made[:12]))
    item = Item("long", tmp_path / "long.wav", words, tuple(find(word) for word in words))
    align(recognizer, [item], tmp_path / "out")
    found = read_tiers(tmp_path / "out" / "long.TextGrid")["words"]
    assert len(found) >= 0.6 * len(words)  # a window that is silent but for a second is recognized badly
    problems = read_problems(tmp_path / "out") if (tmp_path / "out" / "errors.tsv").exists() else []
    ranges = [re.findall(r"\d+", detail)[:2] for _, _, _, detail in problems]
    assert len(found) + sum(int(last) - int(first) + 1 for first, last in ranges) == len(words)
    ends_s = [70 + len(speech[0]) / 16000, 140 + (len(speech[0]) + len(speech[1])) / 16000]
    inside = [69.9 <= start <= ends_s[0] or ends_s[0] + 69.9 <= start <= ends_s[1] for _, start, _ in found]
    assert np.mean(inside) >= 0.98


def test_an_mp3_that_ends_before_its_header_says(
    recognizer: Recognizer, made: list[Utterance], find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(align_recordings, "LONG_S", 20.0)
    texts, _ = join(made[:8], tmp_path / "long.wav")
    soundfile.write(tmp_path / "whole.mp3", soundfile.read(tmp_path / "long.wav")[0], 16000, format="MP3")
    path = tmp_path / "long.mp3"
    path.write_bytes((tmp_path / "whole.mp3").read_bytes()[:-1000])
    stated, there = soundfile.info(path).frames, len(soundfile.read(path)[0])
    assert 1000 < stated - there < 3 * 1152
    words = split_words(" ".join(texts))
    item = Item("long", path, words, tuple(find(word) for word in words))
    aligner = UtteranceAligner(recognizer, phone_weights({}, len(recognizer.bundle.inventory.symbols)))
    log_probs = LongRecording(aligner, item, stated / 16000)._recognize()
    assert torch.allclose(log_probs.logsumexp(1), torch.zeros(len(log_probs)), atol=1e-3)
    align(recognizer, [item, replace(item, id="whole", audio_path=tmp_path / "whole.mp3")], tmp_path / "out")
    found, wanted = (read_tiers(tmp_path / "out" / f"{name}.TextGrid")["words"] for name in ("long", "whole"))
    assert len(wanted) >= 0.7 * len(words)
    assert [label for label, _, _ in found] == [label for label, _, _ in wanted]
    assert found[-1][2] <= stated / 16000


# The commands.


def run(*arguments: object) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(alignment.commands, [str(argument) for argument in arguments])
    return result.exit_code, result.output, result.exception


def test_the_command_reads_manifests(made: list[Utterance], tmp_path: Path) -> None:
    write_corpus(tmp_path, {"test": made[:3]}, {})
    status, output, _ = run("align", MODEL, tmp_path / "cuts_test.jsonl.gz", "--out", tmp_path / "tiers")
    assert status == 0, output
    assert len({utterance.audio_path.parent for utterance in made[:3]}) == 1
    tiers = read_tiers(tmp_path / "tiers" / f"{made[0].audio_path.stem}.TextGrid")
    assert [label for label, _, _ in tiers["phones"]] == list(made[0].phones)
    assert [label for label, _, _ in tiers["words"]] == [made[0].words]


def test_the_command_names_what_is_left_out(folder: Path, lexicon: Path, tmp_path: Path) -> None:
    for path in sorted(folder.rglob("*.wav"))[:2]:
        (tmp_path / "corpus").mkdir(exist_ok=True)
        (tmp_path / "corpus" / path.name).write_bytes(path.read_bytes())
    first, second = sorted((tmp_path / "corpus").iterdir())
    first.with_suffix(".txt").write_text("quixotic")
    status, output, _ = run("align", MODEL, tmp_path / "corpus", "--lexicon", lexicon, "--out", tmp_path / "tiers")
    assert status == 2
    assert "left out: 1 (no pronunciation)" in output
    assert any(second.name in line for line in (tmp_path / "tiers" / ERRORS_FILE).read_text().splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}"], "a corpus without --out"),
        (["{folder}", "--out", "{tmp}/o", "--text", "A"], "a corpus with --phones or --text"),
        (["{folder}", "--out", "{tmp}/o", "--phones", "AH"], "a corpus with --phones or --text"),
        (["{folder}", "--out", "{tmp}/o", "--format", "textgrid"], "a corpus with --format or --notation"),
        (["{folder}", "--out", "{tmp}/o", "--notation", "ipa"], "a corpus with --format or --notation"),
        (["{tmp}/none.wav", "--phones", "AH", "--force"], "a single file with --force, --jobs, --cluster"),
        (["{tmp}/none.wav", "--phones", "AH", "--jobs", "2"], "a single file with --force, --jobs, --cluster"),
        (["{tmp}/none.wav", "--phones", "AH", "--language", "de"], "language: 'de' without --g2p"),
        (["{folder}", "--out", "{tmp}/o"], "words without phones, expected --lexicon or --g2p"),
        (["{tmp}/none", "--out", "{tmp}/o"], "no such file or folder"),
        (["{tmp}/none.wav"], "nothing to align"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, folder: Path, tmp_path: Path) -> None:
    _, _, error = run("align", MODEL, *(text.format(folder=folder, tmp=tmp_path) for text in arguments))
    assert isinstance(error, InputError), error
    assert message in str(error)
    assert "\n" not in str(error)


def test_a_row_without_phones_is_left_out_and_the_rest_is_aligned(made: list[Utterance], tmp_path: Path) -> None:
    lines = [f"{u.id}\t{u.audio_path}\t{u.speaker}\t{u.words}\t{' '.join(u.phones)}" for u in made[:2]]
    lines[0] = lines[0].rpartition("\t")[0] + "\t"
    (tmp_path / "t.tsv").write_text("\n".join(["id\taudio\tspeaker\twords\tphones", *lines]))
    status, output, _ = run("align", MODEL, tmp_path / "t.tsv", "--out", tmp_path / "out")
    assert status == 1
    assert "left out: 1 (words without phones, and no lexicon or g2p)" in output
    assert [path.stem for path in (tmp_path / "out").glob("*.TextGrid")] == [made[1].audio_path.stem]
    assert [problem[:2] for problem in read_problems(tmp_path / "out")] == [[made[0].id, str(made[0].audio_path)]]


def test_a_model_with_stressed_vowels_takes_the_stress_of_a_lexicon(
    recognizer: Recognizer, made: list[Utterance], tmp_path: Path
) -> None:
    stressed = {phone: f"{phone}1" if phone[0] in "AEIOU" else phone for phone in recognizer.phones}
    phones = make_inventory("phones.txt", {phone: phone for phone in stressed.values()}, "arpabet")
    save_bundle(replace(recognizer.bundle, inventory=phones), tmp_path / "model", "card")
    reference = [stressed[phone] for phone in made[0].phones]
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text(f"said {' '.join(reference)}\n")
    status, output, error = run("align", tmp_path / "model", made[0].audio_path, "--text", "said", "--lexicon", lexicon)
    assert status == 0, error
    assert [line.split()[4] for line in output.splitlines() if made[0].audio_path.stem in line] == reference
    write_corpus(tmp_path, {"test": [replace(made[0], words="said", phones=tuple(reference), phone_times_s=None)]}, {})
    cuts = tmp_path / "cuts_test.jsonl.gz"
    status, output, error = run("realign", tmp_path / "model", cuts, tmp_path / "again.jsonl", "--lexicon", lexicon)
    assert (status, error) == (0, None)
    assert "changed: 0 of 1 words" in output


def test_one_file_with_words_that_espeak_pronounces(made: list[Utterance], tmp_path: Path) -> None:
    from data_prep.espeak_g2p import EspeakG2P

    expected = [phone for word in ("my", "cat") for phone in EspeakG2P("en-us").pronounce(word)[0]]
    phones = make_inventory("spoken", {phone: phone for phone in sorted(set(expected))})
    save_bundle(tiny_bundle(phones), tmp_path / "model", "card")
    request = ["align", tmp_path / "model", made[0].audio_path, "--text", "My cat!"]
    status, output, error = run(*request, "--g2p", "espeak", "--language", "en-us")
    assert status == 0, error
    assert [line.split()[4] for line in output.splitlines() if made[0].audio_path.stem in line] == expected
    assert "expected --phones, or --text with --lexicon or --g2p" in str(run(*request)[2])


def test_recordings_with_the_same_tiers_are_refused(recognizer: Recognizer, tmp_path: Path) -> None:
    items = [Item(name, tmp_path / name, ("A",), ((("AH",),),)) for name in ("a.wav", "a.flac")]
    with pytest.raises(InputError, match=r"a\.flac: same tiers as .*a\.wav"):
        align(recognizer, items, tmp_path / "out")
    with pytest.raises(InputError, match="0 utterances"):
        align(recognizer, [], tmp_path / "out")
