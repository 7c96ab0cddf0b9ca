"""Shards: what is written is what was read, in any order of events; bad shards are named."""

import gzip
import json
import os
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet

from asr.cli import app as cli
from asr.cli.shards import _extract
from asr.corpus import shard_writer
from asr.corpus.audio import probe_audio, read_audio
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.corpus.shard_encoding import StoredFeatures
from asr.corpus.shard_files import ShardWriter
from asr.corpus.shard_writer import ShardOptions, write_shards
from asr.corpus.shards import INDEX, BadShardError, Shards, is_shards, open_shards, read_utterances
from asr.corpus.spool import Spool, stream_shards
from asr.corpus.store_lock import LOCK
from asr.corpus.stored_features import compress_features, read_stored_features
from asr.corpus.tar_members import TarMember, find_member
from asr.errors import InputError, Interrupted
from asr.features.normalization import FeatureStatistics, normalize
from asr.system.lock import open_run_lock
from tests.conftest import make_utterances, settings

RATE = 16000


def manifest_of(folder: Path, utterances: list[Utterance]) -> Path:
    write_corpus(folder, {"train": utterances}, {})
    return folder / "cuts_train.jsonl.gz"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten utterances of three speakers; one with phone times, words and details."""
    folder = tmp_path_factory.mktemp("corpus")
    utterances = make_utterances(folder / "wav", ["a", "b"], 4) + make_utterances(folder / "more", ["c"], 2)
    times = ((0.05, 0.2), (0.2, 0.35), (0.35, 0.5))
    utterances[3] = replace(utterances[3], phone_times_s=times, sex="f", details={"dialect": "DR3"}, words="hello you")
    return manifest_of(folder, utterances)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def read_all(shards: Shards) -> Iterator[Utterance]:
    with Spool() as spool:
        for _, utterances in stream_shards(shards, range(len(shards)), spool):
            yield from utterances


def written_once(folder: Path, utterance: Utterance, content: str = "flac") -> Utterance:
    """The utterance of a shard that holds only this one."""
    (read,) = read_all(
        write_shards(manifest_of(folder / "cuts", [utterance]), folder / "shards", ShardOptions(content))
    )
    return read


# --- what is written is what was read ------------------------------------------------------------------------------------


def test_the_utterances_and_samples_of_shards_are_those_of_the_manifest(manifest: Path, tmp_path: Path) -> None:
    shards = write_shards(manifest, tmp_path / "shards", ShardOptions(shard_utterances=4))
    originals = read_manifest(manifest)
    assert [shard.utterances for shard in shards] == [4, 4, 2]
    assert [shard.speakers for shard in shards] == [1, 1, 1]
    assert shards[1].longest_s == max(one.duration_s for one in originals[4:8])
    assert shards.duration_s == pytest.approx(sum(one.duration_s for one in originals))
    assert shards.utterances == len(originals)
    found = list(read_all(shards))
    assert [replace(one, audio_path=two.audio_path) for one, two in zip(found, originals, strict=True)] == originals
    for one, two in zip(found, originals, strict=True):
        np.testing.assert_array_equal(read_audio(one.audio_path), read_audio(two.audio_path))
        assert probe_audio(one.audio_path) == probe_audio(two.audio_path)


def test_lhotse_opens_the_folder(manifest: Path, tmp_path: Path) -> None:
    write_shards(manifest, tmp_path / "shards", ShardOptions(shard_utterances=3))
    cuts = list(CutSet.from_shar(in_dir=tmp_path / "shards"))
    for cut, utterance in zip(cuts, read_manifest(manifest), strict=True):
        assert (cut.id, cut.duration, cut.start) == (utterance.id, utterance.duration_s, 0)
        assert cut.supervisions[0].custom["phones"].split() == list(utterance.phones)
        samples, _ = soundfile.read(utterance.audio_path, dtype="float32")
        np.testing.assert_array_equal(cut.load_audio()[0], samples)
    assert [item.symbol for item in cuts[3].supervisions[0].alignment["phone"]] == list(
        read_manifest(manifest)[3].phones
    )


def noise(seconds: float, rate_hz: int, channels: int = 1) -> np.ndarray:
    """Noise of half a second's envelope, (samples, channels)."""
    generator = np.random.default_rng(5)
    return np.round(generator.standard_normal((round(seconds * rate_hz), channels)) * 3000).clip(-32768, 32767) / 32768


