"""Copy a trained model into the package, its weights in float16, and write its card from its evaluations.

    python recipes/package.py runs/english english recipes/english/card.md

The arguments are the run folder of a recipe, the name of the bundled model, which `asr models` lists and every command
accepts, and the card: a template with {name}, {parameters}, {megabytes} and {results}.
"""

import hashlib
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

from asr.errors import InputError
from asr.inference.bundle import load_bundle
from asr.inference.catalog import bundled_models
from asr.scoring.results import headline, read_json

MAX_BYTES = 25_000_000
"""All bundled models must fit into a wheel of 30 MB."""
MODELS = Path(__file__).parents[1] / "asr" / "data" / "models"


def main(run: Path, name: str, card: Path) -> None:
    """Copy the model to the package and write its card."""
    source, target = run / "model", MODELS / name
    results = [
        f"| {path.stem.replace('_', ' ')} | {headline(read_json(path).headline)} |"
        for path in sorted(run.glob("*_*.json"))
    ]
    if not results:
        raise InputError(f"{run}: no evaluations, expected those of the recipe's last stage")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    halve(target, "model.safetensors")
    size = sum(path.stat().st_size for path in target.iterdir())
    if size > MAX_BYTES:
        shutil.rmtree(target)
        raise InputError(f"{source}: {size:,} bytes, expected at most {MAX_BYTES:,}")
    text = card.read_text(encoding="utf-8")
    parameters = sum(parameter.numel() for parameter in load_bundle(target).model.parameters())
    values = {"name": name, "parameters": f"{parameters:,}", "megabytes": f"{size / 1e6:.1f}"}
    (target / "README.md").write_text(text.format(**values, results="\n".join(results)), encoding="utf-8")
    print(f"{target}: {size / 1e6:.1f} MB; models: {', '.join(bundled_models())}")


def halve(folder: Path, name: str) -> None:
    """Store the weights of a file in float16, and correct its checksum."""
    save_file({key: tensor.half() for key, tensor in load_file(folder / name).items()}, folder / name)
    digest, path = hashlib.sha256((folder / name).read_bytes()).hexdigest(), folder / "checksums.txt"
    lines = [f"{digest}  {name}" if line.endswith(f"  {name}") else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
