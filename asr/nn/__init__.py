"""Neural network: the acoustic model from padded features to log-probabilities, and the CTC loss.

In:  features (batch, frames, dim) float32 with lengths (batch,).
Out: natural log-probabilities (batch, frames', symbols) with lengths (batch,); CTC losses in nats.
Start with `acoustic_model.AcousticModel`, then `lstm.RecurrentStack`.

    acoustic_model       encoder, front end, recurrent stack, self-attention and output layer
    chunks               chunks with look-ahead, for recognition while someone speaks
    ctc                  the CTC loss, and a check that the labels fit the frames
    kernels              whether a GPU uses lstm_cuda
    lstm                 stacked LSTM or GRU on ragged batches
    lstm_cuda            LSTM layer for bfloat16 on GPUs, in Triton
    lstm_matmul          LSTM layer for float32 training on CPUs without AVX-512
    parallel_directions  both directions of a layer at once, each on half of the cores
    pretrained_encoder   frozen and trained layers of a pretrained encoder, and their mixture
    ragged               layout of a ragged batch as dense segments of packed frames
    reference_lstm       the LSTM cell written out
    streamed             the acoustic model while the features arrive
    waveform_encoder     wav2vec 2.0, HuBERT, WavLM and XLS-R, from Transformers
    whisper_encoder      Whisper's encoder
"""

__all__ = [
    "acoustic_model",
    "chunks",
    "ctc",
    "kernels",
    "lstm",
    "lstm_cuda",
    "lstm_matmul",
    "parallel_directions",
    "pretrained_encoder",
    "ragged",
    "reference_lstm",
    "streamed",
    "waveform_encoder",
    "whisper_encoder",
]
