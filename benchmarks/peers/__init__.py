"""Other toolkits, each driven by a script that runs in that toolkit's own environment."""
