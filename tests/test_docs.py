"""The documentation: the site builds, its reference is complete, its commands and examples work."""

import difflib
import doctest
import http.server
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from types import UnionType
from typing import get_args, get_type_hints

import pytest
import soundfile
import yaml
from playwright.sync_api import Browser

from asr.cli import app as cli
from asr.config import BeamConfig, TrainConfig
from asr.corpus.manifest import Utterance, read_manifest, write_corpus
from data_prep.espeak import SpeakingStyle, make_data_folder, synthesize
from tests.conftest import TINY_MODEL

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

NOT_RUN = re.compile(r"<!-- not run in tests: \S.*-->")
STATUS = re.compile(r"<!-- exit status (\d+) -->")
FENCE = re.compile(r"(?:(<!--[^\n]*-->)\n)?```(\w+)[^\n]*\n(.*?)```", re.DOTALL)

SMALL = (
    "model.hidden=8",
    *TINY_MODEL[1:],
    "trainer.epochs=1",
    "trainer.flat_start_epochs=0",
    "trainer.aligner_epochs=0",
    "trainer.trackers=[]",
    "trainer.precision=float32",
    "augment.speeds=[1.0]",
)
"""Added to every `asr train` of a page, so that it takes a fraction of a second."""

SIZES = ("model.hidden", "model=", "experiment=labelled_gru")
"""Where a page sets the size of the model itself, that is what it is about."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the comment directly above it."""

    page: Path
    language: str
    text: str
    comment: str

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Each command with the output that is shown below it."""
        if self.language == "sh":
            joined = self.text.replace("\\\n", " ")
            return [(line, "") for line in joined.splitlines() if line.strip() and not line.startswith("#")]
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def blocks(*languages: str) -> list[Block]:
    return [
        Block(page, language, text, comment)
        for page in PAGES
        for comment, language, text in FENCE.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def pages_with(*languages: str) -> list[Path]:
    return sorted({block.page for block in blocks(*languages) if not NOT_RUN.fullmatch(block.comment)})


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


@pytest.fixture(scope="module")
def workspace(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages' commands find: recordings, transcripts, corpora of tones, settings of one's own."""
    folder = tmp_path_factory.mktemp("reader")
    splits = {name: read_manifest(tone_corpus / f"cuts_{name}.jsonl.gz") for name in ("train", "dev", "test")}
    for name in ("speechocean762", "labelled"):
        write_corpus(folder / "data" / name, splits, {})
    lower = {
        name: [replace(one, phones=tuple(phone.lower() for phone in one.phones)) for one in split]
        for name, split in splits.items()
    }
    write_corpus(folder / "data/synth", lower, {})
    (folder / "recordings").mkdir()
    make_data_folder(folder / "espeak", {"reader": "language variant\nname reader\n"})
    speech = synthesize(folder / "espeak", "but you must not forget me", SpeakingStyle("reader", 150, 50, 50), 1)
    for path in ("hello.wav", "recordings/one.wav", "recordings/two.wav"):
        soundfile.write(folder / path, speech.samples, speech.sample_rate_hz)
    for name, split in splits.items():
        (folder / "recordings_with_labels" / name).mkdir(parents=True)
        for one in split:
            audio = folder / "recordings_with_labels" / name / f"{one.id.replace('-', '_')}.wav"
            shutil.copy(one.audio_path, audio)
            audio.with_suffix(".lab").write_text(" ".join(one.phones), encoding="utf-8")
    write_fieldwork(folder, [one for split in splits.values() for one in split])
    shutil.copytree(DOCS / "examples", folder, dirs_exist_ok=True)
    (folder / "conf").rename(folder / "my_conf")
    return folder


