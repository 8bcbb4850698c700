"""The server of the viewer: browsers come and go, models and a followed training are shared."""

import contextlib
import io
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import viser

from eg3d.model import Model
from eg3d.viewer import exports, guard, runs, viewpoint
from eg3d.viewer.client import Client
from eg3d.viewer.state import ViewState
from eg3d.viewer.studio import Studio

_MOST_BROWSED = 500
_MOST_RECENT = 20


@dataclass(frozen=True)
class Options:
    """How a viewer is started; see the options of `visualizer.py`."""

    networks: tuple[str, ...] = ()
    run: Path | None = None
    browse_dir: Path | None = None
    capture_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    most_upload_bytes: int = 1 << 30
    state: ViewState = ViewState()


class Viewer:
    """Serves pages until `stop`. Every browser has a state and a camera of its own."""

    def __init__(self, options: Options, studio: Studio):
        self._options = options
        self.run, self.browse_dir = options.run, options.browse_dir
        self.most_upload_bytes = options.most_upload_bytes
        self.recent: list[str] = list(options.networks)
        self.studio = studio
        self.upload_dir = Path(tempfile.mkdtemp(prefix="eg3d-uploads-"))
        self._clients: dict[int, Client] = {}
        self._sharing = threading.Lock()
        self._home: Model | None = None
        with contextlib.redirect_stdout(io.StringIO()):  # viser's own banner
            self.server = viser.ViserServer(options.host, options.port, "EG3D", verbose=False)
        guard.protect(self.server, options.host)
        gui = self.server.gui
        gui.configure_theme(control_width="large", show_logo=False, show_share_button=False)
        gui.main_panel.dock_right()
        self.server.scene.set_up_direction(options.state.up.replace("y", "+y").replace("z", "+z"))
        self.server.on_client_connect(self._connected)
        self.server.on_client_disconnect(self._disconnected)
        self._follower = runs.Follower(options.run, self._newer) if options.run else None

    @property
    def port(self) -> int:
        """Where it listens: the port asked for, or the next free one."""
        return self.server.get_port()

    def stop(self) -> None:
        """Ends the server and all threads; uploaded files are removed."""
        if self._follower is not None:
            self._follower.close()
        for client in list(self._clients.values()):
            client.close()
        self.server.stop()
        shutil.rmtree(self.upload_dir, ignore_errors=True)

    def clients(self) -> dict[int, Client]:
        """The browsers that are there, by number."""
        return dict(self._clients)

    def first_state(self) -> ViewState:
        """What a new browser shows."""
        network = self._options.networks[0] if self._options.networks else ""
        if self.run is not None:
            network = runs.newest_snapshot(self.run) or network
        state = self._options.state
        return state.with_(network=network or state.network, follow=self.run is not None)

    def set_home(self, model: Model) -> None:
        """Where browsers look from at first, and after viser's "reset view": from the front."""
        with self._sharing:
            if self._home is None:
                self._home = model
                front = viewpoint.camera(model, self._options.state.with_(camera=None))
                home = self.server.initial_camera
                home.position = tuple(front.cam2world[0, :3, 3].tolist())
                home.look_at = tuple(map(float, viewpoint.target(model, self._options.state)))

    def remember(self, network: str) -> None:
        """Puts a model first in the list of recent ones."""
        others = [each for each in self.recent if each != network]
        self.recent = [network, *others][:_MOST_RECENT]

    def browse(self) -> list[str]:
        """The snapshots below the folder of --browse-dir, by name."""
        found = sorted(map(str, self.browse_dir.glob("**/network-snapshot-*.pkl")))
        return found[-_MOST_BROWSED:]

    def keep_capture(self, name: str, content: bytes) -> None:
        """Writes a file that a user takes home into the folder of --capture-dir, with a number."""
        folder = self._options.capture_dir
        if folder is None:
            return
        with self._sharing:
            path = folder / f"{exports.next_capture(folder):05d}{Path(name).suffix}"
            path.write_bytes(content)

    async def _connected(self, handle: viser.ClientHandle) -> None:
        self._clients[handle.client_id] = Client(self, handle)

    async def _disconnected(self, handle: viser.ClientHandle) -> None:
        client = self._clients.pop(handle.client_id, None)
        if client is not None:
            client.close()

    def _newer(self, snapshot: str) -> None:
        """Shows a new snapshot of the run to those who follow it."""
        for client in list(self._clients.values()):
            client.attempt(lambda: client.new_snapshot(snapshot))  # noqa: B023
