"""WS /v1/stream: samples in, phones out while they are spoken.

    client  ?sample_rate=48000&notation=ipa, then binary messages of 16-bit little-endian mono samples, then {"type": "end"}
    server  {"type": "phones", "final": [...], "pending": [...]} again and again; with "ended": true at last

Browsers cannot send headers with a WebSocket: with a key and without an Authorization header, the first message is
{"type": "key", "key": KEY}.
"""

import asyncio
import hmac
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool

from asr.corpus.audio import SAMPLE_RATE_RANGE_HZ
from asr.inference.transcript_formats import Phone
from asr.serve.access import STREAM_PATH
from asr.serve.limits import MESSAGE_BYTES, Refusal, took_too_long
from asr.serve.service import Service
from asr.serve.streams import ModelStream, Stream, open_stream

IDLE_S = 30.0
"""A client that sends no samples for so long, or reads no answers, is sent away."""
KEY_S = 5.0
"""Seconds for the key. Until it has come, a connection does not count as a stream."""
REFUSED, FAILED, BUSY = 1008, 1011, 1013
"""Close codes of WebSockets: the client breaks the rules, the server failed, try again later."""

log = logging.getLogger(__name__)


def add_stream_route(app: FastAPI, service: Service, key: str | None) -> None:
    """Add the route. `asr.serve.access.Access` has checked host, page and header."""

    @app.websocket(STREAM_PATH)
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        try:
            if not socket.scope["authorized"]:
                await _check_key(socket, key or "")
            with service.streaming():
                await _serve(socket, service)
        except WebSocketDisconnect:
            return
        except Refusal as refusal:
            await _refuse(socket, refusal)
        except Exception:  # as in `Access`
            log.exception("stream failed")
            await _refuse(socket, Refusal(500, "internal", "the server failed, which is its own fault"))


async def _refuse(socket: WebSocket, refusal: Refusal) -> None:
    code = {500: FAILED, 503: BUSY}.get(refusal.status, REFUSED)
    with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(IDLE_S):
            await socket.send_json(refusal.body)
            await socket.close(code)


async def _check_key(socket: WebSocket, key: str) -> None:
    given = _parse(await _receive(socket, KEY_S)).get("key", "")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), key.encode()):
        raise Refusal(401, "invalid_api_key", "wrong or no API key, expected it in a header or the first message")


async def _serve(socket: WebSocket, service: Service) -> None:
    rate, symbols = _settings(socket, service)
    stream, limits = await run_in_threadpool(open_stream, rate, service.recognizer), service.limits
    clock = asyncio.get_running_loop().time
    start_s = samples_s = clock()
    ended = False
    while not ended:
        message = await _receive(socket, samples_s + IDLE_S - clock())
        if isinstance(message, bytes):
            if len(message) % 2:
                raise Refusal(422, "samples", f"{len(message)} bytes, expected 16-bit samples", "samples")
            due = await run_in_threadpool(stream.add, message)
        else:
            if _parse(message).get("type") != "end":
                raise Refusal(422, "message", 'unknown message, expected samples or {"type": "end"}', "type")
            stream.end()
            due = ended = True
        if max(stream.duration_s, clock() - start_s - IDLE_S) > limits.duration_s:
            raise Refusal(413, "duration_s", f"stream longer than {limits.duration_s:g} s, expected at most that")
        if due:
            await _answer(socket, service, stream, symbols, ended)
        if message:
            samples_s = clock()
    await socket.close()


async def _answer(
    socket: WebSocket, service: Service, stream: Stream | ModelStream, symbols: Mapping[str, str | None], ended: bool
) -> None:
    """Recognize what has come, and send the phones."""
    try:
        async with asyncio.timeout(service.limits.request_s):
            final, pending = await stream.recognize(service, ended)
    except TimeoutError:
        raise took_too_long(service.limits) from None
    answer = {"type": "phones", "final": _json(final, symbols), "pending": _json(pending, symbols), "ended": ended}
    try:
        async with asyncio.timeout(IDLE_S):
            await socket.send_json(answer)
    except TimeoutError:
        raise WebSocketDisconnect from None


async def _receive(socket: WebSocket, within_s: float) -> bytes | str:
    try:
        async with asyncio.timeout(within_s):
            message = await socket.receive()
    except TimeoutError:
        raise Refusal(408, "idle", "nothing came for too long, expected samples or the end") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    content: bytes | str = message.get("text") or message.get("bytes") or b""
    if len(content) > MESSAGE_BYTES:
        raise Refusal(413, "message", f"message of {len(content)} bytes, expected at most {MESSAGE_BYTES}")
    return content


def _parse(message: bytes | str) -> dict[str, object]:
    try:
        content = json.loads(message)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Refusal(422, "message", "not a JSON object, expected one", "message")
    return content


def _settings(socket: WebSocket, service: Service) -> tuple[int, Mapping[str, str | None]]:
    """The sample rate in Hz and the symbols of the notation, from the address."""
    rate, notation = socket.query_params.get("sample_rate", "16000"), socket.query_params.get("notation", "model")
    lowest, highest = SAMPLE_RATE_RANGE_HZ
    if not rate.isdecimal() or not lowest <= int(rate[:9]) <= highest:
        raise Refusal(422, "sample_rate", f"sample_rate {rate[:20]!r}, expected {lowest} to {highest}", "sample_rate")
    return int(rate), service.symbols(notation)


def _json(phones: Sequence[Phone], symbols: Mapping[str, str | None]) -> list[dict[str, object]]:
    """The fields of phones in a notation, without those that have no symbol there."""
    written = [(phone, symbols.get(phone.symbol, phone.symbol)) for phone in phones]
    return [_fields(phone) | {"symbol": symbol} for phone, symbol in written if symbol is not None]


def _fields(phone: Phone) -> dict[str, object]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(phone).items()}
