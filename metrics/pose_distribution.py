"""Cameras from a formula in place of those of a data set: named distributions, and fitted ones.

The named ones are those with which MMagic reports FID50k-Camera. Angles h, v are those of
`training.cameras.orbit_position`.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from metrics.errors import MetricError
from metrics.samples import draw
from training.cameras import Y_UP, Z_UP, Camera, look_at, orbit_position

_AROUND = 0.5  # mean of unit vectors shorter than this: cameras go all around


@dataclass(frozen=True)
class PoseDistribution:
    """Cameras on a sphere around the origin that look at one point.

    Args:
        kind: 'gaussian', (mean, standard deviation) of h and v; 'uniform', (mean, half the range).
        h, v: angles in radians.
        radius: of the sphere.
        pivot: the point looked at.
        lens: intrinsics [9], row by row.
        up: axis of the world that points up in pictures.
        sphere_up: axis of the sphere that v is measured from.
    """

    name: str
    kind: str
    h: tuple[float, float]
    v: tuple[float, float]
    radius: float
    pivot: tuple[float, float, float]
    lens: tuple[float, ...]
    up: tuple[float, float, float] = Y_UP
    sphere_up: tuple[float, float, float] = Y_UP

    def sample(self, indices: range, seed: int = 0) -> torch.Tensor:
        """Camera labels [n, 25] float32 of the pictures with some successive numbers."""
        make = {"gaussian": _normal, "uniform": _uniform}[self.kind]
        h, v = torch.from_numpy(draw(indices, (seed, 2), make)).unbind(1)
        h, v = (mean + spread * x for (mean, spread), x in ((self.h, h), (self.v, v)))
        origins = orbit_position(h, v, self.radius) @ _turn(self.sphere_up).double()
        pose = look_at(origins, self.pivot, self.up)
        lens = torch.tensor(self.lens, dtype=pose.dtype).reshape(1, 3, 3)
        return Camera(pose, lens.expand(len(pose), 3, 3)).label().float()


def pose_distribution(name: str, labels: torch.Tensor) -> PoseDistribution:
    """The distribution 'ffhq', 'afhq' or 'shapenet', or 'fitted' to labels [N, 25]. Raises
    MetricError."""
    if name == "fitted":
        return fit(labels)
    if name not in NAMED:
        known = ", ".join(["fitted", *NAMED])
        raise MetricError(f"no distribution of cameras is called {name!r}; there are {known}")
    return NAMED[name]


def fit(labels: torch.Tensor) -> PoseDistribution:
    """The distribution of labels [N, 25]: normal angles; uniform ones where cameras go all around.

    Up is the axis of the world nearest to the mean upper edge of the pictures; the pivot is the
    point nearest to all lines of sight; distance and lens are medians. A roll is not modelled.
    """
    camera = Camera.from_label(labels.double())
    pose = camera.cam2world
    up = _nearest_axis(-pose[:, :3, 1].mean(0))
    origins = pose[:, :3, 3]
    h, v = _angles(origins @ _turn(up).double().T)
    centre = torch.stack([h.cos(), h.sin()]).mean(1)
    mean = float(torch.atan2(centre[1], centre[0]))
    offsets = torch.remainder(h - mean + math.pi, 2 * math.pi) - math.pi
    if centre.norm() < _AROUND:
        kind, h_range = "uniform", (mean, math.pi)
        low, high = float(v.min()), float(v.max())
        v_range = ((low + high) / 2, (high - low) / 2)
    else:
        kind, h_range = "gaussian", (mean + float(offsets.mean()), _deviation(offsets))
        v_range = (float(v.mean()), _deviation(v))
    return PoseDistribution(
        name="fitted",
        kind=kind,
        h=h_range,
        v=v_range,
        radius=float(origins.norm(dim=1).median()),
        pivot=tuple(_pivot(origins, pose[:, :3, 2]).tolist()),
        lens=tuple(camera.intrinsics.median(0).values.flatten().tolist()),
        up=up,
        sphere_up=up,
    )


def _faces(name: str) -> PoseDistribution:
    focal = 1 / (math.tan(math.radians(18.837) / 2) * 1.414)
    return PoseDistribution(
        name,
        "gaussian",
        h=(1.57, 0.35),
        v=(1.57 - 0.05, 0.25),
        radius=2.7,
        pivot=(0, 0, 0.2),
        lens=(focal, 0, 0.5, 0, focal, 0.5, 0, 0, 1),
    )


NAMED = {
    "ffhq": _faces("ffhq"),
    "afhq": _faces("afhq"),
    "shapenet": PoseDistribution(
        "shapenet",
        "uniform",
        h=(3.141, 3.141),
        v=(1.5705, 1.5705),
        radius=1.2,
        pivot=(0, 0, 0),
        lens=(1.025390625, 0, 0.5, 0, 1.025390625, 0.5, 0, 0, 1),
        up=Z_UP,
    ),
}


def _normal(random: np.random.RandomState, count: int) -> np.ndarray:
    return random.randn(count, 2)


def _uniform(random: np.random.RandomState, count: int) -> np.ndarray:
    return random.rand(count, 2) * 2 - 1


def _nearest_axis(direction: torch.Tensor) -> tuple[float, float, float]:
    axis = torch.zeros(3)
    k = int(direction.abs().argmax())
    axis[k] = direction[k].sign()
    return tuple(axis.tolist())


def _turn(up: tuple[float, float, float]) -> torch.Tensor:
    """The rotation [3, 3] that turns `up`, an axis of the world, to +y."""
    k = int(torch.tensor(up).abs().argmax())
    side = torch.zeros(3)
    side[(k + 2) % 3] = 1
    y = torch.tensor(up)
    return torch.stack([side, y, torch.linalg.cross(side, y)])


def _angles(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """h, v [N] of positions [N, 3] around the origin: the inverse of `orbit_position`."""
    x, y, z = (positions / positions.norm(dim=1, keepdim=True)).unbind(1)
    return math.pi - torch.atan2(z, x), math.pi / 2 * (1 - y)


def _pivot(origins: torch.Tensor, forward: torch.Tensor) -> torch.Tensor:
    """The point [3] with the least squared distance from lines through origins along forward,
    both [N, 3]; of all such points, which parallel lines have, the one nearest to the origin."""
    across = torch.eye(3, dtype=origins.dtype) - forward[:, :, None] * forward[:, None, :]
    system, right = across.sum(0), (across @ origins[:, :, None]).sum(0)
    return torch.linalg.lstsq(system, right, driver="gelsd").solution[:, 0]


def _deviation(values: torch.Tensor) -> float:
    return float(values.std(correction=0))
