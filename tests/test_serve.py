"""The server: answers in OpenAI's shapes, equal to direct recognition; limits, keys, streams; the page in a browser."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import openai
import pytest
import soundfile
import uvicorn
import websockets.sync.client
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import Browser
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from asr.corpus.manifest import Utterance
from asr.corpus.phones import inventory, make_inventory, read_inventory
from asr.corpus.pronunciations import WordPronunciations, pronounce
from asr.errors import InputError
from asr.inference import streaming, utterances
from asr.inference.catalog import find_model
from asr.inference.recognizer import Recognizer, load
from asr.inference.transcript_formats import FORMATS, Phone, Transcript
from asr.serve import run, stream_route
from asr.serve.answers import split_at_pauses, subtitles
from asr.serve.app import create_app
from asr.serve.batches import BatchRecognizer
from asr.serve.limits import Limits
from asr.serve.practice import compare
from asr.serve.service import Service
from asr.serve.stream_route import _json
from asr.serve.streams import CONTEXT_S, LONGEST_S, LOOK_AHEAD_S, Stream
from asr.serve.upload_process import read_upload
from tests.faults import serve as faults
from tests.faults.serve import Server
from tests.faults.serve_clients import Clients, Recording
from tests.faults.soak import Usage
from tests.test_streaming import bundle_of, speech

T = TypeVar("T")

MODEL = "speechocean762-small"
WS = "ws://localhost"
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


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The address of a server with the settings of `asr serve`, in a thread."""
    server = uvicorn.Server(run.configuration(app, "127.0.0.1", 0))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://localhost:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def address(recognizer: Recognizer) -> Iterator[str]:
    """The application behind a real socket."""
    limits, hosts = Limits(upload_mb=1, duration_s=20), ["localhost", "127.0.0.1"]
    with listening(create_app(MODEL, recognizer, limits, hosts, words=WORDS)) as at:
        yield at


def never(waiting: list["Future[Transcript]"]) -> Callable[[np.ndarray], "Future[Transcript]"]:
    """Takes the place of `BatchRecognizer.submit`: the results do not come by themselves."""

    def submit(samples: np.ndarray) -> "Future[Transcript]":
        waiting.append(Future())
        return waiting[-1]

    return submit


