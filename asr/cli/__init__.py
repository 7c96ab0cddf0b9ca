"""Command line: every command of `asr` parses its arguments, calls one function and prints the result.

In:  arguments and options; Hydra overrides for `asr train` and `asr import-lstm`.
Out: results on standard output; bad input is one line on standard error and exit status 2.
Start with `app.main`.

    app            the `asr` application, `asr train`, `adapt`, exit statuses
    compose        Hydra overrides to checked settings, runs and sweeps
    scaling        optimizer settings that follow the size of the batch (internal)
    prepare        `asr prepare synth`, `timit`, `speechocean762`, `made`, `voices`
    layouts        `asr prepare folder`, `kaldi`, `table` and the other layouts, `auto`
    describe       `asr describe`
    shards         `asr shard`
    pronunciation  `asr g2p`
    evaluation     `asr evaluate`, `score`, `compare`, `report`, `evaluate-words`, `explain`
    tuning         `asr lm`, `tune-decoder`, `calibrate`
    transcribe     `asr transcribe`
    listen         `asr listen`, and the stream of `asr transcribe --stream -`
    alignment      `asr align`, `realign`, `verify`
    models         `asr models`, `export`, `import-lstm`
    server         `asr serve`
    options        arguments and options that several commands share (internal)
"""

__all__ = [
    "alignment",
    "app",
    "compose",
    "describe",
    "evaluation",
    "layouts",
    "listen",
    "models",
    "prepare",
    "pronunciation",
    "server",
    "shards",
    "transcribe",
    "tuning",
]
