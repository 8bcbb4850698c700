"""Which object: a seed, the way to its neighbours, truncation and noise."""

from eg3d.model import Model
from eg3d.viewer.blending import nearest
from eg3d.viewer.panels.animation import Animation
from eg3d.viewer.panels.base import Panel
from eg3d.viewer.state import ViewState


class LatentsPanel(Panel):
    """The latent that all layers start from."""

    def build(self) -> None:
        """Makes the controls."""
        with self.gui.add_folder("Seed"):
            self.controls.number("Seed", "seed", 1, "Every whole number is another object.")
            self.controls.buttons({"back": lambda: self._step(-1), "next": lambda: self._step(1)})
            self.controls.slider("Walk x", "dx", 0.01, (-3, 3), "To the next seeds and before.")
            self.controls.slider("Walk y", "dy", 0.01, (-3, 3), "To the seeds a hundred on.")
            self.controls.buttons({"snap": self._snap, "reset": self._reset})
            Animation(self.client, "Animate", self._walk, "Walks through the seeds.")
            self.speed = self.gui.add_slider("Speed", -5, 5, 0.05, 0.25, hint="Seeds a second.")
        with self.gui.add_folder("Truncation and noise"):
            self.controls.slider("Psi", "psi", 0.01, hint="0 is the mean object, 1 all variety.")
            self.cutoff = self.controls.bind(
                self.gui.add_slider("Cutoff", 0, 14, 1, 14, hint="Layers that psi works on."),
                "cutoff",
                lambda count: None if count >= self.cutoff.max else count,
                lambda count: self.cutoff.max if count is None else min(count, self.cutoff.max),
            )
            self.controls.choice("Noise", "noise", hint="Of the backbone: always the same, none.")
            self.controls.number("Noise seed", "noise_seed", 1, "Of random noise.")
            self.controls.buttons({"reset truncation and noise": self._reset_truncation})
        self._defaults = ViewState()

    def opened(self, model: Model) -> None:
        """Knows how many layers there are."""
        self.cutoff.max = model.num_ws
        cutoff = self.client.state.cutoff
        self.cutoff.value = model.num_ws if cutoff is None else min(cutoff, model.num_ws)

    def _set(self, **settings: object) -> None:
        self.client.change(**settings)
        self.controls.show(self.client.state)

    def _step(self, count: int) -> None:
        state = self.client.state
        self._set(seed=nearest(state.seed, state.dx + count, state.dy), dx=0.0, dy=0.0)

    def _snap(self) -> None:
        self._step(0)

    def _reset(self) -> None:
        self._set(seed=self._defaults.seed, dx=0.0, dy=0.0)

    def _reset_truncation(self) -> None:
        names = ("psi", "cutoff", "noise", "noise_seed")
        self._set(**{name: getattr(self._defaults, name) for name in names})

    def _walk(self, seconds: float) -> None:
        state = self.client.state
        dx = state.dx + self.speed.value * seconds
        whole = int(dx // 1)
        self._set(seed=nearest(state.seed, whole, 0), dx=dx - whole)
