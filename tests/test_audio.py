import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.audio import probe_audio, read_audio
from asr.errors import InputError
from asr.inference.catalog import find_model
from asr.inference.recognizer import load
from tests.faults.fuzz import limits

RATE = 16000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)


def sphere(
    path: Path, samples: int = RATE, claimed: int | None = None, coding: str = "pcm", signal: np.ndarray = TONE
) -> Path:
    """Write a SPHERE file byte by byte, so that its header can be wrong."""
    fields = [
        "NIST_1A\n   1024",
        f"sample_count -i {samples if claimed is None else claimed}",
        "sample_rate -i 16000",
        "channel_count -i 1",
        "sample_n_bytes -i 2",
        "sample_byte_format -s2 01",
        "sample_sig_bits -i 16",
        f"sample_coding -s{len(coding)} {coding}",
        "end_head",
    ]
    header = ("\n".join(fields) + "\n").encode().ljust(1024)
    path.write_bytes(header + (signal[:samples] * 32767).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.mp3", {}),
        ("a.WAV.wav", {}),
        ("sphere.WAV", {"format": "NIST", "subtype": "PCM_16"}),
        ("riff.dat", {"format": "WAV", "subtype": "PCM_16"}),
    ],
)
def test_formats_give_the_same_samples(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    soundfile.write(tmp_path / name, TONE, RATE, **options)
    samples = read_audio(tmp_path / name)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    lossy = name.endswith(("ogg", "mp3")) or options.get("subtype") == "PCM_U8"
    assert len(samples) == RATE
    assert np.abs(samples[1000:-1000] - TONE[1000:-1000]).max() < (0.05 if lossy else 1e-4)


def test_channels_are_averaged(tmp_path: Path) -> None:
    weights = np.arange(7, dtype=np.float32) / 6
    soundfile.write(tmp_path / "seven.wav", TONE[:, None] * weights, RATE, subtype="FLOAT")
    assert probe_audio(tmp_path / "seven.wav").channels == 7
    np.testing.assert_allclose(read_audio(tmp_path / "seven.wav"), TONE * 0.5, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    soundfile.write(tmp_path / "a.wav", tone, rate, subtype="FLOAT")
    samples = read_audio(tmp_path / "a.wav", RATE)
    assert abs(len(samples) - RATE) <= 1
    np.testing.assert_allclose(samples[1000:15000], TONE[1000:15000], atol=2e-3)


def test_a_part_of_a_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", TONE, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE, 0.25, 0.5), TONE[4000:12000])
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE, 0.25), TONE[4000:])
    with pytest.raises(InputError, match=r"a\.wav: 1 s long, expected to contain 0\.75 s to 1\.25 s"):
        read_audio(tmp_path / "a.wav", RATE, 0.75, 0.5)


def test_a_part_to_the_end_of_a_file_may_begin_between_samples(tmp_path: Path) -> None:
    """At 22,050 Hz, 1.99 s and the rest are each a whole number of samples and a half, and both are rounded up."""
    soundfile.write(tmp_path / "a.wav", np.full(44299, 0.1), 22050)
    assert len(read_audio(tmp_path / "a.wav", 22050, 1.99, 44299 / 22050 - 1.99)) == 44299 - 43880
    with pytest.raises(InputError, match="2.00902 s long, expected to contain 1.99 s to 2.009[12]"):
        read_audio(tmp_path / "a.wav", 22050, 1.99, 44301 / 22050 - 1.99)


def test_sphere_written_by_hand_is_read(tmp_path: Path) -> None:
    np.testing.assert_allclose(read_audio(sphere(tmp_path / "x.wav")), TONE, atol=1e-4)


def wav_bytes(path: Path, samples: np.ndarray, **options: str) -> bytes:
    soundfile.write(path, samples, RATE, format="WAV", **options)
    return path.read_bytes()


