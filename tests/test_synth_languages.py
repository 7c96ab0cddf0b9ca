"""Synthetic speech in any language: phones in IPA with their times, disjoint splits, and the same files every time."""

import hashlib
import json
import sys
import unicodedata
from collections import Counter
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import Utterance, read_manifest
from asr.corpus.notation import is_ipa
from asr.corpus.phones import read_inventory
from asr.errors import InputError
from data_prep import language_texts
from data_prep.espeak import Phoneme, SpeakingStyle, Speech, Transcription, make_data_folder, synthesize_transcribed
from data_prep.espeak_ipa import SWITCHED, UNMATCHED, Sound, read_sounds, to_phones
from data_prep.espeak_languages import all_languages, find_language
from data_prep.language_texts import draw_sentences, read_sentences, words_in
from data_prep.leaving_out import Unusable
from data_prep.segments import Segment
from data_prep.segments_ipa import PAUSE, label_ipa
from data_prep.speakers import make_speaker
from data_prep.spreading import in_processes
from data_prep.synth_languages import prepare_language

pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: pip install 'asr-phones[synth]'")

SENTENCES = """Die Katze springt über den Zaun.
Zwei Pferde stehen auf der Wiese.
Heute scheint endlich die Sonne.
Wir kaufen Brot und frischen Käse.

Mein Bruder schläft noch.
Im Herbst fallen die Blätter.
Die Katze springt  über den Zaun.
Das Wasser ist kalt; niemand badet.
"""
"""Seven sentences, one of them twice."""

VOWELS = ("a", "e", "i", "o", "u")
SPEAKERS, UTTERANCES = 3, 2
Corpus = tuple[Path, dict[str, list[Utterance]]]


def make(out: Path, text: Path, jobs: int) -> Corpus:
    return out, prepare_language(out, "de", SPEAKERS, UTTERANCES, 5, in_processes(jobs), text)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "german.txt"
    path.write_text(unicodedata.normalize("NFD", SENTENCES), encoding="utf-8-sig")
    return path


