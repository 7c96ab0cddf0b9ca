"""Recognize the phones of a WAV file with an exported model. Needs only numpy and onnxruntime.

    asr export english phones.onnx
    python examples/onnx_transcribe.py phones.onnx hello.wav

Prints a line for each phone: the time of its first frame in seconds, and the phone. The file must have
16-bit samples at the model's sample rate.
"""

import sys
import wave

import numpy as np
import onnxruntime


def main() -> None:
    """Transcribe one file."""
    if len(sys.argv) != 3:
        sys.exit("usage: onnx_transcribe.py MODEL.onnx FILE.wav")
    session = onnxruntime.InferenceSession(sys.argv[1])
    metadata = session.get_modelmeta().custom_metadata_map
    samples, rate_hz = read_samples(sys.argv[2])
    if rate_hz != int(metadata["sample_rate_hz"]):
        sys.exit(f"{sys.argv[2]}: {rate_hz} Hz, expected {metadata['sample_rate_hz']}")
    inputs = {"samples": samples[None], "num_samples": np.array([len(samples)])}
    log_probs, num_outputs = session.run(None, inputs)
    phones = metadata["phones"].split()
    shift_ms, padding_ms = float(metadata["output_shift_ms"]), float(metadata["padding_ms"])
    for frame, symbol in best_path(log_probs[0, : num_outputs[0]]):
        print(f"{max(0.0, frame * shift_ms - padding_ms) / 1000:.2f} {phones[symbol]}")


def read_samples(path: str) -> tuple[np.ndarray, int]:
    """Read (samples,) float32 in [-1, 1], the mean of all channels, and the sample rate in Hz."""
    with wave.open(path) as file:
        if file.getsampwidth() != 2:
            sys.exit(f"{path}: {8 * file.getsampwidth()} bits, expected 16")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        return (samples.mean(axis=1) / 32768).astype(np.float32), file.getframerate()


def best_path(log_probs: np.ndarray) -> list[tuple[int, int]]:
    """Take the best symbol of each frame of (frames, symbols), merge repeats, remove blanks. Returns (frame, symbol)."""
    symbols = log_probs.argmax(axis=1)
    first = np.concatenate([[True], symbols[1:] != symbols[:-1]]) & (symbols != 0)
    return [(int(frame), int(symbols[frame])) for frame in np.flatnonzero(first)]


if __name__ == "__main__":
    main()
