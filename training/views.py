"""Views: which part of the picture is rendered, and the same part cut out of a finished picture.

A view turns cameras into rays and pictures into the matching crop, so that what is rendered and
what is cut show the same thing at the same place, for real and for generated pictures.

Places in a picture are (x, y) in [0, 1]^2, from the left and the upper edge. Pixels lie on one of
two grids: `centres`, pixel i of R at (i + 0.5) / R, or `corners`, pixel i at i / (R - 1), so that
the outermost pixels lie on the edges.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from torch_utils.ops import resampling
from training.cameras import Camera
from training.volumetric_rendering.ray_sampler import camera_rays, pixel_centres

PIXEL_GRIDS = ("centres", "corners")


class View(Protocol):
    """A square part of a picture. `resolution`: the side of what is rendered, in pixels.

    Row and column i, j of a crop and ray i * resolution + j belong together.
    """

    resolution: int

    def rays(self, camera: Camera) -> tuple[Tensor, Tensor]:
        """N cameras -> origins and unit directions [N, resolution^2, 3], row by row."""

    def crop(self, images: Tensor) -> Tensor:
        """The view's part of whole pictures [N, C, R, R] -> [N, C, resolution, resolution]."""


@dataclass(frozen=True)
class FullView:
    """The whole picture, its pixels on the grid `pixel_grid` of PIXEL_GRIDS."""

    resolution: int
    pixel_grid: str = "centres"

    def __post_init__(self):
        if self.pixel_grid not in PIXEL_GRIDS:
            raise ValueError(
                f"pixel_grid is {self.pixel_grid!r}; must be one of {', '.join(PIXEL_GRIDS)}"
            )

    def rays(self, camera: Camera) -> tuple[Tensor, Tensor]:
        """See `View.rays`."""
        grid = pixel_centres if self.pixel_grid == "centres" else pixel_corners
        x, y = grid(self.resolution, like=camera.cam2world)
        return camera_rays(camera.cam2world, camera.intrinsics, x[None], y[None])

    def crop(self, images: Tensor) -> Tensor:
        """The pictures themselves; ValueError if they have another size."""
        _check_side(images, self.resolution)
        return images


@dataclass(frozen=True, eq=False)
class PatchView:
    """A patch of any size at any place, another one in each picture, on the grid of corners.

    EpiGRAF (Skorokhodov et al. 2022): rays and crop are samples of the picture at points, neither
    averages over the pixels between them. So one resolution sees the whole picture coarsely and a
    small part of it finely.

    scales: width and height [N, 2] as shares of the picture's. offsets: [N, 2], shares too, of the
    patch from the left and from the lower edge. A patch lies inside where 0 <= offset <= 1 - scale.
    """

    scales: Tensor
    offsets: Tensor
    resolution: int

    def __post_init__(self):
        shapes = tuple(self.scales.shape), tuple(self.offsets.shape)
        if shapes[0] != shapes[1] or self.scales.ndim != 2 or shapes[0][1] != 2:
            raise ValueError(
                f"scales of shape {shapes[0]} and offsets of shape {shapes[1]}; both must be [N, 2]"
            )

    def points(self) -> Tensor:
        """Where the patch's pixels lie: x, y [N, resolution^2, 2], row by row."""
        grid = torch.stack(pixel_corners(self.resolution, like=self.scales), dim=-1)
        left, bottom = self.offsets.unbind(1)
        top = 1 - self.scales[:, 1] - bottom
        return grid * self.scales[:, None] + torch.stack([left, top], dim=1)[:, None]

    def rays(self, camera: Camera) -> tuple[Tensor, Tensor]:
        """See `View.rays`; one camera a patch."""
        x, y = self.points().to(camera.cam2world).unbind(-1)
        return camera_rays(camera.cam2world, camera.intrinsics, x, y)

    def crop(self, images: Tensor) -> Tensor:
        """Bilinear samples of images [N, C, R, R], one image a patch; zeros outside."""
        grid = (2 * self.points() - 1).unflatten(1, (self.resolution, self.resolution))
        return resampling.grid_sample(images, grid.to(images), align_corners=True)


@dataclass(frozen=True, eq=False)
class WindowView:
    """A window of whole pixels of a picture of `full` x `full`, another one in each picture.

    Mimic3D (Chen et al. 2023): the window is rendered as finely as the final picture, so it can be
    compared with that picture pixel by pixel.

    corners: top row and left column [N, 2], whole numbers from 0 to full - resolution.
    """

    corners: Tensor
    resolution: int
    full: int

    def __post_init__(self):
        if self.corners.ndim != 2 or self.corners.shape[1] != 2:
            raise ValueError(f"corners of shape {tuple(self.corners.shape)}; must be [N, 2]")
        if not 1 <= self.resolution <= self.full:
            raise ValueError(f"window of {self.resolution} pixels in a picture of {self.full}")

    def pixels(self) -> Tensor:
        """The numbers row * full + column of the window's pixels, [N, resolution^2] int64."""
        steps = torch.arange(self.resolution, device=self.corners.device)
        rows, columns = (self.corners.long()[..., None] + steps).unbind(1)
        return (rows[:, :, None] * self.full + columns[:, None]).flatten(1)

    def rays(self, camera: Camera) -> tuple[Tensor, Tensor]:
        """See `View.rays`; one camera a window."""
        pixels = self.pixels()
        x, y = (centres[pixels] for centres in pixel_centres(self.full, like=camera.cam2world))
        return camera_rays(camera.cam2world, camera.intrinsics, x, y)

    def crop(self, images: Tensor) -> Tensor:
        """One picture a window; ValueError if they are not `full` pixels high and wide."""
        _check_side(images, self.full)
        pixels = self.pixels()[:, None].expand(-1, images.shape[1], -1)
        side = (self.resolution, self.resolution)
        return images.flatten(2).gather(2, pixels).unflatten(2, side)


def random_windows(
    count: int, resolution: int, full: int, device: torch.device | str | None = None
) -> Tensor:
    """Corners [count, 2] for `WindowView`: all windows of a picture are equally likely."""
    return torch.randint(0, full - resolution + 1, [count, 2], device=device)


def pixel_corners(resolution: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """x, y in [0, 1], each [resolution^2], row by row: the outermost pixels on the edges."""
    steps = torch.linspace(0, 1, resolution, dtype=like.dtype, device=like.device)
    return steps.repeat(resolution), steps.repeat_interleave(resolution)


def _check_side(images: Tensor, side: int):
    if tuple(images.shape[-2:]) != (side, side):
        size = " x ".join(map(str, images.shape[-2:]))
        raise ValueError(f"a view of pictures of {side} x {side} pixels was given {size}")
