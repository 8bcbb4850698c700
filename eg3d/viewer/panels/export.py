"""What the user takes home: screenshots, meshes, videos of a path, the session itself."""

import time

import viser

from eg3d.errors import InputError
from eg3d.shape_files import MESH_FORMATS
from eg3d.viewer import exports, viewpoint
from eg3d.viewer.jobs import Report
from eg3d.viewer.panels.base import Panel
from eg3d.viewer.state import ViewState

_MOST_SESSION_BYTES = 1 << 20
_PAGE_WITHIN = 10.0  # seconds
_VIDEO_FORMATS = ("mp4", "gif", "webp")


class ExportPanel(Panel):
    """Files for the user."""

    def build(self) -> None:
        """Makes the controls."""
        with self.gui.add_folder("Picture"):
            self.controls.buttons({"save picture": self._picture, "save page": self._page})
        with self.gui.add_folder("Mesh"):
            self.mesh_side = self.gui.add_slider("Resolution", 16, 512, 16, 128)
            self.mesh_format = self.gui.add_dropdown("Format", MESH_FORMATS, initial_value="glb")
            self.controls.button("Save mesh", self._mesh)
        with self.gui.add_folder("Video"):
            self.controls.choice("Path", "path", hint="Of the camera.")
            self.controls.buttons({"add keyframe": self._add_key, "remove all": self._remove_keys})
            self.keys = self.gui.add_markdown("")
            self.controls.slider("Frames", "frames", 1, (1, 600))
            self.controls.slider("A second", "fps", 1)
            self.video_format = self.gui.add_dropdown("Format", _VIDEO_FORMATS)
            self.controls.buttons({"save video": self._video, "stop": self.client.jobs.stop})
            self.progress = self.gui.add_progress_bar(0, visible=False, animated=True)
        with self.gui.add_folder("Session"):
            self.controls.button("Save session", self._save, "All settings as a JSON file.")
            upload = self.gui.add_upload_button("Load session", mime_type="application/json")
            upload.on_upload(self._load)
        self._count_keys()

    # -- Pictures and meshes -----------------------------------------------------------------------

    def _picture(self) -> None:
        self.client.need_model()
        state = self.client.state

        def work(report: Report) -> None:
            pixels = self.client.session.draw(state).picture.pixels
            self.client.download(f"seed{state.seed:04d}.png", exports.png(pixels))

        self.client.jobs.start("the picture", work)

    def _page(self) -> None:
        width, height = self.client.canvas

        def work(report: Report) -> None:
            render = self.client.handle.get_render
            try:
                pixels = render(height, width, transport_format="jpeg", timeout=_PAGE_WITHIN)
            except (RuntimeError, TimeoutError) as error:
                raise InputError(f"the browser gave no picture of its page: {error}") from error
            self.client.download("page.png", exports.png(pixels[..., :3]))

        self.client.jobs.start("the page", work)

    def _mesh(self) -> None:
        model, state = self.client.need_model(), self.client.state
        side, ending = int(self.mesh_side.value), self.mesh_format.value

        def work(report: Report) -> None:
            content = exports.mesh(self.client.session, model, state, side, ending)
            self.client.download(f"seed{state.seed:04d}.{ending}", content)

        self.client.jobs.start("the mesh", work)

    # -- Video -------------------------------------------------------------------------------------

    def _video(self) -> None:
        self.client.need_model()
        state, ending = self.client.state, self.video_format.value
        exports.path(self.client.model, state)  # What is wrong with it is said before the work.

        def work(report: Report) -> None:
            content = exports.film(self.client.session, state, ending, report)
            self.client.download(f"seed{state.seed:04d}_{state.path}.{ending}", content)

        self.client.jobs.start("the video", work, self._advance)

    def _advance(self, share: float | None) -> None:
        self.progress.visible = share is not None
        self.progress.value = 100 * (share or 0.0)

    def _add_key(self) -> None:
        model = viewpoint.with_lens(self.client.need_model(), self.client.state)
        label = viewpoint.camera(model, self.client.state).label()[0].tolist()
        keyframes = (*self.client.state.keyframes, tuple(label))
        self._set(keyframes=keyframes, path="keyframes")

    def _remove_keys(self) -> None:
        self._set(keyframes=(), path=type(self.client.state)().path)

    def _set(self, **settings: object) -> None:
        self.client.change(**settings)
        self.controls.show(self.client.state)
        self._count_keys()

    def loaded(self) -> None:
        """Counts the keyframes of the state."""
        self._count_keys()

    def _count_keys(self) -> None:
        count = len(self.client.state.keyframes)
        self.keys.content = f"{count} keyframe{'s' * (count != 1)}"

    # -- Session -----------------------------------------------------------------------------------

    def _save(self) -> None:
        name = time.strftime("session-%Y%m%d-%H%M%S.json")
        self.client.download(name, self.client.state.to_json().encode())

    async def _load(self, event: viser.GuiEvent) -> None:
        file = event.target.value

        def load() -> None:
            if len(file.content) > _MOST_SESSION_BYTES:
                raise InputError(f"{file.name}: has {len(file.content):,} bytes, is no session")
            try:
                state = ViewState.from_json(file.content)
            except InputError as error:
                raise InputError(f"{file.name}: {error}") from error
            self.client.load(state)

        self.client.attempt(load)
