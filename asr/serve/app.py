"""The routes of the server.

POST /v1/audio/transcriptions   a recording -> phones, as OpenAI's clients ask and expect
POST /v1/align                  a recording and its phones -> their times
POST /v1/practice               a recording and its text -> each expected phone, and what was heard
POST /v1/explain                a recording -> the page that looks inside the model
WS   /v1/stream                 samples -> phones while they are spoken
GET  /v1/models                 the model that is served
GET  /, /docs                   the page, and the description of this interface
GET  /healthz, /metrics         for those who run it
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import generate_latest
from starlette.exceptions import HTTPException
from swagger_ui_bundle import swagger_ui_path  # type: ignore[import-untyped]

from asr.corpus.pronunciations import WordPronunciations, pronounce
from asr.errors import InputError
from asr.inference.recognizer import Recognizer
from asr.inference.transcript_formats import Transcript
from asr.serve.access import Access
from asr.serve.answers import MEDIA_TYPES, json_answer, text_answer, verbose_answer
from asr.serve.inside import add_inside_route
from asr.serve.limits import Limits, Refusal
from asr.serve.practice import compare
from asr.serve.service import Notation, Service
from asr.serve.stream_route import add_stream_route

ResponseFormat = Literal["json", "verbose_json", "text", "srt", "vtt", "textgrid", "ctm", "phn"]


def create_app(
    name: str,
    recognizer: Recognizer,
    limits: Limits,
    hosts: list[str],
    key: str | None = None,
    words: WordPronunciations | None = None,
    folder: Path | None = None,
) -> FastAPI:
    """The server's application for one model; ``hosts`` and ``key`` as for `asr.serve.access.Access`.

    ``folder`` is that of the model, for the page that looks inside it.
    """
    service = Service(name, recognizer, limits, words or WordPronunciations({}))

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(title="asr", summary="Phone recognition", lifespan=life, docs_url=None, redoc_url=None)
    app.openapi_version = "3.0.3"  # the newest that the description's page knows
    app.add_middleware(Access, service=service, hosts=hosts, key=key)
    app.state.service = service
    _add_transcriptions(app, service)
    _add_alignment(app, service)
    _add_operations(app, service)
    add_stream_route(app, service, key)
    add_inside_route(app, service, folder)
    _add_pages(app)
    _add_handlers(app)
    return app


def _add_handlers(app: FastAPI) -> None:
    """Answer invalid requests in the shape of the other errors."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = next((part for part in reversed(first["loc"]) if isinstance(part, str)), "body")  # no index in a list
        refusal = Refusal(422, "invalid_value", f"{param}: {first['msg']}", param)
        return JSONResponse(refusal.body, refusal.status)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return JSONResponse(Refusal(error.status_code, code, error.detail).body, error.status_code, error.headers)


def _add_transcriptions(app: FastAPI, service: Service) -> None:
    @app.post("/v1/audio/transcriptions")
    async def transcriptions(
        file: Annotated[UploadFile, File(description="WAV, FLAC, OGG, MP3 or SPHERE, any rate and channels")],
        model: Annotated[str, Form()],
        response_format: Annotated[ResponseFormat, Form()] = "json",
        notation: Annotated[Notation, Form()] = "model",
        timestamp_granularities: Annotated[
            list[Literal["word", "segment"]] | None, Form(alias="timestamp_granularities[]")
        ] = None,
    ) -> Response:
        """The phones of a recording. As a word, each phone has its times; `phones` adds confidences."""
        service.check_model(model)
        symbols = service.symbols(notation)
        transcript = await service.transcript(await service.samples(file))
        unusual = service.recognizer.is_unusual(transcript)
        granularities = timestamp_granularities or ["segment"]
        return _answer(transcript.with_symbols(symbols), response_format, granularities, unusual)


def _add_alignment(app: FastAPI, service: Service) -> None:
    @app.post("/v1/align")
    async def align(
        file: Annotated[UploadFile, File(description="as for transcriptions")],
        phones: Annotated[str, Form(description="the model's phones, separated by spaces")],
        model: Annotated[str, Form()],
        response_format: Annotated[ResponseFormat, Form()] = "verbose_json",
        notation: Annotated[Notation, Form()] = "model",
    ) -> Response:
        """The times of known phones in a recording."""
        service.check_model(model)
        symbols = service.symbols(notation)
        transcript = await service.aligned(await service.samples(file), phones.split())
        return _answer(transcript.with_symbols(symbols), response_format, ["word"], unusual=False)

    @app.post("/v1/practice")
    async def practice(
        file: Annotated[UploadFile, File(description="as for transcriptions")],
        text: Annotated[str, Form(max_length=1000, description="the words that were to be said")],
        model: Annotated[str, Form()],
        notation: Annotated[Notation, Form()] = "model",
    ) -> dict[str, object]:
        """Each expected phone of a text, and what was heard in its place. This is no grade."""
        service.check_model(model)
        symbols = service.symbols(notation)
        try:
            said, inventory = pronounce(text, service.words, "text"), service.recognizer.bundle.inventory
            words = [(word, inventory.fold(phones, "text")) for word, phones in said]  # as alignment folds them
        except InputError as error:
            raise Refusal(422, "text", str(error), "text") from None
        samples = await service.samples(file)
        expected = await service.aligned(samples, [phone for _, phones in said for phone in phones], "text")
        heard = await service.transcript(samples)
        return {"words": compare(words, expected, heard, symbols)}


def _answer(transcript: Transcript, response_format: str, granularities: Sequence[str], unusual: bool) -> Response:
    if response_format == "json":
        return JSONResponse(json_answer(transcript))
    if response_format == "verbose_json":
        return JSONResponse(verbose_answer(transcript, granularities, unusual))
    return Response(text_answer(transcript, response_format), media_type=MEDIA_TYPES[response_format])


def _add_pages(app: FastAPI) -> None:
    folder = Path(str(resources.files("asr").joinpath("data", "page")))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(folder / "docs.html")

    app.mount("/swagger", StaticFiles(directory=swagger_ui_path))
    app.mount("/", StaticFiles(directory=folder, html=True))


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, object]:
        """The model that is served, its phones, and the notations that they can be written in."""
        model = {"id": service.name, "object": "model", "created": service.started_s, "owned_by": "asr"}
        model |= {"phones": service.recognizer.phones, "notations": list(service.notations)}
        return {"object": "list", "data": [model]}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(generate_latest(service.registry), media_type="text/plain; version=0.0.4; charset=utf-8")
