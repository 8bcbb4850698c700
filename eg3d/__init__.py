"""Use trained models: load a snapshot, make scenes, render them from any camera.

>>> import eg3d
>>> model = eg3d.load("network-snapshot.pkl")
>>> picture = model.scene(seed=0).render(model.camera).image  # [1, 3, R, R] in [-1, 1]

Importing this package imports nothing else; its names are imported when they are first used.
"""

import importlib
from typing import Any

_HOMES = {
    "Camera": "training.cameras",
    "InputError": "eg3d.errors",
    "Model": "eg3d.model",
    "RecordedRenderings": "eg3d.recorded",
    "Rendering": "eg3d.scene",
    "Scene": "eg3d.scene",
    "SnapshotError": "eg3d.errors",
    "bfloat16_convolutions": "torch_utils.ops.conv2d_gradfix",
    "load": "eg3d.model",
}
_MODULES = (
    "cameras",
    "filming",
    "inversion",
    "latent_paths",
    "latents",
    "pictures",
    "trajectories",
    "video",
    "views",
)

__all__ = [
    "Camera",
    "InputError",
    "Model",
    "RecordedRenderings",
    "Rendering",
    "Scene",
    "SnapshotError",
    "bfloat16_convolutions",
    "cameras",
    "filming",
    "inversion",
    "latent_paths",
    "latents",
    "load",
    "pictures",
    "trajectories",
    "video",
    "views",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"eg3d.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'eg3d' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
