"""The panels of a page, in tabs; each is a class that builds its controls and keeps them right."""

from typing import TYPE_CHECKING

from eg3d.viewer.panels.base import Panel
from eg3d.viewer.panels.camera import CameraPanel
from eg3d.viewer.panels.choices import ChoicesPanel
from eg3d.viewer.panels.export import ExportPanel
from eg3d.viewer.panels.info import InfoPanel
from eg3d.viewer.panels.latents import LatentsPanel
from eg3d.viewer.panels.layers import LayersPanel
from eg3d.viewer.panels.network import NetworkPanel
from eg3d.viewer.panels.picture import PicturePanel
from eg3d.viewer.panels.run import RunPanel
from eg3d.viewer.panels.scene import ScenePanel
from eg3d.viewer.panels.styles import StylesPanel

if TYPE_CHECKING:
    from eg3d.viewer.client import Client

# Tabs, each with its panels; that of a training is there only where one is followed.
TABS = {
    "Object": (NetworkPanel, LatentsPanel, StylesPanel),
    "View": (CameraPanel,),
    "Picture": (PicturePanel, ChoicesPanel, InfoPanel),
    "Layers": (LayersPanel,),
    "Scene": (ScenePanel,),
    "Save": (ExportPanel,),
}


def build(client: "Client") -> list[Panel]:
    """All panels of a page, with their controls in it."""
    tabs = {"Run": (RunPanel,), **TABS} if client.viewer.run else TABS
    built = []
    group = client.handle.gui.add_tab_group()
    for name, kinds in tabs.items():
        with group.add_tab(name):
            built += [kind(client) for kind in kinds]
    return built
