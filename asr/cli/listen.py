"""`asr listen` and `asr transcribe --stream -`: phones while they are spoken."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
import typer

from asr.cli.options import Decoder, Search
from asr.errors import InputError
from asr.inference.catalog import find_model

if TYPE_CHECKING:
    from io import BufferedReader

    from asr.inference.streaming import Update
    from asr.inference.transcript_formats import Phone

commands = typer.Typer()

STREAMING_MODEL = "streaming"
READ_S = 0.1
"""Audio that is read at once."""
FORMATS = ("text", "ctm", "json")


@commands.command()
def listen(
    model: Annotated[str, typer.Option("--model", help="streaming model: folder, or name")] = STREAMING_MODEL,
    output: Annotated[str, typer.Option("--format", help="text, ctm or json")] = "text",
    decoder: Search = Decoder.beam,
    look_ahead_ms: Annotated[
        int | None, typer.Option(min=0, help="what the model waits for after each chunk; less is faster and errs more")
    ] = None,
    device: Annotated[str, typer.Option(help="name or number of the microphone; empty: the system's default")] = "",
) -> None:
    """Recognize what the microphone hears, until Ctrl-C.

    Example: `asr listen`

    Each utterance is one line. It needs the extra `microphone`. Silence is skipped.
    """
    recognize(read_microphone(device), 16000, model, output, decoder, look_ahead_ms)


def read_microphone(device: str) -> Iterator[np.ndarray]:
    """Yield samples (samples,) float32 at 16 kHz, until interrupted.

    Raises:
        InputError: no package, no library or no such device.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise InputError("package sounddevice: not installed, expected pip install 'asr-phones[microphone]'") from error
    except OSError as error:
        raise InputError("library PortAudio: not found, expected it, such as Debian's libportaudio2") from error
    chosen = int(device) if device.isdecimal() else device or None
    try:
        with sounddevice.InputStream(16000, device=chosen, channels=1, dtype="float32") as stream:
            print("asr: listening, Ctrl-C ends", file=sys.stderr)
            while True:
                samples, overflowed = stream.read(round(READ_S * 16000))
                if overflowed:
                    print("asr: samples were lost, because recognition was too slow", file=sys.stderr)
                yield samples[:, 0]
    except (sounddevice.PortAudioError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"microphone {device or 'default'}: {reason}, expected one that records 16 kHz") from error


def read_standard_input(rate_hz: int) -> Iterator[np.ndarray]:
    """Yield samples (samples,) float32 from 16-bit little-endian mono samples on standard input.

    Raises:
        InputError: the last sample is incomplete.
    """
    rest = b""
    source = cast("BufferedReader", sys.stdin.buffer)
    while content := source.read1(2 * round(READ_S * rate_hz)):  # what has arrived, without waiting for more
        content = rest + content
        whole = len(content) // 2 * 2
        rest = content[whole:]
        yield np.frombuffer(content[:whole], "<i2").astype(np.float32) / 32768
    if rest:
        raise InputError("standard input: an odd number of bytes, expected 16-bit samples")


def recognize(
    audio: Iterator[np.ndarray],
    rate_hz: int,
    model: str,
    output: str,
    decoder: Decoder,
    look_ahead_ms: int | None = None,
) -> None:
    """Print the phones of a stream of samples at ``rate_hz`` as they become final.

    Raises:
        InputError: the model or the audio cannot be used, or another format than `FORMATS`.
    """
    if output not in FORMATS:
        raise InputError(f"format {output} of a stream, expected one of {', '.join(FORMATS)}")
    from asr.inference.recognizer import load
    from asr.inference.utterances import RATE_HZ, UtteranceStream

    recognizer = load(find_model(model), precision="float32", decoder=decoder.value)
    stream = UtteranceStream(recognizer, None if look_ahead_ms is None else look_ahead_ms / 1000)
    print(f"asr: model {model}, at most {stream.latency_s:.2f} s behind", file=sys.stderr)
    if rate_hz != RATE_HZ:
        audio = _resample(audio, rate_hz, RATE_HZ)
    try:
        _print((update for samples in audio for update in stream.accept(samples)), output)
    except KeyboardInterrupt:
        pass
    finally:
        _print(stream.accept(np.zeros(0, np.float32), ended=True), output)


def _resample(audio: Iterator[np.ndarray], rate_hz: int, target_hz: int) -> Iterator[np.ndarray]:
    import soxr

    resampler = soxr.ResampleStream(rate_hz, target_hz, 1, dtype="float32", quality="HQ")
    for samples in audio:
        yield resampler.resample_chunk(samples)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _print(updates: "Iterator[Update]", output: str) -> None:
    """Print what is new; in JSON, also what may still change."""
    pending: list[Phone] = []
    for update in updates:
        if output == "json":
            if update.final or update.ended or update.pending != pending:
                print(json.dumps(asdict(update)), flush=True)
            pending = update.pending
            continue
        for phone in update.final:
            if output == "ctm":
                times = f"{phone.start_s:.3f} {phone.end_s - phone.start_s:.3f}"
                print(f"stream 1 {times} {phone.symbol} {phone.confidence:.3f}", flush=True)
            else:
                print(phone.symbol, end=" ", flush=True)
        if update.ended and output == "text":
            print(flush=True)
