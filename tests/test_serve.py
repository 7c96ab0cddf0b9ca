"""The server: answers in OpenAI's shapes, equal to direct recognition; limits, keys, streams; the page in a browser."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import Browser
from starlette.websockets import WebSocketDisconnect

from asr.corpus.manifest import Utterance
from asr.corpus.pronunciations import WordPronunciations, pronounce
from asr.errors import InputError
from asr.inference.catalog import find_model
from asr.inference.recognizer import Recognizer, load
from asr.inference.transcript_formats import FORMATS, Phone, Transcript
from asr.serve import run
from asr.serve.answers import split_at_pauses, subtitles
from asr.serve.app import create_app
from asr.serve.batches import BatchRecognizer
from asr.serve.limits import Limits
from asr.serve.practice import compare
from asr.serve.streams import LOOK_AHEAD_S, Stream
from asr.serve.upload_process import read_upload

MODEL = "speechocean762-small"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WORDS = WordPronunciations({"but": [("B", "AH", "T")], "you": [("Y", "UW")]})


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return load(find_model(MODEL), precision="float32")


@pytest.fixture(scope="module")
def app(recognizer: Recognizer) -> FastAPI:
    return create_app(MODEL, recognizer, Limits(upload_mb=1, duration_s=20), ["localhost"], words=WORDS)


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, "http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds that some phones are heard in: a gliding tone with noise, at 8 kHz."""
    time_s = np.arange(16000) / 8000
    samples = 0.3 * np.sin(2 * np.pi * (300 + 200 * np.sin(9 * time_s)) * time_s) * (np.sin(7 * time_s) > 0)
    samples += 0.01 * np.random.default_rng(1).standard_normal(len(samples))
    path = tmp_path_factory.mktemp("audio") / "glide.wav"
    soundfile.write(path, samples, 8000)
    return path


def post(client: TestClient, path: Path | bytes, route: str = "audio/transcriptions", **fields: Any) -> Any:
    content = path if isinstance(path, bytes) else path.read_bytes()
    return client.post(f"/v1/{route}", data={"model": MODEL, **fields}, files={"file": ("../../name.wav", content)})


@pytest.fixture(scope="module")
def address(app: FastAPI) -> Iterator[str]:
    """The same application behind a real socket."""
    config = uvicorn.Config(app, "127.0.0.1", 0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://localhost:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_every_format_is_that_of_direct_recognition(
    client: TestClient, recognizer: Recognizer, recording: Path
) -> None:
    transcript = recognizer.transcribe(recording)
    text = " ".join(transcript.symbols)
    assert len(transcript.phones) >= 2
    assert post(client, recording).json() == {"text": text}
    assert post(client, recording, response_format="text").text == text + "\n"
    for name in ("ctm", "phn", "textgrid"):
        assert post(client, recording, response_format=name).text == FORMATS[name][1](transcript, Path("audio"))
    verbose = post(client, recording, response_format="verbose_json", notation="ipa").json()
    ipa = transcript.in_notation("ipa")
    assert [phone["symbol"] for phone in verbose["phones"]] == ipa.symbols
    assert [phone["start_s"] for phone in verbose["phones"]] == [round(p.start_s, 4) for p in ipa.phones]
    assert verbose["duration"] == 2.0
    assert "words" not in verbose


def test_the_client_of_openai_works_unchanged(address: str, recognizer: Recognizer, recording: Path) -> None:
    expected = recognizer.transcribe(recording)
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == [MODEL]
    with recording.open("rb") as file:
        answer = client.audio.transcriptions.create(
            model=MODEL, file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
        )
    assert answer.words is not None
    assert answer.segments is not None
    assert [word.word for word in answer.words] == expected.symbols
    assert [word.end for word in answer.words] == [round(phone.end_s, 4) for phone in expected.phones]
    assert " ".join(segment.text for segment in answer.segments) == answer.text
    with recording.open("rb") as file:
        assert client.audio.transcriptions.create(model=MODEL, file=file).text == answer.text
    with (
        pytest.raises(openai.NotFoundError, match=f"model 'whisper-1', expected '{MODEL}'"),
        recording.open("rb") as file,
    ):
        client.audio.transcriptions.create(model="whisper-1", file=file)


