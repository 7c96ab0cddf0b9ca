"""Around the search: its weights chosen on a dev set, and words by a pronunciation lexicon."""