def run_alone(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a thread of its own: in this one, Playwright may have left an event loop running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def ask(app: FastAPI, headers: list[tuple[bytes, bytes]], messages: Iterable[dict[str, Any]], wait_s: float) -> Any:
    """POST a transcription by hand, with ``wait_s`` before each message: (status, code of the error, messages read)."""
    sent: list[Any] = []
    read = 0
    coming = iter(messages)

    async def receive() -> dict[str, Any]:
        nonlocal read
        await asyncio.sleep(wait_s)
        read += 1
        return next(coming)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=b"), *headers]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/audio/transcriptions", "headers": headers}
    scope |= {"query_string": b"", "raw_path": b"", "root_path": "", "scheme": "http", "http_version": "1.1"}
    run_alone(app(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"], read


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


@pytest.fixture(scope="module")
def recognizer_of_ipa(recognizer: Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """The same network with phones in IPA. Its first is y, which is another phone in TIMIT's notation."""
    symbols = ["y", "ʃ", *(f"{consonant}{vowel}" for consonant in "bdfkmnsz" for vowel in "aeiou")][:39]
    table = tmp_path_factory.mktemp("phones") / "phones.txt"
    table.write_text("# notation: ipa\n" + "".join(f"{symbol}\n" for symbol in symbols), encoding="utf-8")
    return replace(recognizer, bundle=replace(recognizer.bundle, inventory=read_inventory(table)))


def test_symbols_are_those_of_the_models_notation(recognizer_of_ipa: Recognizer, recording: Path) -> None:
    plain = recognizer_of_ipa.transcribe(recording)
    service = Service(MODEL, recognizer_of_ipa, Limits(), WORDS)
    assert list(service.notations) == ["model", "ipa", "xsampa"]
    assert (service.symbols("ipa")["y"], service.symbols("xsampa")["ʃ"]) == ("y", "S")
    with TestClient(create_app(MODEL, recognizer_of_ipa, Limits(), ["localhost"]), "http://localhost") as client:
        assert client.get("/v1/models").json()["data"][0]["notations"] == ["model", "ipa", "xsampa"]
        for notation in ("model", "ipa", "xsampa"):
            written = [service.symbols(notation).get(phone, phone) for phone in plain.symbols]
            assert post(client, recording, notation=notation).json()["text"].split() == written
        answer = post(client, recording, notation="arpabet")
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "notation")
        message = "notation 'arpabet', expected one of model, ipa, xsampa"
        assert answer.json()["error"]["message"] == message
        with client.websocket_connect(f"{WS}/v1/stream?notation=arpabet") as connection:
            assert connection.receive_json()["error"]["message"] == message


def test_a_phone_without_a_symbol_is_left_out() -> None:
    """A silence has a symbol in TIMIT's notation alone."""
    phones = [Phone("h#", 0.0, 0.5, 0.9), Phone("B", 0.5, 0.6, 0.9)]
    assert [phone["symbol"] for phone in _json(phones, {"h#": None, "B": "b"})] == ["b"]
    assert [phone["symbol"] for phone in _json(phones, {})] == ["h#", "B"]
    answer = compare(
        [("B", ["B"])], Transcript((phones[1],), 1.0), Transcript(tuple(phones), 1.0), {"h#": None, "B": "b"}
    )
    assert answer[0]["phones"][0]["heard"] == ["b"]  # type: ignore[index]


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
    address: str, real_utterances: list[Utterance]
) -> None:
    files = [utterance.audio_path.read_bytes() for utterance in real_utterances[:12]]

    def batches() -> dict[str, float]:
        lines = httpx.get(f"{address}/metrics").text.splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("asr_batch_size_")}

    remote = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)

    def recognize(file: bytes) -> str:
        return remote.audio.transcriptions.create(model=MODEL, file=("a", file)).text

    alone = [recognize(file) for file in files]
    before = batches()
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(recognize, files))
    after = batches()
    assert together == alone
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


@pytest.mark.parametrize(
    ("route", "fields", "param"),
    [
        ("practice", {"text": "but you " * 100}, "text"),  # more phones than the recording has output frames
        ("align", {"phones": "B AH T " * 200}, "phones"),
        ("audio/transcriptions", {"timestamp_granularities[]": ["word", "phone"]}, "timestamp_granularities[]"),
    ],
)
def test_errors_name_the_parameter_of_the_request(
    client: TestClient, recording: Path, route: str, fields: dict[str, Any], param: str
) -> None:
    answer = post(client, recording, route, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param), answer.json()


def test_practice_shows_each_word_the_phones_that_are_aligned(recognizer_of_ipa: Recognizer, recording: Path) -> None:
    bundle = recognizer_of_ipa.bundle
    folding = bundle.inventory.mapping | {"ʔ": None, "yː": "y"}  # as a table that drops one and folds another
    folded = replace(recognizer_of_ipa, bundle=replace(bundle, inventory=replace(bundle.inventory, mapping=folding)))
    words = WordPronunciations({"one": [("ʔ", "yː", "ba")], "two": [("be",)]})
    with TestClient(create_app(MODEL, folded, Limits(), ["localhost"], words=words), "http://localhost") as client:
        answer = post(client, recording, "practice", text="one two").json()["words"]
    symbols = {word["word"]: [phone["symbol"] for phone in word["phones"]] for word in answer}
    assert symbols == {"one": ["y", "ba"], "two": ["be"]}


