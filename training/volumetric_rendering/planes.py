"""Looking up features on three axis-aligned planes (Chan et al. 2022, section 3.2)."""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F

from torch_utils.ops import resampling

# For each plane the axes of space that run along its columns, its rows, and its normal.
# 'legacy' is what released models were trained with: the last two planes see the same two
# coordinates and none sees (y, z). 'orthogonal' is the authors' correction, for new models only.
# 'cyclic' and 'xy_xz_yz' see the same three pairs, with other planes transposed: a model belongs to
# the axes that it was trained with.
AXIS_ORDERS = {
    "legacy": ((0, 1, 2), (0, 2, 1), (2, 0, 1)),
    "orthogonal": ((0, 1, 2), (0, 2, 1), (2, 1, 0)),
    "cyclic": ((0, 1, 2), (1, 2, 0), (2, 0, 1)),
    "xy_xz_yz": ((0, 1, 2), (0, 2, 1), (1, 2, 0)),
}

AxisPair = tuple[int, int]


def generate_planes(mode: str = "legacy") -> torch.Tensor:
    """Axes [3, 3, 3] of the three planes: row r of matrix p is the r-th axis of plane p.

    mode: 'legacy' (x,y), (x,z), (z,x); 'orthogonal' (x,y), (x,z), (z,y); 'cyclic' (x,y), (y,z),
    (z,x); 'xy_xz_yz'. The first letter runs along the columns of the plane, the second along rows.
    """
    if mode not in AXIS_ORDERS:
        raise ValueError(f"plane_axes {mode!r}; possible: {', '.join(map(repr, AXIS_ORDERS))}")
    return torch.eye(3)[torch.tensor(AXIS_ORDERS[mode])]


def axis_pairs(plane_axes: torch.Tensor) -> tuple[AxisPair, ...]:
    """Axes [K, 3, 3] -> for each plane which coordinate runs along columns and which along rows."""
    pairs = []
    for number, rows in enumerate(plane_axes.tolist()):
        order = [row.index(1.0) if sorted(row) == [0.0, 0.0, 1.0] else -1 for row in rows]
        if sorted(order) != [0, 1, 2]:
            raise ValueError(
                f"plane_axes: the axes of plane {number} are {rows}; they must be the three unit "
                "vectors in some order"
            )
        pairs.append((order[0], order[1]))
    return tuple(pairs)


def project(pairs: Sequence[AxisPair], coordinates: torch.Tensor) -> torch.Tensor:
    """Drop each plane's normal: coordinates [N, P, 3] -> [N * K, P, 2] (column, row)."""
    components = coordinates.unbind(-1)
    chosen = [torch.stack([components[a], components[b]], dim=-1) for a, b in pairs]
    return torch.stack(chosen, dim=1).flatten(0, 1)


