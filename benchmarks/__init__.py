"""How fast, always as a ratio against something else in the same run."""
