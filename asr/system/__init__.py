"""System: files, locks, signals, progress, and what the processor can do. Everything else builds on it.

In:  paths and settings.
Out: files written whole or not at all, errors that name the file, the precision for a device.
Start with `files`.

    files                 folders; text and binary files
    plain_yaml            YAML files of plain values
    value_rules           rules for the values of settings
    lock                  one process at a time in a folder
    signals               SIGTERM and Ctrl-C, handled at a good moment; workers that end with the program
    progress              progress bars
    threads               a function mapped in threads
    process               memory and thread settings of the C libraries below torch
    processor             instruction sets, and the precision for a device
    deferred_compilation  functions that numba compiles once they have enough to do
"""

__all__ = [
    "deferred_compilation",
    "files",
    "lock",
    "plain_yaml",
    "process",
    "processor",
    "progress",
    "signals",
    "threads",
    "value_rules",
]
