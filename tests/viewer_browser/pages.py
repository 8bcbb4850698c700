"""Pages of the viewer in a headless Chromium, as its user sees and handles them."""

import io
import time

import numpy as np
import PIL.Image

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
FLAGS += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a GPU
SIZE = {"width": 1200, "height": 800}


def wait_for(condition, seconds=20):
    """Returns when `condition()` is true; fails when it is not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


class Page:
    """A page of the viewer and the client behind it."""

    def __init__(self, page, viewer):
        self.page, self._viewer = page, viewer
        page.set_default_timeout(10000)
        known = set(viewer.clients())
        page.goto(f"http://localhost:{viewer.port}")
        wait_for(lambda: set(viewer.clients()) - known)
        (self.client,) = (c for i, c in viewer.clients().items() if i not in known)
        wait_for(lambda: self.client.frame is not None and self.client.frame.final)

    def settle(self):
        """Waits until the picture of the present state, at full quality, is on the screen."""
        client = self.client
        wait_for(lambda: client.frame.final and client.frame.state == client.state)
        count = len(client.arrivals)
        end = time.monotonic() + 3
        while time.monotonic() < end and client.arrivals and len(client.arrivals) == count:
            time.sleep(0.05)
        time.sleep(0.5)  # the browser decodes

    @property
    def canvas(self):
        """Width and height of the canvas in the page's pixels; the client's may be scaled."""
        box = self.page.locator("canvas[data-engine]").first.bounding_box()
        return round(box["width"]), round(box["height"])

    def pixels(self):
        """What the canvas shows, [H, W, 3] float: the middle of it, where no messages are."""
        shot = self.page.screenshot()
        picture = np.asarray(PIL.Image.open(io.BytesIO(shot)).convert("RGB"), dtype=float)
        width, height = self.canvas
        x, y = width // 2, height // 2
        return picture[y - 100 : y + 100, x - 100 : x + 100]

    def drag(self, dx, dy=0, steps=8):
        """Drags the mouse over the picture."""
        width, height = self.canvas
        mouse = self.page.mouse
        mouse.move(width / 2, height / 2)
        mouse.down()
        mouse.move(width / 2 + dx, height / 2 + dy, steps=steps)
        mouse.up()

    def tab(self, name):
        """Opens a tab of the panel."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def row(self, label, nth=0):
        """The input beside a label."""
        text = self.page.get_by_text(label, exact=True).locator("visible=true").nth(nth)
        shown = "input[not(@type='hidden')]"
        return text.locator(f"xpath=ancestor::*[.//{shown}][1]//{shown}").first

    def type(self, label, value, nth=0):
        """Types into the input beside a label."""
        box = self.row(label, nth)
        box.fill(str(value))
        box.press("Enter")
        box.blur()

    def choose(self, label, option):
        """Chooses from the list beside a label."""
        self.row(label).click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def tick(self, label):
        """Ticks the box beside a label, or unticks it."""
        self.row(label).evaluate("box => box.click()")

    def upload(self, button, name, content):
        """Gives a file to an upload button."""
        with self.page.expect_file_chooser() as chooser:
            self.click(button)
        chooser.value.set_files({"name": name, "mimeType": "", "buffer": content})

    def click(self, name, nth=0):
        """Presses a button."""
        self.page.get_by_role("button", name=name, exact=True).locator("visible=true").nth(
            nth
        ).click()