def test_requests_that_arrive_together_share_a_batch_and_change_nothing(
    client: TestClient, address: str, real_utterances: list[Utterance]
) -> None:
    files = [utterance.audio_path.read_bytes() for utterance in real_utterances[:12]]

    def batches() -> dict[str, float]:
        lines = client.get("/metrics").text.splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("asr_batch_size_")}

    alone = [post(client, file, response_format="verbose_json").json() for file in files]
    before = batches()
    remote = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    with ThreadPoolExecutor(12) as pool:
        together = list(
            pool.map(
                lambda file: remote.audio.transcriptions.create(
                    model=MODEL, file=("a", file), response_format="verbose_json"
                ),
                files,
            )
        )
    after = batches()
    assert [answer.text for answer in together] == [answer["text"] for answer in alone]
    assert after["asr_batch_size_sum"] - before["asr_batch_size_sum"] == 12
    assert after["asr_batch_size_count"] - before["asr_batch_size_count"] < 12


def test_a_bad_request_does_not_spoil_its_batch(recognizer: Recognizer, recording: Path) -> None:
    batches = BatchRecognizer(recognizer)
    samples = recognizer.samples(*soundfile.read(recording, dtype="float32"))
    results = [batches.submit(each) for each in (samples, np.full(1600, np.nan, np.float32), samples)]
    batches.close()
    assert results[0].result().symbols == results[2].result().symbols == recognizer.transcribe(recording).symbols
    with pytest.raises(InputError, match="a sample is not finite"):
        results[1].result()


def test_alignment(client: TestClient, recognizer: Recognizer, recording: Path) -> None:
    found = post(client, recording, "align", phones="B AH T").json()
    aligned = recognizer.align(recording, ["B", "AH", "T"])
    assert [phone["start_s"] for phone in found["phones"]] == [round(phone.start_s, 4) for phone in aligned.phones]
    refused = post(client, recording, "align", phones="B QQ")
    assert refused.status_code == 422
    assert "unknown phone 'QQ'" in refused.json()["error"]["message"]


def test_practice_says_what_was_heard_for_each_phone() -> None:
    def transcript(*phones: str) -> Transcript:
        return Transcript(
            tuple(Phone(phone, index / 10, index / 10 + 0.1, 0.5 + index / 100) for index, phone in enumerate(phones)),
            1.0,
        )

    words = pronounce("But, YOU!", WORDS, "text")
    heard = transcript("B", "AA", "T", "UW", "N")
    answer = compare(words, transcript("B", "AH", "T", "Y", "UW"), heard, {"UW": "u"})
    assert [word["word"] for word in answer] == ["But", "YOU"]
    flat = [phone for word in answer for phone in word["phones"]]  # type: ignore[attr-defined]
    assert [(phone["symbol"], phone["heard"]) for phone in flat] == [
        ("B", ["B"]),
        ("AH", ["AA"]),
        ("T", ["T"]),
        ("Y", []),
        ("u", ["u", "N"]),
    ]
    assert [phone["confidence"] for phone in flat] == [0.5, 0.51, 0.52, 0.53, 0.53]
    with pytest.raises(
        InputError, match="text: no pronunciation of 'me', 'him', expected a pronunciation of every word"
    ):
        pronounce("me but him", WORDS, "text")


def test_practice_route(client: TestClient, recording: Path) -> None:
    answer = post(client, recording, "practice", text="but you").json()
    assert [phone["symbol"] for word in answer["words"] for phone in word["phones"]] == ["B", "AH", "T", "Y", "UW"]
    assert "no pronunciation of 'zzz'" in post(client, recording, "practice", text="zzz").json()["error"]["message"]


