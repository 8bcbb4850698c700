"""Controls of a page and the settings of its user's state, each bound to the other."""

from collections.abc import Callable
from typing import Any, Protocol

import viser

from eg3d.viewer.state import ViewState, choices, limits


def _as_is(value: Any) -> Any:
    return value


class Changes(Protocol):
    """Who holds the state that controls are bound to."""

    state: ViewState

    def change(self, **settings: Any) -> None:
        """Changes some settings."""

    def attempt(self, action: Callable[[], None]) -> None:
        """Does something, or tells the user what is wrong."""


class Controls:
    """Makes controls that change settings, and writes settings into the controls.

    Callbacks are coroutines, which viser runs in the one thread of its server: they come in order
    and need no threads.
    """

    def __init__(self, gui: viser.GuiApi, owner: Changes):
        self.gui, self._owner = gui, owner
        self._bound: list[tuple[viser.GuiInputHandle, str, Callable[[Any], Any]]] = []

    def bind(
        self,
        handle: viser.GuiInputHandle,
        setting: str,
        read: Callable[[Any], Any] = _as_is,
        write: Callable[[Any], Any] = _as_is,
    ) -> viser.GuiInputHandle:
        """The control, bound to a setting; `read` makes its value one, `write` the reverse."""

        @handle.on_update
        async def _(event: viser.GuiEvent) -> None:
            if event.client is not None:  # else it is `show` that wrote
                changes = {setting: read(handle.value)}
                self._owner.attempt(lambda: self._owner.change(**changes))

        self._bound.append((handle, setting, write))
        return handle

    def show(self, state: ViewState) -> None:
        """Writes a state into all controls."""
        for handle, setting, write in self._bound:
            handle.value = write(getattr(state, setting))

    def on_click(self, handle: viser.GuiButtonHandle, action: Callable[[], None]) -> None:
        """What a button does; errors are shown to the user."""

        @handle.on_click
        async def _(_: viser.GuiEvent) -> None:
            self._owner.attempt(action)

    def button(
        self,
        label: str,
        action: Callable[[], None],
        hint: str | None = None,
        icon: str | None = None,
    ) -> viser.GuiButtonHandle:
        """A button that does something."""
        handle = self.gui.add_button(label, hint=hint, icon=icon)
        self.on_click(handle, action)
        return handle

    def buttons(self, actions: dict[str, Callable[[], None]], label: str = "") -> None:
        """Buttons in one row, by their names."""
        group = self.gui.add_button_group(label, tuple(actions))

        @group.on_click
        async def _(_: viser.GuiEvent) -> None:
            self._owner.attempt(actions[group.value])

    def slider(
        self,
        label: str,
        setting: str,
        step: float,
        span: tuple[float, float] | None = None,
        hint: str | None = None,
    ) -> viser.GuiSliderHandle:
        """A slider for a number, from the setting's lowest to its highest value or over `span`."""
        low, high = span or limits(setting)
        write = lambda value: min(max(value, low), high)  # noqa: E731
        value = write(getattr(self._owner.state, setting))
        return self.bind(
            self.gui.add_slider(label, low, high, step, value, hint=hint), setting, write=write
        )

    def number(
        self, label: str, setting: str, step: float | None = None, hint: str | None = None
    ) -> viser.GuiNumberHandle:
        """A number to type."""
        low, high = limits(setting)
        value = getattr(self._owner.state, setting)
        return self.bind(
            self.gui.add_number(label, value, min=low, max=high, step=step, hint=hint), setting
        )

    def checkbox(
        self, label: str, setting: str, hint: str | None = None
    ) -> viser.GuiCheckboxHandle:
        """A box to tick."""
        value = getattr(self._owner.state, setting)
        return self.bind(self.gui.add_checkbox(label, value, hint=hint), setting)

    def choice(
        self, label: str, setting: str, names: dict[Any, str] | None = None, hint: str | None = None
    ) -> viser.GuiDropdownHandle:
        """One of the setting's choices, by names where they differ from the values."""
        names = names or {value: str(value) for value in choices(setting)}
        values = {name: value for value, name in names.items()}
        handle = self.gui.add_dropdown(
            label,
            tuple(values),
            initial_value=names[getattr(self._owner.state, setting)],
            hint=hint,
        )
        return self.bind(handle, setting, values.__getitem__, names.__getitem__)
