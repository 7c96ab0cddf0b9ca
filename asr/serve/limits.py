"""How much a client may ask for, and what it is told when it asks for more."""

from dataclasses import dataclass

MESSAGE_BYTES = 2**20
"""Size of a message of a stream."""


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take."""

    upload_mb: float = 100.0
    """Size of a request in megabytes (10^6 bytes)."""
    duration_s: float = 3600.0
    """Duration of a recording, after decompression."""
    queue: int = 64
    """Requests that wait or run at once."""
    streams: int = 16
    """Streams open at once."""
    request_s: float = 300.0
    """Time of a request, from the end of its headers to the end of its answer."""
    decoder_mb: int = 2048
    """Memory of a process that reads audio, where the system can limit it."""
    decoded_s: float = 7200.0
    """Audio of all requests together that is decoded and not yet recognized."""
    align_cells: int = 2**28
    """Output frames times phones of an alignment. So many take 0.4 GB and two seconds; one is made at a time."""


class Refusal(Exception):  # noqa: N818  an answer, not an error of the program
    """A request that is not served: the HTTP status, a short code, and a message for the client."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    @property
    def body(self) -> dict[str, object]:
        """The JSON body, in the shape of OpenAI's errors."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def too_large(limits: Limits) -> Refusal:
    """The request has more bytes than allowed."""
    return Refusal(413, "upload_mb", f"request larger than {limits.upload_mb:g} MB, expected at most that", "file")


def too_slow(limits: Limits) -> Refusal:
    """The request took longer than allowed to arrive."""
    return Refusal(408, "request_s", f"request took more than {limits.request_s:g} s to arrive, expected less")


def too_busy(limits: Limits) -> Refusal:
    """As many requests as allowed are waiting already."""
    return Refusal(503, "queue", f"{limits.queue} requests are waiting, expected fewer: try again later")


def too_much_audio(limits: Limits) -> Refusal:
    """Other requests have as much decoded audio as allowed."""
    return Refusal(503, "decoded_s", f"{limits.decoded_s:g} s of audio are waiting, expected less: try again later")


def too_many_cells(limits: Limits, frames: int, phones: int, param: str) -> Refusal:
    """The alignment would take too much memory and time."""
    found = f"{frames} output frames times {phones} phones"
    message = f"{found}, expected a product of at most {limits.align_cells}: send shorter recordings"
    return Refusal(422, "align_cells", message, param)


def took_too_long(limits: Limits) -> Refusal:
    """The answer was not ready in time."""
    return Refusal(503, "request_s", f"no result within {limits.request_s:g} s: send a shorter recording, or try later")


def stopping() -> Refusal:
    """The server ends before the request has."""
    return Refusal(503, "stopping", "the server is being stopped, expected a request that ends sooner: try again later")