@pytest.mark.parametrize(
    ("rate_hz", "channels", "options"),
    [
        (8000, 1, {"format": "WAV", "subtype": "ULAW"}),
        (44100, 2, {"format": "WAV", "subtype": "PCM_16"}),
        (16000, 1, {"format": "WAV", "subtype": "PCM_24"}),
        (16000, 1, {"format": "NIST", "subtype": "PCM_16"}),
        (22050, 1, {"format": "FLAC", "subtype": "PCM_24"}),
    ],
)
def test_a_part_of_any_file_keeps_its_samples(
    tmp_path: Path, rate_hz: int, channels: int, options: dict[str, str]
) -> None:
    path = tmp_path / "long"
    soundfile.write(path, noise(2.0, rate_hz, channels) + 2**-20, rate_hz, **options)
    part = Utterance("part", path, rate_hz, 0.7003, "s", ("AA",), start_s=0.51)
    read = written_once(tmp_path, part)
    assert (read.sample_rate_hz, read.duration_s, read.start_s) == (rate_hz, 0.7003, 0.0)
    expected, _ = soundfile.read(path, dtype="float32", start=round(0.51 * rate_hz), frames=round(0.7003 * rate_hz))
    member = find_member(read.audio_path)
    assert member is not None
    with (tmp_path / "out").open("wb") as file:
        file.write(member.read())
    assert soundfile.info(tmp_path / "out").format == "FLAC"
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out", dtype="float32")[0], expected)
    np.testing.assert_array_equal(
        read_audio(read.audio_path, RATE, 0.0, read.duration_s), read_audio(path, RATE, part.start_s, part.duration_s)
    )


@pytest.mark.parametrize(
    ("options", "gain", "error", "stored"),
    [
        ({"format": "WAV", "subtype": "FLOAT"}, 1.0, 2.0**-24, "FLAC"),
        ({"format": "WAV", "subtype": "FLOAT"}, 8.0, 0.0, "WAV"),
        ({"format": "OGG", "subtype": "VORBIS"}, 1.0, 2.0**-24, "FLAC"),
        ({"format": "MP3"}, 1.0, 2.0**-24, "FLAC"),
    ],
)
def test_samples_that_no_flac_holds_exactly(
    tmp_path: Path, options: dict[str, str], gain: float, error: float, stored: str
) -> None:
    path = tmp_path / "source"
    soundfile.write(path, gain * np.sin(np.arange(RATE) / 7) * 0.9, RATE, **options)
    info = soundfile.info(path)
    read = written_once(tmp_path, Utterance("x", path, RATE, info.duration, "s", ("AA",)))
    expected = read_audio(path, RATE, 0.0, info.duration)
    found = read_audio(read.audio_path, RATE, 0.0, read.duration_s)
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() <= error
    (cut,) = CutSet.from_shar(in_dir=tmp_path / "shards")
    assert np.abs(cut.load_audio()[0] - expected).max() <= error
    assert (tmp_path / "shards/recording.000000.tar").read_bytes()[:5] == f"x.{stored.lower()}".encode()[:5]


@pytest.mark.parametrize(
    ("rate_hz", "channels", "subtype", "gain"),
    [
        (16000, 9, "PCM_16", 1.0),
        (16000, 9, "PCM_24", 1.0),
        (16000, 9, "FLOAT", 50.0),
        (16000, 300, "PCM_16", 1.0),
        (96001, 1, "PCM_16", 1.0),
        (700_000, 2, "PCM_24", 1.0),
    ],
)
def test_what_flac_does_not_hold_becomes_wav(
    tmp_path: Path, rate_hz: int, channels: int, subtype: str, gain: float
) -> None:
    path, extra = tmp_path / "x.wav", 2**-20 if subtype == "PCM_24" else 0.0
    soundfile.write(path, gain * noise(0.2, rate_hz, channels) + extra, rate_hz, subtype=subtype)
    read = written_once(tmp_path, Utterance("x", path, rate_hz, 0.2, "s", ("AA",)))
    member = find_member(read.audio_path)
    assert member is not None
    (tmp_path / "out").write_bytes(member.read())
    found, expected = soundfile.info(tmp_path / "out"), soundfile.info(path)
    assert (found.format, found.subtype) == ("WAV", subtype)
    assert (found.samplerate, found.channels, found.frames) == (rate_hz, channels, expected.frames)
    samples = soundfile.read(path, dtype="float32", always_2d=True)[0]
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out", dtype="float32", always_2d=True)[0], samples)
    (cut,) = CutSet.from_shar(in_dir=tmp_path / "shards")
    np.testing.assert_array_equal(cut.load_audio()[0], samples[:, 0])


