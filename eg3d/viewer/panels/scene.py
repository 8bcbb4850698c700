"""What lies in the scene besides the picture: the object's surface, cameras of a data set."""

import numpy as np
import viser
from scipy.spatial.transform import Rotation

from eg3d.viewer import posed_pictures, viewpoint
from eg3d.viewer.jobs import Report
from eg3d.viewer.panels.base import Panel

_MOST_CAMERAS = 500


class ScenePanel(Panel):
    """Overlays in the scene."""

    def build(self) -> None:
        """Makes the controls."""
        self.mesh: viser.MeshHandle | None = None
        self.cameras: list[viser.CameraFrustumHandle] = []
        with self.gui.add_folder("Surface"):
            self.resolution = self.gui.add_slider("Resolution", 16, 256, 8, 96)
            self.look = self.gui.add_dropdown("As", ("wires", "solid"))
            self.opacity = self.gui.add_slider("Opacity", 0.0, 1.0, 0.05, 0.5)
            self.opacity.on_update(self._fade)
            self.controls.buttons({"show": self._show_mesh, "hide": self._hide_mesh})
        with self.gui.add_folder("Cameras of a data set"):
            self.path = self.gui.add_text(
                "Data set", "", hint="A .zip or folder with dataset.json."
            )
            self.count = self.gui.add_slider("How many", 1, _MOST_CAMERAS, 1, 60)
            self.size = self.gui.add_slider("Size", 0.02, 0.5, 0.01, 0.12)
            self.controls.buttons({"show cameras": self._show_cameras, "hide": self._hide_cameras})
            self.gui.add_markdown("Click a camera to look through it.")

    # -- Surface -----------------------------------------------------------------------------------

    def _show_mesh(self) -> None:
        state, model = self.client.state, self.client.need_model()
        resolution, wires = int(self.resolution.value), self.look.value == "wires"

        def work(report: Report) -> None:
            found = self.client.session.surface(model, state, resolution)
            self._hide_mesh()
            self.mesh = self.client.handle.scene.add_mesh_simple(
                "/surface",
                np.asarray(found.vertices),
                np.asarray(found.faces),
                color=(200, 60, 40) if wires else (190, 190, 200),
                wireframe=wires,
                opacity=self.opacity.value,
                cast_shadow=False,
                receive_shadow=False,
            )

        self.client.jobs.start("the surface", work)

    def _hide_mesh(self) -> None:
        if self.mesh is not None:
            self.mesh.remove()
            self.mesh = None

    async def _fade(self, _: object) -> None:
        if self.mesh is not None:
            self.mesh.opacity = self.opacity.value

    # -- Cameras -----------------------------------------------------------------------------------

    def _show_cameras(self) -> None:
        path, count, size = self.path.value.strip(), int(self.count.value), self.size.value

        def work(report: Report) -> None:
            found = posed_pictures.read(path, count)
            self._hide_cameras()
            for index, each in enumerate(found):
                report(index / len(found))
                self.cameras.append(self._add(index, each, size))

        self.client.jobs.start("the cameras of a data set", work)

    def _hide_cameras(self) -> None:
        for each in self.cameras:
            each.remove()
        self.cameras = []

    def _look_through(self, posed: posed_pictures.PosedPicture) -> None:
        self.client.need_model()
        self.client.change(fov=viewpoint.diagonal_fov(posed.camera.intrinsics[0]))
        self.client.look_from(posed.camera)
        self.controls.show(self.client.state)

    def _add(
        self, index: int, posed: posed_pictures.PosedPicture, size: float
    ) -> viser.CameraFrustumHandle:
        pose = posed.camera.cam2world[0].double().numpy()
        height, width = posed.pixels.shape[:2]
        handle = self.client.handle.scene.add_camera_frustum(
            f"/cameras/{index}",
            fov=viewpoint.lens_fov(posed.camera.intrinsics[0]),
            aspect=width / height,
            scale=size,
            thickness=1.5,
            thickness_units="screen",
            color=(40, 90, 200),
            image=posed.pixels,
            cast_shadow=False,
            receive_shadow=False,
            wxyz=np.roll(Rotation.from_matrix(pose[:3, :3]).as_quat(), 1),
            position=pose[:3, 3],
        )

        @handle.on_click
        async def _(_: object) -> None:
            self.client.attempt(lambda: self._look_through(posed))

        return handle
