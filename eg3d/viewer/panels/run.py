"""A training that is followed: its newest snapshot, and its curves."""

import numpy as np
import viser
from viser import uplot

from eg3d.viewer import runs
from eg3d.viewer.panels.base import Panel

# Shown first, where the run has them: how the discriminator judges, and what collapses.
_FAVOURITES = ("Loss/scores/fake", "Loss/scores/real", "Loss/G/loss", "Health/depth_spread")


class RunPanel(Panel):
    """Curves of the run directory of --run."""

    def build(self) -> None:
        """Makes the controls."""
        self.gui.add_markdown(f"**{self.client.viewer.run.name}**")
        self.controls.checkbox("Follow", "follow", "Show each new snapshot as soon as it is there.")
        self.snapshot = self.gui.add_markdown("")
        self.curves = runs.curves(self.client.viewer.run)
        names = tuple(sorted(self.curves)) or ("-",)
        first = next((name for name in _FAVOURITES if name in names), names[0])
        self.name = self.gui.add_dropdown("Curve", names, initial_value=first)
        self.name.on_update(self._chosen)
        self.controls.button("Read again", self.update)
        self.plot: viser.GuiUplotHandle | None = None
        self._draw()

    def update(self) -> None:
        """Reads the curves again."""
        self.curves = runs.curves(self.client.viewer.run)
        names = tuple(sorted(self.curves)) or ("-",)
        if tuple(self.name.options) != names:
            self.name.options = names
        self._draw()

    def trained(self) -> None:
        """Reads the curves again."""
        self.update()

    async def _chosen(self, _: object) -> None:
        self.client.attempt(self._draw)

    def _draw(self) -> None:
        newest = runs.newest_snapshot(self.client.viewer.run)
        self.snapshot.content = (
            f"Newest: {newest.rpartition('/')[2]}" if newest else "No snapshot yet"
        )
        kimg, values = self.curves.get(self.name.value, (np.zeros(0), np.zeros(0)))
        series = (
            uplot.Series(label="kimg"),
            uplot.Series(label=self.name.value, stroke="#c43", width=2),
        )
        if self.plot is None:
            scales = {"x": uplot.Scale(time=False)}
            self.plot = self.gui.add_uplot((kimg, values), series, scales=scales, aspect=1.4)
        else:
            self.plot.data, self.plot.series = (kimg, values), series