@pytest.mark.parametrize(("rate_hz", "stored_hz"), [(16000, 16000), (44100, 48000), (11025, 12000), (8000, 8000)])
def test_opus(tmp_path: Path, rate_hz: int, stored_hz: int) -> None:
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(1.2345 * rate_hz)) / rate_hz)
    path = tmp_path / "tone.wav"
    soundfile.write(path, samples, rate_hz)
    utterance = Utterance("x", path, rate_hz, len(samples) / rate_hz, "s", ("AA",))
    read = written_once(tmp_path, utterance, "opus")
    assert (read.sample_rate_hz, read.duration_s) == (stored_hz, pytest.approx(utterance.duration_s, abs=1e-4))
    found = read_audio(read.audio_path, 16000, 0.0, read.duration_s)
    expected = read_audio(path, 16000)
    assert abs(len(found) - len(expected)) <= 1
    middle = slice(4000, 16000)
    assert np.corrcoef(found[middle], expected[middle])[0, 1] > 0.99
    (cut,) = CutSet.from_shar(in_dir=tmp_path / "shards")
    assert cut.load_audio().shape[1] == round(read.duration_s * stored_hz)
    again = written_once(tmp_path / "again", utterance, "opus")
    first, second = find_member(read.audio_path), find_member(again.audio_path)
    assert first is not None
    assert second is not None
    assert first.read() == second.read()
    check_ogg(first.read())


def check_ogg(content: bytes) -> None:
    """Recompute the checksum of each page bit by bit, as RFC 3533 describes it."""
    start = pages = 0
    while start < len(content):
        segments = content[start + 26]
        end = start + 27 + segments + sum(content[start + 27 : start + 27 + segments])
        page = content[start : start + 22] + bytes(4) + content[start + 26 : end]
        register = 0
        for byte in page:
            register ^= byte << 24
            for _ in range(8):
                register = (register << 1) ^ (0x104C11DB7 if register & 0x80000000 else 0)
        assert content[start : start + 4] == b"OggS"
        assert content[start + 22 : start + 26] == register.to_bytes(4, "little")
        start, pages = end, pages + 1
    assert start == len(content)
    assert pages > 2


def test_stored_features(manifest: Path, tmp_path: Path) -> None:
    pytest.importorskip("lilcom", reason="STORED FEATURES ARE NOT TESTED: no lilcom")
    config = settings("features.bins=23").features
    extract = partial(_extract, config=config)
    stored = StoredFeatures(asdict(config), config.sample_rate_hz, extract)
    shards = write_shards(manifest, tmp_path / "shards", ShardOptions("features", 4, features=stored))
    assert shards.features == asdict(config)
    cuts = list(CutSet.from_shar(in_dir=tmp_path / "shards"))
    for read, cut, original in zip(read_all(shards), cuts, read_manifest(manifest), strict=True):
        assert (read.id, read.phones, read.duration_s) == (original.id, original.phones, original.duration_s)
        assert read.features_path is not None
        features = read_stored_features(read.features_path)
        assert np.abs(features - extract(read_audio(original.audio_path))).max() <= 2**-9
        np.testing.assert_array_equal(cut.load_features(), features)
        with pytest.raises(InputError, match=r"features.00000\d.tar:\d+:\d+: stored features, expected audio"):
            read_audio(read.audio_path)
    with pytest.raises(InputError, match="shards of features, expected a source with audio"):
        write_shards(tmp_path / "shards", tmp_path / "again")


