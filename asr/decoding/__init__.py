"""Decoding: phones or words from the acoustic model's log-probabilities.

In:  natural log-probabilities (frames, symbols), or (batch, frames, symbols) with lengths (batch,).
Out: symbol ids of each utterance, the frames of each symbol, or words.
Start with `best_path.best_path`, then `beam_search.BeamSearch`.

    beam_search  CTC prefix beam search with a phone n-gram, and the decoder files of a model folder
    best_path    the most probable path, free or forced through given labels
    ngram        Kneser-Ney n-grams, ARPA files, and the automaton that the beam search uses
    words        words by a pronunciation lexicon and a word n-gram (flashlight-text)
"""

__all__ = ["beam_search", "best_path", "ngram", "words"]
