"""Makes docs/figures/viewer_*.png: the pages of the viewer in a headless Chromium.

python -m docs.figures.make_viewer_screenshots --network=SNAPSHOT --data=cars.zip [--run=RUNDIR]
"""

import io
import time
from pathlib import Path

import click
import PIL.Image

from eg3d.viewer.app import Options, Viewer
from eg3d.viewer.studio import Studio
from tests.viewer_browser.pages import CHROMIUM, FLAGS, Page

HERE = Path(__file__).parent
SIZE = {"width": 1120, "height": 700}


@click.command()
@click.option("--network", required=True, help="Snapshot of the demo's model.")
@click.option("--data", required=True, help="Its data set.")
@click.option("--run", type=click.Path(path_type=Path), help="Its run directory.")
@click.option("--only", default="", help="Names of the pictures to make, with commas.")
@click.option("--outdir", type=click.Path(path_type=Path), default=HERE)
def main(network, data, run, only, outdir):
    """Write one picture for each tab of the panel."""
    from playwright.sync_api import sync_playwright

    wanted = only.split(",") if only else list(SCENES)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in wanted:
            options = Options((network,), run=run if name == "run" else None, port=0)
            viewer = Viewer(options, Studio("cpu"))
            page = Page(browser.new_page(viewport=SIZE), viewer)
            page.page.set_default_timeout(90000)  # surfaces, without a GPU
            SCENES[name](page, data)
            page.settle()
            # What a browser without a GPU says about itself.
            for close in page.page.locator(".mantine-Notification-closeButton").all():
                close.click()
            time.sleep(1)
            picture = PIL.Image.open(io.BytesIO(page.page.screenshot())).convert("RGB")
            palette = picture.quantize(256)
            dithered = picture.quantize(palette=palette, dither=PIL.Image.Dither.FLOYDSTEINBERG)
            dithered.save(outdir / f"viewer_{name}.png", optimize=True)
            page.page.close()
            viewer.stop()
        browser.close()


def _turn(page, yaw=0.7, pitch=-0.35):
    page.tab("View")
    page.type("Yaw", yaw)
    page.type("Pitch", pitch)
    page.settle()


def _object(page, data):
    page.type("Seed", 3)
    _turn(page)
    page.tab("Object")


def _view(page, data):
    _turn(page, -0.9, -0.4)


def _layers(page, data):
    page.client.change(seed=3)
    _turn(page)
    page.tab("Layers")
    page.row("Output of").click()
    page.page.get_by_role("option", name="superresolution.block1.conv0").first.click()
    page.tick("Show")
    page.tick("Normalize")


def _picture(page, data):
    state = page.client.state
    page.client.load(state.with_(seed=3, view="normals", compare="seed", compare_seed=5))
    _turn(page)
    page.tab("Picture")
    page.page.get_by_text("Side by side", exact=True).click()


def _scene(page, data):
    _turn(page, 0.7, -0.6)
    page.type("Distance", 5.5)
    page.settle()
    page.tab("Scene")
    page.type("Data set", data)
    page.type("How many", 40)
    page.click("show cameras")
    time.sleep(30)


def _surface(page, data):
    _turn(page)
    page.tab("Scene")
    page.type("Resolution", 48)
    page.click("show")
    time.sleep(30)


def _save(page, data):
    for yaw in (-0.6, 0.0, 0.6):
        _turn(page, yaw)
        page.tab("Save")
        page.click("add keyframe")


def _run(page, data):
    _turn(page)
    page.tab("Run")


SCENES = {
    "object": _object,
    "view": _view,
    "picture": _picture,
    "layers": _layers,
    "scene": _scene,
    "surface": _surface,
    "save": _save,
    "run": _run,
}

if __name__ == "__main__":
    main()
