"""``python -m asr``: the same as the ``asr`` command, for launchers that start modules."""

from asr.cli.app import main

main()
