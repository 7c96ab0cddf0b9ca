"""The server's page in Chromium: a look inside the model, words on the time axis, keys, and a server that goes away."""

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import uvicorn
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, Page, Route, sync_playwright

from asr.corpus.pronunciations import WordPronunciations
from asr.inference.catalog import find_model
from asr.inference.recognizer import Recognizer, load
from asr.serve.app import create_app
from asr.serve.inside import LONGEST_S, POLICY, _explain
from asr.serve.limits import Limits

MODEL = "speechocean762-small"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WORDS = WordPronunciations({"but": [("B", "AH", "T")], "you": [("Y", "UW")]})
KEY = "correct horse battery"
RATE_HZ = 8000
Steps = Callable[[Page, list[str]], None]
Visit = Callable[..., None]


def syllables(seconds: float) -> np.ndarray:
    """A gliding tone with noise that comes and goes: the model hears phones in it."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    samples = 0.3 * np.sin(2 * np.pi * (300 + 200 * np.sin(9 * time_s)) * time_s) * (np.sin(7 * time_s) > 0)
    return np.asarray(samples + 0.01 * np.random.default_rng(1).standard_normal(len(samples)))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "glide.wav"
    soundfile.write(path, syllables(2.0), RATE_HZ)
    return path


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return load(find_model(MODEL), precision="float32")


@contextmanager
def serving(app: Any, port: int = 0) -> Iterator[str]:
    """The application behind a socket of this machine: its address."""
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), f"cannot listen at port {port}"
        time.sleep(0.01)
    try:
        yield f"http://localhost:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(recognizer: Recognizer) -> Iterator[str]:
    with serving(
        create_app(MODEL, recognizer, Limits(), ["localhost"], words=WORDS, folder=find_model(MODEL))
    ) as address:
        yield address


@pytest.fixture(scope="module")
def visit(recording: Path) -> Iterator[Visit]:
    """Runs steps in a page, in a thread of their own: Playwright's event loop would disturb other tests in theirs."""
    if CHROMIUM is None:
        pytest.skip("no chromium (Debian: apt-get install chromium): THE SERVER'S PAGE IS NOT TESTED")
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream"]
    arguments += ["--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={recording}"]
    started: list[Any] = []

    def browser() -> Browser:
        if not started:
            playwright = sync_playwright().start()
            started.extend([playwright.chromium.launch(executable_path=CHROMIUM, args=arguments), playwright])
        return started[0]

    def run(steps: Steps, width: int) -> None:
        problems: list[str] = []
        page = browser().new_page(viewport={"width": width, "height": 800})
        page.set_default_timeout(60_000)
        page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        try:
            steps(page, problems)
        except Exception as error:
            error.add_note(f"the page says {page.locator('#status').inner_text()!r}; its console: {problems}")
            raise
        finally:
            page.close()

    def stop() -> None:
        if started:
            started[0].close()
            started[1].stop()

    with ThreadPoolExecutor(1) as thread:
        yield lambda steps, width=1000: thread.submit(run, steps, width).result()
        thread.submit(stop).result()


def post(client: TestClient, samples: np.ndarray, path: Path, **fields: str) -> Any:
    soundfile.write(path, samples, RATE_HZ)
    return client.post("/v1/explain", data={"model": MODEL, **fields}, files={"file": path.read_bytes()})


@pytest.mark.slow
def test_inside_is_the_report_under_a_policy_without_network(recognizer: Recognizer, tmp_path: Path) -> None:
    with TestClient(
        create_app(MODEL, recognizer, Limits(), ["localhost"], folder=find_model(MODEL)), "http://localhost"
    ) as client:
        answer = post(client, syllables(1.0), tmp_path / "a.wav")
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"] == POLICY
        assert "default-src 'none'" in POLICY
        assert "<h2>Layer 3, backward</h2>" in answer.text
        assert str(find_model(MODEL).parent) not in answer.text
        for samples, status, message in (
            (syllables(LONGEST_S + 1), 413, "11.0 s of audio, expected at most 10 s"),
            (syllables(0.02), 422, "recording.wav: 0.02 s, expected one frame to 30 s"),
        ):
            answer = post(client, samples, tmp_path / "a.wav")
            assert (answer.status_code, message in answer.json()["error"]["message"]) == (status, True), answer.text
        assert post(client, syllables(1.0), tmp_path / "a.wav", model="other").status_code == 404


def test_inside_needs_the_folder_of_the_served_model(recognizer: Recognizer, tmp_path: Path) -> None:
    app = create_app(MODEL, recognizer, Limits(), ["localhost"])
    with TestClient(app, "http://localhost") as client:
        answer = post(client, syllables(1.0), tmp_path / "a.wav", model=MODEL)
        assert (answer.status_code, answer.json()["error"]["code"]) == (501, "explain")


