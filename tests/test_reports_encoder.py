"""The reports about models with a pretrained encoder."""

import base64
import csv
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
import torch
from playwright.sync_api import Browser
from safetensors.torch import save_file
from torch import Tensor

from asr.corpus.manifest import Utterance, write_corpus
from asr.corpus.phones import inventory
from asr.errors import InputError
from asr.export.state_dict import import_state_dict
from asr.features.filterbanks import feature_dim
from asr.inference.bundle import Bundle, build_model, save_bundle
from asr.inference.evaluate_corpus import evaluate
from asr.inference.recognizer import Recognizer, load
from asr.nn.pretrained_encoder import WHOLE, EncoderSpec, input_features
from asr.reports.explain import explain
from asr.reports.figures import UtteranceFigure, draw_utterance
from asr.reports.gradient_reach import MAX_LAG, compare_gradient_norms, gradient_norm_through_encoder
from asr.reports.model_report import evaluate_and_report
from tests.conftest import settings
from tests.test_bundle import make_bundle as make_plain_bundle

WHISPER: Mapping[str, Any] = {
    "model_type": "whisper",
    "d_model": 32,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "encoder_layers": 2,
    "max_source_positions": 200,
    "num_mel_bins": 20,
}
WAV2VEC2: Mapping[str, Any] = {
    "model_type": "wav2vec2",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [16, 16, 16],
    "conv_kernel": [10, 8, 8],
    "conv_stride": [5, 8, 8],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


def make_bundle(architecture: Mapping[str, Any], trained: int, mix: bool, *overrides: str) -> Bundle:
    """A model with new weights, large enough that every layer matters, that recognizes some phones in anything."""
    config = settings("model=blstm", "model.hidden=12", "model.layers=1", *overrides)
    spec, features = EncoderSpec(architecture, trained, mix), input_features(architecture)
    phones = inventory("arpabet39")
    torch.manual_seed(5)
    model = build_model(config.model, features, phones, spec).eval()
    with torch.no_grad():
        for parameter in [*model.recurrent.parameters(), *model.output.parameters()]:
            parameter.uniform_(-0.9, 0.9)
        model.output.bias[0] += 0.5
        if model.encoder and model.encoder.mixture is not None:
            model.encoder.mixture.copy_(torch.tensor([0.0, 1.0, -1.0]))
    return Bundle(model, config.model, features, phones, "plain", encoder=spec)


def speechlike(seconds: float) -> np.ndarray:
    """Tones that change every 150 ms, in noise: (samples,) float32 at 16 kHz."""
    generator = np.random.default_rng(3)
    count = round(16000 * seconds)
    hz = np.repeat(generator.uniform(200, 4000, count // 2400 + 1), 2400)[:count]
    samples = 0.3 * np.sin(2 * np.pi * np.cumsum(hz) / 16000) + 0.01 * generator.standard_normal(count)
    return samples.astype(np.float32)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "tones.wav"
    soundfile.write(path, speechlike(1.8), 16000)
    return path


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whisper") / "model"
    save_bundle(make_bundle(WHISPER, 1, True), path, "# a card\n")
    return path


@pytest.fixture(scope="module")
def page(whisper: Path, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explain(whisper, audio, tmp_path_factory.mktemp("explained"))


def images(text: str) -> dict[str, np.ndarray]:
    """The images of a page by what their values are called: (rows, columns), to 1/255 of their range."""
    found = {}
    for tag in re.findall("<canvas[^>]*>", text):
        of = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        steps = np.frombuffer(base64.b64decode(of["data-values"]), np.uint8).reshape(
            int(of["height"]), int(of["width"])
        )
        low, high = float(of["data-low"]), float(of["data-high"])
        rows = of["data-rows"].split(" ")
        order = np.argsort([int(row) for row in rows]) if rows[0].isdigit() else np.arange(len(rows))
        found[of["data-what"]] = (low + (high - low) * steps / 255)[order]
    return found


def test_explain_has_the_numbers_of_the_model(page: Path, whisper: Path, audio: Path) -> None:
    text, recognizer = page.read_text(), load(whisper, precision="float32")
    transcript = recognizer.transcribe(audio)
    assert len(set(transcript.symbols)) > 3
    assert f"<span>{len(transcript.phones)} phones: {' '.join(transcript.symbols)}</span>" in text
    alignment = [
        (phone.symbol, f"{phone.start_s:.2f}", f"{phone.end_s:.2f}", f"{phone.confidence:.2f}")
        for phone in transcript.phones
    ]
    spans = re.findall(r'title="(\w+), ([\d.]+) to ([\d.]+) s, confidence ([\d.]+)"', text)
    assert spans[len(alignment) :] == alignment
    posteriors = np.exp(recognizer.log_probs(audio))
    shown = images(text)
    assert shown["probability of"].shape[1] == len(posteriors) == 89  # 178 frames of 10 ms, two of them in an output
    np.testing.assert_allclose(shown["probability of"][0], posteriors[:, 0], atol=0.002)
    features, _ = recognizer.features(audio)
    np.testing.assert_allclose(shown["feature"], features.T, atol=0.01)
    outputs = encoder_outputs(recognizer, features)[0].numpy()
    deviations = (outputs - outputs.mean(0)) / outputs.std(0)
    np.testing.assert_allclose(shown["standard deviations of output"], deviations.T.clip(-3, 3), atol=0.02)
    assert shown["forget gate of unit"].shape == (12, 89)


def test_explain_describes_the_encoder(page: Path) -> None:
    text = page.read_text()
    assert re.findall("<h2>(.*)</h2>", text)[:3] == ["Recognition", "Pretrained encoder", "Layer 1, forward"]
    assert "<span>pretrained encoder: Whisper, 2 layers, 1 of them trained</span>" in text
    assert "Its 2 layers make 32 values of every 20 ms." in text
    assert "continued that of its last layer and left the others as they were" in text
    assert "Input: 0.24, layer 1: 0.67, layer 2: 0.09." in text  # e^0, e^1 and e^-1 over their sum, 4.086


@pytest.mark.parametrize(
    ("trained", "fact", "sentence"),
    [
        (0, "0 of them trained", "left the encoder's layers as they were"),
        (2, "2 of them trained", "continued that of its last 2 layers"),
        (WHOLE, "all of them trained", "continued that of the whole encoder"),
    ],
)
def test_what_was_trained_is_told(tmp_path: Path, audio: Path, trained: int, fact: str, sentence: str) -> None:
    save_bundle(make_bundle(WHISPER, trained, False), tmp_path / "model", "# a card\n")
    text = html.unescape(explain(tmp_path / "model", audio, tmp_path / "out").read_text())
    assert fact in text
    assert sentence in text
    assert "mixture" not in text


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_works_in_a_browser(page: Path, browser: Browser, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(page.as_uri())
    assert tab.locator("canvas").count() == 3 + 2 * 4  # features, posteriors, encoder, and a layer's two directions
    assert tab.locator("figure svg").count() == 2
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    canvas = tab.locator("canvas").nth(2)
    canvas.scroll_into_view_if_needed()
    canvas.hover(position={"x": 20, "y": 3})
    value = tab.locator("#value").inner_text()
    assert re.fullmatch(r"standard deviations of output \d+ at \d\.\d\d s: -?\d\.\d\d", value), value
    assert complaints == []
    tab.close()


def test_what_the_encoder_cannot_see_at_once_is_named(whisper: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", speechlike(5.0), 16000)  # 400 frames of 10 ms is what 200 positions are for
    with pytest.raises(InputError, match=r"long\.wav: 5\.00 s, expected one frame to 4 s"):
        explain(whisper, tmp_path / "long.wav", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def encoder_outputs(recognizer: Recognizer, features: Tensor) -> Tensor:
    encoder = recognizer.bundle.model.encoder
    assert encoder is not None
    with torch.no_grad():
        return encoder(features[None], torch.tensor([len(features)]))[0]


def one_phone(frames: int, output: int, phone: int) -> Tensor:
    """Log-probabilities (frames, 40) that have a phone at one output alone."""
    log_probs = torch.full((frames, 40), -9.0)
    log_probs[:, 0] = 0.0
    log_probs[output] = torch.full((40,), -9.0)
    log_probs[output, phone] = 0.0
    return log_probs


@pytest.mark.parametrize("trained", [0, 1, WHOLE])
def test_the_norm_through_the_encoder_is_the_gradient(trained: int) -> None:
    bundle = make_bundle(WHISPER, trained, True, "model.time_reduction=2")
    features = torch.randn(31, 20)
    found = gradient_norm_through_encoder(bundle, features, one_phone(8, 3, 5))
    model, encoder = bundle.model.double(), bundle.model.encoder
    assert encoder is not None

    def score(moved: Tensor) -> float:
        hidden, lengths = model.front_end(*encoder(moved[None], torch.tensor([31])))
        return float(model.output(model.recurrent(hidden, lengths))[0, 3].log_softmax(dim=0)[5])

    with torch.no_grad():
        for frame in (0, 14, 30):  # output 3 is of the frames 12 to 15; its centre counts as 14
            slopes = []
            for dim in range(20):
                step = torch.zeros(31, 20, dtype=torch.float64)
                step[frame, dim] = 1e-4
                slopes.append((score(features.double() + step) - score(features.double() - step)) / 2e-4)
            assert found[frame - 14 + MAX_LAG] == pytest.approx(np.linalg.norm(slopes), rel=1e-2)
    assert np.isfinite(found[MAX_LAG - 14 : MAX_LAG + 17]).all()
    assert np.isnan(found[[MAX_LAG - 15, MAX_LAG + 17]]).all()


def test_the_recurrent_layers_are_measured_behind_the_encoder() -> None:
    bundle = make_bundle(WHISPER, 1, True)
    model, features = bundle.model, torch.randn(31, 20)
    curves = compare_gradient_norms(bundle, features, one_phone(16, 6, 5))
    states = encoder_outputs(Recognizer(bundle), features).requires_grad_()
    hidden, lengths = model.front_end(states, torch.tensor([16]))
    model.output(model.recurrent(hidden, lengths))[0, 6].log_softmax(dim=0)[5].backward()
    assert states.grad is not None
    expected = states.grad[0].norm(dim=1).numpy()
    np.testing.assert_allclose(curves["this model"][MAX_LAG - 6 : MAX_LAG + 10], expected, rtol=1e-4)
    assert list(curves) == ["this model", "untrained LSTM, 1 x 12", "untrained tanh RNN, 1 x 12"]
    assert all(np.isfinite(curve).sum() == 16 for curve in curves.values())


def collect_figures(monkeypatch: pytest.MonkeyPatch) -> list[UtteranceFigure]:
    """The data of the utterances' figures that a report draws from now on."""
    figures: list[UtteranceFigure] = []

    def draw(data: UtteranceFigure) -> str:
        figures.append(data)
        return draw_utterance(data)

    monkeypatch.setattr("asr.reports.model_report.draw_utterance", draw)
    return figures


def test_a_report_has_the_numbers_of_the_model(whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = make_corpus(tmp_path / "corpus", [0.8, 1.8, 5.0])
    figures = collect_figures(monkeypatch)
    evaluate_and_report(whisper, cuts, tmp_path / "out", "cpu", "float32", "best_path")
    text, recognizer = (tmp_path / "out" / "index.html").read_text(), load(whisper, precision="float32")
    assert "<span>pretrained encoder: Whisper, 2 layers, 1 of them trained</span>" in text
    rows = re.findall(r"<h3>(u\d): .*?recognized as</th>(.*?)</tr>", text, re.DOTALL)
    recognized = {name: re.findall(r">([A-Z]+)<", row) for name, row in rows}
    audio = {f"u{number}": tmp_path / "corpus" / f"u{number}.wav" for number in range(3)}
    assert recognized == {name: list(recognizer.transcribe(path).symbols) for name, path in audio.items()}
    with (tmp_path / "out" / "figures" / "utterances.csv").open() as file:
        counts = {row["utterance"]: [int(row[name]) for name in "SDIN"] for row in csv.DictReader(file)}
    expected = {one.id: one.counts for one in evaluate(whisper, cuts, precision="float32").headline.utterances}
    assert counts == {
        name: [one.substitutions, one.deletions, one.insertions, one.reference_phones] for name, one in expected.items()
    }
    by_duration = {figure.duration_s: figure for figure in figures}
    for name, path in audio.items():  # the longest is recognized in windows
        figure = by_duration[soundfile.info(path).duration]
        np.testing.assert_allclose(figure.posteriors, np.exp(recognizer.log_probs(path)), atol=1e-5, err_msg=name)
        assert (figure.features.shape[1], figure.features_name) == (20, "features")


def test_an_utterance_shorter_than_a_frame_has_no_figure(tmp_path: Path) -> None:
    save_bundle(make_plain_bundle(), tmp_path / "model", "# a card\n")
    cuts = make_corpus(tmp_path / "corpus", [0.01, 0.8])
    evaluate_and_report(tmp_path / "model", cuts, tmp_path / "out", "cpu", "float32", "best_path")
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.count("Shorter than a frame: the figure is left out.") == 1
    assert "pretrained encoder" not in text


def make_corpus(folder: Path, seconds: list[float]) -> Path:
    folder.mkdir()
    utterances = []
    for number, duration_s in enumerate(seconds):
        path = folder / f"u{number}.wav"
        soundfile.write(path, speechlike(duration_s), 16000)
        phones = tuple(inventory("arpabet39").symbols[1:4])
        utterances.append(Utterance(f"u{number}", path, 16000, duration_s, f"s{number}", phones))
    write_corpus(folder, {"test": utterances}, {})
    return folder / "cuts_test.jsonl.gz"


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Whisper's log-mel spectrogram from librosa, without the frames that reach beyond the signal: (80, frames)."""
    power = librosa.feature.melspectrogram(y=samples, sr=16000, n_fft=400, hop_length=160, n_mels=80, center=False)
    logs = np.log10(np.maximum(power, 1e-10))
    return (np.maximum(logs, logs.max() - 8) + 4) / 4


@pytest.mark.slow
def test_pictures_of_a_waveform_are_spectrograms(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    bundle, model = make_bundle(WAV2VEC2, 0, False), tmp_path / "model"
    assert feature_dim(bundle.features) == 325  # (10 - 1) + (8 - 1) * 5 + (8 - 1) * 40 + 1 samples
    save_bundle(bundle, model, "# a card\n")
    text = explain(model, audio, tmp_path / "explained").read_text()
    samples, _ = soundfile.read(audio, dtype="float32")
    np.testing.assert_allclose(images(text)["mel bin"], log_mel(samples), atol=0.01)
    assert "The log-mel spectrogram is only its picture, that of Whisper." in text
    assert "pretrained encoder: wav2vec 2.0, 2 layers, 0 of them trained" in text
    assert "Its 2 layers make 32 values of every 20 ms." in text
    assert " ".join(load(model, precision="float32").transcribe(audio).symbols) in text
    figures = collect_figures(monkeypatch)
    cuts = make_corpus(tmp_path / "corpus", [1.0])
    evaluate_and_report(model, cuts, tmp_path / "report", "cpu", "float32", "best_path")
    samples, _ = soundfile.read(tmp_path / "corpus" / "u0.wav", dtype="float32")
    np.testing.assert_allclose(figures[0].features.T, log_mel(samples), atol=1e-3)
    assert figures[0].features_name == "spectrogram"


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["features=pretrained"], "features are pretrained and encoder.checkpoint is empty"),
        (["features=pretrained", "encoder.checkpoint=a/b"], "features are pretrained and encoder.checkpoint is a/b"),
        (["encoder.checkpoint=a/b"], "features are fbank and encoder.checkpoint is a/b"),
    ],
)
def test_a_plain_model_is_not_imported_behind_an_encoder(tmp_path: Path, overrides: list[str], complaint: str) -> None:
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=f"{complaint}, expected a model to import without a pretrained encoder"):
        import_state_dict(tmp_path / "w.safetensors", settings(*overrides), None)
