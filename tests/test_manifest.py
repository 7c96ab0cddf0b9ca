import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from lhotse import CutSet

from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from asr.errors import InputError
from tests.conftest import make_utterances
from tests.faults.fuzz import limits


def make_utterance(folder: Path) -> Utterance:
    times = ((0.05, 0.2), (0.2, 0.35), (0.35, 0.5))
    utterance = make_utterances(folder, ["s"], 1)[0]
    return replace(utterance, phone_times_s=times, sex="f", details={"dialect": "DR3"}, words="hello you")


def rewrite(path: Path, change: dict[str, object]) -> None:
    """Change fields of the first cut of a manifest; a dotted key goes into its first supervision."""
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    for key, value in change.items():
        target = lines[0]
        if "." in key:
            target, key = lines[0]["supervisions"][0], key.split(".")[1]
        target[key] = value
        if value is None:
            del target[key]
    path.write_bytes(gzip.compress("\n".join(json.dumps(line) for line in lines).encode()))


def test_written_manifests_are_read_back(tmp_path: Path) -> None:
    utterances = [make_utterance(tmp_path / "a"), *make_utterances(tmp_path / "b", ["x", "y"], 2)]
    write_corpus(tmp_path / "out", {"train": utterances}, {"SA sentences": 7}, ["a note"])
    assert read_manifest(tmp_path / "out" / "cuts_train.jsonl.gz") == utterances
    statistics = json.loads((tmp_path / "out" / "stats.json").read_text())
    split = statistics["splits"]["train"]
    assert (split["utterances"], split["speakers"], split["phones"]) == (5, 3, 15)
    assert split["sample_rates_hz"] == {"16000": 5}
    assert abs(split["hours"] * 3600 - sum(u.duration_s for u in utterances)) < 0.4
    assert (statistics["left_out"], statistics["notes"]) == ({"SA sentences": 7}, ["a note"])
    assert not list((tmp_path / "out").glob("*partial*"))


def test_lhotse_opens_it(tmp_path: Path) -> None:
    utterance = make_utterance(tmp_path / "a")
    write_corpus(tmp_path / "out", {"train": [utterance]}, {})
    (cut,) = CutSet.from_file(tmp_path / "out" / "cuts_train.jsonl.gz")
    assert cut.load_audio().shape == (1, 8800)
    assert cut.supervisions[0].speaker == "s"
    assert [item.symbol for item in cut.supervisions[0].alignment["phone"]] == list(utterance.phones)


def test_a_part_of_a_recording_keeps_its_start(tmp_path: Path) -> None:
    part = replace(make_utterance(tmp_path), start_s=0.1, duration_s=0.3, phone_times_s=None)
    write_corpus(tmp_path / "out", {"train": [part]}, {})
    assert read_manifest(tmp_path / "out" / "cuts_train.jsonl.gz") == [part]


def test_manifests_that_cannot_be_used(tmp_path: Path) -> None:
    utterance = make_utterance(tmp_path / "a")
    path = tmp_path / "out" / "cuts_train.jsonl.gz"

    def refused(message: str) -> None:
        with pytest.raises(InputError, match=message) as error:
            read_manifest(path)
        assert "\n" not in str(error.value)

    refused("no such file, expected a manifest")
    path.mkdir(parents=True)
    refused("a folder, expected a manifest")
    path.rmdir()
    write_corpus(tmp_path / "out", {"train": [utterance]}, {})
    whole = path.read_bytes()
    for content in (b"", whole[:60], gzip.compress(b"{}\n"), gzip.compress(b"not json\n")):
        path.write_bytes(content)
        refused("(not a manifest of Lhotse cuts|0 utterances, expected at least 1)")
    changes: list[tuple[dict[str, object], str]] = [
        ({".speaker": None}, "utterance s-0: no speaker"),
        ({".alignment": None, ".custom": {}}, "utterance s-0: no phones"),
        ({".custom": {"phones": "t"}}, r"utterance s-0: 1 phones and 3 in alignment\['phone'\], expected as many"),
        ({"supervisions": []}, "utterance s-0: 0 supervisions, expected 1"),
        ({".speaker": ["s"]}, r"utterance s-0: value \"\['s'\]\", expected strings, and numbers"),
        ({"duration": 1e300}, "utterance s-0: value '1e.300', expected strings, and numbers"),
    ]
    for change, message in changes:
        path.write_bytes(whole)
        rewrite(path, change)
        refused(message)
    path.write_bytes(gzip.compress(gzip.decompress(whole) * 2))
    refused("utterance id s-0 occurs 2 times, expected once")
    path.write_bytes(whole)
    utterance.audio_path.unlink()
    refused("utterance s-0: audio file .* is missing, expected a file")


def test_splits_that_cannot_be_written(tmp_path: Path) -> None:
    utterance = make_utterance(tmp_path / "a")
    with pytest.raises(InputError, match="split dev has 0 utterances"):
        write_corpus(tmp_path / "out", {"train": [utterance], "dev": []}, {})
    with pytest.raises(InputError, match="utterance id s-0 occurs 2 times"):
        write_corpus(tmp_path / "out", {"train": [utterance, utterance]}, {})
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_corpus(tmp_path / "file", {"train": [utterance]}, {})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="NO DISK-FULL TEST: this system has no /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "stats.json.partial").symlink_to("/dev/full")
    with pytest.raises(InputError, match="out: cannot be written"):
        write_corpus(out, {"train": [make_utterance(tmp_path / "a")]}, {})
    assert not (out / "stats.json").exists()


def test_a_few_bytes_that_decompress_to_a_long_line_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    with gzip.open(path, "wb", 1) as file:
        for _ in range(64):
            file.write(b" " * 2**20)
    assert path.stat().st_size < 2**20
    with limits(), pytest.raises(InputError, match="a line of more than 16777216 bytes, expected one cut per line"):
        read_manifest(path)
    with gzip.open(path, "wb") as file:
        for _ in range(40):
            file.write((b"{}" + b" " * 1021 + b"\n") * 2**10)
    with (
        limits(),
        pytest.raises(InputError, match="decompresses to more than 100 times its size, expected a manifest"),
    ):
        read_manifest(path)
