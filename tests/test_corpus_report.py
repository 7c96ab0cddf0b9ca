"""The report about a corpus: what is measured, what is suspicious, what is refused."""

import csv
import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser
from typer.testing import CliRunner

from asr.cli.describe import commands
from asr.corpus.audio import resample
from asr.corpus.manifest import Utterance, write_corpus
from asr.errors import InputError
from asr.inference.catalog import find_model
from asr.inference.evaluate_corpus import evaluate
from asr.reports import corpus_tally
from asr.reports.corpus_audio import CHUNK, Measures, Part, measure, measure_all
from asr.reports.corpus_report import describe_corpus
from asr.reports.corpus_suspicions import find_suspicions
from asr.reports.corpus_tally import split_names, tally_corpus

RATE = 16_000


def sine(seconds: float, amplitude: float, hz: float = 437.0, rate: int = RATE) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def measured(path: Path, samples: np.ndarray, rate: int = RATE, start_s: float = 0.0) -> Measures:
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return measure(Part(path, start_s, len(samples) / rate - start_s))


def speech(seed: int, seconds: float = 1.2, level: float = 0.1) -> np.ndarray:
    """Noise of all frequencies between two pauses, 40 dB quieter, of 0.2 s or, if longer, a tenth of its seconds."""
    generator = np.random.default_rng(seed)
    pause = round(max(0.2, 0.1 * seconds) * RATE)
    samples = level * generator.standard_normal(round(seconds * RATE) + 2 * pause)
    samples[:pause] *= 0.01
    samples[-pause:] *= 0.01
    return samples.clip(-0.99, 0.99)


# Audio, worked by hand.


def test_level_and_peak_of_a_sine(tmp_path: Path) -> None:
    found = measured(tmp_path / "a.wav", sine(2, 0.5))
    assert found.level_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)  # -9.03 dB
    assert found.peak_db == pytest.approx(-6.02, abs=0.01)
    assert (found.rate_hz, found.channels, found.clipped) == (RATE, 1, 0.0)
    assert found.offset == pytest.approx(0, abs=1e-4)


def test_an_offset_is_not_level(tmp_path: Path) -> None:
    found = measured(tmp_path / "a.wav", sine(2, 0.5) + 0.1)
    assert found.offset == pytest.approx(0.1, abs=1e-4)
    assert found.level_db == pytest.approx(-9.03, abs=0.01)
    assert found.peak_db == pytest.approx(20 * np.log10(0.6), abs=0.01)


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_clipping_of_a_sine_also_below_full_scale(gain: float, tmp_path: Path) -> None:
    # |1.5 sin| exceeds 1 for a share of 1 - 2 asin(2/3) / pi of the time.
    found = measured(tmp_path / "a.wav", gain * sine(2, 1.5).clip(-1, 1))
    assert found.clipped == pytest.approx(1 - 2 * np.arcsin(2 / 3) / np.pi, abs=0.005)


def test_what_only_touches_full_scale_or_is_very_quiet_is_not_clipped(tmp_path: Path) -> None:
    assert measured(tmp_path / "a.wav", sine(2, 1.0)).clipped == 0
    assert measured(tmp_path / "a.wav", np.sign(sine(2, 1.0)) * 0.01).clipped == 0


def test_clipping_in_one_of_two_channels_counts(tmp_path: Path) -> None:
    clipped, good = sine(1, 1.5).clip(-1, 1), sine(1, 0.2, 331)
    found = measured(tmp_path / "a.wav", np.stack([good, clipped], 1))
    assert found.channels == 2
    assert found.clipped == pytest.approx(1 - 2 * np.arcsin(2 / 3) / np.pi, abs=0.01)


def test_a_long_recording_is_as_its_blocks(tmp_path: Path) -> None:
    one = measured(tmp_path / "a.wav", sine(1, 1.2, 400).clip(-1, 1))
    long = measured(tmp_path / "b.wav", np.tile(sine(1, 1.2, 400).clip(-1, 1), 70))  # blocks of 30 s
    for name in ("level_db", "peak_db", "clipped", "offset", "bandwidth_hz"):
        assert getattr(long, name) == pytest.approx(getattr(one, name), abs=1e-6), name


