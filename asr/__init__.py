"""Phone recognition for TIMIT-style corpora: features, a bidirectional LSTM trained with CTC, decoding, scoring."""
