"""The bundled models, which ship with the package, by name."""

from importlib import resources
from pathlib import Path

from asr.errors import InputError

DEFAULT_MODEL = "english"
"""The model that `asr transcribe` uses if none is named."""


def bundled_models() -> dict[str, Path]:
    """The model folder of each name."""
    folder = Path(str(resources.files("asr").joinpath("data", "models")))
    return {path.name: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def find_model(model: str) -> Path:
    """Find a model folder by path or name. A folder takes precedence over a bundled model of the same name.

    Raises:
        InputError: neither a folder nor a bundled model.
    """
    path, bundled = Path(model), bundled_models()
    if path.exists() or model not in bundled:
        if not path.exists() and len(path.parts) == 1:
            names = ", ".join(bundled) or "none"
            raise InputError(f"{model}: no such model, expected a model folder or one of {names}")
        return path
    return bundled[model]


def refuse_bundled(model: Path) -> None:
    """Raise InputError if a command would change a model that ships with the package."""
    if model.resolve() in {path.resolve() for path in bundled_models().values()}:
        raise InputError(f"{model}: ships with the package, expected a model of your own, such as a copy of it")


def display_name(path: Path) -> str:
    """The name of a bundled model, or else the path of the model folder."""
    return next((name for name, folder in bundled_models().items() if folder == path), str(path))


def card_summary(path: Path) -> str:
    """The first paragraph of a model's card, on one line."""
    paragraphs = (path / "README.md").read_text(encoding="utf-8").split("\n\n")
    return " ".join(next((text for text in paragraphs if not text.startswith("#")), "").split())