def test_practice_takes_phones_that_the_inventory_folds_to_others(recognizer: Recognizer, recording: Path) -> None:
    """TIMIT's 48 phones have cl in place of kcl, and no transcript has it."""
    symbols = inventory("timit48").symbols[1 : len(recognizer.phones) + 1]
    folding = {phone: modelled for phone, modelled in inventory("timit48").mapping.items() if modelled in symbols}
    bundle = replace(recognizer.bundle, inventory=make_inventory("timit48", folding, "timit"))
    words = WordPronunciations({"dark": [("d", "aa", "kcl", "k")]})
    app = create_app(MODEL, replace(recognizer, bundle=bundle), Limits(), ["localhost"], words=words)
    with TestClient(app, "http://localhost") as client:
        for notation, expected in (("model", ["d", "aa", "cl", "k"]), ("arpabet", ["D", "AA", "cl", "K"])):
            (word,) = post(client, recording, "practice", text="dark", notation=notation).json()["words"]
            assert [phone["symbol"] for phone in word["phones"]] == expected


@pytest.mark.parametrize("stress", ["", "1"])
def test_cmudict_is_for_every_model_of_arpabet(recognizer: Recognizer, stress: str) -> None:
    symbols = [f"{phone}{stress}" if phone[0] in "AEIOU" else phone for phone in recognizer.phones if phone != "ZH"]
    phones = make_inventory("phones.txt", {symbol: symbol for symbol in symbols}, "arpabet")
    words = run._words(None, replace(recognizer, bundle=replace(recognizer.bundle, inventory=phones)))
    assert words.find("cat") == (("K", f"AE{stress}", "T"),)
    assert words.find("vision") == ()  # the model has no ZH
    other = replace(phones, notation="other")
    assert not run._words(None, replace(recognizer, bundle=replace(recognizer.bundle, inventory=other))).lexicon


def test_practice_hears_no_silences() -> None:
    phones = [Phone(symbol, index / 10, index / 10 + 0.1, 0.9) for index, symbol in enumerate(["ʃ", "sil", "a"])]
    expected = Transcript((phones[0], phones[2]), 1.0)
    (word,) = compare([("sha", ["ʃ", "a"])], expected, Transcript(tuple(phones), 1.0), {"sil": "sil"})
    assert [phone["heard"] for phone in word["phones"]] == [["ʃ"], ["a"]]  # type: ignore[attr-defined]


def test_subtitles() -> None:
    phones = [Phone("B", 0.5, 0.6, 0.9), Phone("AH", 0.6, 0.7, 0.9), Phone("T", 3661.5, 3661.6129, 0.9)]
    transcript = Transcript(tuple(phones), 3700.0)
    assert subtitles(transcript, "srt") == (
        "1\n00:00:00,500 --> 00:00:00,700\nB AH\n\n2\n01:01:01,500 --> 01:01:01,613\nT\n"
    )
    assert subtitles(transcript, "vtt") == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:00.700\nB AH\n\n01:01:01.500 --> 01:01:01.613\nT\n"
    )
    marked = Transcript((Phone("b_<", 0.5, 0.6, 0.9), Phone("&", 0.6, 0.7, 0.9)), 1.0)  # X-SAMPA
    assert "\nb_&lt; &amp;\n" in subtitles(marked, "vtt")
    assert "\nb_< &\n" in subtitles(marked, "srt")
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


