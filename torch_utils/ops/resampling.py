"""Bilinear sampling, resizing and mirrored borders whose gradients are the same sums each time.

On a GPU the gradients of PyTorch's own operators are added up in an order that depends on chance.
Where `torch.use_deterministic_algorithms` asks for more, the work is done by operators that then
have a fixed order: look-ups by index, and products with matrices. Elsewhere these functions are
PyTorch's own.
"""

import functools
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["grid_sample", "mirrored", "resize"]


def grid_sample(images: Tensor, grid: Tensor, align_corners: bool = False) -> Tensor:
    """Samples images [N, C, H, W] at grid [N, h, w, 2] (x, y in -1..1) -> [N, C, h, w].

    Bilinear, zeros outside; -1 and 1 are the outer edges of the border pixels, with align_corners
    their centres. Differentiable twice in both arguments.
    """
    if not _fixed_order(images):
        return F.grid_sample(images, grid, "bilinear", "zeros", align_corners)
    return gathered(images, grid, align_corners)


def resize(
    images: Tensor, height: int, width: int, antialias: bool = False, align_corners: bool = False
) -> Tensor:
    """Bilinear resizing of images [N, C, H, W] to [N, C, height, width].

    antialias: widens the filter where the result is smaller. align_corners: the centres of the
    outer pixels stay where they are, else their outer edges.
    """
    if not _fixed_order(images):
        return F.interpolate(
            images, (height, width), None, "bilinear", align_corners, antialias=antialias
        )
    return multiplied(images, height, width, antialias, align_corners)


def mirrored(images: Tensor, borders: tuple[int, int, int, int]) -> Tensor:
    """Images [N, C, H, W] with borders (left, right, top, bottom) of their mirror images; the edge
    itself is not repeated."""
    if not _fixed_order(images):
        return F.pad(images, borders, mode="reflect")
    return reflected(images, borders)


# -- With gradients in a fixed order --------------------------------------------------------------


def gathered(images: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
    """`grid_sample` by looking up four pixels by their index."""
    count, channels, height, width = images.shape
    table = images.permute(0, 2, 3, 1).flatten(0, 2)
    first = torch.arange(count, device=images.device)[:, None, None] * (height * width)
    ends = ((width, grid[..., 0]), (height, grid[..., 1]))
    places = [(x + 1) / 2 * (n - 1) if align_corners else ((x + 1) * n - 1) / 2 for n, x in ends]
    corners = [place.detach().floor() for place in places]
    total = 0
    for offsets in itertools.product((0, 1), repeat=2):
        weight, index = 1, first
        for (side, _), place, corner, offset, step in zip(
            ends, places, corners, offsets, (1, width), strict=True
        ):
            at = corner + offset
            inside = (at >= 0) & (at < side)
            weight = weight * torch.where(inside, 1 - (place - at).abs(), 0)
            index = index + at.clamp(0, side - 1).long() * step
        texels = table.index_select(0, index.flatten()).unflatten(0, index.shape)
        total = total + texels * weight.unsqueeze(-1).to(table.dtype)
    return total.permute(0, 3, 1, 2)


def multiplied(
    images: Tensor, height: int, width: int, antialias: bool, align_corners: bool
) -> Tensor:
    """`resize` by a matrix for each axis."""
    rows = _responses(images.shape[2], height, antialias, align_corners).to(images)
    columns = _responses(images.shape[3], width, antialias, align_corners).to(images)
    return rows.t() @ images @ columns


def reflected(images: Tensor, borders: tuple[int, int, int, int]) -> Tensor:
    """`mirrored` by looking up columns and rows by their index."""
    for axis, before, after in ((3, *borders[:2]), (2, *borders[2:])):
        last = images.shape[axis] - 1
        index = torch.arange(-before, last + 1 + after, device=images.device).abs()
        images = images.index_select(axis, last - (last - index).abs())
    return images


@functools.lru_cache(maxsize=64)
def _responses(side: int, new: int, antialias: bool, align_corners: bool) -> Tensor:
    """What resizing makes of each pixel of a row: [side, new], on the CPU."""
    pixels = torch.eye(side, dtype=torch.float64)[:, None, None]
    resized = F.interpolate(pixels, (1, new), None, "bilinear", align_corners, antialias=antialias)
    return resized[:, 0, 0]


def _fixed_order(images: Tensor) -> bool:
    return images.is_cuda and torch.are_deterministic_algorithms_enabled()
