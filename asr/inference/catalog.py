"""The models that come with the package, by name."""

from importlib import resources
from pathlib import Path

from asr.errors import InputError

DEFAULT = "speechocean762-small"
"""The one that is used where none is named."""


def available() -> dict[str, Path]:
    """Name -> model folder."""
    folder = Path(str(resources.files("asr").joinpath("data", "models")))
    return {path.name: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def find_model(model: str) -> Path:
    """The folder of a model that is given by its path or its name; a folder of that name comes first.

    Raises:
        InputError: neither.
    """
    path, known = Path(model), available()
    if path.exists() or model not in known:
        if not path.exists() and len(path.parts) == 1:
            raise InputError(f"{model}: no such model, expected a model folder or one of {', '.join(known) or 'none'}")
        return path
    return known[model]


def shown(path: Path) -> str:
    """A model folder as it is named to people: by its name, where it comes with the package."""
    return next((name for name, folder in available().items() if folder == path), str(path))


def summary(path: Path) -> str:
    """The first paragraph of a model's card, on one line."""
    paragraphs = (path / "README.md").read_text(encoding="utf-8").split("\n\n")
    return " ".join(next((one for one in paragraphs if not one.startswith("#")), "").split())
