"""Benchmarks: how fast, always as a ratio to another system timed in the same run."""
