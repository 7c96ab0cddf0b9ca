"""Neural network: the acoustic model from padded features to log-probabilities, and the CTC loss.

In:  features (batch, frames, dim) float32 with lengths (batch,).
Out: natural log-probabilities (batch, frames', symbols) with lengths (batch,); CTC losses in nats.
Start with `acoustic_model.AcousticModel`, then `lstm.RecurrentStack`.

    acoustic_model       front end, recurrent stack, self-attention and output layer
    ctc                  the CTC loss, and a check that the labels fit the frames
    lstm                 stacked LSTM or GRU on ragged batches; `reference_lstm` is the cell written out
    lstm_matmul          LSTM layer for float32 training on CPUs without AVX-512
    parallel_directions  both directions of a layer at once, each on half of the cores
    ragged               layout of a ragged batch as dense segments of packed frames
"""

__all__ = ["acoustic_model", "ctc", "lstm", "lstm_matmul", "parallel_directions", "ragged"]