FORM = {"content-type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status", "code"),
    [
        (
            "POST",
            "/v1/align",
            FORM,
            b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b--',
            422,
            "invalid_value",
        ),
        ("POST", "/v1/align", FORM, b"no form", 400, "bad_request"),
        ("POST", "/v1/align", {"content-type": "multipart/form-data"}, b"", 400, "bad_request"),
        ("POST", "/v1/align", {"content-type": "application/x-www-form-urlencoded"}, b"a&" * 9, 415, "content_type"),
        ("POST", "/v1/align", {}, b"", 415, "content_type"),
        ("POST", "/v1/align", {"content-type": FORM["content-type"] + '; Charset="punycode"'}, b"", 415, "charset"),
        ("GET", "/nowhere", {}, b"", 404, "not_found"),
        ("GET", "/%00", {}, b"", 404, "not_found"),
        ("PUT", "/healthz", {}, b"", 405, "method_not_allowed"),
        ("GET", "/healthz", {"origin": "http://evil.example"}, b"", 403, "origin"),
        ("GET", "/healthz", {"origin": "http://["}, b"", 403, "origin"),
        ("GET", "/healthz", {"origin": "null"}, b"", 403, "origin"),
        ("GET", "/healthz", {"origin": "https://localhost"}, b"", 403, "origin"),
        ("GET", "/healthz", {"origin": "http://localhost:81"}, b"", 403, "origin"),
        ("GET", "/healthz", {"host": "localhost:99999", "origin": "null"}, b"", 403, "origin"),
    ],
)
def test_every_error_has_the_same_shape(
    client: TestClient, method: str, path: str, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    answer = client.request(method, path, headers=headers, content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_server_s_own_page_may_ask(client: TestClient) -> None:
    for origin in ("http://localhost", "http://localhost:80", "http://LOCALHOST"):
        assert client.get("/healthz", headers={"origin": origin}).status_code == 200


def test_failures_of_the_server_have_that_shape_too(
    recognizer: Recognizer, recording: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(MODEL, recognizer, Limits(), ["localhost"])
    with TestClient(app, "http://localhost") as client:
        app.state.service.batches.submit = lambda samples: 1 / 0
        answer = post(client, recording)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
        assert "ZeroDivisionError" in caplog.text
        with client.websocket_connect(f"{WS}/v1/stream") as connection:
            connection.send_bytes(bytes(32000))
            assert connection.receive_json()["error"]["code"] == "internal"
            with pytest.raises(WebSocketDisconnect) as ended:
                connection.receive_json()
        assert ended.value.code == 1011
        assert 'asr_requests_total{route="/v1/audio/transcriptions",status="500"} 1.0' in client.get("/metrics").text


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


BEGIN = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


def body(content: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": True}


def test_a_request_has_one_deadline(recognizer: Recognizer, recording: Path) -> None:
    """While it arrives, 408; while it waits, 503: and what arrived slowly has less time left."""
    app = create_app(MODEL, recognizer, Limits(request_s=0.5), ["localhost"])
    status, code, read = ask(app, [], chain([body(BEGIN)], repeat(body(b"-"))), 0.1)
    assert (status, code) == (408, "request_s")
    assert 2 <= read <= 5
    app = create_app(MODEL, recognizer, Limits(request_s=2), ["localhost"])
    with TestClient(app, "http://localhost") as client:
        assert post(client, recording).status_code == 200
        stuck: list[Future[Transcript]] = []
        app.state.service.batches.submit = never(stuck)
        answer = post(client, recording)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "request_s")
        assert stuck[0].cancelled()


def test_full_queues_refuse_before_a_request_has_arrived(recognizer: Recognizer, recording: Path) -> None:
    app = create_app(MODEL, recognizer, Limits(queue=0), ["localhost"])
    assert ask(app, [(b"expect", b"100-continue")], repeat(body(b"-")), 0) == (503, "queue", 0)
    assert ask(app, [(b"content-length", b"200000000")], repeat(body(b"-")), 0)[:2] == (413, "upload_mb")
    with TestClient(app, "http://localhost") as client:
        answer = post(client, recording)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["code"] == "queue"


def test_decoded_audio_that_waits_is_limited(recognizer: Recognizer, recording: Path) -> None:
    """Two seconds may wait, and one recording is always taken."""
    app = create_app(MODEL, recognizer, Limits(decoded_s=3), ["localhost"])
    with TestClient(app, "http://localhost") as client:
        batches = app.state.service.batches
        waiting: list[Future[Transcript]] = []
        submit, batches.submit = batches.submit, never(waiting)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(post, client, recording)
            while not waiting:
                time.sleep(0.01)
            answer = post(client, recording)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "decoded_s")
            waiting[0].set_result(Transcript((), 2.0))
            assert first.result().status_code == 200
        batches.submit = submit
        service = app.state.service
        for fields, status in (({"phones": "B"}, 200), ({"phones": "Q"}, 422), ({"phones": "B " * 999}, 422)) * 3:
            assert post(client, recording, "align", **fields).status_code == status
            wait_until_forgotten(service)
        batches.submit = lambda samples: submit(samples * np.nan)
        for status in (415, 415, 415):
            assert post(client, recording).status_code == status
            wait_until_forgotten(service)


def wait_until_forgotten(service: Service) -> None:
    """Wait until nothing holds the samples of requests that have been answered: the model's thread may for a moment."""
    end_s = time.monotonic() + 10
    while any(reference() is not None for reference in service._decoded):
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_alignments_are_limited_and_share_the_thread(recognizer: Recognizer, recording: Path) -> None:
    """2 s have 200 frames, which the model reduces."""
    frames = len(recognizer.log_probs(recording))
    app = create_app(MODEL, recognizer, Limits(align_cells=frames * 3 + 10), ["localhost"])
    with TestClient(app, "http://localhost") as client:
        assert post(client, recording, "align", phones="B AH T").status_code == 200
        answer = post(client, recording, "align", phones="B AH T B")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "align_cells")
        assert re.search(f"expected a product of at most {frames * 3 + 10}", answer.json()["error"]["message"])
        names: list[str] = []
        work = app.state.service.run(lambda: names.append(threading.current_thread().name))
        client.portal.call(lambda: work)  # type: ignore[union-attr]
        assert names == ["recognizer"]


def test_processes_that_read_uploads_are_replaced(recognizer: Recognizer, recording: Path) -> None:
    """One that has died, and one that hangs: after the deadline, nothing of it is left."""
    app = create_app(MODEL, recognizer, Limits(request_s=3), ["localhost"])
    readers = app.state.service.readers
    with TestClient(app, "http://localhost") as client:
        assert post(client, recording).status_code == 200
        dead = readers._idle[0]
        os.kill(dead.pid, signal.SIGKILL)
        while dead.returncode is None:
            time.sleep(0.01)
        assert post(client, recording).status_code == 200
        hanging = readers._idle[0]
        assert hanging is not dead
        assert os.getsid(hanging.pid) != os.getsid(0)  # Ctrl-C in a terminal does not reach it
        os.kill(hanging.pid, signal.SIGSTOP)
        answer = post(client, recording)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "request_s")
        assert hanging.returncode == -signal.SIGKILL
        assert post(client, recording).status_code == 200
        last = readers._idle[0]
    assert last.returncode == -signal.SIGKILL


