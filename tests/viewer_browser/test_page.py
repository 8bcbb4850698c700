"""The viewer as a browser shows it: pictures, mouse, messages, several browsers, many changes."""

import threading
import time

import numpy as np
import pytest

from eg3d.viewer import viewpoint
from tests.viewer_browser.pages import wait_for

pytestmark = pytest.mark.browser


def expected(page):
    """The picture that should be on the canvas, where `Page.pixels` looks."""
    client = page.client
    frame = client.session.draw(client.state)
    width, height = page.canvas
    framed = viewpoint.letterbox(viewpoint.enlarged(frame.picture.pixels, height), page.canvas)
    y, x = framed.shape[0] // 2, framed.shape[1] // 2
    return framed[y - 100 : y + 100, x - 100 : x + 100].astype(float)


def test_the_picture_of_the_state_is_on_the_screen(page):
    page.settle()
    assert np.abs(page.pixels() - expected(page)).mean() < 6
    assert page.pixels().std() > 10  # it is no plain colour


def test_dragging_turns_the_object(page):
    page.settle()
    before, camera = page.pixels(), page.client.state.camera
    page.drag(120)
    wait_for(lambda: page.client.state.camera != camera)
    page.settle()
    model = page.client.model
    yaw, pitch, distance = viewpoint.angles(viewpoint.camera(model, page.client.state))
    assert yaw < -0.2 and abs(pitch) < 0.05 and abs(distance - model.radius) < 0.2
    assert np.abs(page.pixels() - before).mean() > 3
    assert np.abs(page.pixels() - expected(page)).mean() < 6


def test_two_browsers_have_two_cameras(open_page):
    first, second = open_page(), open_page()
    first.settle()
    still = second.client.state
    first.drag(100)
    first.settle()
    second.settle()
    assert second.client.state == still != first.client.state
    assert np.abs(first.pixels() - expected(first)).mean() < 6
    assert np.abs(second.pixels() - expected(second)).mean() < 6


def test_many_changes_end_with_the_last_one_and_leave_nothing_queued(page):
    page.settle()
    buffer = page.client.handle._websock_connection.get_message_buffer()
    longest = 0
    for number in range(200):
        page.client.change(seed=number, psi=1.0)
        longest = max(longest, len(buffer.message_from_id))
        time.sleep(0.005)
    page.settle()
    assert page.client.frame.state.seed == 199
    assert np.abs(page.pixels() - expected(page)).mean() < 6
    assert longest < 20 and len(buffer.message_from_id) < 5


def test_a_broken_file_says_so_and_the_picture_stays(page, tmp_path):
    page.settle()
    good = page.client.state.network
    broken = tmp_path / "broken.pkl"
    broken.write_bytes(b"\x80\x04broken")
    page.type("Path", broken)
    page.click("Open")
    message = page.page.get_by_text("broken.pkl").first
    message.wait_for(timeout=10000)
    wait_for(lambda: page.client.state.network == good)
    page.drag(60)
    page.settle()
    assert np.abs(page.pixels() - expected(page)).mean() < 6


def test_a_crash_in_drawing_says_so_and_the_page_goes_on(page, monkeypatch, capsys):
    page.settle()

    def crash(*_):
        raise RuntimeError("out of order")

    with monkeypatch.context() as patch:
        patch.setattr(page.client.session.painter, "paint", crash)
        page.client.change(seed=5)
        page.page.get_by_text("RuntimeError: out of order").wait_for(timeout=10000)
    page.client.change(seed=6)
    page.settle()
    assert np.abs(page.pixels() - expected(page)).mean() < 6


def test_browsers_that_leave_take_their_threads_along(open_page, chromium, viewer):
    open_page().settle()
    before = threading.active_count()
    for _ in range(3):
        contexts = [chromium.new_context() for _ in range(10)]
        count = len(viewer.clients())
        for context in contexts:
            context.new_page().goto(f"http://localhost:{viewer.port}", wait_until="commit")
        wait_for(lambda: len(viewer.clients()) == count + 10, 60)  # noqa: B023
        for context in contexts:
            context.close()
        wait_for(lambda: len(viewer.clients()) == count, 60)  # noqa: B023
    wait_for(lambda: threading.active_count() <= before)
