"""POST /v1/explain: a recording -> the page of `asr explain` about it, made in a process of its own that can be stopped.

    python -m asr.serve.inside MODEL SAMPLE_RATE_HZ

Such a process reads mono float32 samples from standard input and writes to standard output: the page, with exit status 0;
or why there is none, with exit status 2. Its temporary folder goes with it, also if it is told to stop or the server dies.
"""

import asyncio
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import torch
from fastapi import FastAPI, File, Form, Response, UploadFile

from asr.errors import InputError
from asr.serve.limits import Refusal
from asr.serve.service import Service

LONGEST_S = 10.0
"""Shorter than the limit of `asr explain`: its time grows with the square of the duration."""
STOP_S = 5.0
"""How long a process may take to end when it is told to."""

POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; media-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""The content policy of pages from here: their own scripts and styles, an origin of their own, and no network at all."""

RECEIVER = """<!doctype html>
<html lang="en">
<title>Inside the model</title>
<script>
addEventListener("message", ({ source, data }) => {
  if (source !== parent) return;
  document.open();
  document.write(data);
  document.close();
}, { once: true });
addEventListener("load", () => parent.postMessage("ready", "*"));
</script>
</html>
"""
"""Shows the page that its parent hands it under `POLICY`; a blob of the parent's would have the parent's policy."""


def add_inside_route(app: FastAPI, service: Service, folder: Path | None) -> None:
    """Add the route. ``folder`` is that of the served model, which another process loads."""
    one_at_a_time = asyncio.Lock()

    @app.post("/v1/explain", response_class=Response, responses={200: {"content": {"text/html": {}}}})
    async def explain(
        file: Annotated[UploadFile, File(description=f"as for transcriptions, of at most {LONGEST_S:g} s")],
        model: Annotated[str, Form()],
    ) -> Response:
        """A page that looks inside the model: features, posteriors, gates and cells over time, effective context."""
        service.check_model(model)
        if folder is None:
            raise Refusal(501, "explain", f"the folder of model {service.name!r} is not known")
        samples = await service.samples(file)
        seconds = len(samples) / service.recognizer.sample_rate_hz
        if seconds > LONGEST_S:
            message = f"{seconds:.1f} s of audio, expected at most {LONGEST_S:g} s to look inside the model"
            raise Refusal(413, "duration_s", message, "file")
        async with one_at_a_time:
            page = await _explain(folder.resolve(), samples, service.recognizer.sample_rate_hz)
        return Response(page, media_type="text/html", headers={"content-security-policy": POLICY})

    @app.get("/inside", include_in_schema=False)
    async def inside() -> Response:
        return Response(RECEIVER, media_type="text/html", headers={"content-security-policy": POLICY})


async def _explain(model: Path, samples: np.ndarray, rate_hz: int) -> bytes:
    """Ask a process of its own, which ends with this call.

    Raises:
        Refusal: the model or the recording cannot be explained.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "asr.serve.inside", str(model), str(rate_hz)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the server, which ends this process
    )
    try:
        answer, _ = await process.communicate(samples.astype("<f4").tobytes())
    finally:
        if process.returncode is None:
            process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_S)
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 2:
        raise Refusal(422, "explain", answer.decode(), "file")
    if process.returncode != 0:
        raise Refusal(503, "explain", "the page could not be made, expected a shorter recording, or more memory")
    return answer


def main(model: Path, rate_hz: int) -> int:
    """Make the page. Returns the exit status."""
    from asr.reports.explain import explain  # the server has no need of the plots' library

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    torch.set_num_threads(1)  # leaves the processors to recognition
    samples = np.frombuffer(sys.stdin.buffer.read(), "<f4")
    os.chdir(model.parent)  # the page and the errors name the model without its path
    with tempfile.TemporaryDirectory(prefix="asr-inside-") as folder:
        audio = Path(folder) / "recording.wav"
        soundfile.write(audio, samples, rate_hz, subtype="FLOAT")
        try:
            content, status = explain(Path(model.name), audio, Path(folder) / "page").read_bytes(), 0
        except InputError as error:
            content, status = str(error).replace(str(audio), audio.name).encode(), 2
    sys.stdout.buffer.write(content)
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
