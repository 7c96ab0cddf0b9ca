"""`asr serve`: a server for recordings."""

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Decoder, Precision, finite
from asr.errors import InputError
from asr.inference.catalog import DEFAULT_MODEL, find_model

commands = typer.Typer()


@commands.command()
def serve(
    model: Annotated[str, typer.Option(help="model folder, or a name from `asr models`")] = DEFAULT_MODEL,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port to listen on")] = 8000,
    key_file: Annotated[Path | None, typer.Option(help="file with the API key that clients must send")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="a name by which clients call this server")] = None,
    open_to_all: Annotated[bool, typer.Option("--open", help="listen beyond this machine without a key")] = False,
    upload_mb: Annotated[float, typer.Option(min=0.001, callback=finite, help="largest request in megabytes")] = 100.0,
    duration_s: Annotated[float, typer.Option(min=1, callback=finite, help="longest recording in seconds")] = 3600.0,
    queue: Annotated[int, typer.Option(min=1, help="most requests that arrive, wait or run at once")] = 64,
    streams: Annotated[int, typer.Option(min=0, help="most streams open at once")] = 16,
    request_s: Annotated[
        float,
        typer.Option(min=1, callback=finite, help="longest time of a request in seconds, its upload included"),
    ] = 300.0,
    lexicon: Annotated[Path | None, typer.Option(help="pronunciations for practice; default CMUdict")] = None,
    decoder: Annotated[Decoder, typer.Option(help="best_path or beam")] = Decoder.best_path,
    precision: Annotated[
        Precision,
        typer.Option(
            help="bfloat16 is faster where the processor has it; then rounding depends on the requests of a batch"
        ),
    ] = Precision.float32,
) -> None:
    """Serve a model over HTTP, in the shape that OpenAI's clients send and expect (extra `serve`).

    Example: `asr serve --port 8000`, then `curl -F model=english -F file=@hello.wav localhost:8000/v1/audio/transcriptions`
    """
    try:
        from asr.serve import run
        from asr.serve.limits import Limits
    except ModuleNotFoundError as error:
        raise InputError(f"module {error.name} is missing, expected pip install 'asr-phones[serve]'") from None
    limits = Limits(upload_mb, duration_s, queue, streams, request_s)
    settings = (lexicon, decoder.value, precision.value)
    run.serve(find_model(model), host, port, key_file, allow_host or [], open_to_all, limits, *settings)
