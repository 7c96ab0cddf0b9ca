"""The commands of ``asr``, each parsing its arguments, calling one function and printing."""
