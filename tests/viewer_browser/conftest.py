"""A viewer of a tiny model in this process, and a headless Chromium that opens its page."""

import pytest

from tests.eg3d import conftest as tiny
from tests.viewer_browser.pages import CHROMIUM, FLAGS, SIZE, Page, wait_for

generator = tiny.generator
snapshot = tiny.snapshot


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium with an empty profile."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def viewer(snapshot):
    """A viewer of the tiny model at a free port."""
    from eg3d.viewer.app import Options, Viewer
    from eg3d.viewer.studio import Studio

    viewer = Viewer(Options(networks=(str(snapshot),), port=0), Studio("cpu"))
    yield viewer
    viewer.stop()


@pytest.fixture
def open_page(chromium, viewer):
    """`open_page()` -> another `Page` of the viewer."""
    contexts = []

    def make():
        contexts.append(chromium.new_context(viewport=SIZE))
        return Page(contexts[-1].new_page(), viewer)

    yield make
    for context in contexts:
        context.close()
    wait_for(lambda: not viewer.clients())


@pytest.fixture
def page(open_page):
    """One page."""
    return open_page()
