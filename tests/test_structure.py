"""The layout: imports point to earlier packages, front doors name what others use, modules and functions stay readable."""

import ast
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = [
    "errors",
    "system",
    "config",
    "corpus",
    "features",
    "nn",
    "decoding",
    "scoring",
    "inference",
    "training",
    "export",
    "reports",
    "serve",
    "cluster",
    "search",
    "cli",
]
"""In the order of the pipeline. A package imports from those before it."""

MODULES = sorted(path for path in (ROOT / "asr").rglob("*.py") if path.stem != "__init__")
ALL_MODULES = [*MODULES, *sorted((ROOT / "data_prep").glob("*.py"))]
FOLDERS = sorted(path.parent for path in (ROOT / "asr").glob("*/__init__.py"))


def load_layers() -> ModuleType:
    spec = util.spec_from_file_location("layers", ROOT / "docs" / "layers.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


layers = load_layers()


def package_of(path: Path) -> str:
    return path.relative_to(ROOT / "asr").parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    """The module's name inside asr, with dots."""
    return ".".join(path.relative_to(ROOT / "asr").with_suffix("").parts)


NAMES = {name_of(path) for path in MODULES}


def public_modules(folder: Path) -> list[str]:
    """What a package's front door names."""
    for node in ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def test_the_top_holds_packages_and_four_modules() -> None:
    assert {path.name for path in (ROOT / "asr").glob("*.py")} == {
        "__init__.py",
        "__main__.py",
        "config.py",
        "errors.py",
    }
    assert sorted(PACKAGES) == sorted([*(folder.name for folder in FOLDERS), "config", "errors"])
    assert not {name.split(".")[-1] for name in NAMES if "." in name} & {folder.name for folder in FOLDERS} - {
        "features",
        "scoring",
    }


def test_packages_import_earlier_ones() -> None:
    for package, imported in layers.package_imports().items():
        late = [other for other in imported if PACKAGES.index(other) >= PACKAGES.index(package)]
        assert not late, f"{package} imports {late}"


def test_modules_of_a_package_do_not_import_each_other_in_a_circle() -> None:
    graph = {
        name_of(path): frozenset(
            module.removeprefix("asr.")
            for module in layers.imported_modules(path)
            if module.startswith("asr.") and module.removeprefix("asr.") in NAMES
        )
        for path in MODULES
    }
    assert max(layers.levels(graph).values()) > 10


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_package_has_a_front_door(folder: Path) -> None:
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    lines = (ast.get_docstring(tree) or "").splitlines()
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert 6 <= len(lines) <= 12 + len(modules)
    assert "In: " in "\n".join(lines)
    assert "Out:" in "\n".join(lines)
    assert "Start with" in "\n".join(lines)
    named = {word.strip(",") for line in lines if line.startswith("    ") for word in line.split()}
    assert modules <= named, f"not described: {modules - named}"
    assert set(public_modules(folder)) <= modules
    assert not layers.imported_modules(folder / "__init__.py"), "start-up: a front door imports nothing"


@pytest.mark.parametrize("path", ALL_MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_packages_use_what_front_doors_name(path: Path) -> None:
    own = package_of(path) if path.is_relative_to(ROOT / "asr") else "data_prep"
    public = {f"{folder.name}.{name}" for folder in FOLDERS for name in public_modules(folder)} | {"config", "errors"}
    used = {
        module.removeprefix("asr.") for module in layers.imported_modules(path) if module.startswith("asr.")
    } & NAMES
    assert {name for name in used if name.split(".")[0] != own} <= public


def test_the_picture_of_the_layers_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "layers.svg").read_text(encoding="utf-8") == layers.draw(), "run: python docs/layers.py"
    assert "docs/layers.svg" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_some_libraries_have_one_place(path: Path) -> None:
    corpora = {"cli.prepare", "cli.layouts", "cli.alignment", "cli.pronunciation"}
    places = {"hydra": {"cli.compose"}, "data_prep": corpora, "pickle": {"training.checkpoint_files"}}
    for module in layers.imported_modules(path):
        assert name_of(path) in places.get(module.split(".")[0], {name_of(path)}), f"{name_of(path)} imports {module}"


def test_data_preparation_imports_only_what_manifests_need() -> None:
    for path in (ROOT / "data_prep").glob("*.py"):
        used = {module.removeprefix("asr.") for module in layers.imported_modules(path)} & NAMES
        allowed = {
            "errors",
            "system.files",
            "system.lock",
            "system.progress",
            "system.signals",
            "decoding.g2p",
            *(f"corpus.{name}" for name in public_modules(ROOT / "asr" / "corpus")),
        }
        assert used <= allowed, path


@pytest.mark.parametrize("path", ALL_MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_modules_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 45, f"{node.name} has {length} lines"
