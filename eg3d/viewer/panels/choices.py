"""What is shown of a model that leaves a choice, such as one of its branches; alone or side by side
with another value of it."""

from collections.abc import Mapping

import viser

from eg3d.model import Model
from eg3d.viewer.panels.base import Panel

_NOTHING = "nothing"


class ChoicesPanel(Panel):
    """Two lists for each of the model's choices: what is shown, and what beside it."""

    def build(self) -> None:
        """Makes the folder, which is there where a model leaves a choice."""
        self._choices: Mapping[str, tuple[str, ...]] = {}
        self._lists: dict[str, tuple[viser.GuiDropdownHandle, viser.GuiDropdownHandle]] = {}
        self.folder = self.gui.add_folder("Shown of the model", visible=False)

    def opened(self, model: Model) -> None:
        """Lists for the choices of this model."""
        if model.choices != self._choices:
            for handle in (handle for pair in self._lists.values() for handle in pair):
                handle.remove()
            with self.folder:
                self._lists = {name: self._pair(name, model) for name in model.choices}
            self._choices = model.choices
            self.folder.visible = bool(self._lists)
        self.loaded()

    def loaded(self) -> None:
        """Shows what the state chooses."""
        if self.client.model is None:
            return
        state = self.client.state
        beside = dict(state.compare_chosen) if state.compare == "choice" else {}
        for name, (shown, other) in self._lists.items():
            shown.value = dict(state.chosen).get(name, self._own(name, self.client.model))
            other.value = beside.get(name, _NOTHING)

    def _pair(
        self, name: str, model: Model
    ) -> tuple[viser.GuiDropdownHandle, viser.GuiDropdownHandle]:
        values = model.choices[name]
        shown = self.gui.add_dropdown(name.capitalize(), values)
        other = self.gui.add_dropdown(f"{name.capitalize()} beside it", (_NOTHING, *values))

        @shown.on_update
        async def _(event: viser.GuiEvent) -> None:
            if event.client is not None:
                self.client.attempt(lambda: self._choose(name, shown.value))

        @other.on_update
        async def _(event: viser.GuiEvent) -> None:
            if event.client is not None:
                self.client.attempt(lambda: self._compare(name, other.value))

        return shown, other

    def _own(self, name: str, model: Model) -> str:
        return model.rendering_kwargs.get(name, model.choices[name][0])

    def _choose(self, name: str, value: str) -> None:
        chosen = {**dict(self.client.state.chosen), name: value}
        self.client.change(chosen=tuple(chosen.items()))

    def _compare(self, name: str, value: str) -> None:
        if value == _NOTHING:
            self.client.change(compare="nothing")
        else:
            chosen = {**dict(self.client.state.chosen), name: value}
            self.client.change(compare_chosen=tuple(chosen.items()), compare="choice")
        self.controls.show(self.client.state)
