"""Command line: every command of `asr` parses its arguments, calls one function and prints the result.

In:  arguments and options; Hydra overrides for `asr train` and `asr import-lstm`.
Out: results on standard output; bad input is one line on standard error and exit status 2.
Start with `app.main`.

    app          the `asr` application, `asr train`, exit statuses
    compose      Hydra overrides to checked settings, runs and sweeps
    prepare      `asr prepare synth`, `timit`, `speechocean762`, `made`
    evaluation   `asr evaluate`, `score`, `compare`, `report`, `lm`, `tune-decoder`, `evaluate-words`, `explain`
    transcribe   `asr transcribe`, `align`
    models       `asr models`, `export`, `import-lstm`
    server       `asr serve`
    options      arguments and options that several commands share (internal)
"""

__all__ = ["app", "compose", "evaluation", "models", "prepare", "server", "transcribe"]