@pytest.fixture(scope="module")
def corpus(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make(tmp_path_factory.mktemp("languages") / "de", text, jobs=1)


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voice") / "data"
    make_data_folder(folder, {"speaker": make_speaker(1, 0).variant})
    return folder


def speak(voice: Path, language: str, sentence: str, *, tones: bool = True) -> tuple[Speech, list[Segment]]:
    found = find_language(language)
    style = SpeakingStyle("speaker", 160, 50, 50, found.file)
    speech, transcription = synthesize_transcribed(voice, sentence, style, 1)
    speech = speech.with_silence(2000, 2000)
    return speech, label_ipa(speech, transcription, found.code if tones else "")


@pytest.mark.parametrize(
    ("language", "sentence", "phones"),
    [
        # The command `espeak-ng --ipa --sep=_` of another release (1.51), with affricates tied and stress removed.
        ("de", "Die Katze springt über zwei Pferde.", "d iː k a t͡s ə ʃ p ɾ ɪ ŋ t yː b ɜ t͡s v aɪ p͡f eː ɾ d ə"),
        ("es", "Mucho jamón y leche.", "m u t͡ʃ o x a m o n i l e t͡ʃ e"),
        ("hi", "घर में छाता है.", "ɡʰ ʌ ɾ m ẽː cʰ aː t aː h ɛː"),
        ("fr", "un bon vin blanc.", "œ̃ b ɔ̃ v ɛ̃ b l ɑ̃"),
        ("sw", "Habari ya asubuhi mwalimu.", "h a b a r i j a a s u b u h i m w a l i m u"),
        # Pinyin: ni3 hao3 wo3 men (neutral) qu4 xue2 xiao4 chi1 fan4.
        (
            "cmn",
            "你好 我们 去 学校 吃饭.",
            "n i˨˩˦ χ ɑu˨˩˦ w o˨˩˦ m ə˩˩ n t͡ɕʰ y˥˩ ɕ yɛ˧˥ ɕ j ɑu˥˩ ʈ͡ʂʰ ɻ̩˥˥ f a˥˩ n",
        ),
    ],
)
def test_phones_of_a_sentence(voice: Path, language: str, sentence: str, phones: str) -> None:
    speech, segments = speak(voice, language, sentence)
    spoken = [segment.phone for segment in segments if segment.phone != PAUSE]
    assert spoken == unicodedata.normalize("NFC", phones).split()
    assert (segments[0].start, segments[-1].end) == (0, len(speech.samples))
    assert all(before.end == after.start for before, after in pairwise(segments))
    assert all(segment.end - segment.start >= 0.0049 * speech.sample_rate_hz for segment in segments)
    assert segments[0].phone == segments[-1].phone == PAUSE


def test_times_agree_with_the_sound(voice: Path) -> None:
    """Where a high frequency dominates there is an s, and a stop between vowels begins with silence."""
    speech, segments = speak(voice, "es", "queso queso queso, taza poca pico.")
    bright = np.convolve(np.diff(speech.samples, n=2, append=[0, 0]) ** 2, np.ones(220) / 220, "same")
    loud = np.convolve(speech.samples**2, np.ones(220) / 220, "same") + 1e-9
    sibilant = bright > 0.7 * loud
    found = [segment for segment in segments if segment.phone == "s"]
    assert len(found) == 3
    margin = round(0.02 * speech.sample_rate_hz)
    for segment in found:
        middle = (segment.start + segment.end) // 2
        assert sibilant[middle - margin // 2 : middle + margin // 2].all()
        assert not sibilant[segment.start - 3 * margin : segment.start - margin].any()
        assert not sibilant[segment.end + margin : segment.end + 3 * margin].any()
    stops = [after for before, after in pairwise(segments) if before.phone in VOWELS and after.phone in ("k", "p")]
    assert len(stops) >= 4
    for stop in stops:
        assert not speech.samples[stop.start + 20 : stop.start + 330].any()  # 15 ms of closure
        assert speech.samples[stop.start - 110 : stop.start].any()


def test_a_split_of_which_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("सच.\nमैं.\nघर.\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"out: split train has 0 utterances, left out: 3 \({SWITCHED}\), expected"):
        prepare_language(tmp_path / "out", "de", 3, 1, 0, in_processes(1), tmp_path / "text")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_tones_can_be_left_out(voice: Path) -> None:
    _, segments = speak(voice, "cmn", "你好.", tones=False)
    assert [segment.phone for segment in segments if segment.phone != PAUSE] == ["n", "i", "χ", "ɑu"]
    _, segments = speak(voice, "vi", "xin chào các bạn.")  # level, falling, rising, and glottalized falling tone
    vowels = [segment.phone for segment in segments if segment.phone[:1] in ("i", "a")]
    assert vowels == ["i", "aː˨˩", "aː˧˥", "aː˧˨"]


@pytest.mark.parametrize(
    ("symbol", "phones"),
    [
        ("tʃ", "t͡ʃ"), ("t͡ʃ", "t͡ʃ"), ("ts.h", "ʈ͡ʂʰ"), ("tɕh", "t͡ɕʰ"), ("pf", "p͡f"), ("dʒː", "d͡ʒː"), ("kh", "kʰ"),
        ("s.", "ʂ"), ("i̪", "ɹ̩"), ("l#", "l̥"), ("aː", "aː"), ("ɐ̃ʊ̃", "ɐ̃ʊ̃"), ("aɪ", "aɪ"), ("onɡ", "o ŋ"), ("ʦ", "t͡s"),
        ("h", "h"), ("ah", "ah"), ("ə-", "ə"), ("s̺", "s̺"), ("", ""),
    ],
)  # fmt: skip
def test_symbols_become_ipa(symbol: str, phones: str) -> None:
    assert to_phones(Sound("x", symbol), "", "") == tuple(unicodedata.normalize("NFC", phones).split())


def test_tone_and_length_are_read_from_the_mnemonic() -> None:
    assert to_phones(Sound("a214", "a2"), "214", "cmn") == ("a˨˩˦",)
    assert to_phones(Sound("y35", "yɜ"), "35", "cmn") == ("y˧˥",)
    assert to_phones(Sound("ong51", "onɡ5"), "51", "cmn") == ("o˥˩", "ŋ")
    assert to_phones(Sound("a4", "a4"), "4", "yue") == ("a˨˩",)
    assert to_phones(Sound("E3", "ɛɛ"), "3", "shn") == ("ɛ³",)
    assert to_phones(Sound("a:", "aa"), ":", "") == ("aː",)
    assert to_phones(Sound("a214", "a2"), "214", "") == ("a",)


def test_modifiers_may_have_symbols_of_their_own() -> None:
    sounds = read_sounds(Transcription("R\x1f;\x1f'i:\x1ft _|\x1fi\x1f;\x1fa", "rʲ\x1fˈiː\x1ft \x1fi\x1f\x1fa"))
    assert sounds == [Sound("R", "rʲ"), Sound("i:", "iː"), Sound("t", "t"), Sound("i", "i"), Sound("a", "a")]
    with pytest.raises(Unusable, match=SWITCHED):
        read_sounds(Transcription("h\x1fE\x1fl", "(en)h\x1fɛ\x1fl(de)"))
    with pytest.raises(Unusable, match=UNMATCHED):
        read_sounds(Transcription("h\x1fE\x1fl", "h\x1fɛ"))
    speech = Speech(np.ones(4000), 16000, (Phoneme("h", 100, -1), Phoneme("_", 3000, -1)))
    with pytest.raises(Unusable, match=UNMATCHED):
        label_ipa(speech, Transcription("h\x1fE", "h\x1fɛ"))


def test_splits_share_no_speaker_and_no_sentence(corpus: Corpus) -> None:
    out, splits = corpus
    assert {name: len(split) for name, split in splits.items()} == {"train": 2, "dev": 2, "test": 2}
    assert len({utterance.speaker for split in splits.values() for utterance in split}) == SPEAKERS
    assert len({utterance.words for split in splits.values() for utterance in split}) == SPEAKERS * UTTERANCES
    known = {" ".join(words_in(line).split()) for line in SENTENCES.splitlines()}
    assert {utterance.words for split in splits.values() for utterance in split} <= known
    statistics = json.loads((out / "stats.json").read_text(encoding="utf-8"))
    assert statistics["left_out"] == {"sentence that occurs before": 1, "sentence more than needed": 1}
    assert not (out / "left_out.tsv").exists()
    assert not out.with_name("de.partial").exists()


def test_manifests_inventory_and_audio_agree(corpus: Corpus) -> None:
    out, splits = corpus
    phones: set[str] = set()
    for name, split in splits.items():
        assert read_manifest(out / f"cuts_{name}.jsonl.gz") == split
        for utterance in split:
            phones.update(utterance.phones)
            info = soundfile.info(utterance.audio_path)
            assert (info.samplerate, info.channels, info.frames) == (16000, 1, round(utterance.duration_s * 16000))
            times = utterance.phone_times_s
            assert times is not None
            assert times[0][0] > 0.05
            assert times[-1][1] < utterance.duration_s - 0.05
            assert all(before[1] <= after[0] for before, after in pairwise(times))
            assert utterance.details == {"language": "de"}
    assert (out / "phones.txt").read_text(encoding="utf-8").splitlines() == sorted(phones)
    assert all(is_ipa(phone) and unicodedata.is_normalized("NFC", phone) for phone in phones)
    inventory = read_inventory(out / "phones.txt")
    assert set(inventory.symbols[1:]) == phones
    assert {"t͡s", "aɪ", "iː"} <= phones


def test_the_number_of_jobs_changes_nothing(corpus: Corpus, text: Path, tmp_path: Path) -> None:
    out, _ = make(tmp_path / "de", text, jobs=3)

    def digests(folder: Path) -> dict[str, str]:
        files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".gz"]
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    assert digests(out) == digests(corpus[0])
    for name, split in corpus[1].items():
        again = read_manifest(out / f"cuts_{name}.jsonl.gz")
        assert [(one.id, one.phones, one.phone_times_s) for one in again] == [
            (one.id, one.phones, one.phone_times_s) for one in split
        ]


def test_sentences_of_another_language_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lines = ["Guten Morgen.", "Das ist सच.", "Wie geht es dir?", "Bis bald.", "Der Zug kommt.", "Es regnet."]
    (tmp_path / "text").write_text("\n".join(lines), encoding="utf-8")
    splits = prepare_language(tmp_path / "out", "de", 3, 2, 4, in_processes(1), tmp_path / "text")
    left = (tmp_path / "out" / "left_out.tsv").read_text(encoding="utf-8").splitlines()
    assert len(left) == 1
    assert left[0].split("\t")[1] == SWITCHED
    assert "Das ist सच." in left[0]
    assert sum(map(len, splits.values())) == 5
    statistics = json.loads((tmp_path / "out" / "stats.json").read_text(encoding="utf-8"))
    assert statistics["left_out"] == {SWITCHED: 1}
    assert f"left out: 1 ({SWITCHED})" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 different sentences, expected at least 6, one on each line"),
        (b"\n \n...\n", r"0 different sentences, without 1 \(sentence without a word\), expected at least 6"),
        (b"Guten Tag.\n" * 9, r"1 different sentences, without 8 \(sentence that occurs before\), expected at least 6"),
        ("Grüße.\n".encode("latin-1"), "line 1: byte 0xFC, expected UTF-8"),
        ("Guten Tag.\n".encode("utf-16"), "UTF-16, expected UTF-8"),
        (
            b"a" * 1000 + b"\n" + b"b" * 10**6,
            r"1 \(sentence of more than 400 characters\), without 1 \(line of more than",
        ),
    ],
)
def test_a_bad_text_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        prepare_language(tmp_path / "out", "de", 3, 2, 0, in_processes(1), tmp_path / "text.txt")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
    with pytest.raises(InputError, match="no such file"):
        read_sentences(tmp_path / "none.txt", 1, 0)


