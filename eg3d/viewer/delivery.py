"""Frames on their way to a browser: the newest only, one at a time, as large as the way carries."""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import PIL.Image

from eg3d.viewer.latest import Latest
from eg3d.viewer.session import Frame


class Encoding(NamedTuple):
    """JPEG quality of a frame, and the largest height of its picture."""

    quality: int
    height: int


# From good to small. Below 320 rows text would be unreadable, but a moving object is not.
LADDER = (Encoding(85, 512), Encoding(70, 512), Encoding(60, 384), Encoding(45, 320))
LADDER += (Encoding(30, 256),)
FINAL = Encoding(92, 1024)
# Seconds from sending a frame until the browser has it: too long, and good enough for more.
SLOW, FAST = 0.12, 0.06


class Bandwidth:
    """Which encoding the way to the browser carries, learned from how long frames took."""

    def __init__(self):
        self._rung = 0

    @property
    def encoding(self) -> Encoding:
        """How to encode frames while the user moves."""
        return LADDER[self._rung]

    def note(self, seconds: float) -> None:
        """Learns from the time that a frame in this encoding took to arrive."""
        if seconds > SLOW:
            self._rung = min(self._rung + 1, len(LADDER) - 1)
        elif seconds < FAST:
            self._rung = max(self._rung - 1, 0)


class Delivery:
    """Sends frames in a thread of its own, which `close` ends.

    send(frame, encoding) queues a frame for the browser, and `arrived()` returns when the browser
    has all that was sent: so no more than one frame is ever on its way, and the next one is the
    newest there is by then.
    """

    def __init__(self, send: Callable[[Frame, Encoding], None], arrived: Callable[[], None]):
        self._send, self._arrived = send, arrived
        self._bandwidth = Bandwidth()
        self._frames: Latest[Frame] = Latest()
        self._thread = threading.Thread(target=self._run, name="eg3d-delivery", daemon=True)
        self._thread.start()

    @property
    def encoding(self) -> Encoding:
        """How frames are encoded at present while the user moves."""
        return self._bandwidth.encoding

    def put(self, frame: Frame) -> None:
        """Sends a frame as soon as the one before has arrived; returns at once."""
        self._frames.put(frame)

    def close(self, timeout: float = 10.0) -> None:
        """Ends the thread."""
        self._frames.close()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        while (frame := self._frames.take()) is not None:
            start = time.perf_counter()
            try:
                self._send(frame, FINAL if frame.final else self._bandwidth.encoding)
                self._arrived()
            except Exception:  # A browser that went away; whoever closes us knows.
                traceback.print_exc(file=sys.stderr)
            taken = time.perf_counter() - start
            if not frame.final:
                self._bandwidth.note(taken)
            self._frames.pause(1 / frame.state.most_fps - taken)


def shrunk(pixels: np.ndarray, height: int) -> np.ndarray:
    """A picture [H, W, 3], made smaller if it is higher than that."""
    if len(pixels) <= height:
        return pixels
    width = round(pixels.shape[1] * height / len(pixels))
    return np.asarray(PIL.Image.fromarray(pixels).resize((width, height)))