@pytest.mark.parametrize("delta_order", [0, 1])
def test_stored_features_of_digital_silence(tmp_path: Path, delta_order: int) -> None:
    """They are NaN if the normalization is running: it makes the same of what is stored as of what is computed."""
    pytest.importorskip("lilcom", reason="STORED FEATURES ARE NOT TESTED: no lilcom")
    config = settings("features=fbank_running", f"features.delta_order={delta_order}").features
    samples = noise(1.0, RATE)[:, 0]
    samples[:3000] = samples[8000:8500] = samples[12000:] = 0.125
    path = tmp_path / "gaps.wav"
    soundfile.write(path, samples, RATE)
    manifest = manifest_of(tmp_path / "cuts", [Utterance("x", path, RATE, 1.0, "s", ("AA",))])
    extract = partial(_extract, config=config)
    stored = StoredFeatures(asdict(config), RATE, extract)
    (read,) = read_all(write_shards(manifest, tmp_path / "shards", ShardOptions("features", features=stored)))
    assert read.features_path is not None
    found, expected = read_stored_features(read.features_path), extract(read_audio(path))
    silent = np.isnan(expected).any(axis=1)
    assert 16 < silent.sum() < len(silent)
    assert (np.isnan(found).any(axis=1) == silent).all()
    assert np.abs(found - expected)[~silent].max() <= 2**-9
    statistics = {"": FeatureStatistics(torch.zeros(found.shape[1]), torch.ones(found.shape[1]))}
    one, two = (normalize(torch.from_numpy(each), config, "", statistics) for each in (found, expected))
    assert (one[silent] == two[silent]).all()
    torch.testing.assert_close(one, two, atol=0.02, rtol=0)


@pytest.mark.parametrize("value", [np.inf, -40000.0])
def test_features_that_cannot_be_stored(value: float) -> None:
    pytest.importorskip("lilcom", reason="STORED FEATURES ARE NOT TESTED: no lilcom")
    with pytest.raises(InputError, match=rf"features: a value of {abs(value):g}, expected finite values below 32768"):
        compress_features(np.array([[1.0, value], [np.nan, 0.0]], np.float32))


def test_shards_are_made_from_shards(manifest: Path, tmp_path: Path) -> None:
    write_shards(manifest, tmp_path / "small", ShardOptions(shard_utterances=3))
    write_shards(tmp_path / "small", tmp_path / "from_shards", ShardOptions(shard_utterances=4))
    write_shards(manifest, tmp_path / "from_cuts", ShardOptions(shard_utterances=4))
    one, two = contents(tmp_path / "from_shards"), contents(tmp_path / "from_cuts")
    assert {name for name in one if one[name] != two[name]} <= {INDEX}  # which names its source
    assert one.keys() == two.keys()


@pytest.mark.parametrize("name", ["s1/chapter.2/0001", "naïve-ü 中文", "x" * 150, "a.b..c", ".hidden"])
def test_any_id_that_can_be_a_name(tmp_path: Path, name: str) -> None:
    utterance = replace(make_utterances(tmp_path / "wav", ["s"], 1)[0], id=name)
    assert written_once(tmp_path, utterance).id == name
    assert [cut.id for cut in CutSet.from_shar(in_dir=tmp_path / "shards")] == [name]


@pytest.mark.parametrize("name", ["a//b", "./a", "a/", "/.."])
def test_ids_that_cannot_be_names(tmp_path: Path, name: str) -> None:
    utterance = replace(make_utterances(tmp_path / "wav", ["s"], 1)[0], id=name)
    if name == "/..":
        assert written_once(tmp_path, utterance).id == name
        return
    with pytest.raises(InputError, match="expected one that can name a file"):
        written_once(tmp_path, utterance)


@pytest.mark.parametrize("name", ["a\\u0000b", "a\\ud800"])
def test_ids_with_nul_or_half_a_character(manifest: Path, tmp_path: Path, name: str) -> None:
    lines = gzip.decompress(manifest.read_bytes()).decode()
    (tmp_path / "cuts.jsonl").write_text(lines.replace('"a-1"', f'"{name}"'))
    with pytest.raises(InputError, match="cuts.jsonl: utterance id 'a.*', expected one that can name a file") as error:
        write_shards(tmp_path / "cuts.jsonl", tmp_path / "out")
    assert str(error.value).isprintable()


def test_half_a_character_elsewhere_is_kept(manifest: Path, tmp_path: Path) -> None:
    lines = gzip.decompress(manifest.read_bytes()).decode().replace("hello you", "hello \\ud800")
    (tmp_path / "cuts.jsonl").write_text(lines)
    words = [one.words for one in read_all(write_shards(tmp_path / "cuts.jsonl", tmp_path / "out"))]
    assert words[3] == "hello \ud800"


