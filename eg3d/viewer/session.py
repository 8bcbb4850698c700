"""One user's session: states come in, pictures go out, the newest state wins.

While states keep coming, pictures are drawn as finely as the goal of frames a second allows; when
they stop, the last one is drawn as finely as it says. No browser is needed.
"""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import torch

from eg3d.errors import InputError
from eg3d.model import Model
from eg3d.viewer import viewpoint
from eg3d.viewer.latest import Latest
from eg3d.viewer.layers import Layer
from eg3d.viewer.painter import FULL, Detail, Painter, Picture
from eg3d.viewer.state import ViewState
from eg3d.viewer.studio import Studio

if TYPE_CHECKING:  # it takes a second to import
    import trimesh

# From fine to coarse; samples go first, they are missed least, and super-resolution last.
LADDER = (FULL, Detail(1, 0.5), Detail(0.75, 0.5), Detail(0.5, 0.5), Detail(0.35, 0.4))
LADDER += (Detail(0.5, 0.5, False), Detail(0.35, 0.4, False), Detail(0.25, 0.3, False))
# Seconds: what a picture may take while the user moves, how long stillness is no movement, and
# after how long what was too slow is tried again.
GOAL = 1 / 20
SETTLED = 0.2
RETRY = 3.0


@dataclass(frozen=True, eq=False)
class Frame:
    """What a session has to show: a picture of a state, or a message why there is none.

    final: drawn as finely as the state says. waited: seconds for the model's lock.
    """

    state: ViewState
    picture: Picture | None = None
    model: Model | None = None
    final: bool = False
    message: str = ""
    failed: bool = False
    waited: float = 0.0


class Pace:
    """Which rung of the ladder keeps to the goal, learned from how long pictures took.

    A rung that was too slow is not tried again for some seconds: else every other picture would be.
    """

    def __init__(self, goal: float = GOAL, clock: Callable[[], float] = time.monotonic):
        self._goal, self._clock = goal, clock
        self._rung = 1
        self._slow: dict[int, float] = {}

    @property
    def detail(self) -> Detail:
        """How finely to draw while the user moves."""
        return LADDER[self._rung]

    def note(self, seconds: float) -> None:
        """Learns from a picture that was drawn in `detail`."""
        now, finer = self._clock(), max(self._rung - 1, 0)
        if seconds > self._goal:
            self._slow[self._rung] = now
            self._rung = min(self._rung + 1, len(LADDER) - 1)
        elif seconds < self._goal / 2 and now - self._slow.get(finer, -RETRY) >= RETRY:
            self._rung = finer


class Session:
    """Draws the states of one user in a thread of its own, which `close` ends."""

    def __init__(self, studio: Studio, deliver: Callable[[Frame], None], settled: float = SETTLED):
        self._studio, self._deliver, self._settled = studio, deliver, settled
        self.painter = Painter()
        self.pace = Pace()
        self._wishes: Latest[ViewState] = Latest()
        self._thread = threading.Thread(target=self._run, name="eg3d-session", daemon=True)
        self._thread.start()

    def show(self, state: ViewState) -> None:
        """Asks for a picture; returns at once. Earlier states that were not drawn yet are not."""
        self._wishes.put(state)

    def close(self, timeout: float = 10.0) -> None:
        """Ends the thread, after the picture that it is drawing."""
        self._wishes.close()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def draw(self, state: ViewState, detail: Detail = FULL) -> Frame:
        """The picture of a state, now, in the caller's thread. Raises what goes wrong."""
        model = self.model(state)
        other = model
        if state.compare == "model":
            other = self._studio.model(state.compare_network, state.weights)
        start = time.perf_counter()
        with self._studio.lock:
            waited = time.perf_counter() - start
            picture = self.painter.paint(model, state, detail)
            if state.compare != "nothing":
                picture = beside(picture, self.painter.paint(other, compared(state), detail))
        return Frame(state, picture, model, detail == FULL, waited=waited)

    def model(self, state: ViewState) -> Model:
        """The model that a state names. Raises InputError."""
        return self._studio.model(state.network, state.weights)

    def surface(self, model: Model, state: ViewState, resolution: int) -> "trimesh.Trimesh":
        """The surface that the state shows, in world units with colours. Raises InputError."""
        with self._studio.lock, torch.inference_mode():
            scene, _ = self.painter.scene(viewpoint.with_lens(model, state), state)
            return scene.mesh(resolution, border=0)

    def layers(self, model: Model, state: ViewState) -> tuple[Layer, ...]:
        """Every layer of the model that gives out pictures."""
        with self._studio.lock, torch.inference_mode():
            return self.painter.all_layers(model, state)

    def _run(self) -> None:
        while (state := self._wishes.take()) is not None:
            if not self._studio.has(state.network, state.weights):
                self._hand_over(Frame(state, message=f"opening {state.network}"))
            frame = self._attempt(state, self.pace.detail)
            if frame.picture is not None:
                self.pace.note(frame.picture.seconds.get("rendering", 0.0))
            self._hand_over(replace(frame, final=frame.failed))
            if self._wishes.wait(self._settled) or frame.failed:
                continue
            self._hand_over(frame if frame.final else self._attempt(state, FULL))

    def _hand_over(self, frame: Frame) -> None:
        try:
            self._deliver(frame)
        except Exception:  # A page that just went away: this thread ends when it is told to.
            traceback.print_exc(file=sys.stderr)

    def _attempt(self, state: ViewState, detail: Detail) -> Frame:
        """What `draw` returns or, instead of an error, a frame that says it."""
        try:
            return self.draw(state, detail)
        except InputError as error:
            message = str(error)
        except Exception as error:  # Whatever happens in one picture, the viewer goes on.
            traceback.print_exc(file=sys.stderr)
            first = (str(error).splitlines() or [""])[0]
            message = f"{type(error).__name__}: {first}"
        return Frame(state, message=message, failed=True, final=True)


def compared(state: ViewState) -> ViewState:
    """The state of the right one of two pictures."""
    if state.compare == "model":
        return state
    if state.compare == "choice":
        return state.with_(chosen=state.compare_chosen)
    return state.with_(seed=state.compare_seed, dx=0.0, dy=0.0, blend=0.0)


def beside(left: Picture, right: Picture) -> Picture:
    """Two pictures side by side, the lower one enlarged; times are those of both together."""
    sides = [left.pixels, right.pixels]
    height = max(len(side) for side in sides)
    both = np.concatenate([_of_height(side, height) for side in sides], axis=1)
    names = [*left.seconds, *(name for name in right.seconds if name not in left.seconds)]
    seconds = {name: left.seconds.get(name, 0) + right.seconds.get(name, 0) for name in names}
    return replace(left, pixels=both, seconds=seconds)


def _of_height(pixels: np.ndarray, height: int) -> np.ndarray:
    if len(pixels) == height:
        return pixels
    width = round(pixels.shape[1] * height / len(pixels))
    return np.asarray(PIL.Image.fromarray(pixels).resize((width, height)))
