"""Faults on purpose: what is left after them is what would be there without."""
