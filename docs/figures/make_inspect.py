"""Takes the picture of datasets.md: python docs/figures/make_inspect.py cars.zip.

Needs playwright (`pip install playwright`) and a Chromium, by default /usr/bin/chromium.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
FIGURE = ROOT / "docs" / "figures" / "inspect.png"
sys.path.insert(0, str(ROOT))

from dataset_preprocessing.inspection import assess, survey, write_page  # noqa: E402


def main(data: str, chromium: str = "/usr/bin/chromium") -> None:
    """Writes docs/figures/inspect.png of the page of a dataset."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as engine:
        page = Path(folder, "page.html")
        found = survey(data, verbose=True)
        write_page(page, found, *assess(found))
        browser = engine.chromium.launch(executable_path=chromium)
        tab = browser.new_page(viewport=dict(width=1180, height=900))
        tab.goto(page.as_uri())
        tab.screenshot(path=FIGURE, full_page=True)
        browser.close()
    picture = Image.open(FIGURE).convert("RGB").quantize(200, dither=Image.Dither.NONE)
    picture.save(FIGURE, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
