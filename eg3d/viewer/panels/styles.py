"""Other seeds in the object: blended in, or in some of its layers."""

import viser

from eg3d.model import Model
from eg3d.viewer.blending import SEEDS
from eg3d.viewer.panels.animation import Animation
from eg3d.viewer.panels.base import Panel

_A_SEED = 0.25  # seconds


class StylesPanel(Panel):
    """Interpolation to another seed, and style mixing."""

    def build(self) -> None:
        """Makes the controls."""
        with self.gui.add_folder("Blend", expand_by_default=False):
            self.controls.number("To seed", "blend_seed", 1)
            self.controls.slider("Share", "blend", 0.01, hint="0 is this object, 1 the other.")
        self.folder = self.gui.add_folder("Style mixing", expand_by_default=False)
        with self.folder:
            self.controls.number("From seed", "mix_seed", 1, "Where the ticked layers come from.")
            Animation(self.client, "Animate seed", self._walk, "Goes from seed to seed.")
            self.controls.buttons(
                {
                    "none": lambda: self._mix(range(0)),
                    "first half": lambda: self._mix(range(self._half)),
                    "last half": lambda: self._mix(range(self._half, len(self.boxes))),
                }
            )
        self.boxes: list[viser.GuiCheckboxHandle] = []
        self._passed = 0.0

    def opened(self, model: Model) -> None:
        """A box for each layer of the model."""
        if len(self.boxes) == model.num_ws:
            return
        for box in self.boxes:
            box.remove()
        with self.folder:
            self.boxes = [self._box(layer) for layer in range(model.num_ws)]

    def loaded(self) -> None:
        """Ticks the layers of the state."""
        for index, box in enumerate(self.boxes):
            box.value = index in self.client.state.mix_layers

    @property
    def _half(self) -> int:
        return len(self.boxes) // 2

    def _walk(self, seconds: float) -> None:
        self._passed += seconds
        if self._passed > _A_SEED:
            self._passed = 0.0
            self.client.change(mix_seed=(self.client.state.mix_seed + 1) % SEEDS)
            self.controls.show(self.client.state)

    def _box(self, layer: int) -> viser.GuiCheckboxHandle:
        handle = self.gui.add_checkbox(f"layer {layer}", layer in self.client.state.mix_layers)

        @handle.on_update
        async def _(event: viser.GuiEvent) -> None:
            if event.client is not None:
                chosen = [index for index, box in enumerate(self.boxes) if box.value]
                self.client.attempt(lambda: self.client.change(mix_layers=tuple(chosen)))

        return handle

    def _mix(self, layers: range) -> None:
        self.client.change(mix_layers=tuple(layers))
        self.loaded()
