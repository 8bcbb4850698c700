"""Choosing a model: by path or address, from recent ones, from a folder, or by upload."""

import tempfile
from pathlib import Path

import viser

from eg3d.errors import InputError
from eg3d.model import Model
from eg3d.viewer.painter import showing
from eg3d.viewer.panels.base import Panel

_NONE = "-"


class NetworkPanel(Panel):
    """What is drawn: the network."""

    def build(self) -> None:
        """Makes the controls."""
        with self.gui.add_folder("Model"):
            self.path = self.gui.add_text(
                "Path", self.client.state.network, hint="A snapshot, a run directory or an address."
            )
            self.controls.button("Open", self._open)
            self.controls.choice("Weights", "weights", hint="G_ema are the averaged ones.")
            recent = self.client.viewer.recent
            self.recent = self._list("Recent", recent, "What was opened before.")
            if self.client.viewer.browse_dir:
                self.found = self._list("Folder", [], "Snapshots below the folder of --browse-dir.")
                self.controls.button("Look into the folder", self._browse)
                self._browse()
            upload = self.gui.add_upload_button(
                "Upload a snapshot", hint="A .pkl or .safetensors file of this computer."
            )
            upload.on_upload(self._uploaded)
            self.facts = self.gui.add_markdown("")

    def opened(self, model: Model) -> None:
        """Says what the model is."""
        network = self.client.state.network
        self.client.viewer.remember(network)
        self._offer(self.recent, self.client.viewer.recent)
        self.path.value = network
        side = showing(model, self.client.state).generator.usual_side()
        samples = (model.rendering_kwargs[f"depth_resolution{s}"] for s in ("", "_importance"))
        self.facts.content = (
            f"**{Path(network).name}**: {model.img_resolution} pixels a side from "
            f"{side} x {side} rays of {' + '.join(map(str, samples))} samples; "
            f"{model.num_ws} layers; {model.device}"
        )

    def failed(self) -> None:
        """Shows what is drawn, not what could not be."""
        self.path.value = self.client.state.network

    def _open(self) -> None:
        self.client.change(network=self.path.value.strip())

    def _list(self, label: str, paths: list[str], hint: str) -> viser.GuiDropdownHandle:
        handle = self.gui.add_dropdown(label, (_NONE, *paths), hint=hint)

        @handle.on_update
        async def _(event: viser.GuiEvent) -> None:
            if event.client is not None and handle.value != _NONE:
                self.client.attempt(lambda: self.client.change(network=handle.value))

        return handle

    def _offer(self, handle: viser.GuiDropdownHandle, paths: list[str]) -> None:
        if tuple(handle.options) != (_NONE, *paths):
            handle.options = (_NONE, *paths)

    def _browse(self) -> None:
        paths = self.client.viewer.browse()
        if not paths:
            raise InputError(f"{self.client.viewer.browse_dir}: no network-snapshot-*.pkl below it")
        self._offer(self.found, paths)

    async def _uploaded(self, event: viser.GuiEvent) -> None:
        file = event.target.value
        suffix = Path(file.name).suffix.lower()

        def keep() -> None:
            if suffix not in (".pkl", ".safetensors"):
                raise InputError(f"{file.name}: must be a .pkl or .safetensors file")
            folder = self.client.viewer.upload_dir
            handle, path = tempfile.mkstemp(suffix, f"{Path(file.name).stem}-", folder)
            with open(handle, "wb") as copy:
                copy.write(file.content)
            self.client.change(network=path)

        self.client.attempt(keep)
