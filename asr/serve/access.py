"""Who may ask, how much may arrive, and the headers of each answer: the layer between the network and the routes."""

import asyncio
import hmac
import logging
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asr.serve.limits import Limits, Refusal, stopping, too_large, too_slow, took_too_long
from asr.serve.service import Service

STREAM_PATH = "/v1/stream"
"""The only path of a WebSocket."""
KEY_PATHS = ("/v1/", "/metrics", "/openapi.json")
"""What needs the key. The page, which asks for it, does not."""
CHARSETS = ("utf-8", "us-ascii", "iso-8859-1")
"""Of form fields. Python knows others that take minutes for a megabyte."""
DRAINED_BYTES, DRAIN_S = 2**24, 1.0
"""What of a refused request is still read. A client that is sending may miss the answer if the connection is closed."""

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

log = logging.getLogger(__name__)


class Access:
    """Refuses other hosts and pages, wrong keys, large and slow requests; adds headers to each answer; counts them."""

    def __init__(self, app: ASGIApp, service: Service, hosts: Sequence[str], key: str | None) -> None:
        """``hosts`` are the names by which the server may be called; without a key everyone may ask."""
        self._app, self._service, self._hosts, self._key = app, service, set(hosts), key
        self._limits = service.limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or refuse it."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            try:
                self._check_caller(scope, Headers(scope=scope))
                if scope["path"] != STREAM_PATH:
                    raise Refusal(404, "not_found", f"no WebSocket here, expected {STREAM_PATH}")
            except Refusal as refusal:
                await JSONResponse(refusal.body, refusal.status)(scope, receive, send)
                return
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start_s = asyncio.get_running_loop().time()
        arrival = _Arrival(receive, self._limits)
        answer = _Answer(send, arrival)
        refusal: Refusal | None = None
        try:
            async with asyncio.timeout(self._limits.request_s):
                headers = Headers(scope=scope)
                self._check_caller(scope, headers)
                self._check_form(scope, headers)
                with self._service.admitted() if scope["method"] == "POST" else nullcontext():
                    await self._app(scope, arrival, answer)
        except Refusal as found:
            refusal = found.with_traceback(None)  # which knows the frames, and these the samples
        except TimeoutError:
            refusal = took_too_long(self._limits) if arrival.complete else too_slow(self._limits)
        except asyncio.CancelledError:  # the server is told to stop, and this request has had its time to finish
            refusal = stopping()
        except Exception:  # it must not end the server, and the client learns nothing of its inside
            log.exception("request failed")
            refusal = Refusal(500, "internal", "the server failed, which is its own fault")
        if refusal is not None and not answer.status:
            await _refuse(refusal, scope, arrival, answer)
        route = getattr(scope.get("route"), "path", "other")
        self._service.requests.labels(route, answer.status).inc()
        self._service.request_s.labels(route).observe(asyncio.get_running_loop().time() - start_s)

    def _check_caller(self, scope: Scope, headers: Headers) -> None:
        """Check host, page and key. A stream's key may also be in its first message."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if _host(host) not in self._hosts:
            raise Refusal(421, "host", "the Host header names another server, expected one that --allow-host names")
        scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
        if origin is not None and (_origin(origin) is None or _origin(origin) != _origin(f"{scheme}://{host}")):
            raise Refusal(403, "origin", "the request comes from a page of another server, expected this server's page")
        given = headers.get("authorization")
        scope["authorized"] = self._key is None or given is not None
        if (
            self._key is None
            or not scope["path"].startswith(KEY_PATHS)
            or (given is None and scope["type"] == "websocket")
        ):
            return
        if given is None or not hmac.compare_digest(given.removeprefix("Bearer ").encode(), self._key.encode()):
            raise Refusal(401, "invalid_api_key", "wrong or no API key, expected Authorization: Bearer KEY")

    def _check_form(self, scope: Scope, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:18]) > self._limits.upload_mb * 1e6:
            raise too_large(self._limits)
        if scope["method"] != "POST":
            return
        kind, *parameters = (part.strip().lower() for part in headers.get("content-type", "").split(";"))
        if kind != "multipart/form-data":
            raise Refusal(415, "content_type", "content type other than multipart/form-data, expected that")
        charset = next(
            (part.partition("=")[2].strip('" ') for part in parameters if part.startswith("charset")), "utf-8"
        )
        if charset not in CHARSETS:
            raise Refusal(415, "charset", f"charset {charset[:20]!r}, expected one of {', '.join(CHARSETS)}")


class _Arrival:
    """The messages of a request, counted; ``complete`` once there are no more."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self.bytes, self.complete = 0, False
        self.refusal: Refusal | None = None

    async def __call__(self) -> Message:
        message = await self._receive()
        self.bytes += len(message.get("body", b""))
        self.complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        if self.bytes > self._limits.upload_mb * 1e6:
            self.refusal = too_large(self._limits)
            raise self.refusal
        return message


class _Answer:
    """Adds `SECURITY_HEADERS`; ``status`` is that of the answer, 0 until it has been sent."""

    def __init__(self, send: Send, arrival: _Arrival) -> None:
        self._send, self._arrival, self.status = send, arrival, 0

    async def __call__(self, message: Message) -> None:
        refusal, self._arrival.refusal = self._arrival.refusal, None
        if refusal is not None and not self.status:  # FastAPI takes it for a damaged form
            raise refusal
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name for name, _ in message["headers"]}
            added = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
            message["headers"] = [*message["headers"], *(header for header in added if header[0] not in present)]
        await self._send(message)


async def _refuse(refusal: Refusal, scope: Scope, arrival: _Arrival, answer: _Answer) -> None:
    """Answer a request that is not served, and read no more than a little of what it still sends."""
    arrival.refusal = None
    if "expect" not in Headers(scope=scope) and refusal.code not in ("request_s", "stopping"):
        with suppress(Refusal, TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while not arrival.complete and arrival.bytes < DRAINED_BYTES:
                    await arrival()
    arrival.refusal = None
    headers = {"retry-after": "1"} if refusal.status == 503 else {}
    headers |= {} if arrival.complete else {"connection": "close"}
    await JSONResponse(refusal.body, refusal.status, headers)(scope, arrival, answer)


def _host(header: str) -> str:
    """The host of a Host header, without its port."""
    host, _, port = header.rpartition(":")
    return (host if host and port.isdecimal() else header).strip("[]").lower()


def _origin(address: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an address; None if it is none."""
    try:
        parts = urlsplit(address)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        return parts.scheme, parts.hostname or "", port
    except (ValueError, KeyError):
        return None
