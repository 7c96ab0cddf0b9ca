"""Models for other runtimes, and weights from other programs."""
