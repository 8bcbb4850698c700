"""Puts a scene where a model expects it: upright, around the origin, of the right size.

Every step is a similarity of the world, which changes no picture: cameras move along with what they
see. The similarity is returned, and its inverse undoes it.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.spatial.transform import Rotation

from dataset_preprocessing.cameras.posed import CameraError, PosedPictures

_UP = np.array([0.0, 1.0, 0.0])
_TURNED = 0.05  # mean squared sine of azimuth (rms 13 degrees) from which right axes show up best
_LEVEL = 10.0  # at least so many times as much as up and down they must spread then
_PARALLEL = 1e-4  # squared sine of the angles between optical axes that never meet
_INLIERS = 0.98  # of the points; the others are taken for errors of the reconstruction


@dataclass(frozen=True, eq=False)
class Similarity:
    """Points x to scale * rotation @ x + translation; rotation float64 [3, 3], translation [3]."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    @classmethod
    def of(
        cls,
        scale: float = 1.0,
        rotation: np.ndarray | None = None,
        translation: np.ndarray | None = None,
    ) -> "Similarity":
        """What is not given stays as it is."""
        rotation = np.eye(3) if rotation is None else rotation
        return cls(scale, rotation, np.zeros(3) if translation is None else translation)

    def after(self, first: "Similarity") -> "Similarity":
        """First another one, then this."""
        moved = self.scale * self.rotation @ first.translation + self.translation
        return Similarity(self.scale * first.scale, self.rotation @ first.rotation, moved)

    def inverse(self) -> "Similarity":
        """What undoes this one."""
        scale, rotation = 1 / self.scale, self.rotation.T
        return Similarity(scale, rotation, -scale * rotation @ self.translation)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 3], moved."""
        return self.scale * points @ self.rotation.T + self.translation

    def apply(self, posed: PosedPictures) -> PosedPictures:
        """The same pictures of the moved scene."""
        pose = posed.cam2world.copy()
        pose[:, :3, :3] = self.rotation @ pose[:, :3, :3]
        pose[:, :3, 3] = self.points(pose[:, :3, 3])
        return replace(posed, cam2world=pose, points=self.points(posed.points))


def align(
    posed: PosedPictures,
    auto_orient: bool = False,
    recenter: bool = False,
    radius: float | None = None,
    box: float | None = None,
) -> tuple[PosedPictures, Similarity]:
    """The scene moved and the similarity that did it; in this order:

    Args:
        auto_orient: `to_upright`.
        recenter: `to_center`.
        radius: `to_radius`.
        box: `to_box`; not with a radius.

    Raises CameraError if the cameras do not say where to.
    """
    steps = [to_upright] * auto_orient + [to_center] * recenter
    if radius is not None:
        steps.append(partial(to_radius, radius=radius))
    if box is not None:
        steps.append(partial(to_box, side=box))
    total = Similarity.of()
    for step in steps:
        similarity = step(posed)
        posed, total = similarity.apply(posed), similarity.after(total)
    return posed, total


def to_upright(posed: PosedPictures) -> Similarity:
    """The shortest turn that takes the up of the pictures to +y.

    Where cameras look from several sides, up is at right angles to their right axes, since
    photographs have little roll. Else it is the mean of the pictures' up axes, which would lean
    where cameras look down from more on one side than on another.
    """
    mean = -posed.cam2world[:, :3, 1].mean(0)
    if np.linalg.norm(mean) < 0.1:
        raise CameraError("--auto-orient: the pictures have no up in common")
    right = posed.cam2world[:, :3, 0]
    spread, axes = np.linalg.eigh(right.T @ right / len(right))
    up = mean / np.linalg.norm(mean)
    if spread[1] > max(_TURNED, _LEVEL * spread[0]):
        up = axes[:, 0] * np.sign(axes[:, 0] @ mean)
    axis = np.cross(up, _UP)
    sine = np.linalg.norm(axis)
    axis = axis / sine if sine > 1e-12 else np.array([1.0, 0.0, 0.0])
    turn = Rotation.from_rotvec(axis * np.arctan2(sine, up @ _UP))
    return Similarity.of(rotation=turn.as_matrix())


def to_center(posed: PosedPictures) -> Similarity:
    """The shift to the origin of the point nearest to all optical axes, by least squares."""
    center, forward = posed.cam2world[:, :3, 3], posed.cam2world[:, :3, 2]
    across = np.eye(3) - forward[:, :, None] * forward[:, None]  # onto the plane across an axis
    matrix = across.mean(0)
    if np.linalg.eigvalsh(matrix)[0] < _PARALLEL:
        raise CameraError("--recenter: the cameras look the same way, at no point in common")
    point = np.linalg.solve(matrix, (across @ center[:, :, None]).mean(0)[:, 0])
    if np.median(((point - center) * forward).sum(1)) <= 0:
        raise CameraError("--recenter: the cameras look outwards, at no point in common")
    return Similarity.of(translation=-point)


def to_radius(posed: PosedPictures, radius: float) -> Similarity:
    """The scale that makes `radius` of the mean distance of the cameras from the origin."""
    return _to_size(np.linalg.norm(posed.cam2world[:, :3, 3], axis=1).mean(), radius, "--radius")


def to_box(posed: PosedPictures, side: float) -> Similarity:
    """The scale that puts the points into the cube of a side around the origin, but for the outer
    2 %; all cameras where there are no points."""
    if len(posed.points):
        size = np.quantile(np.abs(posed.points).max(1), _INLIERS)
    else:
        size = np.abs(posed.cam2world[:, :3, 3]).max()
    return _to_size(2 * size, side, "--box")


def _to_size(size: float, wanted: float, option: str) -> Similarity:
    if not 0 < size < np.inf:
        raise CameraError(f"{option}: the scene has a size of {size}, nothing to scale")
    return Similarity.of(scale=float(wanted / size))