def test_cuts_without_transcripts_are_for_transcription(manifest: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in gzip.decompress(manifest.read_bytes()).splitlines()]
    lines[1]["supervisions"] = []
    del lines[2]["supervisions"][0]["custom"], lines[2]["supervisions"][0]["speaker"]
    (tmp_path / "cuts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shards = write_shards(tmp_path / "cuts.jsonl", tmp_path / "shards")
    assert shards.head["without_phones"] == 2
    with Spool() as spool, spool.fetch(shards, 0) as local:
        found = read_utterances(local, need_phones=False)
        assert [(one.phones, one.speaker) for one in found[1:3]] == [((), ""), ((), "")]
        with pytest.raises(InputError, match=f"{found[1].id}: 0 supervisions, expected 1") as error:
            read_utterances(local)
        assert not isinstance(error.value, BadShardError)


# --- one writer, interrupted, out of room ------------------------------------------------------------------------------


def test_the_number_of_processes_changes_no_byte(manifest: Path, tmp_path: Path) -> None:
    for jobs in (1, 2):
        write_shards(manifest, tmp_path / str(jobs), ShardOptions(shard_utterances=2), jobs)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert set(contents(tmp_path / "1")) == {
        INDEX,
        *(f"cuts.{number:06}.jsonl.gz" for number in range(5)),
        *(f"recording.{number:06}.tar" for number in range(5)),
    }


def test_an_interrupted_run_goes_on(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ShardOptions(shard_utterances=2)
    write_shards(manifest, tmp_path / "whole", options)
    written: list[int] = []
    write = ShardWriter.write

    def failing(self: ShardWriter, task: shard_writer.Task) -> dict[str, object]:
        if len(written) == 3:
            os.kill(os.getpid(), 2)
        written.append(task.number)
        return write(self, task)

    monkeypatch.setattr(ShardWriter, "write", failing)
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match="4 of 5 shards are complete; the same command goes on with the others"):
        write_shards(manifest, out, options)
    assert not is_shards(out)
    with pytest.raises(InputError, match="out/cuts.index: no such file, expected shards as `asr shard` writes them"):
        open_shards(out)
    (out / "cuts.000002.jsonl.gz").unlink()
    written.clear()
    written += [-1] * 9
    write_shards(manifest, out, options)
    assert written[9:] == [2, 3, 4]  # the index's order
    assert contents(out) == contents(tmp_path / "whole")
    write_shards(manifest, out, options)
    assert written[9:] == [2, 3, 4]


KILLED = """
import sys, time
from asr.corpus import shard_writer
from asr.corpus.stores import LocalStore

puts, put = [], LocalStore.put

def put_some(self, path, name):
    if len(puts) == int(sys.argv[3]):
        print("now", flush=True)
        time.sleep(60)
    puts.append(name)
    put(self, path, name)

LocalStore.put, shard_writer.SAVE_S = put_some, 0
shard_writer.write_shards(sys.argv[1], sys.argv[2], shard_writer.ShardOptions(shard_utterances=1))
"""


def test_a_killed_run_goes_on(manifest: Path, tmp_path: Path) -> None:
    """SIGKILL before the first file, in the midst of a shard and between shards; the last run makes all the same."""
    write_shards(manifest, tmp_path / "whole", ShardOptions(shard_utterances=1))
    out = tmp_path / "out"
    for puts in (0, 1, 5, 8):
        command = [sys.executable, "-c", KILLED, str(manifest), str(out), str(puts)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"now\n"
            process.kill()
        assert not is_shards(out)
    assert len((out / shard_writer.UNFINISHED).read_bytes().splitlines()) == 1 + (0 + 0 + 2 + 4)
    write_shards(manifest, out, ShardOptions(shard_utterances=1))
    assert contents(out) == contents(tmp_path / "whole")
    assert [path.name for path in (out / LOCK).iterdir()] == ["lock"]


BETWEEN_SHARDS = """
import sys, time
from asr.corpus import shard_writer

def progress(written, *_):
    yield next(written)
    print("now", flush=True)
    time.sleep(99)

shard_writer.progress = progress
shard_writer.write_shards(sys.argv[1], sys.argv[2], shard_writer.ShardOptions(shard_utterances=1), jobs=2)
"""


def test_workers_end_with_a_program_that_is_killed(manifest: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BETWEEN_SHARDS, str(manifest), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.kill()
        process.communicate(timeout=60)  # until its workers, which have the same pipe, have ended


def test_another_request_and_another_writer_are_refused(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with open_run_lock(out / LOCK), pytest.raises(InputError, match=f"in use by process {os.getpid()}, expected"):
        write_shards(manifest, out)
    write_shards(manifest, out)
    with pytest.raises(
        InputError, match=r"shards of another request \(content flac, not opus\), expected an empty folder"
    ):
        write_shards(manifest, out, ShardOptions("opus"))
    (out / INDEX).rename(out / shard_writer.UNFINISHED)
    with pytest.raises(InputError, match=r"another request \(shard_utterances 500, not 2\)"):
        write_shards(manifest, out, ShardOptions(shard_utterances=2))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/photo.jpg").touch()
    with pytest.raises(InputError, match="other: has photo.jpg, expected a folder for shards alone"):
        write_shards(manifest, tmp_path / "other")
    (tmp_path / "lhotse").mkdir()
    (tmp_path / "lhotse/recording.000000.tar").write_bytes(b"of another program")
    with pytest.raises(InputError, match="lhotse: has recording.000000.tar of other shards, expected an empty folder"):
        write_shards(manifest, tmp_path / "lhotse")
    assert contents(tmp_path / "lhotse") == {"recording.000000.tar": b"of another program"}
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/.DS_Store").touch()
    write_shards(manifest, tmp_path / "hidden")
    assert {*contents(tmp_path / "hidden")} == {*contents(out), INDEX, ".DS_Store"} - {shard_writer.UNFINISHED}
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_shards(manifest, tmp_path / "file")


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Writing more than this to a file fails, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(manifest: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", ShardOptions(shard_utterances=2)
    write_shards(manifest, tmp_path / "whole", options)
    with largest_file(20_000), pytest.raises(InputError, match=r"out: cannot be written \(File too large\)") as error:
        write_shards(manifest, out, options)
    assert "\n" not in str(error.value)
    assert set(contents(out)) == {shard_writer.UNFINISHED}
    assert [path.name for path in (out / LOCK).iterdir()] == ["lock"]
    write_shards(manifest, out, options)
    assert contents(out) == contents(tmp_path / "whole")


def test_audio_that_cannot_be_used(manifest: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    utterances = read_manifest(manifest)[:4]
    broken = tmp_path / "broken.wav"
    broken.write_bytes(utterances[1].audio_path.read_bytes()[:5000])
    changed = manifest_of(tmp_path, [utterances[0], replace(utterances[1], audio_path=broken), *utterances[2:]])
    with pytest.raises(InputError, match=r"broken.wav: truncated, .* \(utterance a-1; --skip-bad leaves such out\)"):
        write_shards(changed, tmp_path / "out")
    shards = write_shards(changed, tmp_path / "out", ShardOptions(skip_bad=True))
    assert "utterance a-1 is left out" in capfd.readouterr().err
    assert (shards.utterances, shards.head["left_out"]) == (3, 1)
    assert [one.id for one in read_all(shards)] == ["a-0", "a-2", "a-3"]
    assert json.loads((tmp_path / "out" / INDEX).read_text().splitlines()[1])["left_out"] == ["a-1"]
    alone = manifest_of(tmp_path / "alone", [replace(utterances[1], audio_path=broken)])
    with pytest.raises(InputError, match="all 1 utterances are left out, expected at least 1 to stay"):
        write_shards(alone, tmp_path / "nothing", ShardOptions(skip_bad=True))


def test_audio_that_cannot_be_encoded(
    manifest: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances, wide = read_manifest(manifest)[:2], tmp_path / "wide.wav"
    soundfile.write(wide, noise(utterances[1].duration_s, RATE, 256), RATE)
    cuts = manifest_of(tmp_path, [utterances[0], replace(utterances[1], audio_path=wide)])
    message = "wide.wav: 256 channels at 16000 Hz, expected at most 255 channels for opus"
    with pytest.raises(InputError, match=rf"{message}.* \(utterance a-1; --skip-bad leaves such out\)"):
        write_shards(cuts, tmp_path / "opus", ShardOptions("opus"))
    assert write_shards(cuts, tmp_path / "opus", ShardOptions("opus", skip_bad=True)).head["left_out"] == 1
    assert f"{message}; flac keeps any: utterance a-1 is left out" in capfd.readouterr().err

    def refuse(*arguments: object, **options: object) -> None:
        raise soundfile.LibsndfileError(1)

    monkeypatch.setattr(soundfile, "write", refuse)
    with pytest.raises(InputError, match=r": 1 channels at 16000 Hz: .*, expected what flac can hold \(utterance a-0"):
        write_shards(cuts, tmp_path / "flac")


def test_ids_that_occur_twice(manifest: Path, tmp_path: Path) -> None:
    lines = gzip.decompress(manifest.read_bytes()).splitlines(keepends=True)
    (tmp_path / "cuts.jsonl").write_bytes(b"".join([*lines, lines[4]]))
    with pytest.raises(InputError, match="cuts.jsonl: utterance id b-0 occurs twice, expected once"):
        write_shards(tmp_path / "cuts.jsonl", tmp_path / "out")


# --- bad shards --------------------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["cuts.000001.jsonl.gz", "recording.000001.tar"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"{name}: \d+ bytes, expected \d+$"),
        (alter, r"{name}: SHA-256 [0-9a-f]{{64}}, expected [0-9a-f]{{64}}$"),
        (Path.unlink, r"{name}: not readable \(No such file or directory\), expected \d+ bytes$"),
    ],
)
def test_a_bad_shard_is_named_and_can_be_skipped(
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    shards = write_shards(manifest, tmp_path / "out", ShardOptions(shard_utterances=4))
    damage(tmp_path / "out" / name)
    expected = message.format(name=f"{tmp_path}/out/{name}")
    with Spool() as spool, pytest.raises(BadShardError, match=expected) as error:
        spool.fetch(shards, 1)
    assert "\n" not in str(error.value)
    with Spool() as spool, pytest.raises(BadShardError, match=expected):
        list(stream_shards(shards, range(3), spool))
    with Spool() as spool:
        found = [number for number, _ in stream_shards(shards, range(3), spool, skip_bad=True)]
    assert found == [0, 2]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"asr: {error.value}: skipped, 1 so far"


def test_files_that_do_not_belong_together(manifest: Path, tmp_path: Path) -> None:
    shards = write_shards(manifest, tmp_path / "out", ShardOptions(shard_utterances=4))
    with Spool() as spool:
        first, second, third = (spool.fetch(shards, number) for number in range(3))
        for cuts, data, message in (
            (first.cuts, second.data, r"shard 000000: member b-0.flac, expected that of cut a-0"),
            (first.cuts, third.data, r"shard 000000: 4 cuts and 2 members, expected 4 of each"),
            (first.data, first.data, r"shard 000000: BadGzipFile: .*, expected cuts and their members"),
            (first.cuts, first.cuts, r"shard 000000: InputError: .*, expected cuts and their members"),
        ):
            with pytest.raises(BadShardError, match=message):
                read_utterances(replace(first, cuts=cuts, data=data))


def test_indexes_that_cannot_be_used(manifest: Path, tmp_path: Path) -> None:
    index = write_shards(manifest, tmp_path / "out", ShardOptions(shard_utterances=4)).location + "/" + INDEX
    whole = Path(index).read_text()
    first, *others = whole.splitlines(keepends=True)
    for content, message in (
        ("".join([first, *others[:-1]]), "2 shards, expected the 3 of its first line"),
        (whole[:-50], "line 4: JSONDecodeError.*, expected an index of shards"),
        ("", "format None, expected an index of shards"),
        ("[1]\n", "line 1: a list, expected an index of shards"),
        (
            first.replace("asr-shards-1", "asr-shards-9") + others[0],
            "format 'asr-shards-9', expected an index of shards",
        ),
        (first + '{"utterances": 3}\n', "KeyError: 'cuts', expected an index of shards"),
        (
            first + others[0].replace('"seconds":', '"seconds":"long","x":'),
            "TypeError: .*, expected an index of shards",
        ),
        ("\xff\x00", "line 1: .*, expected an index of shards"),
    ):
        Path(index).write_text(content)
        with pytest.raises(InputError, match=message) as error:
            open_shards(tmp_path / "out")
        assert str(error.value).startswith(f"{index}: ")
        assert "\n" not in str(error.value)


# --- members of tar files -------------------------------------------------------------------------------------------------


def test_members_of_any_tar_file(tmp_path: Path) -> None:
    samples = noise(0.5, RATE)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(tmp_path / "a.wav", "a.wav")
    size = (tmp_path / "a.wav").stat().st_size
    path = tmp_path / f"x.tar:512:{size}"
    np.testing.assert_array_equal(read_audio(path), read_audio(tmp_path / "a.wav"))
    assert find_member(path) == TarMember(tmp_path / "x.tar", 512, size)
    assert find_member(tmp_path / "a.wav") is None
    with pytest.raises(InputError, match=rf"x.tar:512:{size - 9}: truncated, {size - 9} bytes, its header says {size}"):
        read_audio(tmp_path / f"x.tar:512:{size - 9}")
    with pytest.raises(InputError, match=r"x.tar:512:999999: \d+ bytes, expected 999999"):
        read_audio(tmp_path / "x.tar:512:999999")
    with pytest.raises(InputError, match=r"y.tar:1:2: not readable \(No such file or directory\)"):
        probe_audio(tmp_path / "y.tar:1:2")
    with pytest.raises(InputError, match=r"x.tar:0:0: empty file \(0 bytes\), expected audio"):
        probe_audio(tmp_path / "x.tar:0:0")


# --- the command, size and start-up ---------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["asr", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(monkeypatch, "shard", manifest, out, "--shard-utterances", 6, "--jobs", 1) == 0
    size = sum(path.stat().st_size for path in out.iterdir() if path.is_file() and path.name != INDEX)
    assert capsys.readouterr().out == f"{out}: 2 shards, 10 utterances, 0.00 h, {size / 1e6:.1f} MB\n"
    for words, message in (
        ((tmp_path / "none", tmp_path / "x"), f"{tmp_path}/none: no such file, expected a manifest"),
        ((manifest, out, "--format", "opus"), f"{out}/cuts.index: shards of another request (content flac, not opus)"),
        ((manifest, tmp_path / "x", "features.bins=9"), "format: flac, expected features with settings of features"),
        ((manifest, "nothing://x/y"), "nothing://x/y: Protocol not known: nothing, expected a folder, or a URL"),
    ):
        assert run(monkeypatch, "shard", *words) == 2
        assert capsys.readouterr().err.startswith(f"asr: {message}")


def test_the_features_of_settings_and_of_a_model(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lilcom", reason="STORED FEATURES ARE NOT TESTED: no lilcom")
    command = ("shard", manifest, tmp_path / "mfcc", "--format", "features", "--jobs", 1)
    assert run(monkeypatch, *command, "features=mfcc", "features.bins=23") == 0
    assert open_shards(tmp_path / "mfcc").features == asdict(settings("features=mfcc", "features.bins=23").features)
    assert run(monkeypatch, "shard", manifest, tmp_path / "model", "--format", "features", "--model", "english") == 0
    (first, *_) = read_all(open_shards(tmp_path / "model"))
    assert first.features_path is not None
    assert read_stored_features(first.features_path).shape[1] == 80
    capsys.readouterr()
    assert run(monkeypatch, *command, "features.name=waveform") == 2
    assert "features: waveform, expected features that are not samples" in capsys.readouterr().err


def test_a_hundred_thousand_shards_take_little_memory(tmp_path: Path) -> None:
    line: dict[str, object] = {"utterances": 500, "seconds": 1800.25, "longest_s": 15.5, "speakers": 12}
    line |= {"cuts": [51234, "ab" * 32], "data": [34567890, "cd" * 32]}
    head = {"format": "asr-shards-1", "content": "flac", "features": None, "shards": 100_000}
    (tmp_path / INDEX).write_text("\n".join([json.dumps(head), *[json.dumps(line)] * 100_000]) + "\n")
    script = "import re, sys; from asr.corpus.shards import open_shards; shards = open_shards(sys.argv[1])\n"
    script += "assert shards.utterances == 50_000_000 and shards[-1].files[1].sha256 == 'cd' * 32\n"
    script += "assert not {'torch', 'lhotse', 'fsspec', 'botocore'} & set(sys.modules)\n"
    script += "print(re.search('VmHWM: *\\t* *([0-9]+)', open('/proc/self/status').read())[1])"
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150 * 1024  # kilobytes


@pytest.mark.parametrize("statement", ["import asr", "import asr.inference.recognizer, asr.cli.transcribe"])
def test_transcribing_does_not_import_what_shards_need(statement: str) -> None:
    script = f"import sys; {statement}; print({{'fsspec', 'lhotse', 'botocore', 's3fs', 'lilcom'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
