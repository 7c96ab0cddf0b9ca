"""Fault injection: results after a fault must equal those without it."""