def test_a_look_inside_that_is_broken_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    async def break_off() -> None:
        task = asyncio.create_task(_explain(find_model(MODEL), syllables(20.0).astype(np.float32), 16000))
        while not list(tmp_path.glob("asr-inside-*/recording.wav")):
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, break_off()).result()
    assert not list(tmp_path.glob("asr-inside-*"))


def test_inside_opens_on_the_page(visit: Visit, address: str, recording: Path) -> None:
    def steps(page: Page, problems: list[str]) -> None:
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.set_input_files("#file", recording)
        page.get_by_role("button", name="Look inside the model").click()
        inside = page.frame_locator("iframe")
        inside.get_by_role("heading", name="Effective context").wait_for()
        assert inside.locator("canvas").count() == 2 + 6 * 4  # features, posteriors, three layers of two directions
        inside.locator("canvas").nth(2).hover(position={"x": 20, "y": 3})
        assert "input gate of unit" in inside.locator("#value").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        with page.expect_download() as download:
            page.get_by_role("button", name="Save this page").click()
        assert download.value.suggested_filename == "glide.html"
        assert problems == []
        assert {url.split("/")[2] for url in requests if not url.startswith(("blob:", "data:"))} == {address[7:]}
        frame = page.frames[-1]
        reached = "address => fetch(address).then(() => 'reached', () => 'refused')"
        assert frame.evaluate(reached, f"{address}/healthz") == "refused"
        assert (
            frame.evaluate("() => { try { return parent.document.title; } catch { return 'refused'; } }") == "refused"
        )
        page.get_by_role("button", name="Close").click()
        assert page.locator("iframe").count() == 0
        assert page.evaluate("document.activeElement.id") == "look-inside"

    requests: list[str] = []
    visit(steps, width=390)


def test_words_stand_above_their_phones(visit: Visit, address: str, recording: Path) -> None:
    def steps(page: Page, problems: list[str]) -> None:
        page.goto(address)
        page.get_by_label("Practice a sentence").fill("but you")
        with page.expect_response("**/v1/practice") as practice:
            page.set_input_files("#file", recording)
        but, you = practice.value.json()["words"]
        words = page.get_by_role("list", name="Expected words").get_by_role("button")
        assert words.all_inner_texts() == ["but", "you"]
        spans = page.locator("#spoken li").evaluate_all("all => all.map(({ style }) => [style.left, style.width])")
        for (left, width), word in zip(spans, (but, you), strict=True):
            start_s, end_s = word["phones"][0]["start_s"], word["phones"][-1]["end_s"]
            assert float(left[:-1]) == pytest.approx(100 * start_s / 2.0, abs=0.01)
            assert float(width[:-1]) == pytest.approx(100 * (end_s - start_s) / 2.0, abs=0.01)
        words.first.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#spoken .now')?.textContent === 'you'")
        page.get_by_label("Practice a sentence").fill("")
        page.set_input_files("#file", recording)
        page.locator("#spoken").wait_for(state="hidden")
        assert problems == []

    visit(steps)


def test_a_file_chosen_while_the_page_opens_is_recognized(visit: Visit, address: str, recording: Path) -> None:
    def steps(page: Page, problems: list[str]) -> None:
        held: list[Route] = []
        page.route("**/v1/models", lambda route: held.append(route))
        with page.expect_request("**/v1/models"):
            page.goto(address)
        page.set_input_files("#file", recording)
        page.get_by_text("Recognizing").wait_for()
        assert page.get_by_label("Choose a file").is_disabled()
        held.pop().continue_()
        page.get_by_text("phones in 2.00 s").wait_for()
        assert (held, problems) == ([], [])

    visit(steps)


def test_symbols_that_the_model_lacks_cannot_be_chosen(visit: Visit, address: str, recording: Path) -> None:
    def steps(page: Page, problems: list[str]) -> None:
        model = {"id": MODEL, "phones": ["B"], "notations": ["model", "xsampa"]}
        page.route("**/v1/models", lambda route: route.fulfill(json={"data": [model]}))
        page.goto(address)
        page.set_input_files("#file", recording)
        page.locator("#status", has_text="phones in").wait_for()
        enabled = "[...document.getElementById('notation').options].filter(one => !one.disabled).map(one => one.value)"
        assert page.evaluate(enabled) == ["xsampa", "model"]
        symbols = page.locator("#phones button").all_inner_texts()
        page.get_by_label("Symbols").select_option("model")
        page.wait_for_function("(old) => document.querySelector('#phones button').textContent !== old", arg=symbols[0])
        assert problems == []

    visit(steps)


def test_a_word_without_phones_has_a_card_and_no_place_on_the_axis(visit: Visit, address: str, recording: Path) -> None:
    def steps(page: Page, problems: list[str]) -> None:
        phone = {"symbol": "b", "heard": ["b"], "confidence": 0.9, "start_s": 0.5, "end_s": 0.6}
        words = [{"word": "uh", "phones": []}, {"word": "be", "phones": [phone]}]
        page.route("**/v1/practice", lambda route: route.fulfill(json={"words": words}))
        page.goto(address)
        page.locator("#sentence").fill("uh be")
        page.set_input_files("#file", recording)
        page.locator("#status", has_text="phones in").wait_for()
        assert page.locator("#words h3").all_inner_texts() == ["uh", "be"]
        assert page.locator("#spoken button").all_inner_texts() == ["be"]
        assert problems == []

    visit(steps)


