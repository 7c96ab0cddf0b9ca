"""Draw docs/layers.svg: the packages of asr/ and their imports, read from the code.

    python docs/layers.py

An arrow points from a package to one that it imports. Imports that follow from other arrows are left out (transitive
reduction). tests/test_structure.py fails if the picture no longer matches the code.
"""

import ast
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
BOX_WIDTH, BOX_HEIGHT, COLUMN, LEVEL, MARGIN = 196, 46, 226, 78, 14
INK, PAPER, ACCENT, GREY = "#1b2733", "#f4f7f9", "#0a6e8a", "#5b6770"

Graph = Mapping[str, frozenset[str]]


def package_imports() -> dict[str, frozenset[str]]:
    """Package (or module directly in asr/) -> those it imports, in any function of any module."""
    imports: dict[str, set[str]] = {}
    for path in sorted((ROOT / "asr").rglob("*.py")):
        package = path.relative_to(ROOT / "asr").parts[0].removesuffix(".py")
        if package.startswith("__"):
            continue
        imported = imports.setdefault(package, set())
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] == "asr" and len(parts) > 1 and parts[1] != package:
                imported.add(parts[1])
    return {package: frozenset(imported & imports.keys()) for package, imported in imports.items()}


def imported_modules(path: Path) -> set[str]:
    """Every module imported anywhere in a file, also inside functions; of ``from a import b`` both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def levels(graph: Graph) -> dict[str, int]:
    """The length of the longest chain of imports below each package.

    Raises:
        RecursionError: the imports form a circle.
    """

    def level(package: str) -> int:
        return max((1 + level(imported) for imported in graph[package]), default=0)

    return {package: level(package) for package in graph}


def reduced(graph: Graph) -> dict[str, frozenset[str]]:
    """The graph without the imports that other imports imply."""

    def reachable(package: str) -> frozenset[str]:
        return graph[package].union(*(reachable(imported) for imported in graph[package]))

    return {
        package: imported - frozenset().union(*(reachable(other) for other in imported))
        for package, imported in graph.items()
    }


ROLES = {
    "errors": "exceptions with exit status",
    "config": "the schema of all settings",
    "system": "files, locks, processor, progress",
    "corpus": "audio, phones, manifests, shards",
    "features": "filterbanks, batches",
    "nn": "BLSTM, acoustic model, CTC",
    "decoding": "best path, beam search, n-gram",
    "scoring": "PER, conventions, calibration",
    "inference": "model folder, recognizer, align",
    "training": "the loop, checkpoints",
    "reports": "pages about errors and models",
    "export": "ONNX, foreign weights",
    "serve": "server and page",
    "cluster": "bulk work on Ray",
    "search": "settings, by Optuna",
    "cli": "the asr command",
}
"""What a box says below its name."""


def draw() -> str:
    """The picture as SVG text."""
    graph = package_imports()
    users = {package: frozenset(other for other in graph if package in graph[other]) for package in graph}
    depth = levels(users)  # a package stands right below the lowest one that imports it
    deepest = max(depth.values())
    rows = [sorted(package for package in graph if depth[package] == deepest - number) for number in range(deepest + 1)]
    width = max(map(len, rows)) * COLUMN - (COLUMN - BOX_WIDTH) + 2 * MARGIN
    height = len(rows) * LEVEL - (LEVEL - BOX_HEIGHT) + 2 * MARGIN
    corner: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        left = (width - (len(row) * COLUMN - (COLUMN - BOX_WIDTH))) / 2
        for place, package in enumerate(row):
            corner[package] = (left + place * COLUMN, MARGIN + (len(rows) - 1 - number) * LEVEL)
    arrows = [
        _arrow(corner[package], corner[imported])
        for package, below in sorted(reduced(graph).items())
        for imported in sorted(below)
    ]
    boxes = [_box(package, *corner[package]) for row in rows for package in row]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" role="img"><title>Packages of asr and their imports</title>'
        f'<rect width="{width}" height="{height}" fill="white"/><defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" '
        f'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{GREY}"/></marker></defs>'
    )
    return "\n".join([head, *arrows, *boxes, "</svg>", ""])


def _arrow(above: tuple[float, float], below: tuple[float, float]) -> str:
    x1, y1, x2, y2 = above[0] + BOX_WIDTH / 2, above[1] + BOX_HEIGHT, below[0] + BOX_WIDTH / 2, below[1] - 1
    bend = (y2 - y1) / 2
    curve = f"M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"
    return f'<path d="{curve}" fill="none" stroke="{GREY}" stroke-width="1.3" marker-end="url(#tip)"/>'


def _box(package: str, x: float, y: float) -> str:
    middle = x + BOX_WIDTH / 2
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="{PAPER}" stroke="{ACCENT}"/>'
        f'<text x="{middle:.0f}" y="{y + 19:.0f}" text-anchor="middle" font-size="15" font-weight="bold" fill="{INK}">'
        f"{package}</text>"
        f'<text x="{middle:.0f}" y="{y + 36:.0f}" text-anchor="middle" font-size="11.5" fill="{INK}">'
        f"{ROLES[package]}</text>"
    )


if __name__ == "__main__":
    (ROOT / "docs" / "layers.svg").write_text(draw(), encoding="utf-8")