@pytest.mark.parametrize("snr_db", [10, 20, 35])
def test_noise_and_silence_of_a_known_mixture(snr_db: float, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    noise = 0.003 * generator.standard_normal(3 * RATE)
    power = 0.003**2 * 10 ** (snr_db / 10)
    tone = np.concatenate([np.zeros(RATE // 2), sine(1.8, np.sqrt(2 * power)), np.zeros(round(0.7 * RATE))])
    found = measured(tmp_path / "a.wav", noise + tone)
    assert found.snr_db == pytest.approx(snr_db, abs=0.7)
    assert found.start_silence_s == pytest.approx(0.5, abs=0.021)
    assert found.end_silence_s == pytest.approx(0.7, abs=0.021)


def test_a_click_is_no_speech_and_a_steady_sound_has_no_ratio(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(RATE), sine(1, 0.3)])
    samples[4000] = 0.9
    assert measured(tmp_path / "a.wav", samples).start_silence_s == pytest.approx(1.0, abs=0.021)
    steady = measured(tmp_path / "a.wav", sine(1, 0.3))
    assert np.isnan(steady.snr_db)
    assert (steady.start_silence_s, steady.end_silence_s) == (0.0, 0.0)


def test_bandwidth_of_upsampled_audio(tmp_path: Path) -> None:
    narrow = np.random.default_rng(0).standard_normal(8000 * 2) * 0.1
    assert measured(tmp_path / "a.wav", narrow, 8000).bandwidth_hz == pytest.approx(4000, abs=60)
    found = measured(tmp_path / "a.wav", resample(narrow, 8000, RATE)).bandwidth_hz
    assert 3600 < found < 4300
    assert measured(tmp_path / "a.wav", speech(0)).bandwidth_hz == pytest.approx(8000, abs=60)


def test_only_the_part_is_measured(tmp_path: Path) -> None:
    samples = np.concatenate([sine(1, 0.8), sine(1, 0.1)])
    found = measured(tmp_path / "a.wav", samples, start_s=1.0)
    assert found.peak_db == pytest.approx(-20, abs=0.05)
    other = measured(tmp_path / "b.wav", samples[RATE:])
    assert found == pytest.approx(other, nan_ok=True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_audio_is_read_a_little_in_advance(jobs: int, tmp_path: Path) -> None:
    measured(tmp_path / "a.wav", speech(0))
    taken = 0

    def parts() -> Iterator[Part]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield Part(tmp_path / "a.wav", 0.0, 1.0)

    results = measure_all(parts(), jobs)
    assert isinstance(next(results), Measures)
    assert taken <= 4 * jobs * CHUNK
    results.close()  # type: ignore[attr-defined]


# A corpus.


class Corpus:
    """A folder in which a test puts utterances into splits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.splits: dict[str, list[Utterance]] = {}

    def add(
        self, split: str, name: str, samples: np.ndarray | None = None, rate: int = RATE, **facts: object
    ) -> Utterance:
        """An utterance of 12 phones, of its own speaker and words unless a test says otherwise."""
        number = sum(len(one) for one in self.splits.values())
        samples = speech(number) if samples is None else samples
        path = self.folder / f"{name}.wav"
        soundfile.write(path, samples, rate, subtype="PCM_16")
        phones = ("AA", "B", "S", "T") * 3
        speaker, words = f"{split}-{number % 3}", f"sentence number {name}"
        made = Utterance(name, path, rate, len(samples) / rate, speaker, phones, words, sex="fm"[number % 2])
        made = replace(made, **facts)  # type: ignore[arg-type]
        self.splits.setdefault(split, []).append(made)
        return made

    def write(self) -> list[Path]:
        write_corpus(self.folder, self.splits, {})
        return [self.folder / f"cuts_{split}.jsonl.gz" for split in self.splits]

    def suspicions(self) -> dict[str, list[str]]:
        """The ids that each kind finds, worst first; kinds that find nothing are left out."""
        tally = tally_corpus(self.write(), 1)
        names = [one.id for split in self.splits.values() for one in split]
        found = find_suspicions(tally)
        return {one.name: [names[row] for row in one.rows] for one in found if len(one.rows)}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Twelve clean utterances for training and four for the test."""
    made = Corpus(tmp_path / "corpus")
    made.folder.mkdir()
    for number in range(12):
        made.add("train", f"a{number}")
    for number in range(4):
        made.add("test", f"b{number}")
    return made


def test_nothing_is_suspicious_about_a_clean_corpus(corpus: Corpus, tmp_path: Path) -> None:
    assert corpus.suspicions() == {}
    text = describe_corpus(corpus.write(), tmp_path / "page", 1).read_text(encoding="utf-8")
    assert "None of these was found." in text


def test_rates(corpus: Corpus) -> None:
    # 12 phones in 1.2 s between pauses: 10 phones per second. Nobody is less than twice as slow or fast.
    corpus.add("train", "slow", phones=("AA",) * 5)
    corpus.add("train", "slower", phones=("AA",) * 4)
    corpus.add("train", "fast", phones=("AA", "B") * 13)
    corpus.add("train", "lively", phones=("AA", "B") * 11)
    tally = tally_corpus(corpus.write(), 1)
    assert tally.columns["phones_per_s"][:12] == pytest.approx([10] * 12, rel=0.05)
    assert corpus.suspicions() == {"few phones": ["slower", "slow"], "many phones": ["fast"]}


def test_signals(corpus: Corpus) -> None:
    corpus.add("train", "clipped", (speech(90) * 12).clip(-1, 1))
    corpus.add("train", "faint", speech(91, level=0.0005))
    corpus.add("train", "steady", np.random.default_rng(5).standard_normal(RATE) * 0.1)
    corpus.add("train", "offset", speech(92) * 0.5 + 0.03)
    corpus.add("train", "telephone", resample(speech(93)[::2].copy(), 8000, RATE))
    assert corpus.suspicions() == {
        "clipped": ["clipped"],
        "silent": ["faint"],
        "steady": ["steady"],
        "offset": ["offset"],
        "narrowband": ["telephone"],
    }


def test_copies(corpus: Corpus, tmp_path: Path) -> None:
    first = corpus.splits["train"][0]
    corpus.splits["train"].append(replace(first, id="again", words="other words"))
    copied = soundfile.read(corpus.splits["train"][1].audio_path)[0]
    corpus.add("train", "copy", copied)
    corpus.add("test", "leak", copied)
    assert corpus.suspicions() == {"same audio": ["again"], "same samples": ["copy", "leak"]}
    describe_corpus(corpus.write(), tmp_path / "page", 1)
    with (tmp_path / "page" / "figures" / "suspicious.csv").open(encoding="utf-8") as file:
        reasons = {row["utterance"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons == {
        "again": "the same part of the same file as a0",
        "copy": "the same samples as a1",
        "leak": "the same samples as a1 in train",
    }


def test_same_text_in_very_different_durations(corpus: Corpus) -> None:
    for number in range(3):
        corpus.add("train", f"usual{number}", words="Good morning!")
    corpus.add("train", "long", speech(80, 4.0), words="good  morning", phones=("AA",) * 40)
    corpus.add("train", "short", speech(81, 1.2), words="one of two")
    corpus.add("train", "longer", speech(82, 3.9), words="one of two", phones=("AA",) * 39)
    found = corpus.suspicions()
    assert list(found) == ["text durations"]
    assert set(found["text durations"]) == {"long", "short", "longer"}


def test_speakers_and_texts_in_two_splits(corpus: Corpus) -> None:
    corpus.add("test", "same speaker", speaker="train-0")
    corpus.add("test", "same text", words="Sentence NUMBER a3.")
    corpus.add("test", "no text", words="", phones=("AA", "B") * 6)
    corpus.add("test", "without words", words="", phones=("AA", "B") * 6)
    assert corpus.suspicions() == {"speaker": ["same speaker"], "text": ["same text"]}
    only = Corpus(corpus.folder / "only")
    only.folder.mkdir()
    only.splits = {"test": corpus.splits["test"]}
    assert only.suspicions() == {}


def test_statistics_worked_by_hand(tmp_path: Path) -> None:
    made = Corpus(tmp_path)
    times = ((0.0, 0.1), (0.1, 0.4))
    facts: dict[str, Any] = {"phones": ("AA", "ZH"), "speaker": "s"}
    made.add("train", "a", speech(1, 1.6), words="Well, well", phone_times_s=times, **facts)
    made.add("train", "b", speech(2, 5.0), words="so what?", phone_times_s=((0.0, 0.2), (0.5, 1.0)), **facts)
    made.add("dev", "c", speech(3, 1.6), words="so new new", phones=("AA", "OY"), speaker="t", details={"age": "7"})
    describe_corpus(made.write(), tmp_path / "page", 1)
    found = json.loads((tmp_path / "page" / "stats.json").read_text(encoding="utf-8"))
    train, dev = found["splits"]["train"], found["splits"]["dev"]
    assert found["training_split"] == "train"
    assert train["hours"] == pytest.approx(8 / 3600)  # 2 s and 6 s
    assert train["minutes_per_speaker"] == pytest.approx(
        {"count": 1, **dict.fromkeys(("mean", "lowest", "p5", "median", "p95", "highest"), 8 / 60)}
    )
    assert train["measures"]["duration_s"] == pytest.approx(
        {"count": 2, "mean": 4.0, "lowest": 2.0, "p5": 2.2, "median": 4.0, "p95": 5.8, "highest": 6.0}
    )
    assert (train["words"], train["distinct_words"], train["phones"]) == (4, 3, 4)
    assert train["phone_durations_s"] == {
        "AA": pytest.approx({"mean": 0.15, "shortest": 0.1, "longest": 0.2}),
        "ZH": pytest.approx({"mean": 0.4, "shortest": 0.3, "longest": 0.5}),
    }
    assert (dev["words_not_in_training"], dev["distinct_words_not_in_training"]) == (2, 1)
    assert dev["phone_durations_s"] == {}
    assert found["rare_phones"] == {"OY": 1, "ZH": 2, "AA": 3}
    assert found["phones_in_one_split"] == {"train": ["ZH"], "dev": ["OY"]}
    assert found["overlaps"] == [{"splits": ["train", "dev"], "speakers": 0, "texts": 0, "recordings": 0}]
    assert train["formats"] == [{"sample_rate_hz": 16000, "channels": 1, "utterances": 2}]


@pytest.mark.slow
def test_processes_find_the_same(corpus: Corpus, tmp_path: Path) -> None:
    manifests = corpus.write()
    pages = [describe_corpus(manifests, tmp_path / str(jobs), jobs).parent for jobs in (1, 2)]
    assert (pages[0] / "stats.json").read_bytes() == (pages[1] / "stats.json").read_bytes()
    assert (pages[0] / "index.html").read_bytes() == (pages[1] / "index.html").read_bytes()


def test_audio_that_cannot_be_used_is_listed(corpus: Corpus, tmp_path: Path) -> None:
    missing, zeros, cut = (corpus.add("train", name) for name in ("missing", "zeros", "cut"))
    long = corpus.add("test", "long", duration_s=99.0)
    corpus.add("test", "good")
    manifests = corpus.write()
    missing.audio_path.unlink()
    soundfile.write(zeros.audio_path, np.zeros(2 * RATE), RATE)
    cut.audio_path.write_bytes(cut.audio_path.read_bytes()[:1000])
    page = describe_corpus(manifests, tmp_path / "page", 1)
    found = json.loads((page.parent / "stats.json").read_text(encoding="utf-8"))
    assert {name: (split["utterances"], split["unusable"]) for name, split in found["splits"].items()} == {
        "train": (12, 3),
        "test": (5, 1),
    }
    reasons = {one["id"]: one["reason"] for one in found["unusable"]}
    assert list(reasons) == ["missing", "zeros", "cut", "long"]
    assert "no such file" in reasons["missing"]
    assert "samples are zero" in reasons["zeros"]
    assert "truncated" in reasons["cut"]
    assert str(long.audio_path) in reasons["long"]
    assert "Audio that cannot be used: 4 utterances." in page.read_text(encoding="utf-8")


def test_a_split_without_audio_is_named_after_another_with_much_unusable_audio(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_tally, "MAX_UNUSABLE", 1)
    train, test = corpus.write()
    for utterance in (*corpus.splits["train"][:2], *corpus.splits["test"]):
        utterance.audio_path.unlink()
    with pytest.raises(InputError, match=r"cuts_test.jsonl.gz: 0 of \d+ utterances have usable audio \(.*no such file"):
        describe_corpus([train, test], tmp_path / "page", 1)


def test_a_model_finds_transcripts_unlike_the_audio(corpus: Corpus, tmp_path: Path) -> None:
    model = find_model("speechocean762-small")
    train, test = corpus.write()
    expected = {one.id: one.counts.per for cuts in (train, test) for one in evaluate(model, cuts).headline.utterances}
    describe_corpus([train, test], tmp_path / "page", 1, model)
    found = json.loads((tmp_path / "page" / "stats.json").read_text(encoding="utf-8"))
    rates = [expected[one.id] for one in corpus.splits["train"]]
    assert found["splits"]["train"]["measures"]["per"]["mean"] == pytest.approx(np.mean(rates), abs=0.01)
    wrong = {split: sum(expected[one.id] > 0.75 for one in corpus.splits[split]) for split in ("train", "test")}
    assert found["suspicious"]["transcript"]["utterances"] == wrong
    assert sum(wrong.values()) > 0
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "Error rate of the model" in page
    assert "phone error rate" not in page.lower()  # the model may be one of graphemes


# The page and the command.


def test_the_names_of_splits(tmp_path: Path) -> None:
    assert split_names([Path("a/cuts_train.jsonl.gz"), Path("a/more.jsonl.gz")]) == ["train", "more"]
    assert split_names([Path("a/cuts_dev.jsonl.gz"), Path("b/cuts_dev.jsonl.gz")]) == ["a/dev", "b/dev"]


@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_shows_it_and_plays_it(width: int, browser: Browser, corpus: Corpus, tmp_path: Path) -> None:
    name = "</script><b>$x^2$"
    corpus.add("train", "odd", phones=(name,) * 12, words=name, speaker=name, details={name: name})
    corpus.add("test", "half", words="half a pair", details={"age": "6"})
    train, test = corpus.write()
    test.write_bytes(gzip.compress(gzip.decompress(test.read_bytes()).replace(b"half a", b"\\ud800 half a")))
    page = describe_corpus([train, test], tmp_path / "page", 1)
    text = page.read_text(encoding="utf-8")
    assert "</script><b>" not in text
    assert {link.split(":")[0] for link in re.findall(r'(?:src|href)="([^"]{0,20})', text) if link[0] != "#"} == {
        "data"
    }
    assert len(text) < 5e6
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if width < 500 else "light")
    complaints: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(page.as_uri())
    assert tab.evaluate("document.scrollingElement.scrollWidth") == width
    assert tab.evaluate(
        "async () => { const one = document.querySelector('audio'); await one.play();"
        " await new Promise(done => setTimeout(done, 300)); return one.currentTime > 0 }"
    )
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    tab.close()


def test_the_command(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "page"
    result = CliRunner().invoke(commands, [*map(str, corpus.write()), "--out", str(out), "--jobs", "1"])
    assert (result.exit_code, result.output) == (0, f"report: {out / 'index.html'}\n")
    help_text = CliRunner().invoke(commands, ["--help"]).output
    assert "--model" in help_text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cuts_x.jsonl.gz: no such file, expected a manifest"),
        (b"", r"cuts_x.jsonl.gz: not a manifest of Lhotse cuts|0 utterances, expected at least 1"),
        (gzip.compress(b"\n\n", mtime=0), r"cuts_x.jsonl.gz: 0 utterances, expected at least 1"),
        (b"plain text", r"cuts_x.jsonl.gz: not a manifest of Lhotse cuts"),
        (gzip.compress(b"{}" * 99, mtime=0)[:30], r"cuts_x.jsonl.gz: not a manifest of Lhotse cuts"),
        (gzip.compress(b'{"id": "a"}\n', mtime=0), r"cuts_x.jsonl.gz: utterance a: 0 supervisions, expected 1"),
        (gzip.compress(b"[1, 2]\n", mtime=0), r"cuts_x.jsonl.gz: a line with a list, expected a Lhotse cut"),
    ],
)
def test_bad_manifests(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "cuts_x.jsonl.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        describe_corpus([path], tmp_path / "page", 1)
    assert "\n" not in str(caught.value)


def test_bad_input(corpus: Corpus, tmp_path: Path) -> None:
    train, test = corpus.write()
    with pytest.raises(InputError, match="given twice, expected different manifests"):
        describe_corpus([train, test, train], tmp_path / "page", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/page: cannot be written"):
        describe_corpus([train], tmp_path / "file" / "page", 1)
    line = gzip.decompress(test.read_bytes()).splitlines()[0]
    test.write_bytes(gzip.compress(line + b"\n" + line + b"\n", mtime=0))
    with pytest.raises(InputError, match="utterance id b0 occurs twice, expected once"):
        describe_corpus([test], tmp_path / "page", 1)
    for utterance in corpus.splits["train"]:
        utterance.audio_path.unlink()
    with pytest.raises(
        InputError, match=r"0 of 12 utterances have usable audio \(.*a0.wav: no such file.*\), expected"
    ):
        describe_corpus([train], tmp_path / "page", 1)
