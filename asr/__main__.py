"""Run the `asr` command as ``python -m asr``, for launchers that start modules."""

from asr.cli.app import main

main()
