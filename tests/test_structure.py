"""The layout: imports point backward, modules and functions stay readable, nothing unsafe is imported."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    {
        "errors",
        "models",
        "system.compiling",
        "system.files",
        "system.plain_yaml",
        "system.process",
        "system.processor",
        "system.progress",
        "system.signals",
    },
    {"system.lock"},
    {"config", "phones", "audio"},
    {"mel"},
    {"manifest", "features", "decoding.lexicon", "output.notation"},
    {"output.formats"},
    {"augment"},
    {"dataset"},
    {"rows"},
    {"directions", "lstm_matmul"},
    {"lstm"},
    {"model"},
    {"ctc"},
    {"lm"},
    {"decode"},
    {"scoring.edits"},
    {"score"},
    {"scoring.results"},
    {"scoring.transcripts", "scoring.compare", "scoring.confidence", "pages.breakdown"},
    {"pages.figures"},
    {"report"},
    {"pages.runs"},
    {"bundle"},
    {"exchange.graph"},
    {"exchange.front_end", "exchange.network"},
    {"exchange.onnx", "exchange.state_dict"},
    {"aligner"},
    {"training.optim", "training.checkpoint", "training.aligner", "training.several"},
    {"windows"},
    {"recognizer"},
    {"evaluate", "transcribe"},
    {"output.batch"},
    {"decoding.tune", "decoding.words", "pages.examine", "pages.listening"},
    {"pages.explain", "training.teachers"},
    {"training.run"},
    {"training.card", "training.finite", "training.objective"},
    {"train"},
    {"compose"},
    {"commands.options"},
    {"commands.prepare", "commands.scoring", "commands.transcribe", "commands.models"},
    {"cli"},
    {"__main__"},
]
"""From left to right; a module may import from its own set and those before it."""

MODULES = sorted(path for path in (ROOT / "asr").rglob("*.py") if path.stem != "__init__")
ALL_MODULES = [*MODULES, *sorted((ROOT / "data_prep").glob("*.py"))]


def imports(path: Path) -> set[str]:
    """Every module imported anywhere in a file, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name_of(path: Path) -> str:
    """The module's name inside the package, with dots."""
    return ".".join(path.relative_to(ROOT / "asr").with_suffix("").parts)


NAMES = {name_of(path) for path in MODULES}


def rank(name: str) -> int:
    return next(index for index, names in enumerate(ORDER) if name in names)


def test_every_module_has_a_place() -> None:
    assert set().union(*ORDER) == NAMES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_backward(path: Path) -> None:
    for module in imports(path):
        if module.removeprefix("asr.") in NAMES:
            assert rank(module.removeprefix("asr.")) <= rank(name_of(path)), f"{name_of(path)} imports {module}"
        if module.split(".")[0] == "hydra":
            assert name_of(path) == "compose"
        if module.split(".")[0] == "data_prep":
            assert name_of(path) == "commands.prepare"
        assert module.split(".")[0] not in ("pickle",) or name_of(path) == "training.checkpoint"


def test_data_preparation_imports_only_what_manifests_need() -> None:
    for path in (ROOT / "data_prep").glob("*.py"):
        used = {module.removeprefix("asr.") for module in imports(path)} & NAMES
        assert used <= {"errors", "phones", "audio", "manifest", "decoding.lexicon", "system.progress"}, path


@pytest.mark.parametrize("path", ALL_MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_modules_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 45, f"{node.name} has {length} lines"