def test_processes_that_read_uploads_take_no_module_from_the_current_folder(
    recognizer: Recognizer, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("soundfile", "numpy", "asr"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a trap')")
    monkeypatch.chdir(tmp_path)
    with TestClient(create_app(MODEL, recognizer, Limits(), ["localhost"]), "http://localhost") as client:
        assert post(client, recording).status_code == 200


def test_samples_that_overshoot_in_resampling_are_refused(client: TestClient, tmp_path: Path) -> None:
    """Each is in range, but a square wave at the limit is not once it is resampled."""
    square = np.sign(np.sin(np.arange(8000))).astype(np.float32) * np.float32(2**32)
    soundfile.write(tmp_path / "a.wav", square, 8000, subtype="FLOAT")
    for route, fields in (("audio/transcriptions", {}), ("align", {"phones": "B"}), ("practice", {"text": "but"})):
        answer = post(client, tmp_path / "a.wav", route, **fields)
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unreadable_audio"), route
        assert "out of range" in answer.json()["error"]["message"]


def test_an_upload_that_decompresses_beyond_the_limits_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", np.zeros(3600 * 8000, np.int16), 8000)
    content = (tmp_path / "long.flac").read_bytes()
    assert len(content) < 100_000
    assert read_upload(content, 16000, 60.0) == (b"L", b"3600 s of audio, expected at most 60 s")


def test_keys_hosts_and_headers(recognizer: Recognizer) -> None:
    key = "k" * 20
    with TestClient(create_app(MODEL, recognizer, Limits(), ["localhost"], key), "http://localhost") as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/").status_code == client.get("/page.js").status_code == 200  # the page asks for the key
        for path in ("/v1/models", "/metrics", "/openapi.json"):
            assert client.get(path).json()["error"]["code"] == "invalid_api_key"
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
    with client.websocket_connect(f"{WS}/v1/stream?sample_rate=16000") as connection:
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


@pytest.mark.parametrize("sizes", [[1600], [100000], [333, 4000]])
def test_a_model_made_for_streams_gives_its_own_phones(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utterances, "VoiceActivity", lambda: lambda block: 1.0)  # all of it is speech
    recognizer = Recognizer(bundle_of())
    samples = np.round(speech(3.0) * 32767) / 32768  # as 16-bit samples arrive
    update = streaming.Stream(recognizer).accept(samples.astype(np.float32), ended=True)
    with TestClient(create_app("streaming", recognizer, Limits(), ["localhost"]), "http://localhost") as client:
        final, answers = stream_phones(client, samples * 32768 / 32767, sizes)
    assert final == [phone.symbol for phone in update.final]
    assert len(final) > 10
    assert [phone["start_s"] for answer in answers for phone in answer["final"]] == pytest.approx(
        [phone.start_s for phone in update.final], abs=0.1
    )


def test_final_phones_wait_for_what_follows() -> None:
    stream = Stream(8000, 16000)
    assert not stream.add(bytes(2 * 800))
    assert stream.add(bytes(2 * 16000))
    window = stream.window()
    assert len(window) == pytest.approx(2.1 * 16000, abs=800)
    phones = (Phone("B", 0.2, 0.3, 0.9), Phone("T", 1.0, 1.2, 0.9), Phone("S", 1.5, 1.9, 0.9))
    final, pending = stream.update(Transcript(phones, 2.1), ended=False)
    assert ([phone.symbol for phone in final], [phone.symbol for phone in pending]) == (["B", "T"], ["S"])
    assert 1.2 < stream.final_until_s == stream.duration_s - LOOK_AHEAD_S
    again, rest = stream.update(Transcript((Phone("P", 1.0, 1.15, 0.9), Phone("Z", 1.5, 1.9, 0.9)), 2.1), ended=True)
    assert ([phone.symbol for phone in again], rest) == (["Z"], [])


def test_what_is_recognized_again_does_not_grow_with_the_stream() -> None:
    """Neither with one long phone, nor with phones between which nothing is final."""
    stream = Stream(16000, 16000)
    longest_s, finals = 0.0, []
    for step in range(1, 200):
        stream.add(bytes(2 * 8000))
        length_s = len(stream.window()) / 16000
        longest_s = max(longest_s, length_s)
        since_s = max(0.0, 3.0 - (stream.duration_s - length_s))  # a tone from 3 s on
        phones = (Phone("Z", since_s, length_s, 0.9),) if step > 6 else ()
        final, _ = stream.update(Transcript(phones, length_s), ended=False)
        finals += final
    assert longest_s < LONGEST_S + CONTEXT_S + 2
    assert finals
    assert all(one.end_s <= other.end_s for one, other in pairwise(finals))


def test_silence_before_a_pending_phone_is_final() -> None:
    stream = Stream(16000, 16000)
    stream.add(bytes(2 * 16000 * 10))
    stream.window()
    final, pending = stream.update(Transcript((Phone("B", 9.5, 9.9, 0.9),), 10.0), ended=False)
    assert (final, len(pending)) == ([], 1)
    assert stream.final_until_s == pytest.approx(9.2)
    stream.update(Transcript((Phone("B", 8.5, 9.9, 0.9),), 10.0), ended=False)
    assert stream.final_until_s == pytest.approx(9.2)


@pytest.mark.parametrize(
    ("address_part", "message", "found"),
    [
        ("?sample_rate=1", b"", "sample_rate '1', expected 1000 to 1000000"),
        ("?sample_rate=x", b"", "sample_rate 'x'"),
        ("?notation=sampa", b"", "notation 'sampa', expected one of model, ipa, arpabet, timit, xsampa"),
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
    with client.websocket_connect(f"{WS}/v1/stream{address_part}") as connection:
        if isinstance(message, str):
            connection.send_text(message)
        elif message:
            connection.send_bytes(message)
        assert found in connection.receive_json()["error"]["message"]
        with pytest.raises(WebSocketDisconnect) as ended:
            connection.receive_json()
    assert ended.value.code == 1008


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/stream", {"origin": "http://evil.example"}, 403),
        ("/v1/stream", {"origin": "http://["}, 403),
        ("/v1/stream", {"host": "evil.example"}, 421),
        ("/v1/models", {}, 404),
    ],
)
def test_streams_of_other_pages_and_hosts_are_refused(
    client: TestClient, path: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(f"{WS}{path}", headers=headers):
        pass
    assert refused.value.status_code == status
    assert "message" in refused.value.json()["error"]


def test_streams_need_the_key_and_are_counted(recognizer: Recognizer) -> None:
    app = create_app(MODEL, recognizer, Limits(streams=1), ["localhost"], "k" * 20)
    key = json.dumps({"type": "key", "key": "k" * 20})
    bearer = {"authorization": f"Bearer {'k' * 20}"}
    with TestClient(app, "http://localhost") as client:
        for wrong in ('{"key": "wrong"}', '{"key": "\\ud800"}', '{"key": 1}', "[" * 100_000, "{}"):
            with client.websocket_connect(f"{WS}/v1/stream") as connection:
                connection.send_text(wrong)
                assert connection.receive_json()["error"]["code"] in ("invalid_api_key", "message")
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            client.websocket_connect(f"{WS}/v1/stream", headers={"authorization": "Bearer wrong"}),
        ):
            pass
        assert refused.value.status_code == 401
        with (
            client.websocket_connect(f"{WS}/v1/stream"),
            client.websocket_connect(f"{WS}/v1/stream", headers=bearer) as known,
        ):
            known.send_bytes(bytes(32000))  # the first has sent no key, so it is no stream yet
            assert known.receive_json()["type"] == "phones"
            with client.websocket_connect(f"{WS}/v1/stream") as second:
                second.send_text(key)
                assert second.receive_json()["error"]["code"] == "streams"
            known.send_text('{"type": "end"}')
            assert known.receive_json()["ended"]
        with client.websocket_connect(f"{WS}/v1/stream") as connection:
            connection.send_text(key)
            connection.send_text('{"type": "end"}')
            assert connection.receive_json() == {"type": "phones", "final": [], "pending": [], "ended": True}


def test_empty_messages_do_not_keep_a_stream_open(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_route, "IDLE_S", 0.3)
    with client.websocket_connect(f"{WS}/v1/stream") as connection, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(connection.receive_json)
        while not ended.done():
            connection.send_bytes(b"")
            time.sleep(0.05)
        assert ended.result()["error"]["code"] == "idle"


def test_a_stream_cannot_last_longer_than_its_audio_may(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_route, "IDLE_S", 0.3)
    app = create_app(MODEL, recognizer, Limits(duration_s=0.5), ["localhost"])
    with (
        TestClient(app, "http://localhost") as client,
        client.websocket_connect(f"{WS}/v1/stream") as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        ended = pool.submit(connection.receive_json)
        while not ended.done():
            connection.send_bytes(b"12")
            time.sleep(0.05)
        assert ended.result()["error"]["code"] == "duration_s"


def test_the_socket_limits_messages(address: str) -> None:
    """A message beyond the limit is refused by name; one far beyond it is not even read."""
    url = address.replace("http", "ws") + "/v1/stream"
    with websockets.sync.client.connect(url) as connection:
        connection.send(bytes(2**20 + 2))
        assert json.loads(connection.recv())["error"]["code"] == "message"
    with websockets.sync.client.connect(url) as connection:

        def exchange() -> None:
            connection.send(bytes(2**22))
            connection.recv()

        with pytest.raises(websockets.ConnectionClosed) as ended:
            exchange()
        if ended.value.rcvd is not None:  # a client that is still sending may miss it
            assert ended.value.rcvd.code == 1009


def test_the_command_serves_and_ends_when_told(tmp_path: Path, recording: Path) -> None:
    """A request that runs gets its answer, one that never ends is told so, and no process is left."""
    server = Server(tmp_path, {"precision": "float32"})
    try:
        assert f"model {MODEL} at http://127.0.0.1:{server.port}" in server.log.read_text()
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)

        def transcribe() -> str:
            return client.audio.transcriptions.create(model=MODEL, file=recording).text

        assert transcribe()
        children = server.processes()[1:]
        assert children
        samples, rate_hz = soundfile.read(recording)
        soundfile.write(tmp_path / "long.flac", np.tile(samples, 5), rate_hz)
        with (
            ThreadPoolExecutor(1) as pool,
            socket.create_connection(("127.0.0.1", server.port), 20) as endless,
        ):
            head = f"POST /v1/align HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Length: 100\r\n"
            endless.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n--b".encode())
            running = pool.submit(client.audio.transcriptions.create, model=MODEL, file=tmp_path / "long.flac")
            metrics = f"http://127.0.0.1:{server.port}/metrics"
            while "asr_requests_waiting 2.0" not in httpx.get(metrics).text and not running.done():
                pass
            server.end()
            assert running.result().text
            answer = b"".join(iter(lambda: endless.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b'"code":"stopping"' in answer
        assert not any(Path(f"/proc/{child}").exists() for child in children)
        assert "Traceback" not in server.log.read_text()
    finally:
        server.process.kill()


@pytest.mark.slow
def test_the_command_ends_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    """Ctrl-C while the recognizer works on what takes much longer than the time to finish."""
    server = Server(tmp_path, {"duration-s": 3600, "upload-mb": 100})
    try:
        soundfile.write(tmp_path / "long.flac", np.random.default_rng(0).integers(-99, 99, 3600 * 1600, np.int16), 1600)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(
                client.audio.transcriptions.create, model=MODEL, file=tmp_path / "long.flac", timeout=60
            )
            while "asr_requests_waiting 1.0" not in httpx.get(f"http://127.0.0.1:{server.port}/metrics").text:
                time.sleep(0.01)
            server.end(signal.SIGINT)
            assert running.exception() is None or isinstance(running.exception(), openai.APIError)
    finally:
        server.process.kill()


@pytest.mark.slow
def test_load_and_faults_for_a_moment(capsys: pytest.CaptureFixture[str]) -> None:
    """The long run is a program of its own; memory has no time to settle here."""
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(faults.check, minutes=0.05, count=6, phase_s=0.5, quiet_s=0, recorded=9, endless=0).result()
    assert [finding for finding in found if not finding.startswith(("memory", "threads"))] == []
    assert re.search(r"6 clients: .* requests and .* s of audio a second, latency", capsys.readouterr().out)


def test_the_checks_of_load_and_faults_can_fail(address: str, recording: Path, recognizer: Recognizer) -> None:
    phones = recognizer.transcribe(recording).symbols
    port = int(address.rpartition(":")[2])

    def client(heard: list[str], limit_s: float = 30) -> Clients:
        made = Recording("a.wav", recording.read_bytes(), 2.0, heard)
        return Clients(port, MODEL, [made], (np.zeros(16000, np.int16), heard), limit_s)

    assert run_alone(client(phones).within(client(phones).well_formed)) is None
    wrong = client([*phones, "B"])
    assert "status 200" in (run_alone(wrong.within(wrong.well_formed)) or "")
    assert "expected" in (run_alone(wrong.within(wrong.streamed)) or "")
    hanging = client(phones, 0.01)
    assert "TimeoutError" in (run_alone(hanging.within(hanging.well_formed)) or "")
    constant = Usage(0, 10**9, 20, 9)
    assert faults.compare(constant, constant) == []
    assert faults.compare(constant, Usage(0, 2 * 10**9, 21, 10)) == [
        "memory grew by 1000000000",
        "files grew by 1",
        "threads grew by 1",
    ]


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
    page.wait_for_function("() => document.getElementById('heard').textContent.trim().split(' ').length > 10")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("heading", name="What was recognized").wait_for(timeout=60_000)
    assert page.locator("#phones button").count() > 5
    page.locator("#phones button").nth(2).click()
    page.wait_for_function("() => document.querySelector('#phones .now') !== null")
    assert problems == []
    own.close()