def test_subtitles() -> None:
    phones = [Phone("B", 0.5, 0.6, 0.9), Phone("AH", 0.6, 0.7, 0.9), Phone("T", 3661.5, 3661.6129, 0.9)]
    transcript = Transcript(tuple(phones), 3700.0)
    assert subtitles(transcript, "srt") == (
        "1\n00:00:00,500 --> 00:00:00,700\nB AH\n\n2\n01:01:01,500 --> 01:01:01,613\nT\n"
    )
    assert subtitles(transcript, "vtt") == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:00.700\nB AH\n\n01:01:01.500 --> 01:01:01.613\nT\n"
    )
    steady = [Phone("B", index / 8, (index + 1) / 8, 0.9) for index in range(300)]
    assert [len(segment) for segment in split_at_pauses(steady)] == [300]
    gaps = [Phone("B", index / 8, index / 8 + 0.0625, 0.9) for index in range(300)]
    assert [len(segment) for segment in split_at_pauses(gaps)] == [81, 81, 81, 57]


@pytest.mark.parametrize(
    ("content", "fields", "status", "code", "message"),
    [
        (b"no audio at all", {}, 415, "unreadable_audio", "not readable as audio"),
        (b"", {}, 415, "unreadable_audio", "empty file"),
        (b"x" * 1_100_000, {}, 413, "upload_mb", "request larger than 1 MB"),
        ("silence 30 s", {}, 413, "duration_s", "30 s of audio, expected at most 20 s"),
        ("silence 1 s", {}, 415, "unreadable_audio", "all 16000 samples are zero"),
        ("half", {}, 415, "unreadable_audio", "truncated"),
        (b"x", {"model": "other"}, 404, "model_not_found", "model 'other', expected"),
        (b"x", {"response_format": "xml"}, 422, "invalid_value", "response_format: Input should be"),
        (b"x", {"notation": "sampa"}, 422, "invalid_value", "notation: Input should be"),
    ],
)
def test_refusals_name_what_was_found_and_what_is_expected(
    client: TestClient,
    tmp_path: Path,
    recording: Path,
    content: bytes | str,
    fields: dict[str, str],
    status: int,
    code: str,
    message: str,
) -> None:
    if content == "half":
        content = recording.read_bytes()[:9000]
    elif isinstance(content, str):
        soundfile.write(tmp_path / "a.flac", np.zeros(16000 * int(content.split()[1])), 16000)
        content = (tmp_path / "a.flac").read_bytes()
    answer = post(client, content, **fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert message in answer.json()["error"]["message"]
    assert "name.wav" not in answer.text
    assert "/" not in answer.json()["error"]["message"].replace("WAV, FLAC", "")


def test_a_file_is_required(client: TestClient) -> None:
    answer = client.post("/v1/audio/transcriptions", data={"model": MODEL})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "file")


def test_a_chunked_request_is_counted_while_it_arrives(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as connection:
        head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n"
        connection.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n")
        part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(200_000)
        connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        for _ in range(9):
            connection.sendall(f"{100_000:x}\r\n".encode() + bytes(100_000) + b"\r\n")
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]


def test_a_request_that_trickles_is_ended(recognizer: Recognizer) -> None:
    app = create_app(MODEL, recognizer, Limits(request_s=0.3), ["localhost"])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.1)
        return {"type": "http.request", "body": b"-", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=b")]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/audio/transcriptions", "headers": headers}
    scope |= {"query_string": b"", "raw_path": b"", "root_path": "", "scheme": "http", "http_version": "1.1"}
    start_s = time.monotonic()
    asyncio.run(app(scope, receive, send))
    assert time.monotonic() - start_s < 5
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["code"] == "request_s"
    app.state.service.close()


def test_full_queues_refuse_and_slow_results_time_out(recognizer: Recognizer, recording: Path) -> None:
    with TestClient(create_app(MODEL, recognizer, Limits(queue=0), ["localhost"]), "http://localhost") as client:
        answer = post(client, recording)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["code"] == "queue"
    app = create_app(MODEL, recognizer, Limits(request_s=2), ["localhost"])
    with TestClient(app, "http://localhost") as client:
        assert post(client, recording).status_code == 200
        app.state.service.batches.submit = lambda samples: __import__("concurrent.futures").futures.Future()
        answer = post(client, recording)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "request_s")


