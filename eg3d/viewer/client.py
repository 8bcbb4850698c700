"""One browser: its state, its camera, its panels, and the frames that it gets."""

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import viser
from scipy.spatial.transform import Rotation

from eg3d.errors import InputError
from eg3d.model import Model
from eg3d.viewer import guard, panels, viewpoint
from eg3d.viewer.controls import Controls
from eg3d.viewer.delivery import Delivery, Encoding, shrunk
from eg3d.viewer.jobs import Jobs
from eg3d.viewer.session import Frame, Session
from eg3d.viewer.state import ViewState
from eg3d.views import UP
from training.cameras import Camera

if TYPE_CHECKING:
    from eg3d.viewer.app import Viewer

# Smaller pictures are enlarged before they are sent, still ones more carefully.
_MOVING_HEIGHT, _STILL_HEIGHT = 256, 512
_ARRIVES_WITHIN = 2.0  # seconds; a tab in the background says nothing
_NEAREST = 0.1  # of the point that the camera turns around


class Client:
    """What a browser sees and does. Its threads end with `close`."""

    def __init__(self, viewer: "Viewer", handle: viser.ClientHandle):
        self.viewer, self.handle = viewer, handle
        self.state = viewer.first_state()
        self.model: Model | None = None
        self.frame: Frame | None = None
        self.arrivals: deque[float] = deque(maxlen=60)
        self.closed = threading.Event()
        self._changing = threading.RLock()
        self._opening: viser.NotificationHandle | None = None
        self._failed = ""
        self._placed = False
        self._good_network = ""
        self.controls = Controls(handle.gui, self)
        self.jobs = Jobs(self.notify)
        self.delivery = Delivery(self._send, self._arrived)
        self.session = Session(viewer.studio, self._deliver)
        guard.bound_uploads(handle, viewer.most_upload_bytes, self._refuse)
        self.panels = panels.build(self)
        handle.camera.on_update(self._camera_moved)
        self.redraw()

    def close(self) -> None:
        """Ends everything that runs for this browser; waits for nothing."""
        self.closed.set()
        self.jobs.close()
        self.session.close(timeout=0)
        self.delivery.close(timeout=0)

    # -- The state ---------------------------------------------------------------------------------

    def change(self, **settings: Any) -> None:
        """Changes settings and draws. Raises InputError."""
        with self._changing:
            state = self.state.with_(**settings)
            if state == self.state:
                return
            lens = state.fov != self.state.fov or state.compare != self.state.compare
            self.state = state
        if lens:
            self._fit_lens()
        self.redraw()

    def load(self, state: ViewState) -> None:
        """Takes over a whole state, camera and controls included."""
        self.change(**{name: getattr(state, name) for name in state.__dataclass_fields__})
        self.controls.show(self.state)
        for panel in self.panels:
            panel.loaded()
        if self.model is not None:
            self.look_from(viewpoint.camera(self.model, self.state))

    def new_snapshot(self, path: str) -> None:
        """Shows a snapshot of the training that is followed, if this browser follows it."""
        for panel in self.panels:
            panel.trained()
        if self.state.follow:
            self.change(network=path)

    def need_model(self) -> Model:
        """The model that is shown. Raises InputError where there is none yet."""
        if self.model is None:
            raise InputError("there is no model yet: open one first")
        return self.model

    def redraw(self) -> None:
        """Asks for a picture of the state."""
        if self.state.network:
            self.session.show(self.state)

    def attempt(self, action: Callable[[], None]) -> None:
        """Does something, or tells the user what is wrong."""
        try:
            action()
        except InputError as error:
            self.notify("That does not work", str(error), "red")
        except Exception as error:  # The page goes on, whatever happens behind it.
            traceback.print_exc(file=sys.stderr)
            self.notify("Something went wrong", f"{type(error).__name__}: {error}", "red")

    # -- The camera --------------------------------------------------------------------------------

    @property
    def canvas(self) -> tuple[int, int]:
        """Width and height in pixels of what the picture is shown on."""
        camera = self.handle.camera
        return max(camera.image_width, 1), max(camera.image_height, 1)

    def look_from(self, camera: Camera) -> None:
        """Moves the browser's camera, N = 1; it turns around what it sees in the middle."""
        pose = camera.cam2world[0].double().cpu().numpy()
        position, down, forward = pose[:3, 3], pose[:3, 1], pose[:3, 2]
        up = np.array(UP[self.state.up])
        if abs(up @ pose[:3, 0]) > 1e-3:
            up = -down
        target = np.array(viewpoint.target(self.model, self.state))
        ahead = max((target - position) @ forward, _NEAREST)
        with self.handle.atomic():
            self.handle.camera.position = position
            self.handle.camera.look_at = position + ahead * forward
            self.handle.camera.up_direction = up
        self.change(camera=tuple(pose.flatten().tolist()))

    async def _camera_moved(self, camera: viser.CameraHandle) -> None:
        self._fit_lens()
        if not self._placed:
            return self.redraw()
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_quat(np.roll(camera.wxyz, -1)).as_matrix()
        pose[:3, 3] = camera.position
        before = self.state
        self.attempt(lambda: self.change(camera=tuple(pose.flatten().tolist())))
        if before is self.state:  # The canvas may have other proportions.
            self.redraw()

    def _fit_lens(self) -> None:
        """Gives the browser's camera the lens of the picture, so that what lies in it fits."""
        if self.model is not None:
            model = viewpoint.with_lens(self.model, self.state)
            aspect = 1.0 if self.state.compare == "nothing" else 2.0
            self.handle.camera.fov = viewpoint.vertical_fov(model, self.canvas, aspect)

    # -- Frames ------------------------------------------------------------------------------------

    def _deliver(self, frame: Frame) -> None:
        """Gets what the session has drawn, in the session's thread."""
        if self.closed.is_set():
            return None
        if self._opening is not None:
            self._opening.remove()
            self._opening = None
        if frame.failed:
            return self._tell_failure(frame)
        if frame.picture is None:
            self._opening = self.handle.add_notification("One moment", frame.message, loading=True)
            return None
        self._failed, self._good_network = "", frame.state.network
        self.frame = frame
        if frame.model is not self.model:
            self._opened(frame.model)
        self.delivery.put(frame)
        for panel in self.panels:
            panel.shown(frame)

    def _opened(self, model: Model) -> None:
        first, self.model = self.model is None, model
        self.viewer.set_home(model)
        self._fit_lens()
        for panel in self.panels:
            panel.opened(model)
        if first:
            self.look_from(viewpoint.camera(model, self.state))
            self._placed = True
        elif not 0.5 < self._distance() / model.radius < 1.5:
            self.look_from(viewpoint.camera(model, self.state.with_(camera=None)))

    def _distance(self) -> float:
        return float(np.linalg.norm(np.array(self.state.camera or [0] * 16)[[3, 7, 11]]))

    def _tell_failure(self, frame: Frame) -> None:
        if frame.message != self._failed:
            self._failed = frame.message
            self.notify("No picture", frame.message, "red")
        if frame.state.network != self._good_network and self.state.network == frame.state.network:
            with self._changing:
                self.state = self.state.with_(network=self._good_network)
            for panel in self.panels:
                panel.failed()

    def _send(self, frame: Frame, encoding: Encoding) -> None:
        if self.closed.is_set():
            return
        pixels = shrunk(frame.picture.pixels, encoding.height)
        least = _STILL_HEIGHT if frame.final else _MOVING_HEIGHT
        pixels = viewpoint.letterbox(viewpoint.enlarged(pixels, least), self.canvas)
        self.handle.scene.set_background_image(pixels, format="jpeg", jpeg_quality=encoding.quality)
        self.handle.flush()

    def _arrived(self) -> None:
        """Returns when the browser has answered a question that was sent after the frame."""
        try:
            self.handle.local_storage.get_item("eg3d", timeout=_ARRIVES_WITHIN)
        except (RuntimeError, TimeoutError):
            pass
        self.arrivals.append(time.monotonic())

    # -- The page ----------------------------------------------------------------------------------

    def notify(self, title: str, text: str, color: str | None = None) -> None:
        """Shows a message in the page; red ones stay until they are closed."""
        seconds = None if color == "red" else 6.0
        self.handle.add_notification(title, text, color=color, auto_close_seconds=seconds)

    def download(self, name: str, content: bytes) -> None:
        """Gives the user a file, and keeps one in the folder for captures if there is one."""
        self.viewer.keep_capture(name, content)
        self.handle.send_file_download(name, content, save_immediately=True)

    def _refuse(self, name: str) -> None:
        most = self.viewer.most_upload_bytes / 2**20
        self.notify("Too large", f"{name}: uploads may have {most:,.0f} MB in all", "red")
