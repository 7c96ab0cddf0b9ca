"""The report that looks inside an LSTM."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from playwright.sync_api import Browser

from asr.errors import InputError
from asr.inference.catalog import find_model
from asr.nn.reference_lstm import Gates
from asr.reports.explain import compute_gates, explain, heat_map, unit_order
from asr.reports.figures import draw_gradient_norms
from asr.reports.gradient_reach import MAX_LAG, compare_gradient_norms, gradient_norm_by_lag
from tests.conftest import settings
from tests.test_export import SMALL, new_bundle
from tests.test_train import run


@pytest.fixture(scope="module")
def model(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tone_corpus, tmp_path_factory.mktemp("trained") / "run")


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=cnn_blstm",),
        ("model=lstm", "model.layer_norm=true", "model.projection=10"),
        ("model=cnn_blstm_attention", "model.attention_heads=2"),
    ],
    ids=" ".join,
)
def test_gates_lead_to_the_fast_paths_log_probabilities(overrides: tuple[str, ...]) -> None:
    bundle = new_bundle(settings(*SMALL, *overrides))
    log_probs, gates, difference = compute_gates(bundle, torch.randn(50, 40))
    assert difference < 1e-4
    directions = 1 + bundle.model_config.bidirectional
    assert len(gates) == 2 * directions
    for found in gates.values():
        assert all(len(values) == len(log_probs) and values.shape[1] == 12 for values in found)
        assert all(0 <= float(values.min()) <= float(values.max()) <= 1 for values in found[:3])
    bundle.model.recurrent.weight_hh_l1.data.mul_(2)  # type: ignore[operator]
    assert not torch.allclose(compute_gates(bundle, torch.randn(50, 40))[0], log_probs, atol=1e-3)


def test_the_norm_by_lag_is_the_gradient() -> None:
    bundle = new_bundle(settings(*SMALL, "model=blstm", "model.time_reduction=2"))
    model, features = bundle.model.double(), torch.randn(31, 40, dtype=torch.float64)
    one = torch.full((16, 40), -9.0)
    one[:, 0] = 0.0
    one[7] = torch.full((40,), -9.0)
    one[7, 5] = 0.0  # a phone at output 7 alone: its centre is input frame 15
    found = gradient_norm_by_lag(model, features, one)
    with torch.no_grad():
        for frame in (0, 14, 15, 30):
            slopes = []
            for dim in range(40):
                sides = []
                for step in (1e-4, -1e-4):
                    moved = features.clone()
                    moved[frame, dim] += step
                    # The model's output is rounded to float32.
                    hidden, lengths = model.front_end(moved[None], torch.tensor([31]))
                    scores = model.output(model.recurrent(hidden, lengths))[0, 7].log_softmax(dim=0)
                    sides.append(float(scores[5]))
                slopes.append((sides[0] - sides[1]) / 2e-4)
            assert found[frame - 15 + MAX_LAG] == pytest.approx(np.linalg.norm(slopes), rel=1e-3)
    assert np.isnan(found[0])
    assert np.isfinite(found[MAX_LAG - 15 : MAX_LAG + 16]).all()


def test_the_gradient_vanishes_in_a_plain_rnn() -> None:
    bundle = new_bundle(settings("model=cnn_blstm", "model.hidden=32", "model.layers=2", "model.time_reduction=1"))
    curves = list(
        compare_gradient_norms(bundle, torch.randn(150, 40), torch.randn(150, 40).log_softmax(dim=1)).values()
    )
    far = [curve[MAX_LAG - 40] / np.nanmax(curve) for curve in curves]
    assert far[2] < far[1] / 100


def test_the_axis_of_norms_has_numbers_and_no_formulas() -> None:
    svg = draw_gradient_norms({"this model": np.ones(5)}, shift_ms=10.0)
    assert "$" not in svg
    assert all(f">{number}</text>" in svg for number in ("1", "0.1", "0.01", "1e\u221208"))


def test_units_that_do_alike_are_neighbours() -> None:
    generator = np.random.default_rng(0)
    kinds = generator.permutation(np.repeat([0, 1, 2], 10))
    courses = generator.random((3, 40))
    values = torch.from_numpy(courses[kinds].T + 0.01 * generator.standard_normal((40, 30)))
    order = unit_order(Gates(values, values, values, values, values))
    assert sorted(order) == list(range(30))
    assert (np.diff(kinds[order]) != 0).sum() == 2


def test_images_keep_their_values() -> None:
    values = np.array([[-2.0, 0.0], [1.0, 2.0]])
    track = heat_map("x", values, "x", ["a", "b"])
    steps = np.frombuffer(base64.b64decode(track.values), np.uint8).reshape(2, 2)
    np.testing.assert_allclose(track.low + (track.high - track.low) * steps / 255, values, atol=0.01)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_works_in_a_browser(
    model: Path, tmp_path: Path, browser: Browser, tone_corpus: Path, width: int
) -> None:
    audio = sorted((tone_corpus / "train").glob("*.wav"))[0]
    path = explain(model, audio, tmp_path)
    page = browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    page.goto(path.as_uri())
    assert page.locator("canvas").count() == 2 + 2 * 4  # features, posteriors, and a layer's two directions
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    canvas = page.locator("canvas").nth(2)
    canvas.scroll_into_view_if_needed()
    canvas.hover(position={"x": 20, "y": 3})
    text = page.locator("#value").inner_text()
    match = re.fullmatch(r"input gate of unit (\d+) at (\d+\.\d\d) s: (-?\d\.\d\d)", text)
    assert match, text
    values = base64.b64decode(canvas.get_attribute("data-values") or "")
    columns = int(canvas.get_attribute("width") or 0)
    seconds = soundfile.info(audio).duration
    column = round(float(match[2]) / seconds * columns - 0.5)
    row = (canvas.get_attribute("data-rows") or "").split().index(match[1])
    assert float(match[3]) == pytest.approx(values[row * columns + column] / 255, abs=0.006)
    played = "audio => audio.play().then(() => audio.duration)"
    assert page.locator("audio").evaluate(played) == pytest.approx(seconds, abs=0.1)
    page.mouse.move(1, 1)
    assert page.locator("#value").is_hidden()
    assert complaints == []
    page.close()


def test_a_model_for_streams_is_shown_over_the_whole_recording(tone_corpus: Path, tmp_path: Path) -> None:
    audio = sorted((tone_corpus / "train").glob("*.wav"))[0]
    page = explain(find_model("streaming"), audio, tmp_path).read_text(encoding="utf-8")
    assert "look-ahead: the whole recording" in page


def test_what_cannot_be_explained_is_named(model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", 0.1 * np.random.default_rng(0).standard_normal(31 * 16000), 16000)
    soundfile.write(tmp_path / "short.wav", 0.1 * np.ones(300), 16000)
    for name, complaint in (("long", "31.00 s, expected one frame to 30 s"), ("short", "0.02 s, expected one frame")):
        with pytest.raises(InputError, match=f"{name}.wav: {complaint}"):
            explain(model, tmp_path / f"{name}.wav", tmp_path / "out")
    gru = run(tone_corpus, tmp_path / "gru", "model.cell=gru")
    with pytest.raises(InputError, match="model.cell is gru, expected lstm"):
        explain(gru, tmp_path / "long.wav", tmp_path / "out")
    assert not (tmp_path / "out").exists()
