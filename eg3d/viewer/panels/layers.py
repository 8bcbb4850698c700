"""The layer browser: any output of any module as a picture, with numbers and spectrum."""

from eg3d.model import Model
from eg3d.viewer import viewpoint
from eg3d.viewer.panels.base import Panel
from eg3d.viewer.session import Frame

_PICTURE = "the picture"


class LayersPanel(Panel):
    """Which layer, which of its channels, and how bright."""

    def build(self) -> None:
        """Makes the controls."""
        self._count: dict[str, int] = {}
        with self.gui.add_folder("Layer"):
            self.layer = self.controls.bind(
                self.gui.add_dropdown("Output of", (_PICTURE,), hint="Layers in their order."),
                "layer",
                lambda name: "" if name == _PICTURE else name.split("  ")[0],
                lambda name: self._labels.get(name, _PICTURE),
            )
            self.controls.checkbox("One channel", "layer_grey", "Grey, else three as colours.")
            self.channel = self.controls.slider("Channel", "layer_channel", 1, (0, 511))
            self.controls.checkbox("Normalize", "layer_normalize", "Each channel by its maximum.")
            self.controls.slider("Gain (dB)", "layer_gain", 0.5)
            self.controls.buttons({"reset": self._reset})
            self.table = self.gui.add_markdown("")
        with self.gui.add_folder("Spectrum"):
            self.controls.checkbox("Show", "fft", "The power of frequencies, 0 in the middle.")
            self.controls.checkbox("All channels", "fft_all")
            self.controls.slider("Range (dB)", "fft_range", 0.1)
            self.controls.slider("Kaiser beta", "fft_beta", 0.5)
            self.controls.buttons({"reset spectrum": self._reset_spectrum})
        self._labels: dict[str, str] = {}

    def opened(self, model: Model) -> None:
        """Lists the layers of the model."""
        state = self.client.state.with_(layer="")
        found = self.client.session.layers(viewpoint.with_lens(model, state), state)
        self._count = {each.name: each.channels for each in found}
        self._labels = {
            each.name: f"{each.name}  {' x '.join(map(str, each.shape))} {each.dtype}"
            for each in found
        }
        self.layer.options = (_PICTURE, *self._labels.values())
        self.layer.value = self._labels.get(self.client.state.layer, _PICTURE)

    def shown(self, frame: Frame) -> None:
        """Fits the channels to the layer, and shows its statistics."""
        if not frame.final:
            return
        statistics = frame.picture.statistics
        if statistics is None:
            self.table.content = ""
            return
        self.channel.max = max(self._count.get(frame.state.layer, 1) - 1, 1)
        rows = zip(
            ("mean", "deviation", "largest"),
            (statistics.mean, statistics.std, statistics.most),
            strict=True,
        )
        lines = ["| | all | shown |", "| --- | --- | --- |"]
        lines += [f"| {name} | {whole:.4f} | {part:.4f} |" for name, (whole, part) in rows]
        self.table.content = "\n".join(lines)

    def _reset(self) -> None:
        self._default("layer_grey", "layer_channel", "layer_normalize", "layer_gain")

    def _reset_spectrum(self) -> None:
        self._default("fft", "fft_all", "fft_range", "fft_beta")

    def _default(self, *names: str) -> None:
        default = type(self.client.state)()
        self.client.change(**{name: getattr(default, name) for name in names})
        self.controls.show(self.client.state)