def write_fieldwork(folder: Path, utterances: list[Utterance]) -> None:
    """Speakers' folders with a word beside each recording, and a lexicon of these words."""
    lexicon = {"".join(one.phones).lower(): one.phones for one in utterances}
    for one in utterances:
        audio = folder / "fieldwork" / one.speaker / f"{one.id}.wav"
        audio.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(one.audio_path, audio)
        audio.with_suffix(".lab").write_text("".join(one.phones).lower(), encoding="utf-8")
    lines = [f"{word}\t{' '.join(phones)}\n" for word, phones in sorted(lexicon.items())]
    (folder / "fieldwork_lexicon.txt").write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def desk(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workspace, as the current folder."""
    shutil.copytree(workspace, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run ``asr ...`` or ``python FILE ...`` in this process; its exit status."""
    words = shlex.split(line, comments=True)
    while "=" in words[0]:
        variable, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(variable, value)
    if words[:2] == ["asr", "train"] and "--cfg" not in words:
        own = {"model.hidden"} if any(word.startswith(SIZES) for word in words) else set()
        given = {word.partition("=")[0] for word in words} | own
        words += [setting for setting in SMALL if setting.partition("=")[0] not in given]
    monkeypatch.setattr(sys, "argv", words if words[0] == "asr" else words[1:])
    try:
        if words[0] == "asr":
            cli.main()
        else:
            assert words[0] == "python", f"{line}: run it, or say why not: <!-- not run in tests: REASON -->"
            runpy.run_path(words[1], run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_commands_that_are_not_run_say_why() -> None:
    for block in blocks("sh", "console", "pycon"):
        assert "not run" not in block.comment or NOT_RUN.fullmatch(block.comment), (
            f"{name_of(block.page)}: {block.comment}"
        )
    for block in blocks("bash", "shell", "shell-session"):
        raise AssertionError(f"{name_of(block.page)}: a block of {block.language}, expected sh or console")


@pytest.mark.parametrize(
    "page",
    [  # tutorials train models
        pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if page.parent.name == "tutorials" else [])
        for page in pages_with("sh", "console")
    ],
)
def test_commands(page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks("sh", "console"):
        if block.page != page or NOT_RUN.fullmatch(block.comment):
            continue
        status = STATUS.fullmatch(block.comment)
        for command, shown in block.commands:
            capsys.readouterr()
            code = run_command(command, monkeypatch)
            printed = capsys.readouterr()
            assert code == (int(status[1]) if status else 0), f"{command}\n{printed.err}"
            if block.language == "console":
                found = printed.err + printed.out
                lines = difflib.unified_diff(shown.splitlines(), found.splitlines(), "page", "printed", lineterm="")
                assert found.split() == shown.split(), "\n".join([command, *lines])


@pytest.mark.parametrize("page", pages_with("pycon"), ids=name_of)
def test_python_sessions(page: Path, desk: Path) -> None:
    names: dict[str, object] = {}
    for number, block in enumerate(one for one in blocks("pycon") if one.page == page):
        example = doctest.DocTestParser().get_doctest(block.text, names, f"{name_of(page)} {number}", str(page), 0)
        result = doctest.DocTestRunner().run(example, clear_globs=False)
        names |= example.globs
        assert result.failed == 0


def test_one_set_of_hypotheses_has_the_five_rates_of_the_page() -> None:
    """By hand: two utterances of 14 phones each, less a q; three closures missed, one silence too many, one z for s."""
    text = (DOCS / "concepts/scoring.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^[* ] (kaldi|optional-sil|merged-sil|no-sil|61) +([\d. ]+\d)  ", text, re.MULTILINE))
    expected = {
        "kaldi": (1, 3, 1, 26),
        "optional-sil": (1, 0, 1, 26),
        "merged-sil": (1, 3, 0, 26),
        "no-sil": (1, 0, 0, 18),
        "61": (2, 3, 1, 27),
    }
    assert {name: tuple(map(int, row.split()[1:])) for name, row in rows.items()} == expected
    for name, (*errors, phones) in expected.items():
        assert rows[name].split()[0] == f"{100 * sum(errors) / phones:.2f}"


def test_every_setting_has_a_meaning() -> None:
    notes = yaml.safe_load((DOCS / "settings.yaml").read_text(encoding="utf-8"))
    hints = get_type_hints(TrainConfig)
    expected: dict[str, set[str]] = {"run": set(), "beam": {one.name for one in fields(BeamConfig)}}
    for key, hint in hints.items():
        schemas = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if is_dataclass(schemas[0]):
            expected[key] = {one.name for schema in schemas for one in fields(schema)}
        else:
            expected["run"].add(key)
    assert {group: set(part) for group, part in notes.items()} == expected


NAMED = re.compile(r"`((?:asr|conf|data_prep|docs|recipes|tests|examples|benchmarks)/[\w/.-]+\.\w+)`")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_exist(page: Path) -> None:
    to_write = {"conf/corpus/labelled.yaml", "conf/model/small_gru.yaml", "data_prep/NAME.py"}
    missing = [name for name in NAMED.findall(page.read_text(encoding="utf-8")) if not (ROOT / name).exists()]
    assert set(missing) <= to_write, missing


# --- the patches of "Add a model" and "Add a loss" -------------------------------------------------------------------

CHECK = """
import sys
import torch
from asr.cli.compose import compose
from asr.nn.acoustic_model import Lookahead
from asr.training.losses import smoothing_loss
from asr.training.loop import train
from pathlib import Path

layer, hidden = Lookahead(4, 2), torch.randn(1, 5, 4)
padded = torch.cat([hidden, torch.full((1, 3, 4), 9.0)], dim=1)
torch.testing.assert_close(layer(padded, torch.tensor([5]))[:, :5], layer(hidden, torch.tensor([5])))
weight, bias = layer.convolution.weight[:, 0], layer.convolution.bias
torch.testing.assert_close(layer(hidden, torch.tensor([5]))[0, 2], (weight * hidden[0, 2:].T).sum(1) + bias)

log_probs = torch.tensor([[[0.25, 0.75], [0.5, 0.5]]]).log()
by_hand = torch.tensor([-(0.25 * 0.75) ** 0.5]).neg().log().neg()
torch.testing.assert_close(smoothing_loss(log_probs, torch.tensor([1])), by_hand)

config = compose([*sys.argv[1:], "model.lookahead=2", "trainer.label_smoothing=0.01"])
train(config, Path(config.run_dir))
"""


@pytest.fixture
def patched(tmp_path: Path) -> Path:
    """A copy of the program and its configuration with both patches of the pages applied."""
    for part in ("asr", "conf"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("models", "__pycache__"))
    for patch in ("lookahead", "label_smoothing"):
        command = ["git", "apply", str(DOCS / "examples" / f"{patch}.patch")]
        applied = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert applied.returncode == 0, f"docs/examples/{patch}.patch no longer applies, make it anew: {applied.stderr}"
    return tmp_path


def test_the_patches_of_the_pages_apply(patched: Path) -> None:
    for name in ("asr/config.py", "asr/nn/acoustic_model.py", "asr/training/losses.py", "asr/training/objective.py"):
        compile((patched / name).read_text(encoding="utf-8"), name, "exec")


@pytest.mark.slow
def test_the_patches_of_the_pages_train(tone_corpus: Path, patched: Path) -> None:
    settings = ["experiment=speechocean762", *SMALL, "model.bidirectional=false"]
    settings += [f"corpus.dir={tone_corpus}", f"run_dir={patched / 'run'}"]
    command = [sys.executable, "-c", CHECK, *settings]
    checked = subprocess.run(command, cwd=patched, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert (patched / "run/model/model.safetensors").is_file()


# --- the site --------------------------------------------------------------------------------------------------------


SOURCES = ("docs", "asr", "conf", "recipes", "benchmarks", "tests/faults", "mkdocs.yml")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, that of `tests/run.sh` if it is newer than all that it is made of; any warning is an error."""
    built, paths = ROOT / "build/site/sitemap.xml.gz", [ROOT / name for name in SOURCES]
    files = [
        file for path in paths for file in ([path] if path.is_file() else path.rglob("*.*")) if file.suffix != ".pyc"
    ]
    if built.is_file() and built.stat().st_mtime > max(file.stat().st_mtime for file in files):
        return built.parent
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site on a port of this machine."""
    handler = partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name of the overridden method's
        pass


def test_the_site_needs_no_other_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?(https?://[^\s\">]+)", text)
        assert not loaded, f"{page.relative_to(site)} loads {loaded[0]}"


LINK = re.compile(r"\]\((?![a-z]+:|#|/)([^)#\s]+)")


def test_links_of_the_documents_lead_to_files_of_the_repository() -> None:
    patterns = ("*.md", "docs/**/*.md", "recipes/**/*.md", "benchmarks/*.md", "asr/data/models/*/*.md", "tests/**/*.md")
    documents = [path for pattern in patterns for path in ROOT.glob(pattern)]
    links = [(path, link) for path in documents for link in LINK.findall(path.read_text(encoding="utf-8"))]
    assert len(links) > 150
    assert [(path.name, link) for path, link in links if not (path.parent / link).exists()] == []


def test_links_of_the_site_lead_to_its_files(site: Path) -> None:
    hrefs = re.compile(r"""(?:href|src)=["']?(?![a-z]+:|#|/|\{)([^"'#?>\s]+)""")
    links = {(page, link) for page in site.rglob("*.html") for link in hrefs.findall(page.read_text(encoding="utf-8"))}
    assert len(links) > 1000
    lost = [(page.name, link) for page, link in links if page.name != "404.html" and not (page.parent / link).exists()]
    assert lost == []


def test_the_reference_has_every_command_setting_and_package(site: Path) -> None:
    commands = (site / "reference/commands.html").read_text(encoding="utf-8")
    for name in ("train", "prepare synth", "transcribe", "align", "evaluate", "score", "compare", "export"):
        assert f"asr {name}" in commands
    assert "asr explain english" in commands
    configuration = (site / "reference/configuration.html").read_text(encoding="utf-8")
    for key in ("model.hidden", "trainer.batch_seconds", "optimizer.momentum", "schedule.patience", "run_dir"):
        assert f"<code>{key}</code>" in configuration
    for package in (ROOT / "asr").glob("*/__init__.py"):
        page = site / f"reference/packages/{package.parent.name}.html"
        assert page.is_file()
        assert f"packages/{package.parent.name}.html" in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["index.html", "reference/configuration.html"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_screen(address: str, browser: Browser, page: str, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900})
    errors: list[str] = []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(f"{address}/{page}", wait_until="networkidle")
    scrolled = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    tab.close()
    assert errors == []
    assert scrolled <= 0