def project_onto_planes(planes: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Position on each plane: axes [K, 3, 3], coordinates [N, P, 3] -> [N * K, P, 2].

    Index n * K + p. The inverse of a permutation is an index, so nothing is inverted.
    """
    return project(axis_pairs(planes), coordinates)


def sample_from_planes(
    plane_axes: torch.Tensor,
    plane_features: torch.Tensor | Sequence[torch.Tensor],
    coordinates: torch.Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    box_warp: float | None = None,
    align_corners: bool = False,
) -> torch.Tensor:
    """Features of points: planes [N, 3, C, H, W], coordinates [N, P, 3] (world) -> [N, 3, P, C].

    Of a sequence of planes, whose sides H, W may differ, the features add up. The cube of side
    box_warp around the origin covers the planes edge to edge, or, with align_corners, from the
    centre of the first texel to that of the last; outside of those centres features fade to zero
    within a texel.
    """
    if padding_mode != "zeros":
        raise ValueError(f"padding_mode is {padding_mode!r}; only 'zeros' is possible")
    if box_warp is None:
        raise ValueError("sample_from_planes needs box_warp, the side of the cube")
    points = (2 / box_warp) * coordinates
    pairs = axis_pairs(plane_axes)
    each = [plane_features] if torch.is_tensor(plane_features) else plane_features
    found = [lookup(pairs, planes, points, mode, align_corners) for planes in each]
    return reduce(torch.add, found).transpose(2, 3)


def lookup(
    pairs: Sequence[AxisPair],
    planes: torch.Tensor,
    points: torch.Tensor,
    mode: str = "bilinear",
    align_corners: bool = False,
) -> torch.Tensor:
    """Planes [N, K, C, H, W] at points [N, P, 3] of the cube [-1, 1]^3 -> [N, K, C, P]."""
    # Positions need more bits than a half: 16-bit planes are widened, never the reverse.
    dtype = torch.promote_types(planes.dtype, points.dtype)
    texels, places = planes.flatten(0, 1).to(dtype), project(pairs, points).unsqueeze(1).to(dtype)
    if mode == "bilinear":
        sampled = resampling.grid_sample(texels, places, align_corners)
    else:
        sampled = F.grid_sample(texels, places, mode, "zeros", align_corners)
    return sampled.squeeze(2).unflatten(0, planes.shape[:2])


def lookup_sum(
    pairs: Sequence[AxisPair], planes: torch.Tensor, points: torch.Tensor
) -> torch.Tensor:
    """Sum of the planes' features at points [N, P, 3] of the cube [-1, 1]^3 -> [N, P, C]."""
    # Adding whole planes is three times as fast on a CPU as a reduction over the strided axis.
    return reduce(torch.add, lookup(pairs, planes, points).unbind(1)).transpose(1, 2)


def merge_planes(
    pairs: Sequence[AxisPair], planes: torch.Tensor
) -> tuple[tuple[AxisPair, ...], torch.Tensor]:
    """Fewer planes [N, <= K, C, H, W] with the same sum of features at every point.

    A plane that sees another's two coordinates in the other order is added to it, transposed: with
    'legacy' axes two look-ups do the work of three. In memory a texel's features lie side by side,
    which makes look-ups two to four times as fast on a CPU.
    """
    height, width = planes.shape[-2:]
    merged: dict[AxisPair, torch.Tensor] = {}
    for pair, plane in zip(pairs, planes.unbind(1), strict=True):
        swapped = (pair[1], pair[0])
        if swapped in merged and height == width:
            merged[swapped] = merged[swapped] + plane.transpose(-1, -2)
        elif pair in merged:
            merged[pair] = merged[pair] + plane
        else:
            merged[pair] = plane
    texels = torch.stack([plane.permute(0, 2, 3, 1) for plane in merged.values()], dim=1)
    return tuple(merged), texels.permute(0, 1, 4, 2, 3)


class PlaneSet(NamedTuple):
    """Planes [N, K, C, H, W] ready for look-ups, what they see, and what makes of world coordinates
    those of the cube [-1, 1]^3 that they cover edge to edge."""

    pairs: tuple[AxisPair, ...]
    planes: torch.Tensor
    scale: float


def plane_set(
    pairs: Sequence[AxisPair],
    planes: torch.Tensor,
    scale: float,
    average: bool = False,
    align_corners: bool = False,
) -> PlaneSet:
    """A set of planes [N, K, C, H, W] over the cube of side 2 / scale. `average`: as few planes as
    possible whose features add up to the mean of all; `align_corners`: the faces of the cube lie
    on the centres of the outer texels."""
    count, height, width = planes.shape[1], *planes.shape[-2:]
    if len(pairs) != count:
        raise ValueError(
            f"planes of shape {tuple(planes.shape)} hold {count} planes; "
            f"plane_axes describe {len(pairs)}"
        )
    if align_corners:
        if height != width:
            raise ValueError(
                f"plane_align_corners needs square planes, not {height} rows of {width} texels"
            )
        scale = scale * (width - 1) / width
    if average:
        pairs, planes = merge_planes(pairs, planes / count)
    return PlaneSet(tuple(pairs), planes, scale)


def sample_from_3dgrid(grid: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Trilinear look-up: grid [1 or N, C, D0, D1, D2], coordinates [N, P, 3] -> [N, P, C].

    Coordinates are in [-1, 1]; x runs along D2, y along D1, z along D0. Zero outside.
    """
    grid = grid.expand(coordinates.shape[0], -1, -1, -1, -1)
    sampled = F.grid_sample(
        grid, coordinates[:, None, None], padding_mode="zeros", align_corners=False
    )
    return sampled[:, :, 0, 0].transpose(1, 2)
