"""Fixtures and helpers that test files share: settings, small synthetic corpora, and the real corpus if it is available."""

import os
import shutil
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from playwright.sync_api import Browser, sync_playwright

from asr.cli.compose import compose
from asr.config import TrainConfig
from asr.corpus.manifest import Utterance, write_corpus
from asr.corpus.phones import inventory

REAL_CORPUS = Path(os.environ.get("ASR_SPEECHOCEAN762", Path(__file__).parents[2] / "shared/corpora/speechocean762"))
TINY_MODEL = ("model.hidden=16", "model.layers=1", "model.convolution_channels=[4,4]", "model.dropout=0.0")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def settings(*overrides: str) -> TrainConfig:
    """Compose the configuration with these overrides."""
    return deepcopy(_composed(overrides))


@cache
def _composed(overrides: tuple[str, ...]) -> TrainConfig:
    return compose(["run_dir=unused", *overrides])


def make_utterances(folder: Path, speakers: Sequence[str], per_speaker: int = 3) -> list[Utterance]:
    """Write utterances of three phones each: a tone of its own frequency for each phone, with a little noise."""
    folder.mkdir(parents=True, exist_ok=True)
    phones = inventory("arpabet39").symbols[1:]
    utterances = []
    for seed, name in enumerate(f"{speaker}-{number}" for speaker in speakers for number in range(per_speaker)):
        generator = np.random.default_rng(seed)
        indices = [int(index) for index in generator.choice(6, 3, replace=False)]
        tones = [np.sin(2 * np.pi * (300 + 400 * index) * np.arange(2400) / 16000) for index in indices]
        samples = 0.3 * np.concatenate([np.zeros(800), *tones, np.zeros(800)])
        samples += 0.003 * generator.standard_normal(len(samples))
        path = folder / f"{name}.wav"
        soundfile.write(path, samples, 16000)
        labels = tuple(phones[index] for index in indices)
        utterances.append(Utterance(name, path, 16000, len(samples) / 16000, name.split("-")[0], labels, "some words"))
    return utterances


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of tones: manifests of 12 training, 4 dev and 4 test utterances."""
    folder = tmp_path_factory.mktemp("tones")
    splits = {"train": ["a", "b", "c"], "dev": ["d"], "test": ["e"]}
    write_corpus(folder, {name: make_utterances(folder / name, ids, 4) for name, ids in splits.items()}, {})
    return folder


@pytest.fixture(scope="session")
def real_utterances() -> list[Utterance]:
    """The first 40 training utterances of speechocean762, shortest first."""
    if not (REAL_CORPUS / "train" / "wav.scp").is_file():
        pytest.skip(f"REAL SPEECH IS NOT TESTED: no speechocean762 in {REAL_CORPUS}; set ASR_SPEECHOCEAN762=DIR")
    phones: dict[str, list[str]] = {}
    for line in (REAL_CORPUS / "resource" / "text-phone").read_text().splitlines():
        key, *word = line.split()
        phones.setdefault(key.split(".")[0], []).extend(phone.split("_")[0].rstrip("012") for phone in word)
    utterances = []
    for line in (REAL_CORPUS / "train" / "wav.scp").read_text().splitlines()[:40]:
        name, file = line.split()
        path = next(p for p in (REAL_CORPUS / file, (REAL_CORPUS / file).with_suffix(".flac")) if p.is_file())
        info = soundfile.info(path)
        utterances.append(Utterance(name, path, 16000, info.duration, name[1:5], tuple(phones[name])))
    return sorted(utterances, key=lambda utterance: utterance.duration_s)


@pytest.fixture(scope="session")
def sctk() -> Path:
    """The folder of NIST's scoring tools (Debian: sctk)."""
    for folder in (Path("/usr/lib/sctk/bin"), Path(shutil.which("sclite") or "none").parent):
        if (folder / "sclite").exists() and (folder / "sc_stats").exists():
            return folder
    pytest.skip("no sclite and sc_stats (Debian: apt-get install sctk): counts are not compared with NIST's")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium (Debian: apt-get install chromium): reports are not opened")
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
