"""Something that goes on by itself while a box is ticked."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eg3d.viewer.client import Client

_STEP = 1 / 20  # seconds


class Animation:
    """A box; while it is ticked, `step(seconds)` is called with the time since the last call."""

    def __init__(self, client: "Client", label: str, step: Callable[[float], None], hint: str):
        self._client, self._step = client, step
        self._thread: threading.Thread | None = None
        self._box = client.handle.gui.add_checkbox(label, False, hint=hint)
        self._box.on_update(self._ticked)

    async def _ticked(self, _: object) -> None:
        going = self._thread is not None and self._thread.is_alive()
        if self._box.value and not going:
            self._thread = threading.Thread(target=self._run, name="eg3d-animation", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        before = time.monotonic()
        while self._box.value and not self._client.closed.wait(_STEP):
            now = time.monotonic()
            taken, before = now - before, now
            self._client.attempt(lambda: self._step(taken))  # noqa: B023
