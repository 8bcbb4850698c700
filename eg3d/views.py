"""Which way to look at a model: cameras around it, by name, by chance, or from a file.

Every function takes the radius, pivot and lens from the model. `up` is 'y' (faces, published
scripts; also where it is None) or 'z' (worlds such as that of the ShapeNet cars).
"""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from dnnlib.util import replacing
from eg3d import cameras
from eg3d.errors import InputError
from eg3d.model import Model
from training.cameras import LABEL_SIZE, Y_UP, Z_UP, Camera, check_label, look_at, orbit_position

UP = {None: Y_UP, "y": Y_UP, "z": Z_UP}
PUBLISHED_OFFSETS = ((0.4, -0.2), (0.0, -0.2), (-0.4, -0.2))
# Where a checkpoint says nothing: what a model of faces has seen.
DEFAULT_AZIMUTH = (-30.0, 30.0)
DEFAULT_ELEVATION = (-10.0, 20.0)


def turned(model: Model, offsets: Iterable[tuple[float, float]], up: str | None = None) -> Camera:
    """One camera for each (yaw, pitch) offset from the front, in the angles of `orbit_position`."""
    h, v = (math.pi / 2 + torch.tensor(list(offsets))).unbind(1)
    return _looking_in(model, orbit_position(h, v, model.radius), up)


def published(model: Model, up: str | None = None) -> Camera:
    """The three views of the published image script: from one side, the front, the other side."""
    return turned(model, PUBLISHED_OFFSETS, up)


def front(model: Model, up: str | None = None) -> Camera:
    """The view from the front, N = 1."""
    return turned(model, [(0.0, 0.0)], up)


def orbit(
    model: Model, count: int, elevation: float | None = None, up: str | None = None
) -> Camera:
    """A closed loop of `count` cameras around the model, the first in front.

    elevation: degrees above the horizon; default the middle of what the checkpoint says it saw
    (`camera_elevation_degrees` in rendering_kwargs), else 0.
    """
    if elevation is None:
        elevation = sum(model.rendering_kwargs.get("camera_elevation_degrees", (0.0,))) / 2
    if not -90 < elevation < 90:
        raise InputError(f"elevation of {elevation:g} degrees: must be between -90 and 90")
    return cameras.orbit(
        count, model.radius, model.intrinsics, math.radians(elevation), model.pivot, UP[up]
    )


def sway(model: Model, count: int, up: str | None = None) -> Camera:
    """The closed loop of the published videos, which sways around the front."""
    if up != "z":
        return cameras.sway(count, model.radius, model.intrinsics, model.pivot)
    level = cameras.sway(count, model.radius, model.intrinsics)
    return _looking_in(model, level.cam2world[:, :3, 3].cpu(), up)


def random_views(model: Model, seeds: Sequence[int], up: str | None = None) -> Camera:
    """One camera for each seed, always the same one, drawn evenly by area.

    The range is `camera_azimuth_degrees` and `camera_elevation_degrees` ([low, high] each; azimuth
    0 is the front) of the checkpoint's rendering_kwargs, else -30 .. 30 and -10 .. 20.
    """
    azimuths = model.rendering_kwargs.get("camera_azimuth_degrees", DEFAULT_AZIMUTH)
    elevations = model.rendering_kwargs.get("camera_elevation_degrees", DEFAULT_ELEVATION)
    positions = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        azimuth = math.radians(rng.uniform(*azimuths))
        height = rng.uniform(*(math.sin(math.radians(angle)) for angle in elevations))
        ring = math.sqrt(1 - height * height)
        positions.append([ring * math.sin(azimuth), height, ring * math.cos(azimuth)])
    return _looking_in(model, model.radius * torch.tensor(positions), up)


def named(model: Model, name: str, up: str | None = None) -> Camera:
    """'published', 'front' or 'orbit:N' as cameras. Raises InputError."""
    if name == "published":
        return published(model, up)
    if name == "front":
        return front(model, up)
    kind, _, count = name.partition(":")
    if kind == "orbit" and count.isascii() and count.isdigit() and int(count) > 0:
        return orbit(model, int(count), up=up)
    raise InputError(f"views {name!r}: must be published, front, or orbit:N with N from 1")


def from_file(path: str | Path) -> Camera:
    """Cameras of a JSON file: one label of 25 numbers or a list of them. Raises InputError."""
    try:
        labels = json.loads(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a JSON file of cameras") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if isinstance(labels, list) and len(labels) == LABEL_SIZE and not isinstance(labels[0], list):
        labels = [labels]
    if not isinstance(labels, list) or not labels:
        raise InputError(f"{path}: must hold a list of camera labels of {LABEL_SIZE} numbers each")
    for index, label in enumerate(labels):
        problem = check_label(label)
        if problem:
            raise InputError(f"{path}: camera {index}: {problem}")
    return Camera.from_label(torch.tensor(labels, dtype=torch.float32))


def to_file(path: str | Path, camera: Camera) -> None:
    """Writes the labels of N cameras as JSON, for `from_file` and --cameras."""
    labels = ",\n".join(json.dumps(label) for label in camera.label().tolist())
    with replacing(path) as temporary:
        temporary.write_text(f"[{labels}]\n")


def _looking_in(model: Model, positions: torch.Tensor, up: str | None) -> Camera:
    """Cameras at positions [N, 3] of a y-up world, turned so that `up` is up."""
    if up == "z":
        positions = positions.roll(1, dims=1)  # front z to x, right x to y, up y to z
    pose = look_at(positions.to(model.device), model.pivot, UP[up])
    return Camera(pose, model.intrinsics.expand(len(pose), 3, 3))