def test_a_process_that_reads_uploads_and_dies_is_replaced(app: FastAPI, client: TestClient, recording: Path) -> None:
    readers = app.state.service.readers
    assert post(client, recording).status_code == 200
    process = readers._idle.get()
    process.kill()
    readers._idle.put(process)
    assert post(client, recording).status_code == 200
    hanging = readers._idle.get()
    os.kill(hanging.pid, signal.SIGSTOP)
    readers._idle.put(hanging)
    limits, readers._limits = readers._limits, Limits(request_s=0.5)
    answer = post(client, recording)
    readers._limits = limits
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "request_s")
    assert post(client, recording).status_code == 200


def test_an_upload_that_decompresses_beyond_the_limits_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", np.zeros(3600 * 8000, np.int16), 8000)
    content = (tmp_path / "long.flac").read_bytes()
    assert len(content) < 100_000
    assert read_upload(content, 16000, 60.0) == (b"L", b"3600 s of audio, expected at most 60 s")


def test_keys_hosts_and_headers(recognizer: Recognizer) -> None:
    key = "k" * 20
    with TestClient(create_app(MODEL, recognizer, Limits(), ["localhost"], key), "http://localhost") as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/models").json()["error"]["code"] == "invalid_api_key"
        assert client.get("/v1/models", headers={"authorization": f"Bearer {key}x"}).status_code == 401
        assert client.get("/v1/models", headers={b"authorization": b"Bearer \xe9"}).status_code == 401
        answer = client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
        for host, status in (
            ("localhost:8000", 200),
            ("LOCALHOST", 200),
            ("evil.example", 421),
            ("[::1]:80", 421),
            ("", 421),
        ):
            assert client.get("/healthz", headers={"host": host}).status_code == status, host


