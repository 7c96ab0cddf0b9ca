"""Who may ask, how much may arrive, and the headers of each answer: the layer between the network and the routes."""

import asyncio
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asr.serve.limits import Limits, Refusal, too_large, too_slow

OPEN_PATHS = ("/healthz",)
"""What is answered without a key."""

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Access:
    """Refuses other hosts, wrong keys, large and slow requests; adds headers to each answer."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str], key: str | None, limits: Limits) -> None:
        """``hosts`` are the names by which the server may be called; without a key everyone may ask."""
        self._app, self._hosts, self._key, self._limits = app, set(hosts), key, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrival = _Arrival(receive, self._limits)
        answer = _Answer(send, arrival)
        try:
            self._check(scope)
            await self._app(scope, arrival, answer)
        except Refusal as refusal:
            if answer.begun:
                raise
            headers = {"retry-after": "1"} if refusal.status == 503 else {}
            headers |= {"connection": "close"} if refusal.status in (408, 413) else {}
            await JSONResponse(refusal.body, refusal.status, headers)(scope, receive, answer)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if _host(headers.get("host", "")) not in self._hosts:
            raise Refusal(421, "host", "the Host header names another server, expected one that --allow-host names")
        if self._key is not None and scope["path"] not in OPEN_PATHS:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._key.encode()):
                raise Refusal(401, "invalid_api_key", "wrong or no API key, expected Authorization: Bearer KEY")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:18]) > self._limits.upload_mb * 1e6:
            raise too_large(self._limits)


class _Arrival:
    """The messages of a request, counted and timed."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self._bytes, self._deadline, self._complete = 0, asyncio.get_running_loop().time() + limits.request_s, False
        self.refusal: Refusal | None = None

    async def __call__(self) -> Message:
        if self._complete:  # the client has gone away, or nothing comes
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self.refusal = too_slow(self._limits)
            raise self.refusal from None
        self._bytes += len(message.get("body", b""))
        self._complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        if self._bytes > self._limits.upload_mb * 1e6:
            self.refusal = too_large(self._limits)
            raise self.refusal
        return message


class _Answer:
    """Adds `SECURITY_HEADERS`; ``begun`` once the status has been sent."""

    def __init__(self, send: Send, arrival: "_Arrival") -> None:
        self._send, self._arrival, self.begun = send, arrival, False

    async def __call__(self, message: Message) -> None:
        refusal, self._arrival.refusal = self._arrival.refusal, None
        if refusal is not None and not self.begun:  # FastAPI takes it for a damaged form
            raise refusal
        if message["type"] == "http.response.start":
            self.begun = True
            present = {name for name, _ in message["headers"]}
            added = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
            message["headers"] = [*message["headers"], *(header for header in added if header[0] not in present)]
        await self._send(message)


def _host(header: str) -> str:
    """The host of a Host header, without its port."""
    host, _, port = header.rpartition(":")
    return (host if host and port.isdecimal() else header).strip("[]").lower()
