"""What is drawn of the object and how finely, alone or beside another one."""

from eg3d.model import Model
from eg3d.viewer.painter import showing
from eg3d.viewer.panels.base import Panel
from eg3d.viewer.session import Frame

_VIEWS = {
    "image": "picture",
    "raw": "before super-resolution",
    "depth": "depth",
    "normals": "normals",
    "planes": "tri-planes",
}
_MULTIPLES = {0.25: "x 0.25", 0.5: "x 0.5", 1.0: "x 1", 2.0: "x 2", 4.0: "x 4"}


class PicturePanel(Panel):
    """Kind of picture, its quality, and comparison."""

    def build(self) -> None:
        """Makes the controls."""
        with self.gui.add_folder("Picture"):
            self.controls.choice("Show", "view", _VIEWS)
        with self.gui.add_folder("Volume rendering"):
            self.side = self.controls.bind(
                self.gui.add_slider("Resolution", 8, 256, 1, 64, hint="Rays along a side."),
                "resolution",
                write=lambda side: self._own if side is None else min(max(side, 8), 256),
            )
            self.controls.choice("Samples", "coarse", _MULTIPLES, "Of the model's along a ray.")
            self.controls.choice("Importance", "fine", _MULTIPLES, "Samples where the object is.")
            self.controls.checkbox("Keep planes", "cache_planes", "Make them once for each object.")
            self.controls.checkbox("Full precision", "full_precision", "float32 on GPUs, too.")
            self.controls.buttons({"reset": self._reset})
        with self.gui.add_folder("Side by side", expand_by_default=False):
            names = {"nothing": "nothing", "seed": "another seed", "model": "another model"}
            names["choice"] = "another choice"
            self.controls.choice("Beside it", "compare", names)
            self.controls.number("Other seed", "compare_seed", 1)
            self.path = self.gui.add_text("Other model", "", hint="Path, run directory, address.")
            self.controls.button("Compare with the other model", self._compare)
        self._own = 64

    def opened(self, model: Model) -> None:
        """Shows the model's own resolution."""
        self._show_own(model)

    def shown(self, frame: Frame) -> None:
        """Shows the own resolution of what is chosen."""
        if frame.final:
            self._show_own(frame.model)

    def _show_own(self, model: Model) -> None:
        own = showing(model, self.client.state).generator.usual_side()
        self._own = min(max(own, 8), 256)
        if self.client.state.resolution is None and self.side.value != self._own:
            self.side.value = self._own

    def loaded(self) -> None:
        """Shows the other model of the state."""
        self.path.value = self.client.state.compare_network

    def _compare(self) -> None:
        self.client.change(compare_network=self.path.value.strip(), compare="model")
        self.controls.show(self.client.state)

    def _reset(self) -> None:
        self.client.change(resolution=None, coarse=1.0, fine=1.0)
        self.controls.show(self.client.state)
