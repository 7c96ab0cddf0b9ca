"""flite and Festival: programs that are called once for each utterance. Both print the phones that they synthesize."""

import re
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from subprocess import DEVNULL, PIPE

import soundfile

from asr.errors import InputError
from data_prep.voices_engines import Spoken, Style, Voice

TIMEOUT_S = 600
"""Usually a text takes 0.1 s, but a busy or sleeping machine can take minutes."""

PHONES_MARK, END_MARK = "asr-phones", "asr-end"
"""What Festival prints before the phones and after an answer."""

ARCTIC = "CMU ARCTIC (free, with notice)"

FLITE_VOICES = {
    "kal16": ("kal", "CMU (free, with notice)"),
    "awb": ("awb", ARCTIC),
    "rms": ("rms", ARCTIC),
    "slt": ("slt", ARCTIC),
}
"""Voice -> the recorded person and the licence. The 8 kHz voice `kal` is that of `kal16` through a telephone."""

FLITE_PITCH_HZ = {"kal16": 95.0}
"""Mean pitch of the voices that can change it."""

FESTIVAL_VOICES = {
    "kal_diphone": ("kal", "CMU (free, with notice)"),
    "ked_diphone": ("ked", "University of Edinburgh (free, with notice)"),
    "cmu_us_slt_arctic_hts": ("slt", ARCTIC),
}

SILENCES = ("pau", "brth", "h#")

FESTIVAL_PITCH_HZ = {"kal_diphone": 105.0, "ked_diphone": 105.0}


def to_arpabet(phones: Sequence[str]) -> tuple[str, ...]:
    """Map phones of cmulex to ARPAbet's 39, without silences. Festival's ked adds an r to er, which is left out."""
    arpabet = [{"ax": "AH"}.get(phone, phone.upper()) for phone in phones if phone not in SILENCES]
    return tuple(phone for before, phone in pairwise(["", *arpabet]) if (before, phone) != ("ER", "R"))


class Flite:
    """flite, Carnegie Mellon University's small Festival."""

    tells_phones = True

    def voices(self) -> list[Voice]:
        """The American voices that this flite has."""
        installed = _run(["flite", "-lv"], "flite").partition(":")[2].split()
        return [Voice("flite", name, *facts) for name, facts in FLITE_VOICES.items() if name in installed]

    def speak(self, text: str, voice: Voice, style: Style) -> Spoken:
        """Synthesize a text."""
        command = ["flite", "-voice", voice.name, "-ps", "--setf", f"duration_stretch={1 / style.rate:.4f}"]
        if voice.name in FLITE_PITCH_HZ:
            command += ["--setf", f"int_f0_target_mean={FLITE_PITCH_HZ[voice.name] * style.pitch:.2f}"]
        with tempfile.TemporaryDirectory(prefix="asr-flite-") as scratch:
            path = Path(scratch) / "speech.wav"
            phones = _run([*command, "-t", text, "-o", str(path)], "flite")
            samples, rate_hz = soundfile.read(path, dtype="float32")
        return Spoken(samples, rate_hz, to_arpabet(phones.split()))


def flite_phones(text: str) -> tuple[str, ...] | None:
    """The phones of a text by flite's lexicon and rules, or None without flite."""
    if shutil.which("flite") is None:
        return None
    return to_arpabet(_run(["flite", "-voice", "kal16", "-ps", "-t", text, "-o", "none"], "flite").split())


class Festival:
    """The Festival system of the University of Edinburgh. One process speaks all texts, because its start takes 0.2 s."""

    tells_phones = True

    @cached_property
    def _process(self) -> subprocess.Popen[str]:
        try:
            process = subprocess.Popen(["festival", "--pipe"], stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True)
        except OSError as error:
            raise _missing("festival") from error
        weakref.finalize(self, _end, process)
        return process

    def _ask(self, commands: Sequence[str]) -> str:
        """Run commands and return what they print."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write("\n".join([*commands, f'(format t "\\n{END_MARK}\\n")', "(fflush nil)", ""]))
            process.stdin.flush()
        except OSError as error:
            raise InputError(f"festival has ended ({error}), expected speech") from error
        lines: list[str] = []
        for line in process.stdout:
            if line.strip() == END_MARK:
                return "".join(lines)
            lines.append(line)
        raise InputError(f"festival has ended with status {process.wait()}, expected speech")

    def voices(self) -> list[Voice]:
        """The American voices that this Festival has."""
        installed = re.findall(r"[\w-]+", self._ask(['(format t "%l" (voice.list))']))
        return [Voice("festival", name, *facts) for name, facts in FESTIVAL_VOICES.items() if name in installed]

    def speak(self, text: str, voice: Voice, style: Style) -> Spoken:
        """Synthesize a text."""
        commands = [f"(voice_{voice.name})", f"(Parameter.set 'Duration_Stretch {1 / style.rate:.4f})"]
        if voice.name in FESTIVAL_PITCH_HZ:
            pitch_hz = FESTIVAL_PITCH_HZ[voice.name] * style.pitch
            commands.append(f"(set! int_lr_params (cons '(target_f0_mean {pitch_hz:.2f}) (cdr int_lr_params)))")
        else:
            commands.append(f'(set! hts_engine_params (append hts_engine_params \'(("-r" {style.rate:.4f}))))')
        with tempfile.TemporaryDirectory(prefix="asr-festival-") as scratch:
            path = Path(scratch) / "speech.wav"
            commands.append(f'(set! spoken (utt.synth (Utterance Text "{text}")))')
            commands.append(f'(utt.save.wave spoken "{path}" \'riff)')
            tell = '(mapcar (lambda (s) (format t "%s " (item.name s))) (utt.relation.items spoken \'Segment))'
            phones = self._ask([*commands, f'(begin (format t "\\n{PHONES_MARK} ") {tell} (format t "\\n"))'])
            samples, rate_hz = soundfile.read(path, dtype="float32")
        return Spoken(samples, rate_hz, to_arpabet(phones.partition(PHONES_MARK)[2].partition("\n")[0].split()))


def _run(command: Sequence[str], program: str) -> str:
    """Run ``program`` and return what it prints."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S).stdout
    except FileNotFoundError as error:
        raise _missing(program) from error
    except (subprocess.SubprocessError, OSError) as error:
        raise InputError(f"{program} fails ({error}), expected speech") from error


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _missing(program: str) -> InputError:
    return InputError(f"{program} is not installed, expected the program (Debian package {program})")
