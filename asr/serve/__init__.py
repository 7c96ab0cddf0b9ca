"""The server: recordings in, phones out, over HTTP, in the shape that OpenAI's clients send and expect.

In:  requests with audio of any format. Out: transcripts as JSON, text, subtitles, CTM, TextGrid and PHN.
Start with `app.create_app`; `run.serve` runs it. Only the command line imports this package, which needs the extra `serve`.

    app              the routes
    service          what the routes share: the model, what waits, the counters
    stream_route     samples -> phones while they are spoken, over a WebSocket
    streams          a stream: what is recognized again, and what is final
    inside           a recording -> the page of `asr explain` about it
    practice         a sentence and a recording of it -> expected and heard phones
    run              addresses, limits and keys of a server, and its life
    access           who may ask: hosts, pages, keys, size and time; headers of each answer
    limits           how much may be asked, and the refusals
    uploads          audio of strangers -> samples, in processes of their own
    upload_process   such a process
    batches          requests that arrive together -> one batch; other work of the model
    answers          transcripts -> the bodies of answers
"""

__all__ = [
    "access",
    "answers",
    "app",
    "batches",
    "inside",
    "limits",
    "practice",
    "run",
    "service",
    "stream_route",
    "streams",
    "upload_process",
    "uploads",
]