def test_zoom_by_keys_and_buttons(visit: Visit, address: str, recording: Path) -> None:
    def steps(page: Page, problems: list[str]) -> None:
        def widths() -> Any:
            return page.evaluate("['axis', 'scroll'].map(id => document.getElementById(id).clientWidth)")

        page.goto(address)
        page.set_input_files("#file", recording)
        page.get_by_role("button", name="Whole").click()
        axis, scroll = widths()
        assert axis == scroll
        page.get_by_role("region", name="Waveform").press("+")
        assert widths()[0] > scroll
        page.get_by_role("button", name="Zoom in").click()
        for _ in range(5):
            page.locator("#phones button").last.press("+")
        assert widths()[0] == pytest.approx(600 * 2.0, abs=1)
        assert page.evaluate(
            "() => { const phone = document.activeElement.getBoundingClientRect(),"
            " view = document.getElementById('scroll').getBoundingClientRect();"
            " return phone.left >= view.left - 1 && phone.right <= view.right + 1; }"
        )
        page.keyboard.press("0")
        assert widths()[0] == scroll
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert problems == []

    visit(steps, width=390)


def test_a_server_that_goes_away_while_it_listens(visit: Visit, recognizer: Recognizer) -> None:
    def steps(page: Page, problems: list[str]) -> None:
        status = page.locator("#status.error")
        with serving(create_app(MODEL, recognizer, Limits(), ["localhost"], folder=find_model(MODEL))) as address:
            page.goto(address)
            page.get_by_text(f"Model {MODEL}").wait_for()
            page.get_by_role("button", name="Record").click()
            page.wait_for_function("() => document.getElementById('heard').textContent.trim().split(' ').length > 1")
            assert page.get_by_text("Choose a file").locator("input").is_disabled()
        status.get_by_text("connection to the server broke off").wait_for()
        page.get_by_role("button", name="Stop").click()
        status.get_by_text("The server does not answer").wait_for()
        assert page.get_by_role("button", name="Record").is_enabled()
        assert page.get_by_text("Choose a file").locator("input").is_enabled()
        again = create_app(MODEL, recognizer, Limits(), ["localhost"], folder=find_model(MODEL))
        with serving(again, int(address.rsplit(":", 1)[1])):
            page.get_by_role("button", name="Try again").click()
            # How many phones does not matter: what was heard while the recording was short may be none in the whole of it.
            page.locator("#status", has_text="phones in").wait_for()
            assert page.get_by_role("button", name="Try again").is_hidden()

    visit(steps)


def test_a_microphone_that_cannot_be_recorded_is_switched_off(visit: Visit, address: str) -> None:
    def steps(page: Page, problems: list[str]) -> None:
        page.add_init_script(
            "const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);"
            "navigator.mediaDevices.getUserMedia = async (wanted) => (window.opened = await open(wanted));"
        )
        page.add_init_script("AudioWorklet.prototype.addModule = () => Promise.reject(new Error('not today'));")
        page.goto(address)
        page.get_by_text(f"Model {MODEL}").wait_for()
        page.get_by_role("button", name="Record").click()
        page.locator("#status.error", has_text="The microphone cannot be recorded: not today").wait_for()
        assert page.evaluate("opened.getTracks().map(track => track.readyState)") == ["ended"]
        assert page.get_by_role("button", name="Record").is_enabled()

    visit(steps)


def test_the_key_is_asked_for_and_used(visit: Visit, recognizer: Recognizer, recording: Path) -> None:
    app = create_app(MODEL, recognizer, Limits(), ["localhost"], KEY)

    def steps(page: Page, problems: list[str]) -> None:
        with serving(app) as address:
            page.goto(address)
            dialog = page.get_by_role("dialog", name="This server needs an API key")
            dialog.get_by_role("button", name="Cancel").click()
            page.locator("#status.error", has_text="The server needs an API key").wait_for()
            page.set_input_files("#file", recording)
            for key in ("wrong horse battery", KEY):
                dialog.get_by_label("API key").fill(key)
                page.keyboard.press("Enter")
                if key != KEY:
                    page.get_by_role("alert").get_by_text("did not accept").wait_for()
            page.locator("#phones button").first.wait_for()
            assert page.evaluate("Object.values(sessionStorage)") == [KEY]
            page.get_by_role("button", name="Record").click()
            page.wait_for_function("() => document.getElementById('heard').textContent.trim().split(' ').length > 1")
            page.get_by_role("button", name="Stop").click()
            page.locator("#status", has_text="phones in").wait_for()
            page.reload()
            page.get_by_text(f"Model {MODEL}").wait_for()
            assert dialog.is_hidden()

    visit(steps)
