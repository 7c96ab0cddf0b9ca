"""Features: samples -> normalized features -> padded batches.

In:  float32 samples at the model's sample rate; utterances and a phone inventory.
Out: features (frames, dim) float32 per utterance, `Batch`es with true lengths.
Start with `filterbanks.extract`, then `dataset.Dataset`.

    filterbanks       log-mel filterbank, MFCC, librosa's mel spectrogram, deltas
    encoder_inputs    the inputs of pretrained encoders: Whisper's log-mel spectrogram, the waveform
    mel               window, mel filters and cosine transform
    frames            frame length, frame count, frame times
    digital_silence   frames without signal get the features of a quiet frame
    normalization     mean and variance normalization per utterance, per speaker or global
    streamed          normalized features while the samples arrive
    augmentation      speed perturbation, SpecAugment, frequency warping
    dataset           utterances -> batches: cache, length bucketing, padding
"""

__all__ = [
    "augmentation",
    "dataset",
    "digital_silence",
    "encoder_inputs",
    "filterbanks",
    "frames",
    "mel",
    "normalization",
    "streamed",
]
