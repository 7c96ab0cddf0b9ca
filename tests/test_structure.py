"""The layout: imports point backward, modules and functions stay readable, nothing unsafe is imported."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    {"errors", "files", "process", "progress"},
    {"config", "phones", "audio"},
    {"manifest", "features", "lexicon"},
    {"augment"},
    {"dataset"},
    {"rows"},
    {"lstm"},
    {"model"},
    {"ctc"},
    {"lm"},
    {"decode"},
    {"edits"},
    {"score"},
    {"results"},
    {"transcripts", "compare", "confidence", "breakdown"},
    {"figures"},
    {"report"},
    {"report_runs"},
    {"bundle"},
    {"optim", "checkpoint"},
    {"evaluate", "transcribe"},
    {"tune", "examine", "words"},
    {"run"},
    {"train"},
    {"compose"},
    {"cli_options"},
    {"cli_prepare", "cli_scoring"},
    {"cli"},
    {"__main__"},
]
"""From left to right; a module may import from its own set and those before it."""

MODULES = sorted((ROOT / "asr").glob("*.py"))
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


def rank(name: str) -> int:
    return next(index for index, names in enumerate(ORDER) if name in names)


def test_every_module_has_a_place() -> None:
    assert {path.stem for path in MODULES} - {"__init__"} == set().union(*ORDER)


@pytest.mark.parametrize("path", [path for path in MODULES if path.stem != "__init__"], ids=lambda path: path.stem)
def test_imports_point_backward(path: Path) -> None:
    for module in imports(path):
        if module.startswith("asr.") and (ROOT / "asr" / f"{module.split('.')[1]}.py").exists():
            assert rank(module.split(".")[1]) <= rank(path.stem), f"{path.stem} imports {module}"
        if module.split(".")[0] == "hydra":
            assert path.stem == "compose"
        if module.split(".")[0] == "data_prep":
            assert path.stem == "cli_prepare"
        assert module.split(".")[0] not in ("pickle",) or path.stem == "checkpoint"


def test_data_preparation_imports_only_what_manifests_need() -> None:
    for path in (ROOT / "data_prep").glob("*.py"):
        used = {module.split(".")[1] for module in imports(path) if module.startswith("asr.")}
        assert used <= {"errors", "phones", "audio", "manifest", "lexicon", "progress"}, path


@pytest.mark.parametrize("path", ALL_MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_modules_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 45, f"{node.name} has {length} lines"
