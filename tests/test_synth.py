"""The synthetic corpus: TIMIT's exact layout, labels that agree with the sound, and the same bytes every time."""

import hashlib
import os
import re
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import Utterance, read_manifest
from asr.corpus.phones import timit_folding
from asr.errors import InputError
from data_prep import speakers, synth
from data_prep.checking import read_speakers
from data_prep.espeak import Phoneme, SpeakingStyle, Speech, make_data_folder, synthesize
from data_prep.rooms import Channel, simulate_recording
from data_prep.segments import CLOSURES, VOWELS, Segment, label_phones
from data_prep.sentences import MAX_SENTENCES, make_sentences, words_of
from data_prep.speakers import make_speaker
from data_prep.spreading import in_processes
from data_prep.synth import prepare_synth

pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed: pip install 'asr-phones[synth]'")

SPEAKERS, UTTERANCES, SEED = 6, 5, 3
Corpus = tuple[Path, dict[str, list[Utterance]]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    out = tmp_path_factory.mktemp("synth") / "made" / "corpus"
    return out, prepare_synth(out, SPEAKERS, UTTERANCES, SEED, in_processes(2))


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voice") / "data"
    make_data_folder(folder, {speaker.name: speaker.variant for speaker in (make_speaker(i, 0) for i in range(8))})
    return folder


def all_utterances(corpus: Corpus) -> list[Utterance]:
    return [utterance for split in corpus[1].values() for utterance in split]


def read_labels(path: Path) -> list[tuple[int, int, str]]:
    """Read (start, end, text) from the lines of a .PHN, .WRD or .TXT file."""
    lines = [line.split(" ", 2) for line in path.read_text(encoding="ascii").splitlines()]
    return [(int(start), int(end), text) for start, end, text in lines]


def digests(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.suffix != ".gz")
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_layout_and_names_are_timits(corpus: Corpus) -> None:
    out, _ = corpus
    files = [path.relative_to(out / "TIMIT").as_posix() for path in (out / "TIMIT").rglob("*") if path.is_file()]
    assert len(files) == SPEAKERS * UTTERANCES * 4
    assert all(
        re.fullmatch(r"(TRAIN|TEST)/DR[1-8]/[FM][A-Z]{3}9/SX[1-9]\d*\.(WAV|PHN|WRD|TXT)", name) for name in files
    )
    assert len({name.split("/")[2] for name in files}) == SPEAKERS
    assert {path.name for path in out.iterdir()} == {
        "TIMIT", "dev_speakers.txt", "stats.json", "cuts_train.jsonl.gz", "cuts_dev.jsonl.gz", "cuts_test.jsonl.gz",
    }  # fmt: skip
    assert not out.with_name("corpus.partial").exists()


def test_splits_share_no_speaker_and_no_text(corpus: Corpus) -> None:
    out, splits = corpus
    names = {name: {utterance.speaker for utterance in split} for name, split in splits.items()}
    texts = {name: {utterance.words for utterance in split} for name, split in splits.items()}
    assert {name: len(found) for name, found in names.items()} == {"train": 4, "dev": 1, "test": 1}
    assert len(set.union(*names.values())) == SPEAKERS
    assert sum(map(len, texts.values())) == len(set.union(*texts.values())) == SPEAKERS * UTTERANCES
    assert (out / "dev_speakers.txt").read_text().split() == sorted(names["dev"])
    for name, split in splits.items():
        assert {utterance.audio_path.parents[2].name for utterance in split} == {"TRAIN" if name == "train" else "TEST"}


def test_audio_is_timits_sphere(corpus: Corpus) -> None:
    for utterance in all_utterances(corpus):
        data = utterance.audio_path.read_bytes()
        assert data.startswith(b"NIST_1A\n   1024\n")
        fields = dict(line.split(maxsplit=2)[::2] for line in data[16:1024].decode().split("end_head")[0].splitlines())
        assert (fields["sample_rate"], fields["sample_n_bytes"], fields["channel_count"]) == ("16000", "2", "1")
        assert fields["sample_byte_format"] == "01"
        assert len(data) == 1024 + 2 * int(fields["sample_count"])
        assert int(fields["sample_count"]) == round(utterance.duration_s * 16000)


def test_audio_has_noise_everywhere_and_never_clips(corpus: Corpus) -> None:
    for utterance in all_utterances(corpus):
        samples, _ = soundfile.read(utterance.audio_path, dtype="int16")
        assert 0.15 * 32768 < np.abs(samples.astype(int)).max() < 0.85 * 32768
        zero_runs = "".join("0" if zero else " " for zero in samples == 0).split()
        assert max(map(len, zero_runs), default=0) < 20
        quiet = samples[: read_labels(utterance.audio_path.with_suffix(".PHN"))[0][1]].astype(float)
        assert quiet.std() > 1


def test_phones_cover_the_audio_without_gaps(corpus: Corpus) -> None:
    known = set(timit_folding())
    for utterance in all_utterances(corpus):
        phones = read_labels(utterance.audio_path.with_suffix(".PHN"))
        assert phones[0][0] == 0
        assert phones[-1][1] == soundfile.info(utterance.audio_path).frames
        assert all(before[1] == after[0] for before, after in pairwise(phones))
        assert all(end - start >= 0.0045 * 16000 for start, end, _ in phones)
        assert {phone for _, _, phone in phones} <= known
        assert [index for index, (_, _, phone) in enumerate(phones) if phone == "h#"] == [0, len(phones) - 1]


def test_words_text_and_phones_agree(corpus: Corpus) -> None:
    for utterance in all_utterances(corpus):
        phones = read_labels(utterance.audio_path.with_suffix(".PHN"))
        words = read_labels(utterance.audio_path.with_suffix(".WRD"))
        ((start, end, text),) = read_labels(utterance.audio_path.with_suffix(".TXT"))
        assert (start, end) == (0, phones[-1][1])
        assert re.fullmatch(r"[A-Z][A-Za-z', ]+[.?]", text)
        assert [word for _, _, word in words] == words_of(text) == utterance.words.split()
        assert 5 <= len(words) <= 13
        assert all(before[1] <= after[0] for before, after in pairwise(words))
        starts, ends = {phone[0] for phone in phones}, {phone[1] for phone in phones}
        assert all(word[0] in starts and word[1] in ends for word in words)
        in_words = [p for p in phones if any(word[0] <= p[0] and p[1] <= word[1] for word in words)]
        assert [p for p in phones if p not in in_words and p[2] not in ("h#", "pau")] == []


def test_manifests_agree_with_the_label_files(corpus: Corpus) -> None:
    out, splits = corpus
    for name, split in splits.items():
        read = read_manifest(out / f"cuts_{name}.jsonl.gz")
        assert [utterance.id for utterance in read] == [utterance.id for utterance in split]
        for utterance in read:
            assert utterance.audio_path.is_relative_to(out)
            phones = read_labels(utterance.audio_path.with_suffix(".PHN"))
            assert utterance.phones == tuple(phone for _, _, phone in phones)
            assert utterance.phone_times_s is not None
            expected = [(start / 16000, end / 16000) for start, end, _ in phones]
            np.testing.assert_allclose(utterance.phone_times_s, expected, atol=1e-6)
            assert utterance.sex == utterance.speaker[0].lower()
            assert utterance.details["dialect"] == utterance.audio_path.parents[1].name
            assert utterance.id == f"{utterance.speaker}_{utterance.audio_path.stem}"


def test_same_seed_same_bytes_whatever_the_jobs(corpus: Corpus, tmp_path: Path) -> None:
    prepare_synth(tmp_path / "again", SPEAKERS, UTTERANCES, SEED, in_processes(1))
    assert digests(tmp_path / "again") == digests(corpus[0])
    prepare_synth(tmp_path / "other", 3, 1, SEED + 1, in_processes(2))
    audio = {name: digest for name, digest in digests(corpus[0]).items() if name.endswith(".WAV")}
    assert not set(digests(tmp_path / "other").values()) & set(audio.values())


def test_no_synthetic_speaker_has_the_name_of_one_of_timits() -> None:
    real = read_speakers("timit_dev.txt") | read_speakers("timit_core_test.txt")
    assert not {make_speaker(index, 1).name for index in range(speakers.MAX_SPEAKERS)} & {name.upper() for name in real}


@pytest.mark.slow
def test_more_speakers_than_espeak_knows_voices(tmp_path: Path) -> None:
    corpus = prepare_synth(tmp_path / "many", 360, 1, 3, in_processes(2))
    assert len({utterance.speaker for split in corpus.values() for utterance in split}) == 360


def test_speech_does_not_depend_on_earlier_utterances(voice: Path) -> None:
    women, men = make_speaker(0, 0).name, make_speaker(1, 0).name
    style, text = SpeakingStyle(women, 180, 50, 50), "The nurse measured the blue ladder."
    first = synthesize(voice, text, style, seed=7)
    synthesize(voice, "Walter quickly sold seven yachts.", SpeakingStyle(men, 240, 20, 90), seed=8)
    again = synthesize(voice, text, style, seed=7)
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.phonemes == again.phonemes


def test_speakers_sound_different(voice: Path) -> None:
    spectra, pitches_hz = [], {}
    for index in range(8):
        speaker = make_speaker(index, 0)
        speech = synthesize(voice, "Our mayor owned a yellow wagon.", SpeakingStyle(speaker.name, 180, 50, 0), seed=1)
        power = np.abs(np.fft.rfft(speech.samples, 1 << 17)) ** 2
        bands = np.add.reduceat(power[: 1 << 15], np.geomspace(1 << 9, 1 << 15, 24).astype(int)[:-1])
        spectra.append(10 * np.log10(bands / bands.sum()))
        voiced = speech.samples[np.argmax(np.abs(speech.samples)) :][: int(0.06 * speech.sample_rate_hz)]
        correlation = np.correlate(voiced, voiced, "full")[len(voiced) - 1 :]
        shortest, longest = speech.sample_rate_hz // 400, speech.sample_rate_hz // 60
        pitches_hz[speaker.name] = speech.sample_rate_hz / (shortest + np.argmax(correlation[shortest:longest]))
    distances = [np.sqrt(np.mean((one - two) ** 2)) for i, one in enumerate(spectra) for two in spectra[:i]]
    assert min(distances) > 1.0
    women, men = ([hz for name, hz in pitches_hz.items() if name[0] == sex] for sex in "FM")
    assert np.median(women) > 1.2 * np.median(men)


def test_labels_agree_with_the_sound(corpus: Corpus) -> None:
    """Closures are quieter at high frequencies than their releases; s is bright, vowels and nasals are not."""
    quieter, closures, brightness_db = 0, 0, defaultdict(list)
    for utterance in all_utterances(corpus):
        samples, _ = soundfile.read(utterance.audio_path)
        phones = read_labels(utterance.audio_path.with_suffix(".PHN"))
        high = np.diff(samples, n=2, append=[0, 0]) ** 2
        for (start, release, closure), (_, end, stop) in pairwise(phones):
            if stop in CLOSURES and closure == CLOSURES[stop]:
                closures += 1
                quieter += high[start:release].mean() < high[release:end].mean()
        for start, end, phone in phones:
            power = np.abs(np.fft.rfft(samples[start:end] * np.hanning(end - start), 1024)) ** 2
            brightness_db[phone].append(10 * np.log10(power[224:].sum() / power[:224].sum()))  # 3.5 kHz
    assert closures > 100
    assert quieter > 0.93 * closures  # chance level is one half
    vowels = np.median([value for phone in VOWELS for value in brightness_db[phone]])
    assert np.median(brightness_db["s"]) > vowels + 15
    assert np.median(brightness_db["n"]) < np.median(brightness_db["s"]) - 15


def test_the_spectrum_changes_at_boundaries(corpus: Corpus) -> None:
    """Measured by cepstral distance, which is not what places the boundaries."""

    def change(samples: np.ndarray, position: int) -> float:
        windows = [samples[position - 192 : position], samples[position : position + 192]]
        spectra = [np.log(np.abs(np.fft.rfft(window * np.hanning(192))) ** 2 + 1e-4) for window in windows]
        first, second = (np.fft.irfft(spectrum)[:13] for spectrum in spectra)
        return float(np.sqrt(np.sum((first - second) ** 2)))

    at, away = [], []
    generator = np.random.default_rng(0)
    for utterance in all_utterances(corpus):
        samples, _ = soundfile.read(utterance.audio_path)
        starts = [start for start, _, _ in read_labels(utterance.audio_path.with_suffix(".PHN"))[1:]]
        at += [change(samples, start) for start in starts]
        away += [change(samples, int(position)) for position in generator.integers(starts[0], starts[-1], len(starts))]
    assert np.median(at) > 1.5 * np.median(away)


def test_a_speaker_speaks_with_a_voice_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    styles = []

    def spy(data_folder: Path, text: str, style: SpeakingStyle, seed: int) -> Speech:
        styles.append(style)
        return synthesize(data_folder, text, style, seed)

    monkeypatch.setattr(speakers, "synthesize", spy)
    texts = tuple((f"SX{number + 1}", text) for number, text in enumerate(make_sentences(3, seed=0)))
    for index in range(2):
        speakers.record_speaker(speakers.SpeakerTask(index, 0, tmp_path / str(index), texts))
    assert [style.variant for style in styles] == [make_speaker(i, 0).name for i in (0, 0, 0, 1, 1, 1)]
    assert all(140 <= style.rate_wpm <= 260 and 0 <= style.pitch <= 99 for style in styles)
    assert len(set(styles)) == 6


def test_each_correction_of_the_events() -> None:
    """A signal constructed by hand: the labels must change where it changes."""
    rate_hz = 16000
    generator = np.random.default_rng(0)
    ms = rate_hz // 1000

    def tone(hz: float, length_ms: int) -> np.ndarray:
        return 0.3 * np.sin(2 * np.pi * hz * np.arange(length_ms * ms) / rate_hz + 0.5)

    silence = np.zeros(100 * ms)
    closure = np.zeros(50 * ms)
    burst = 0.1 * generator.standard_normal(30 * ms)
    sounds = [silence, tone(300, 100), tone(2000, 120), closure, burst, tone(800, 130), tone(2500, 70)]
    sounds += [0.2 * tone(120, 40), burst, silence]
    edges = np.cumsum([0, *map(len, sounds)])
    phonemes = (
        Phoneme("m", edges[1], 0),
        Phoneme("'E", edges[2] + 18 * ms, 0),  # its event is late
        Phoneme("t", edges[4], 0),  # no event for its closure
        Phoneme(";", edges[5], 1),  # joins the next vowel
        Phoneme("'A@", edges[5] + 30 * ms, 1),  # two phones
        Phoneme("b", edges[7], 1),  # closure and burst
        Phoneme("_:", edges[9], 1),
        Phoneme("_", edges[10], 1),
    )
    segments = label_phones(Speech(np.concatenate(sounds), rate_hz, phonemes))
    names = ["h#", "m", "eh", "tcl", "t", "aa", "r", "bcl", "b", "h#"]
    assert [segment.phone for segment in segments] == names
    assert [segment.word for segment in segments] == [-1, 0, 0, 0, 0, 1, 1, 1, 1, -1]
    np.testing.assert_allclose([segment.start for segment in segments], edges[:-1], atol=4 * ms)
    assert segments[-1].end == edges[-1]


def test_a_phoneme_without_a_phone_is_named() -> None:
    speech = Speech(np.ones(4000), 16000, (Phoneme("y:", 100, 0), Phoneme("_", 3000, 0)))
    with pytest.raises(InputError, match="'y:' has no TIMIT phone"):
        label_phones(speech)


def test_words_that_espeak_joins_are_separated(voice: Path) -> None:
    text = "Some of the cows."
    speech = synthesize(voice, text, SpeakingStyle(make_speaker(0, 0).name, 180, 50, 50), 1)
    segments = label_phones(speech.with_silence(2000, 2000))
    phones: dict[int, list[str]] = defaultdict(list)
    for segment in segments:
        phones[segment.word].append(segment.phone)
    assert [phones[word][-2:] for word in range(3)] == [["ah", "m"], ["ah", "v"], ["dh", "ax"]]


def test_recording_keeps_time_and_level() -> None:
    click = np.zeros(16000)
    click[8000] = 1.0
    for seed in range(20):
        recorded = simulate_recording(click, 16000, Channel(0.0, 50.0, 7500.0), np.random.default_rng(seed))
        assert recorded.dtype == np.int16
        assert recorded.shape == click.shape
        assert np.abs(recorded.astype(int)).argmax() == 8000


def test_sentences_differ_and_repeat_with_the_seed() -> None:
    sentences = make_sentences(2000, seed=1)
    assert len(set(sentences)) == 2000
    assert make_sentences(100, seed=1) == sentences[:100]
    assert not set(make_sentences(100, seed=2)) & set(sentences)
    with pytest.raises(InputError, match="expected at most"):
        make_sentences(MAX_SENTENCES + 1, seed=1)


def test_train_has_every_phone_that_espeak_gives(voice: Path) -> None:
    """A tenth of the default corpus has all phones except those without a phoneme in espeak-ng's American English."""
    phones: set[str] = set()
    style = SpeakingStyle(make_speaker(1, 0).name, 170, 50, 50)
    for index, text in enumerate(make_sentences(120, seed=0)):
        speech = synthesize(voice, text, style, index + 1).with_silence(2000, 2000)
        segments: list[Segment] = label_phones(speech)
        phones |= {segment.phone for segment in segments}
    assert set(timit_folding()) - phones == {"em", "eng", "hv", "nx", "ux"}


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((2, 5, 0), "speakers is 2, expected 3"),
        ((20000, 5, 0), "speakers is 20000, expected 3"),
        ((3, 0, 0), "utterances is 0, expected at least 1"),
        ((3, 1, -1), "seed is -1, expected at least 0"),
        ((1000, 1000, 0), "1000000 utterances in total, expected at most"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, numbers: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_synth(tmp_path / "out", *numbers, in_processes(1))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_corpus_is_unchanged(corpus: Corpus) -> None:
    before = digests(corpus[0])
    with pytest.raises(InputError, match="exists already, expected a new or an empty folder"):
        prepare_synth(corpus[0], 3, 1, 0, in_processes(1))
    assert digests(corpus[0]) == before


def test_without_espeak_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(
        InputError, match=r"espeak-ng is not installed, expected the extra: pip install 'asr-phones\[syn"
    ):
        prepare_synth(tmp_path / "out", 3, 1, 0, in_processes(1))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synth, "write_corpus", fail)
    with pytest.raises(InputError, match=r"out: cannot be written \(No space left on device\)"):
        prepare_synth(tmp_path / "out", 3, 1, 0, in_processes(1))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        prepare_synth(tmp_path / "file" / "out", 3, 1, 0, in_processes(1))


def test_a_worker_that_is_killed_is_one_line() -> None:
    with pytest.raises(
        InputError, match="jobs: one of 2 processes has ended, expected memory for all; fewer need less"
    ):
        list(in_processes(2)(os._exit, [9, 9]))


def test_workers_end_with_a_program_that_is_killed() -> None:
    code = "import time; from data_prep.spreading import in_processes; work = in_processes(1)(time.sleep, [0, 99]); "
    code += "next(work); print('working', flush=True); next(work)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"working\n"
        process.kill()
        process.communicate(timeout=60)  # until its workers, which have the same pipe, have ended


def test_an_error_in_a_worker_is_reported_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long_folder = tmp_path / ("x" * 150)
    long_folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(long_folder))
    with pytest.raises(InputError, match="expected a path under 160 characters"):
        prepare_synth(tmp_path / "out", 3, 1, 0, in_processes(2))
    assert list(tmp_path.iterdir()) == [long_folder]
    assert list(long_folder.iterdir()) == []