def test_bad_files_are_refused_with_one_line(tmp_path: Path) -> None:
    good = wav_bytes(tmp_path / "good.wav", TONE)
    flac = tmp_path / "cut.flac"
    soundfile.write(flac, np.random.default_rng(0).uniform(-1, 1, 3 * RATE), RATE)
    flac.write_bytes(flac.read_bytes()[:40000])
    nan = TONE.copy()
    nan[77] = np.nan
    cases = {
        tmp_path / "missing.wav": "no such file, expected an audio file",
        tmp_path: "a folder, expected an audio file",
        _write(tmp_path / "empty.wav", b""): "empty file (0 bytes), expected audio",
        _write(tmp_path / "text.wav", b"hello there, this is no audio\n" * 9): "not readable as audio",
        _write(tmp_path / "cut.wav", good[:20000]): "truncated, 20000 bytes, its header says 32044",
        sphere(tmp_path / "cut.sph", 8000, claimed=16000): "truncated, 16000 bytes of samples, its header says 32000",
        sphere(tmp_path / "short.sph", coding="pcm,embedded-shorten-v2.00"): "expected uncompressed SPHERE",
        _write(tmp_path / "none.wav", wav_bytes(tmp_path / "n.wav", TONE[:0])): "0 samples, expected at least 1",
        _write(tmp_path / "zeros.wav", wav_bytes(tmp_path / "z.wav", 0 * TONE)): "all 16000 samples are zero",
        _write(
            tmp_path / "loud.wav", wav_bytes(tmp_path / "l.wav", 1e30 + TONE, subtype="FLOAT")
        ): "sample 0 is 1.00000001",
        _write(tmp_path / "nan.wav", wav_bytes(tmp_path / "y.wav", nan, subtype="FLOAT")): "sample 77 is nan",
        flac: "cut.flac",
    }
    for path, expected in cases.items():
        with pytest.raises(InputError) as error:
            read_audio(path)
        message = str(error.value)
        assert message.startswith(str(path))
        assert expected in message
        assert "\n" not in message
    latin = _write(tmp_path / os.fsdecode(b"Latin\xff.wav"), good)
    with pytest.raises(InputError, match=r"Latin\\udcff.wav': file name that is not UTF-8, expected another name"):
        read_audio(latin)


def test_damaged_sphere_headers_are_refused(tmp_path: Path) -> None:
    path = sphere(tmp_path / "x.sph")
    path.write_bytes(path.read_bytes().replace(b"sample_count -i 16000", b"sample_count -i 1x000"))
    with pytest.raises(InputError, match="header field sample_count is '1x000', expected a whole number"):
        read_audio(path)


def test_false_headers_allocate_no_memory(tmp_path: Path) -> None:
    wav = bytearray(wav_bytes(tmp_path / "good.wav", TONE))
    wav[4:8] = wav[40:44] = b"\xff\xff\xff\xfe"
    slow, fast = bytearray(wav_bytes(tmp_path / "good.wav", TONE)), bytearray(wav_bytes(tmp_path / "good.wav", TONE))
    slow[24:28], fast[24:28] = b"\1\0\0\0", b"\xff\xff\xff\x7f"
    soundfile.write(tmp_path / "good.mp3", TONE, RATE)
    mp3 = bytearray((tmp_path / "good.mp3").read_bytes())
    frames = mp3.index(b"Xing") + 8
    mp3[frames : frames + 4] = b"\x7f\xff\xff\xff"
    cases = {
        _write(tmp_path / "long.wav", bytes(wav)): "truncated, 32044 bytes, its header says 4278190087",
        _write(tmp_path / "slow.wav", bytes(slow)): "sample rate 1 Hz, expected 1000 to 1000000 Hz",
        _write(tmp_path / "fast.wav", bytes(fast)): "sample rate 2147483647 Hz, expected 1000 to 1000000 Hz",
        _write(tmp_path / "long.mp3", bytes(mp3)): "hours according to its header, expected at most 24",
        claiming_flac(tmp_path / "long.flac", 2**31): "37 hours according to its header, expected at most 24",
        claiming_flac(tmp_path / "hours.flac", 20 * 3600 * RATE): "hours.flac: ",
        sphere(tmp_path / "long.sph", claimed=2**31): "truncated, 32000 bytes of samples, its header says 4294967296",
    }
    recognizer = load(find_model("speechocean762-small"))
    for path, expected in cases.items():
        for read in (read_audio, recognizer.features):
            with limits(), pytest.raises(InputError) as error:
                read(path)
            assert expected in str(error.value)


@pytest.mark.parametrize(("rate", "frame"), [(RATE, 576), (48000, 1152)])
def test_an_mp3_may_end_in_the_padding_that_its_header_counts(tmp_path: Path, rate: int, frame: int) -> None:
    soundfile.write(tmp_path / "a.mp3", TONE, rate)
    mp3 = bytearray((tmp_path / "a.mp3").read_bytes())
    at = mp3.index(b"Xing") + 8
    frames = int.from_bytes(mp3[at : at + 4], "big")
    mp3[at : at + 4] = (frames + 1).to_bytes(4, "big")
    padded = _write(tmp_path / "padded.mp3", bytes(mp3))
    assert probe_audio(padded).num_samples == RATE + frame
    assert RATE <= len(read_audio(padded, rate)) < RATE + frame
    mp3[at : at + 4] = (frames + 9).to_bytes(4, "big")
    with pytest.raises(InputError, match=f"truncated, [0-9]+ samples, the header says {RATE + 9 * frame}"):
        read_audio(_write(tmp_path / "truncated.mp3", bytes(mp3)))


def claiming_flac(path: Path, samples: int) -> Path:
    """Write one second of FLAC whose header claims ``samples``: the lower 36 bits of its bytes 18 to 26."""
    soundfile.write(path, TONE, RATE)
    content = path.read_bytes()
    claimed = int.from_bytes(content[18:26], "big") >> 36 << 36 | samples
    return _write(path, content[:18] + claimed.to_bytes(8, "big") + content[26:])


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