def test_the_server_listens_beyond_this_machine_with_a_key_alone(tmp_path: Path) -> None:
    def serve(host: str, key_file: Path | None) -> None:
        run.serve(tmp_path / "none", host, 1, key_file, [], False, Limits())

    with pytest.raises(InputError, match="host 0.0.0.0 is not loopback, expected --key-file"):
        serve("0.0.0.0", None)
    (tmp_path / "key").write_text("short\n")
    with pytest.raises(InputError, match="a key of 5 characters, expected at least 16"):
        serve("0.0.0.0", tmp_path / "key")
    assert [run.is_loopback(host) for host in ("127.0.0.9", "::1", "localhost", "10.0.0.1", "example.org")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def stream_phones(client: TestClient, samples: np.ndarray, sizes: list[int]) -> tuple[list[str], list[Any]]:
    """Stream samples at 16 kHz in messages of these sizes, again and again: the final phones, and all answers."""
    answers: list[Any] = []
    content = (samples * 32767).astype("<i2").tobytes()
    with client.websocket_connect("/v1/stream?sample_rate=16000") as connection:
        at, index = 0, 0
        while at < len(content):
            size = 2 * sizes[index % len(sizes)]
            connection.send_bytes(content[at : at + size])
            at, index = at + size, index + 1
        connection.send_text('{"type": "end"}')
        while not answers or not answers[-1]["ended"]:
            answers.append(connection.receive_json())
    return [phone["symbol"] for answer in answers for phone in answer["final"]], answers


def test_a_stream_gives_nearly_what_the_whole_recording_gives(
    client: TestClient, recognizer: Recognizer, real_utterances: list[Utterance]
) -> None:
    from asr.scoring.alignment import count_errors

    errors = phones = 0
    for utterance in real_utterances[-6:]:
        samples = soundfile.read(utterance.audio_path, dtype="float32")[0]
        whole = recognizer.transcribe(samples, 16000).symbols
        final, answers = stream_phones(client, samples, [1600, 333, 4000])
        counts = count_errors(whole, final)
        errors, phones = errors + counts.errors, phones + len(whole)
        assert answers[-1]["pending"] == []
        times = [phone["start_s"] for answer in answers for phone in answer["final"]]
        assert times == sorted(times)
    assert errors < 0.25 * phones


def test_final_phones_wait_for_what_follows() -> None:
    stream = Stream(8000, 16000)
    assert not stream.add(bytes(2 * 800))
    assert stream.add(bytes(2 * 16000))
    window = stream.window()
    assert len(window) == pytest.approx(2.1 * 16000, abs=800)
    phones = (Phone("B", 0.2, 0.3, 0.9), Phone("T", 1.0, 1.2, 0.9), Phone("S", 1.5, 1.9, 0.9))
    final, pending = stream.update(Transcript(phones, 2.1), ended=False)
    assert ([phone.symbol for phone in final], [phone.symbol for phone in pending]) == (["B", "T"], ["S"])
    assert stream.final_until_s == 1.2
    assert stream.duration_s - LOOK_AHEAD_S > 1.2
    again, rest = stream.update(Transcript((Phone("P", 1.0, 1.15, 0.9), Phone("Z", 1.5, 1.9, 0.9)), 2.1), ended=True)
    assert ([phone.symbol for phone in again], rest) == (["Z"], [])


@pytest.mark.parametrize(
    ("address_part", "message", "found"),
    [
        ("?sample_rate=1", b"", "sample_rate '1', expected 1000 to 1000000"),
        ("?sample_rate=x", b"", "sample_rate 'x'"),
        ("?notation=sampa", b"", "notation 'sampa', expected one of model, timit, arpabet, ipa"),
        ("", b"123", "3 bytes, expected 16-bit samples"),
        ("", "no json", "not a JSON object"),
        ("", "[1]", "not a JSON object"),
        ("", '{"type": "other"}', "unknown message"),
        ("", bytes(2**20 + 2), "message of 1048578 bytes, expected at most 1048576"),
    ],
)
def test_streams_refuse_what_they_do_not_know(
    client: TestClient, address_part: str, message: bytes | str, found: str
) -> None:
    with client.websocket_connect(f"/v1/stream{address_part}") as connection:
        if isinstance(message, str):
            connection.send_text(message)
        elif message:
            connection.send_bytes(message)
        assert found in connection.receive_json()["error"]["message"]
        with pytest.raises(WebSocketDisconnect) as ended:
            connection.receive_json()
    assert ended.value.code == 1008


def test_streams_of_other_pages_are_refused(client: TestClient) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/stream", headers={"origin": "http://evil.example"}),
    ):
        pass


def test_streams_need_the_key_and_are_counted(recognizer: Recognizer) -> None:
    app = create_app(MODEL, recognizer, Limits(streams=1), ["localhost"], "k" * 20)
    with TestClient(app, "http://localhost") as client:
        with client.websocket_connect("/v1/stream") as connection:
            connection.send_text(json.dumps({"type": "key", "key": "wrong"}))
            assert connection.receive_json()["error"]["code"] == "invalid_api_key"
        with client.websocket_connect("/v1/stream") as connection, client.websocket_connect("/v1/stream") as second:
            assert second.receive_json()["error"]["code"] == "streams"
            connection.send_text(json.dumps({"type": "key", "key": "k" * 20}))
            connection.send_text('{"type": "end"}')
            assert connection.receive_json() == {"type": "phones", "final": [], "pending": [], "ended": True}


def test_the_command_serves_and_ends_when_told(tmp_path: Path, recording: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "asr", "serve", "--model", MODEL, "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert re.search(f"model {MODEL} at http://127.0.0.1:{port}", process.stderr.readline())
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=8)
        with recording.open("rb") as file:
            assert client.audio.transcriptions.create(model=MODEL, file=file).text
        start_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert time.monotonic() - start_s < 15
    finally:
        process.kill()


