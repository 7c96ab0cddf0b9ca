"""Decoding: phones or words from the acoustic model's log-probabilities.

In:  natural log-probabilities (frames, symbols), or (batch, frames, symbols) with lengths (batch,).
Out: symbol ids of each utterance, the frames of each symbol, or words.
Start with `best_path.best_path`, then `beam_search.BeamSearch`.

    beam_search    CTC prefix beam search with a phone n-gram, and the decoder files of a model folder
    best_path      the most probable path, free or forced through given labels
    prefix_search  its loops (internal)
    streamed_search  the same search while the frames arrive
    ngram          Kneser-Ney n-grams, ARPA files, and the automaton that the beam search uses
    ngram_mixture  a mixture of two n-grams, and pruning
    g2p            spelling to pronunciations, by a trained model
    g2p_alignment  letters and phones of a lexicon to graphones, by EM (internal)
    g2p_search     beam search over graphones (internal)
    g2p_training   a model from a lexicon
    words          words by a pronunciation lexicon and a word n-gram (flashlight-text)
"""

__all__ = ["beam_search", "best_path", "g2p", "g2p_training", "ngram", "ngram_mixture", "streamed_search", "words"]
