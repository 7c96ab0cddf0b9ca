"""WS /v1/stream: samples in, phones out while they are spoken.

    client  ?sample_rate=48000&notation=ipa, then binary messages of 16-bit little-endian mono samples, then {"type": "end"}
    server  {"type": "phones", "final": [...], "pending": [...]} again and again; with "ended": true at last

Browsers cannot send headers with a WebSocket: with a key, the first message is {"type": "key", "key": KEY}.
"""

import asyncio
import hmac
import json
from contextlib import suppress
from dataclasses import asdict
from urllib.parse import urlsplit

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from asr.corpus.audio import SAMPLE_RATE_RANGE_HZ
from asr.corpus.notation import NOTATIONS, phone_symbols
from asr.inference.transcript_formats import Phone
from asr.serve.limits import Refusal
from asr.serve.service import Service
from asr.serve.streams import Stream

MESSAGE_BYTES = 2**20
IDLE_S = 30
"""A client that sends nothing for so long is sent away."""
REFUSED = 1008
"""The close code of WebSockets for a client that breaks the rules."""


def add_stream_route(app: FastAPI, service: Service, hosts: set[str], key: str | None) -> None:
    """Add the route. ``hosts`` are the names of this server; pages of other servers are refused."""

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        origin = socket.headers.get("origin")
        if origin is not None and urlsplit(origin).hostname not in hosts:
            await socket.close(REFUSED)
            return
        await socket.accept()
        try:
            with service.streaming():
                await _serve(socket, service, key)
        except WebSocketDisconnect:
            return
        except Refusal as refusal:
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.send_json(refusal.body)
                await socket.close(REFUSED if refusal.status < 500 else 1013)


async def _serve(socket: WebSocket, service: Service, key: str | None) -> None:
    if key is not None:
        given = _parse(await _receive(socket)).get("key", "")
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), key.encode()):
            raise Refusal(401, "invalid_api_key", "wrong or no API key, expected it in the first message")
    rate, symbols = _settings(socket)
    stream = Stream(rate, service.recognizer.sample_rate_hz)
    ended = False
    while not ended:
        message = await _receive(socket)
        if isinstance(message, bytes):
            if len(message) % 2:
                raise Refusal(422, "samples", f"{len(message)} bytes, expected 16-bit samples", "samples")
            due = stream.add(message)
        else:
            if _parse(message).get("type") != "end":
                raise Refusal(422, "message", 'unknown message, expected samples or {"type": "end"}', "type")
            stream.end()
            due = ended = True
        if stream.duration_s > service.limits.duration_s:
            raise Refusal(
                413, "duration_s", f"stream longer than {service.limits.duration_s:g} s, expected at most that"
            )
        if due:
            final, pending = stream.update(await service.transcript(stream.window()), ended)
            answer = {"type": "phones", "final": [_json(phone, symbols) for phone in final]}
            await socket.send_json(answer | {"pending": [_json(phone, symbols) for phone in pending], "ended": ended})
    await socket.close()


async def _receive(socket: WebSocket) -> bytes | str:
    try:
        async with asyncio.timeout(IDLE_S):
            message = await socket.receive()
    except TimeoutError:
        raise Refusal(408, "idle", f"nothing came for {IDLE_S} s, expected samples or the end") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    content: bytes | str = message.get("text") or message.get("bytes") or b""
    if len(content) > MESSAGE_BYTES:
        raise Refusal(413, "message", f"message of {len(content)} bytes, expected at most {MESSAGE_BYTES}")
    return content


def _parse(message: bytes | str) -> dict[str, object]:
    try:
        content = json.loads(message)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise Refusal(422, "message", "not a JSON object, expected one", "message")
    return content


def _settings(socket: WebSocket) -> tuple[int, dict[str, str | None]]:
    """The sample rate in Hz and the symbols of the notation, from the address."""
    rate, notation = socket.query_params.get("sample_rate", "16000"), socket.query_params.get("notation", "model")
    lowest, highest = SAMPLE_RATE_RANGE_HZ
    if not rate.isdecimal() or not lowest <= int(rate[:9]) <= highest:
        raise Refusal(422, "sample_rate", f"sample_rate {rate[:20]!r}, expected {lowest} to {highest}", "sample_rate")
    if notation not in ("model", *NOTATIONS):
        raise Refusal(422, "notation", f"notation {notation[:20]!r}, expected one of model, {', '.join(NOTATIONS)}")
    return int(rate), {} if notation == "model" else dict(phone_symbols(notation))


def _json(phone: Phone, symbols: dict[str, str | None]) -> dict[str, object]:
    content = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(phone).items()}
    return content | {"symbol": symbols.get(phone.symbol, phone.symbol)}
