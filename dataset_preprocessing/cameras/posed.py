"""Pictures with cameras: what every format is read into and written from.

Pixels are counted from the corner: a picture of width W spans [0, W], the centre of its first pixel
is 0.5, and a centred principal point is W / 2. COLMAP, nerfstudio and instant-ngp count likewise.
OpenCV counts from the centre of the first pixel: its calibrations need 0.5 added to the principal
point.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np
import torch

from training.cameras import Camera, check_label
from training.label_file import valid_labels

_SKEW = 1e-6  # of the width: less is rounding


class CameraError(ValueError):
    """Cameras cannot be read or written; the message is one line that says where and why."""


@dataclass(frozen=True, eq=False)
class PosedPictures:
    """N pictures and their cameras.

    Args:
        names: paths of the pictures in their folder, with forward slashes.
        cam2world: float64 [N, 4, 4], camera axes right, down, forward (OpenCV).
        intrinsics: float64 [N, 3, 3] in pixels from the corner.
        sizes: int64 [N, 2], the width and height in pixels that the intrinsics belong to.
        distorted: bool [N], whether the lens bends straight lines, which no label can say.
        points: float64 [M, 3] of surfaces in the same world; M = 0 in formats without any.
        classes: what kind of thing each shows; None in formats without any.
    """

    names: list[str]
    cam2world: np.ndarray
    intrinsics: np.ndarray
    sizes: np.ndarray
    distorted: np.ndarray
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    classes: list[int] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def labels(self) -> np.ndarray:
        """Camera labels float64 [N, 25]."""
        lens = self.intrinsics / _spans(self.sizes)
        return Camera(torch.from_numpy(self.cam2world), torch.from_numpy(lens)).label().numpy()

    @classmethod
    def from_labels(
        cls, names: list[str], labels: np.ndarray, sizes: np.ndarray
    ) -> "PosedPictures":
        """Of camera labels [N, 25] and the sizes [N, 2] of the pictures."""
        camera = Camera.from_label(torch.from_numpy(np.asarray(labels, dtype=np.float64)))
        lens = camera.intrinsics.numpy() * _spans(sizes)
        return cls(names, camera.cam2world.numpy(), lens, sizes, np.zeros(len(names), dtype=bool))

    def sorted(self) -> "PosedPictures":
        """In the order of the names, which is that of datasets."""
        order = sorted(range(len(self)), key=lambda index: self.names[index])
        return replace(
            self,
            names=[self.names[index] for index in order],
            cam2world=self.cam2world[order],
            intrinsics=self.intrinsics[order],
            sizes=self.sizes[order],
            distorted=self.distorted[order],
            classes=self.classes and [self.classes[index] for index in order],
        )


@dataclass(frozen=True)
class Export:
    """Cameras in another format: the content of its files, by path, and the path that each picture
    is to have beside them."""

    files: dict[str, bytes]
    pictures: list[str]


@dataclass(frozen=True)
class Lens:
    """Intrinsics in pixels, of a size, and whether they leave out distortion."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distorted: bool = False


def assemble(
    names: list[str], cam2world: np.ndarray, lenses: list[Lens], points: np.ndarray | None = None
) -> PosedPictures:
    """Pictures of names, poses [N, 4, 4] and a lens for each."""
    intrinsics = np.zeros((len(lenses), 3, 3))
    for matrix, lens in zip(intrinsics, lenses, strict=True):
        matrix[:] = [[lens.fx, 0, lens.cx], [0, lens.fy, lens.cy], [0, 0, 1]]
    return PosedPictures(
        names,
        np.asarray(cam2world, dtype=np.float64).reshape(-1, 4, 4),
        intrinsics,
        np.array([[lens.width, lens.height] for lens in lenses], dtype=np.int64).reshape(-1, 2),
        np.array([lens.distorted for lens in lenses], dtype=bool),
        np.zeros((0, 3)) if points is None else points,
    )


def lenses_of(posed: PosedPictures, kind: str) -> list[Lens]:
    """A lens for each picture. Raises CameraError for skew, which files of a kind cannot say."""
    matrices = posed.intrinsics
    for name, matrix, (width, _) in zip(posed.names, matrices, posed.sizes, strict=True):
        if abs(matrix[0, 1]) > _SKEW * width:
            raise CameraError(
                f"{name}: its pixels have a skew of {matrix[0, 1]:.4g}; {kind} has no place for it"
            )
    values = matrices[:, [0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    return [Lens(*size, *four) for size, four in zip(posed.sizes.tolist(), values, strict=True)]


def check(
    posed: PosedPictures,
    where: str,
    picture_size: Callable[[str], tuple[int, int]],
    ignore_distortion: bool = False,
) -> None:
    """Raises CameraError, with `where` in it, if a picture is there twice or not of its camera's
    proportions, or a camera is none that a label can hold.

    picture_size: name to width and height in pixels.
    """
    if not len(posed):
        raise CameraError(f"{where}: has no cameras")
    name, count = Counter(posed.names).most_common(1)[0]
    if count > 1:
        raise CameraError(f"{where}: has {count} cameras of {name}, must be one for each picture")
    for name in posed.names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise CameraError(f"{where}: {name} must be the name of a picture inside the folder")
    if posed.distorted.any() and not ignore_distortion:
        raise CameraError(
            f"{where}: {posed.names[int(np.argmax(posed.distorted))]}: its lens is distorted "
            f"({posed.distorted.sum()} of {len(posed)} pictures); undistort the pictures, or "
            "--ignore-distortion"
        )
    _check_sizes(posed, where, picture_size)
    labels = posed.labels()
    wrong = np.flatnonzero(~valid_labels(labels))
    if wrong.size:
        reason = check_label(labels[wrong[0]])
        raise CameraError(f"{where}: {posed.names[wrong[0]]}: {reason}")


def _check_sizes(
    posed: PosedPictures, where: str, picture_size: Callable[[str], tuple[int, int]]
) -> None:
    """Pictures may be larger or smaller than in their camera, but for a rounded side not of other
    proportions."""
    for name, (width, height) in zip(posed.names, posed.sizes.tolist(), strict=True):
        if width < 1 or height < 1:
            raise CameraError(f"{where}: {name}: its camera is {width} x {height} pixels large")
        across, down = picture_size(name)
        if min(abs(down - across * height / width), abs(across - down * width / height)) > 1:
            raise CameraError(
                f"{where}: {name} has {across} x {down} pixels, its camera {width} x {height}: "
                "must be of the same proportions"
            )


def _spans(sizes: np.ndarray) -> np.ndarray:
    """[N, 3, 1]: what the rows of normalised intrinsics are divided by."""
    return np.concatenate([sizes, np.ones_like(sizes[:, :1])], axis=1)[:, :, None].astype(float)