def test_the_page(address: str, browser: Browser, recording: Path, tmp_path: Path) -> None:
    """Choose a file, see and hear phones, change the symbols, download, practice: by keyboard where it matters."""
    problems: list[str] = []
    page = browser.new_page(viewport={"width": 390, "height": 844}, accept_downloads=True)
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    page.get_by_text(f"Model {MODEL}").wait_for()
    page.get_by_label("Practice a sentence").fill("but you")
    page.set_input_files("#file", recording)
    page.get_by_role("heading", name="Your sentence").wait_for(timeout=60_000)
    phones = page.locator("#phones button")
    assert phones.count() >= 2
    first = phones.first.get_attribute("aria-label") or ""
    phones.first.click()
    phones.first.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == phones.nth(1).get_attribute(
        "aria-label"
    )
    page.get_by_label("Symbols").select_option("arpabet")
    page.wait_for_function("before => document.querySelector('#phones button').ariaLabel !== before", arg=first)
    with page.expect_download() as download:
        page.get_by_role("button", name="TextGrid").click()
    assert download.value.suggested_filename == "glide.TextGrid"
    assert "IntervalTier" in Path(download.value.path()).read_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.goto(f"{address}/docs")
    page.locator("[data-path='/v1/audio/transcriptions']").wait_for()
    assert problems == []
    page.close()


DROP_WEBM = """async () => {
  const context = new AudioContext(), tone = context.createOscillator(), out = context.createMediaStreamDestination();
  tone.connect(out);
  tone.start();
  const recorder = new MediaRecorder(out.stream), parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  setTimeout(() => recorder.stop(), 1000);
  await stopped;
  const files = new DataTransfer();
  files.items.add(new File(parts, "tone.webm", { type: "audio/webm" }));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: files, cancelable: true }));
}"""


def test_formats_that_only_one_of_browser_and_server_knows(
    address: str, browser: Browser, recording: Path, tmp_path: Path
) -> None:
    page = browser.new_page()
    page.goto(address)
    page.get_by_text(f"Model {MODEL}").wait_for()
    page.evaluate(DROP_WEBM)
    page.locator("#status", has_text=re.compile(r"phones in [01]\.\d\d s")).wait_for(timeout=60_000)
    assert "cannot play" not in (page.text_content("#status") or "")
    soundfile.write(tmp_path / "a.sph", soundfile.read(recording)[0], 8000, format="NIST", subtype="PCM_16")
    page.set_input_files("#file", tmp_path / "a.sph")
    page.get_by_text("cannot play this format").wait_for(timeout=60_000)
    assert page.locator("#phones button").count() >= 2
    (tmp_path / "text.wav").write_text("no audio")
    page.set_input_files("#file", tmp_path / "text.wav")
    page.locator("#status.error", has_text="not readable as audio").wait_for(timeout=60_000)
    page.close()


def test_speech_into_the_microphone(
    address: str, browser: Browser, real_utterances: list[Utterance], tmp_path: Path
) -> None:
    """Chromium's fake microphone plays real speech: phones appear while it plays, and the same when it has ended."""
    samples, rate = soundfile.read(real_utterances[-1].audio_path, dtype="int16")
    soundfile.write(tmp_path / "speech.wav", samples, rate)
    arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    arguments.append(f"--use-file-for-fake-audio-capture={tmp_path / 'speech.wav'}")
    own = browser.browser_type.launch(executable_path=CHROMIUM, args=arguments)
    problems: list[str] = []
    page = own.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.goto(address)
    page.get_by_text(f"Model {MODEL}").wait_for()
    page.get_by_role("button", name="Record").click()
    page.wait_for_function("() => document.getElementById('heard').textContent.trim().split(' ').length > 5")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("heading", name="What was recognized").wait_for(timeout=60_000)
    assert page.locator("#phones button").count() > 5
    page.locator("#phones button").nth(2).click()
    page.wait_for_function("() => document.querySelector('#phones .now') !== null")
    assert problems == []
    own.close()
