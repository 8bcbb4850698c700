"""Where the object is seen from, the lens, and what its latents are conditioned on."""

import time

import numpy as np
import viser

from eg3d.model import Model
from eg3d.viewer import viewpoint
from eg3d.viewer.panels.base import Panel
from eg3d.viewer.session import Frame

_SNAP = 0.1  # radians
_EVERY = 0.2  # seconds between read-outs
_OWN, _FREE = "model", "manual"


class CameraPanel(Panel):
    """Pose, target, lens and conditioning."""

    def build(self) -> None:
        """Makes the controls."""
        self._read = 0.0
        with self.gui.add_folder("Pose"):
            self.yaw = self.gui.add_number("Yaw", 0.0, step=0.01, hint="Radians from the front.")
            self.pitch = self.gui.add_number(
                "Pitch", 0.0, step=0.01, hint="As published: no angle."
            )
            self.radius = self.gui.add_number("Distance", 1.0, min=0.01, step=0.01)
            for handle in (self.yaw, self.pitch, self.radius):
                handle.on_update(self._typed)
            self.controls.buttons({"snap": self._snap, "reset": self._reset})
            up = self.controls.choice("Up", "up", hint="Axis of the model's world that is up.")
            up.on_update(self._turned_up)
        with self.gui.add_folder("Look at"):
            names = (*viewpoint.TARGETS, _FREE)
            self.name = self.gui.add_dropdown("Point", names)
            self.name.on_update(self._named)
            self.point = self.gui.add_vector3("x, y, z", (0.0, 0.0, 0.0), step=0.01)
            self.point.on_update(self._pointed)
        with self.gui.add_folder("Lens"):
            self.fov = self.controls.bind(
                self.gui.add_slider("Field of view", 1.0, 120.0, 0.01, 18.84, hint="Diagonal."),
                "fov",
                write=lambda fov: self._own_fov() if fov is None else fov,
            )
            self.controls.buttons({"snap": self._snap_fov, "reset": self._reset_fov})
        with self.gui.add_folder("Conditioning"):
            names = {"front": "the front", "camera": "the camera", "free": "these angles"}
            self.controls.choice("Made for", "conditioning", names, "The pose given to mapping.")
            self.controls.slider("Yaw", "cond_yaw", 0.01, (-3.14, 3.14))
            self.controls.slider("Pitch", "cond_pitch", 0.01, (-1.57, 1.57))
            self.controls.buttons({"snap": self._snap_free, "reset": self._reset_free})

    def opened(self, model: Model) -> None:
        """Shows the model's own lens and point."""
        self.controls.show(self.client.state)
        self.point.value = tuple(map(float, viewpoint.target(model, self.client.state)))

    def shown(self, frame: Frame) -> None:
        """Reads the angles out, now and then."""
        if frame.final or time.monotonic() - self._read > _EVERY:
            self._read = time.monotonic()
            found = viewpoint.angles(viewpoint.camera(frame.model, frame.state), frame.state.up)
            for handle, value in zip((self.yaw, self.pitch, self.radius), found, strict=True):
                handle.value = round(value, 3)

    def _look(self, yaw: float, pitch: float, radius: float | None = None) -> None:
        camera = viewpoint.turned(self.client.model, self.client.state, yaw, pitch, radius)
        self.client.look_from(camera)

    def loaded(self) -> None:
        """Shows the point of the state."""
        target = self.client.state.target
        names = [name for name, point in viewpoint.TARGETS.items() if point == target]
        self.name.value = names[0] if names else _FREE
        if self.client.model is not None:
            self.opened(self.client.model)

    async def _turned_up(self, event: viser.GuiEvent) -> None:
        if event.client is not None and self.client.model is not None:
            self.client.attempt(self._reset)

    async def _typed(self, event: viser.GuiEvent) -> None:
        if event.client is not None and self.client.model is not None:
            values = (self.yaw.value, self.pitch.value, self.radius.value)
            self.client.attempt(lambda: self._look(*values))

    def _snap(self) -> None:
        values = np.round(np.array([self.yaw.value, self.pitch.value]) / _SNAP) * _SNAP
        self._look(*values.tolist(), self.radius.value)

    def _reset(self) -> None:
        self._look(0.0, 0.0)

    async def _named(self, event: viser.GuiEvent) -> None:
        if event.client is None or self.name.value == _FREE or self.client.model is None:
            return
        target = viewpoint.TARGETS[self.name.value]
        self.client.attempt(lambda: self._aim(target))
        self.point.value = tuple(map(float, viewpoint.target(self.client.model, self.client.state)))

    async def _pointed(self, event: viser.GuiEvent) -> None:
        if event.client is not None and self.client.model is not None:
            self.name.value = _FREE
            self.client.attempt(lambda: self._aim(tuple(self.point.value)))

    def _aim(self, target: tuple[float, ...] | None) -> None:
        self.client.change(target=target)
        self._look(self.yaw.value, self.pitch.value, self.radius.value)

    def _own_fov(self) -> float:
        if self.client.model is None:
            return self.fov.value
        return round(viewpoint.diagonal_fov(self.client.model.intrinsics), 2)

    def _snap_fov(self) -> None:
        self._set(fov=float(round(self.fov.value)))

    def _reset_fov(self) -> None:
        self._set(fov=None)

    def _snap_free(self) -> None:
        names = ("cond_yaw", "cond_pitch")
        now = (getattr(self.client.state, name) for name in names)
        self._set(**{name: round(v / _SNAP) * _SNAP for name, v in zip(names, now, strict=True)})

    def _reset_free(self) -> None:
        self._set(cond_yaw=0.0, cond_pitch=0.0)

    def _set(self, **settings: object) -> None:
        self.client.change(**settings)
        self.controls.show(self.client.state)
