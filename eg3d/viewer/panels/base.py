"""What panels have in common."""

from typing import TYPE_CHECKING

from eg3d.model import Model
from eg3d.viewer.session import Frame

if TYPE_CHECKING:
    from eg3d.viewer.client import Client


class Panel:
    """Some controls of a page. `opened` and `shown` are called in the session's thread."""

    def __init__(self, client: "Client"):
        self.client = client
        self.gui, self.controls = client.handle.gui, client.controls
        self.build()

    def build(self) -> None:
        """Makes the controls."""

    def opened(self, model: Model) -> None:
        """Another model than before is shown."""

    def shown(self, frame: Frame) -> None:
        """A frame is on its way to the browser."""

    def loaded(self) -> None:
        """The state is another one as a whole."""

    def failed(self) -> None:
        """A model could not be opened."""

    def trained(self) -> None:
        """The training that is followed has a new snapshot."""
