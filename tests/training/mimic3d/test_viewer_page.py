"""The page of a viewer lists the branches, and shows one or two of them."""

import numpy as np
import pytest

from tests.viewer_browser import conftest as browser
from tests.viewer_browser.pages import wait_for
from training.snapshots import save_snapshot

pytestmark = pytest.mark.browser

chromium, viewer = browser.chromium, browser.viewer
open_page, page = browser.open_page, browser.page


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    from tests.training.mimic3d.conftest import random_generator

    path = tmp_path_factory.mktemp("network") / "network-snapshot-000000.pkl"
    G = random_generator()
    save_snapshot(path, {}, G=G, D=None, G_ema=G)
    return path


def became(page, **settings):
    wait_for(lambda: all(getattr(page.client.state, k) == v for k, v in settings.items()), 10)
    page.settle()


def test_branches(page):
    page.settle()
    page.tab("Picture")
    before = page.client.frame.picture.pixels
    page.choose("Branch", "3d")
    became(page, chosen=(("branch", "3d"),))
    after = page.client.frame.picture.pixels
    assert after.shape == before.shape and not np.array_equal(before, after)
    page.choose("Branch beside it", "2d")
    became(page, compare="choice", compare_chosen=(("branch", "2d"),))
    both = page.client.frame.picture.pixels
    assert np.array_equal(both[:, :128], after) and np.array_equal(both[:, 128:], before)
    page.choose("Branch beside it", "nothing")
    became(page, compare="nothing")