@pytest.mark.parametrize(
    ("code", "near"),
    [("swahili", "sw (Swahili)"), ("german", "de (German)"), ("ess", "es (Spanish)"), ("", "de (German)")],
)
def test_a_language_that_espeak_lacks_names_near_ones(tmp_path: Path, code: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        prepare_language(tmp_path / "out", code, 3, 1, 0, in_processes(1))
    assert f"language {code!r} is not in espeak-ng, expected one of its " in str(caught.value)
    assert near in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_languages_have_their_usual_codes() -> None:
    files = {"de": "gmw/de", "zh": "sit/cmn", "CMN": "sit/cmn", "fr": "roa/fr", "pt_BR": "roa/pt-BR", "sw": "bnt/sw"}
    assert {code: find_language(code).file for code in files} == files
    assert len(set(all_languages().values())) > 100


def test_random_sentences_repeat_with_the_seed_and_have_words_of_the_list() -> None:
    swahili = find_language("sw")
    texts = draw_sentences(swahili, 300, 1)
    listed = (Path(language_texts.__file__).parent / "lists" / "words_sw.txt").read_text(encoding="utf-8").split()
    assert {word for sentence in texts.sentences for word in sentence[:-1].split()} <= set(listed)
    assert len(set(texts.sentences)) == 300
    assert {len(sentence.split()) for sentence in texts.sentences} == {3, 4, 5, 6, 7, 8}
    assert draw_sentences(swahili, 300, 1) == texts
    assert not set(draw_sentences(swahili, 300, 2).sentences) & set(texts.sentences)


def test_words_are_drawn_by_the_square_root_of_their_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    words = map("".join, product("bdfgklmnpt", "aeo", "nls", "aeo"))  # 270 words
    frequencies = dict.fromkeys(words, 0.0001) | {"una": 0.01, "2": 0.5, "a b": 0.5}
    fake = SimpleNamespace(available_languages=lambda: {"es": "x"}, get_frequency_dict=lambda _: frequencies)
    monkeypatch.setitem(sys.modules, "wordfreq", fake)
    texts = draw_sentences(find_language("es"), 3000, 0)
    counts = Counter(word for sentence in texts.sentences for word in sentence[:-1].split())
    assert set(counts) <= frequencies.keys() - {"2", "a b"}
    mean = sum(count for word, count in counts.items() if word != "una") / (len(counts) - 1)
    assert counts["una"] / mean == pytest.approx(10, rel=0.2)
    with pytest.raises(InputError, match=r"language eu: not in wordfreq, .* expected a text \(--text FILE\)"):
        draw_sentences(find_language("eu"), 10, 0)


def test_without_wordfreq_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(InputError, match=r"pip install 'asr-phones\[languages\]', or a text"):
        prepare_language(tmp_path / "out", "de", 3, 1, 0, in_processes(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("«Guten Tag!», sagte er – ja (3 Mal).", "Guten Tag sagte er ja 3 Mal"),
        ("मैं घर जा रहा हूँ।", "मैं घर जा रहा हूँ"),
        ("l'été, c'est   beau…", "l'été c'est beau"),
        ("... !", ""),
    ],
)
def test_words_have_no_punctuation(sentence: str, words: str) -> None:
    assert words_in(sentence) == words
