"""Take screenshots of reports for the documentation with headless Chromium (Debian: chromium; pip: playwright, pillow).

    python docs/pictures.py EXPLAINED/index.html REPORT/index.html docs

The first report comes from `asr explain`, the second from `asr evaluate --report`.
"""

import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

COLOURS = 128
SIZE = {"width": 960, "height": 900}


def main(explained: Path, report: Path, out: Path) -> None:
    """Write heard.png, layer.png, listens.png and report.png, each with a palette of `COLOURS` colours."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        page.goto(explained.resolve().as_uri())
        sections = page.locator("section")
        layer = sections.filter(has=page.locator("h2", has_text="Layer")).nth(2)
        for name, section in (("heard", sections.first), ("layer", layer), ("listens", sections.last)):
            section.screenshot(path=out / f"{name}.png")
        page.goto(report.resolve().as_uri())
        page.screenshot(path=out / "report.png", full_page=True, clip={"x": 0, "y": 0, "width": 960, "height": 1000})
        browser.close()
    for name in ("heard", "layer", "listens", "report"):
        path = out / f"{name}.png"
        Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
