"""How fast it goes, and where the time is spent."""

import time

import torch

from eg3d.viewer.painter import samples, side
from eg3d.viewer.panels.base import Panel
from eg3d.viewer.session import Frame

_EVERY = 0.5  # seconds


class InfoPanel(Panel):
    """Frame times, memory, and the limit of frames a second."""

    def build(self) -> None:
        """Makes the controls."""
        self._told = 0.0
        with self.gui.add_folder("Speed"):
            self.controls.slider("Most frames a second", "most_fps", 1, (1, 120))
            self.table = self.gui.add_markdown(
                "While you move, pictures are coarser; when you stop, as fine as set here."
            )

    def shown(self, frame: Frame) -> None:
        """Writes the table, now and then."""
        if not frame.final and time.monotonic() - self._told < _EVERY:
            return
        self._told = time.monotonic()
        lines = ["| | |", "| --- | --- |", f"| frames a second | {self._rate():.1f} |"]
        for name, seconds in {"waiting": frame.waited, **frame.picture.seconds}.items():
            lines.append(f"| {name} | {1000 * seconds:.1f} ms |")
        if not frame.state.layer:
            rays, along = side(frame.model, frame.state), samples(frame.model, frame.state)
            lines.append(f"| full quality | {rays} x {rays} rays, {along[0]} + {along[1]} |")
        encoding = self.client.delivery.encoding
        lines.append(f"| moving frames | JPEG {encoding.quality}, up to {encoding.height} rows |")
        if frame.model.device.type == "cuda":
            used = torch.cuda.memory_allocated(frame.model.device) / 2**30
            most = torch.cuda.max_memory_allocated(frame.model.device) / 2**30
            lines.append(f"| GPU memory | {used:.2f} GB, most {most:.2f} GB |")
        self.table.content = "\n".join(lines)

    def _rate(self) -> float:
        """Frames a second over the last ones, of those that came within the last seconds."""
        recent = [t for t in tuple(self.client.arrivals) if time.monotonic() - t < 2.0]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 2 else 0.0
