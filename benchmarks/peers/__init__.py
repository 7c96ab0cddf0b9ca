"""Peers, each driven by a script of ours that runs in an environment of the peer's own."""
