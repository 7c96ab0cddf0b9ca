"""Clients of a server: well-formed ones that check their answers, slow and broken ones, hostile ones. See `serve.py`."""

import asyncio
import json
import os
import random
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import websockets
from websockets.asyncio.client import connect

HOST = "127.0.0.1"
BOUNDARY = "----boundary"
STREAM_MESSAGE_SAMPLES = 5000
BUSY = 1013
"""The code with which the server closes streams beyond its limit."""


class FaultError(AssertionError):
    """What the server should not have done."""


@dataclass(frozen=True)
class Recording:
    """A file and the phones that a recognizer in this process hears in it."""

    name: str
    content: bytes
    duration_s: float
    phones: list[str]


@dataclass
class Clients:
    """What all clients share: where the server is, what is sent, and what came back."""

    port: int
    model: str
    recordings: list[Recording]
    stream: tuple[np.ndarray, list[str]]
    limit_s: float
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    statuses: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    audio_s: float = 0.0

    def request(
        self, recording: Recording, path: str = "/v1/audio/transcriptions", **fields: str
    ) -> tuple[bytes, bytes]:
        """Head and body of a well-formed request."""
        parts = [
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in {"model": self.model, **fields}.items()
        ]
        parts.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n')
        body = "".join(parts).encode() + recording.content + f"\r\n--{BOUNDARY}--\r\n".encode()
        return self.head(path, body), body

    def head(self, path: str, body: bytes, method: str = "POST") -> bytes:
        """The head of a request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}:{self.port}", "Connection: close"]
        lines += [f"Content-Type: multipart/form-data; boundary={BOUNDARY}", f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode()

    async def exchange(self, *pieces: bytes, wait_s: float = 0.0) -> tuple[int, bytes]:
        """Send pieces with waits between them; returns status and body of the answer, status 0 if there is none."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            with suppress(ConnectionError):  # the server may answer and close before everything has been sent
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(wait_s)
            answer = b""
            with suppress(ConnectionError):
                while block := await reader.read(2**16):
                    answer += block
        finally:
            writer.transport.abort()
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else 0
        if status >= 500 and status != 503:
            raise FaultError(f"status {status}: {body[:200]!r}")
        return status, body

    async def well_formed(self) -> None:
        """A recording of any format: the phones are those of the recognizer, in either shape."""
        recording = self.draw.choice(self.recordings)
        verbose = self.draw.random() < 0.3
        start_s = time.monotonic()
        shape = "verbose_json" if verbose else "json"
        status, body = await self.exchange(*self.request(recording, response_format=shape))
        self.check(recording, status, body)
        self.latencies_s.append(time.monotonic() - start_s)
        self.audio_s += recording.duration_s

    def check(self, recording: Recording, status: int, body: bytes) -> None:
        """Compare an answer with the recognizer's."""
        if status != 200 or json.loads(body)["text"].split() != recording.phones:
            raise FaultError(f"{recording.name}: status {status}, {body[:200]!r}, expected {recording.phones}")

    async def aligned(self) -> None:
        """The recognized phones, aligned: the same phones, in ascending order of their times."""
        recording = self.draw.choice(self.recordings)
        status, body = await self.exchange(*self.request(recording, "/v1/align", phones=" ".join(recording.phones)))
        self.check(recording, status, body)
        starts_s = [phone["start_s"] for phone in json.loads(body)["phones"]]
        if starts_s != sorted(starts_s):
            raise FaultError(f"{recording.name}: times {starts_s}")

    async def slow(self) -> None:
        """A byte a second for a few seconds, in the head or in the body; then the rest, and the right answer, or none."""
        recording = self.draw.choice(self.recordings)
        head, body = self.request(recording)
        content = head + body
        start = self.draw.choice([3, len(head) + 5, len(head) + 300])
        slow = [content[at : at + 1] for at in range(start, start + self.draw.randint(2, 6))]
        if self.draw.random() < 0.5:
            await self.break_off([content[:start], *slow], 1.0)
            return
        rest = content[start + len(slow) :]
        status, answer = await self.exchange(content[:start], *slow, rest, wait_s=1.0)
        self.check(recording, status, answer)

    async def broken_off(self) -> None:
        """A request that ends anywhere, or whose client does not wait for the answer."""
        content = b"".join(self.request(self.draw.choice(self.recordings)))
        await self.break_off([content[: self.draw.randint(1, len(content))]], self.draw.choice([0, 0.01, 0.2]))

    async def break_off(self, pieces: list[bytes], wait_s: float) -> None:
        """Send pieces and go away."""
        _, writer = await asyncio.open_connection(HOST, self.port)
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(wait_s)
        writer.transport.abort()

    async def malformed(self) -> None:
        """A damaged form: refused with 4xx and an error in JSON."""
        head, body = self.request(self.draw.choice(self.recordings))
        mark = BOUNDARY.encode()
        damage: list[Callable[[], tuple[bytes, bytes]]] = [
            lambda: (head.replace(mark, b"other"), body),
            lambda: (head.replace(b"; boundary=" + mark, b""), body),
            lambda: (head.replace(b"multipart/form-data", b"application/json"), body),
            lambda: (head.replace(b"multipart/form-data", b"application/x-www-form-urlencoded"), body),
            lambda: (head.replace(mark, mark + b"; charset=punycode"), body),
            lambda: (head, body[:60]),
            lambda: (head, body.replace(b'name="file"', b'name="fill"')),
            lambda: (head, body.replace(b'name="model"', b"nothing")),
            lambda: (head, body.replace(b"Content-Disposition", b"\x00\xff" * 20)),
            lambda: (head, b"--" + mark + b"\r\n" + b"a: b\r\n" * 5000 + b"\r\n\r\n--" + mark + b"--"),
            lambda: (head, f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n'.encode() * 1500),
            lambda: (head, os.urandom(2000)),
            lambda: (head, b""),
        ]
        head, body = self.draw.choice(damage)()
        length = head.rsplit(b"Content-Length: ", 1)[0] + f"Content-Length: {len(body)}\r\n\r\n".encode()
        status, answer = await self.exchange(length, body)
        if not 400 <= status < 500 or "message" not in json.loads(answer)["error"]:
            raise FaultError(f"malformed form: status {status}, {answer[:200]!r} for {body[:200]!r}")

    async def mutated(self) -> None:
        """A request with bytes changed, left out, doubled or inserted, at random: any answer but a failure."""
        content = bytearray(b"".join(self.request(self.draw.choice(self.recordings))))
        for _ in range(self.draw.randint(1, 6)):
            at = min(int(self.draw.expovariate(1 / 300)), len(content) - 1)
            kind = self.draw.randrange(4)
            if kind == 0:
                content[at] = self.draw.randrange(256)
            elif kind == 1:
                del content[at : at + self.draw.randint(1, 30)]
            elif kind == 2:
                content[at:at] = content[at : at + self.draw.randint(1, 30)]
            else:
                content[at:at] = bytes(self.draw.randrange(256) for _ in range(self.draw.randint(1, 8)))
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            with suppress(ConnectionError, TimeoutError):
                writer.write(bytes(content))
                await writer.drain()
                async with asyncio.timeout(1.0):  # one that is too short now waits for more
                    answer = await reader.read(2**16)
                    if answer.startswith(b"HTTP/1.1 5") and not answer.startswith(b"HTTP/1.1 503"):
                        raise FaultError(f"{answer[:300]!r} for {bytes(content[:400])!r}")
                    self.statuses[f"mutated {answer[9:12].decode(errors='replace') or 'none'}"] += 1
        finally:
            writer.transport.abort()

    async def streamed(self) -> None:
        """A stream: the phones are those that the same windows give in this process."""
        samples, expected = self.stream
        found: list[str] = []
        try:
            async with connect(f"ws://{HOST}:{self.port}/v1/stream?sample_rate=16000", compression=None) as socket:
                for at in range(0, len(samples), STREAM_MESSAGE_SAMPLES):
                    await socket.send(samples[at : at + STREAM_MESSAGE_SAMPLES].tobytes())
                await socket.send('{"type": "end"}')
                async for message in socket:
                    found += [phone["symbol"] for phone in json.loads(message).get("final", [])]
        except websockets.ConnectionClosed:
            self.statuses["streams broken off"] += 1  # the code says why
        if socket.close_code == BUSY:
            self.statuses["streams full"] += 1
        elif found != expected:
            raise FaultError(f"stream: {found}, expected {expected}")

    async def wrong_message(self) -> None:
        """A message that the stream does not know: an error, and the end with a code of its own."""
        draw = self.draw
        messages: list[str | bytes] = ["", "{", "[]", "[" * 50_000, '{"type": "\\ud800"}', '{"type": 1e999}', b"123"]
        messages += [bytes(2**20 + 2), "x" * (2**20 + 1), json.dumps({"type": "key", "key": "none"})]
        address = draw.choice(
            ["", "?sample_rate=0", "?sample_rate=" + "9" * 5000, "?notation=%00", "?sample_rate=1000"]
        )
        with suppress(websockets.ConnectionClosed):
            async with connect(f"ws://{HOST}:{self.port}/v1/stream{address}", compression=None) as socket:
                await socket.send(draw.choice(messages))
                answer = json.loads(await socket.recv())
                if "error" not in answer or answer["error"]["code"] == "internal":
                    raise FaultError(f"stream: {answer}")

    async def wrong_frame(self) -> None:
        """Frames that the protocol forbids: the connection ends."""
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        lines = [
            "GET /v1/stream HTTP/1.1",
            f"Host: {HOST}:{self.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            key,
        ]
        head = "\r\n".join([*lines, "Sec-WebSocket-Version: 13", "", ""]).encode()
        mask = os.urandom(4)
        frames = {
            "unmasked": b"\x82\x02ab",
            "reserved bits": b"\xf2\x82" + mask + b"ab",
            "unknown opcode": b"\x83\x82" + mask + b"ab",
            "claims 2^62 bytes": b"\x82\xff" + struct.pack("!Q", 2**62) + mask,
            "long ping": b"\x89\xfe" + struct.pack("!H", 200) + mask + bytes(200),
            "fragmented ping": b"\x09\x80" + mask,
            "continuation of nothing": b"\x80\x82" + mask + b"ab",
            "no UTF-8": b"\x81\x82" + bytes(4) + b"\xff\xfe",
            "close with a bad code": b"\x88\x82" + bytes(4) + struct.pack("!H", 999),
            "close of one byte": b"\x88\x81" + bytes(4) + b"a",
            "noise": os.urandom(500) + b"\x82\x02ab" * 20,
        }
        name = self.draw.choice(list(frames))
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 101"):
                raise FaultError(f"handshake: {answer[:200]!r}")
            writer.write(frames[name])
            with suppress(ConnectionError):
                await reader.read(-1)
        except asyncio.IncompleteReadError as error:
            raise FaultError(f"handshake: {error.partial[:200]!r}") from None
        finally:
            writer.transport.abort()

    async def wrong_handshake(self) -> None:
        """Handshakes that are none: refused."""
        lines = ["GET /v1/stream HTTP/1.1", f"Host: {HOST}:{self.port}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += self.draw.choice([[], ["Sec-WebSocket-Key: x"], ["Origin: http://["], ["Origin: http://evil.example"]])
        status, _ = await self.exchange("\r\n".join([*lines, "Sec-WebSocket-Version: 13", "", ""]).encode())
        if not 400 <= status < 500:
            raise FaultError(f"handshake {lines}: status {status}")

    async def within(self, kind: Callable[[], Awaitable[None]]) -> str | None:
        """Run one client; returns what it found, also that it did not end in time."""
        name = getattr(kind, "__name__", "client")
        self.statuses[name] += 1
        try:
            async with asyncio.timeout(self.limit_s):
                await kind()
        except (FaultError, OSError, ValueError, KeyError, IndexError, websockets.WebSocketException) as error:
            return f"{name}: {type(error).__name__}: {error}"[:600]
        return None
