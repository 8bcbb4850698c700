"""Camera paths of videos: by name, or through the keyframe cameras of a file.

Radius, pivot and lens come from the model; `up` as in `eg3d.views`. All named paths are closed:
after the last camera comes the first.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.spatial.transform import Rotation, RotationSpline

from eg3d import views
from eg3d.cameras import FOV_to_intrinsics
from eg3d.errors import InputError
from eg3d.latents import interpolate
from eg3d.model import Model
from training.cameras import Camera, look_at

NAMES = ("orbit", "sway", "spiral", "dolly", "front")
KEYS = ("azimuth", "elevation", "radius", "fov")


def default_name(model: Model) -> str:
    """'orbit' for models that were trained on views from all around, else the published 'sway'.

    They say so by `camera_azimuth_degrees` in rendering_kwargs.
    """
    low, high = model.rendering_kwargs.get("camera_azimuth_degrees", views.DEFAULT_AZIMUTH)
    return "orbit" if high - low >= 360 else "sway"


def named(
    model: Model, name: str, count: int, elevation: float | None = None, up: str | None = None
) -> Camera:
    """`count` cameras along one of NAMES. `elevation`, in degrees, is that of orbits only."""
    if name == "orbit":
        return views.orbit(model, count, elevation, up)
    if elevation is not None:
        raise InputError(f"an elevation has no effect on the path {name!r}; leave it out")
    if name == "front":
        front = views.front(model, up)
        return Camera(front.cam2world.expand(count, 4, 4), front.intrinsics.expand(count, 3, 3))
    paths = {"sway": views.sway, "spiral": spiral, "dolly": dolly}
    if name not in paths:
        raise InputError(f"path {name!r}: must be one of {', '.join(NAMES)}")
    return paths[name](model, count, up=up)


def spiral(model: Model, count: int, turns: int = 2, up: str | None = None) -> Camera:
    """Winds around the model, from the lowest elevation that it has seen to the highest and back.

    The range is `camera_elevation_degrees` of the checkpoint's rendering_kwargs, else -10 .. 20.
    """
    low, high = model.rendering_kwargs.get("camera_elevation_degrees", views.DEFAULT_ELEVATION)
    share = np.arange(count) / count
    elevation = low + (high - low) * (1 - np.cos(2 * np.pi * share)) / 2
    return _around(model, 360 * turns * share, elevation, np.full(count, model.radius), up)


def dolly(model: Model, count: int, nearest: float = 0.7, up: str | None = None) -> Camera:
    """From the front towards the pivot, to this share of the distance, and back."""
    front = views.front(model, up)
    pivot = torch.as_tensor(model.pivot).to(front.cam2world)
    turn = torch.arange(count).to(pivot) * (2 * math.pi / count)
    share = 1 - (1 - nearest) * (1 - torch.cos(turn)) / 2
    pose = front.cam2world.repeat(count, 1, 1)
    pose[:, :3, 3] = pivot + share[:, None] * (pose[:, :3, 3] - pivot)
    return Camera(pose, front.intrinsics.expand(count, 3, 3))


def from_file(model: Model, path: str | Path, count: int, up: str | None = None) -> Camera:
    """`count` cameras from the first keyframe of a JSON file to the last, through all of them.

    The file is a list of camera labels of 25 numbers (see `between`), or of objects with any of
    azimuth (0 is the front, 90 the right), elevation, radius and fov (diagonal; angles in
    degrees): left out, they are 0, 0 and the model's own. These cameras look at the pivot; between
    them the angles change, so an azimuth from 0 to 720 is two turns. Raises InputError.
    """
    try:
        entries = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        entries = None  # The reader of labels says what is wrong.
    if isinstance(entries, list) and any(isinstance(entry, dict) for entry in entries):
        keys = [_checked(entry, f"{path}: camera {i}", model) for i, entry in enumerate(entries)]
        return _between_angles(model, keys, count, up)
    if up is not None:
        raise InputError(f"{path}: camera labels say themselves what is up; leave --up out")
    labels = views.from_file(path)
    try:
        return between(labels.to(model.device), count, model.pivot)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def between(keys: Camera, count: int, pivot: Sequence[float] = (0.0, 0.0, 0.0)) -> Camera:
    """`count` cameras from the first of K keyframes to the last, the same time from each to the
    next; repeat the first at the end for a closed path.

    Four things are interpolated: the rotation (a spline of rotations with continuous angular
    acceleration), the point on the axis of view that is nearest to the pivot (cubic spline), the
    distance from there (cubic, without overshooting), and the intrinsics (linear). So cameras that
    look at one point from one distance keep doing so. Raises InputError where neighbours face
    opposite ways.
    """
    pose = keys.cam2world.double().cpu().numpy()
    rotation, position, forward = pose[:, :3, :3], pose[:, :3, 3], pose[:, :3, 2]
    distance = ((np.asarray(pivot) - position) * forward).sum(axis=1, keepdims=True)
    target = position + distance * forward
    target, distance = _cubic(target, count, CubicSpline), _cubic(distance, count)
    turned = _rotations(Rotation.from_matrix(rotation), count).as_matrix()

    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, :3, :3] = turned
    pose[:, :3, 3] = target - distance * turned[:, :, 2]
    return Camera(torch.from_numpy(pose).to(keys.cam2world), interpolate(keys.intrinsics, count))


def _rotations(keys: Rotation, count: int) -> Rotation:
    if len(keys) == 1:
        return Rotation.concatenate([keys] * count)
    turn = np.degrees((keys[:-1].inv() * keys[1:]).magnitude())
    if turn.max() > 179:
        first = int(turn.argmax())
        raise InputError(
            f"cameras {first} and {first + 1} face opposite ways, so the way between them could be "
            "any; put a camera there"
        )
    return RotationSpline(np.arange(len(keys)), keys)(_times(len(keys), count))


def _between_angles(
    model: Model, keys: Sequence[Mapping[str, float]], count: int, up: str | None
) -> Camera:
    columns = np.array([[key[name] for name in ("azimuth", "elevation", "radius")] for key in keys])
    lenses = [
        FOV_to_intrinsics(key["fov"], model.device) if "fov" in key else model.intrinsics
        for key in keys
    ]
    camera = _around(model, *_cubic(columns, count).T, up)
    return Camera(camera.cam2world, interpolate(torch.stack(lenses), count))


def _checked(entry: object, where: str, model: Model) -> dict[str, float]:
    """A keyframe with azimuth, elevation, radius and perhaps fov."""
    if not isinstance(entry, dict) or set(entry) - set(KEYS):
        raise InputError(f"{where}: must be an object with any of {', '.join(KEYS)}")
    for name, value in entry.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise InputError(f"{where}: {name} is {value!r}, must be a finite number")
    key = {"azimuth": 0.0, "elevation": 0.0, "radius": model.radius, **entry}
    for name, low, high in (("elevation", -90, 90), ("radius", 0, math.inf), ("fov", 0, 180)):
        if name in key and not low < key[name] < high:
            limit = f"between {low} and {high}" if high < math.inf else f"above {low}"
            raise InputError(f"{where}: {name} is {key[name]:g}, must be {limit}")
    return key


def _around(
    model: Model, azimuth: np.ndarray, elevation: np.ndarray, radius: np.ndarray, up: str | None
) -> Camera:
    """Cameras at angles in degrees that look at the pivot; N numbers each."""
    azimuth, elevation = np.radians(azimuth), np.radians(np.clip(elevation, -89.9, 89.9))
    ring = np.cos(elevation)
    directions = [ring * np.sin(azimuth), np.sin(elevation), ring * np.cos(azimuth)]
    if up == "z":
        directions = [directions[2], *directions[:2]]  # front z to x, right x to y, up y to z
    positions = torch.from_numpy(np.stack(directions, axis=1) * radius[:, None])
    pose = look_at(positions.to(model.intrinsics), model.pivot, views.UP[up])
    return Camera(pose, model.intrinsics.expand(len(pose), 3, 3))


def _times(keys: int, count: int) -> np.ndarray:
    return np.linspace(0, keys - 1, count)


def _cubic(keys: np.ndarray, count: int, kind: Callable = PchipInterpolator) -> np.ndarray:
    """[K, C] -> [count, C], piecewise cubic, by default monotonous between neighbours."""
    if len(keys) == 1:
        return keys.repeat(count, axis=0)
    return kind(np.arange(len(keys)), keys)(_times(len(keys), count))
