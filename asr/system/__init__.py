"""Files, progress and the process: what everything else stands on."""
