"""Volumes: the density of one scene on a regular grid.

On such a grid a plane's features are a table over two of the three axes, and the decoder's first
layer is linear: it is applied to the tables, whose sum at a point is then the hidden layer there.
The softplus of a sum is log(1 + the product of the exponentials), and those are taken of the
tables: what is left for each point and hidden unit is a product, a logarithm and its share in one
row of the second layer; for leaky ReLU a sum and a comparison. The numbers are those of
`Scene.density` up to rounding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from eg3d.errors import InputError
from training.volumetric_rendering.fused import activations_of, is_two_layers
from training.volumetric_rendering.options import RenderingOptions
from training.volumetric_rendering.planes import AxisPair, lookup
from training.volumetric_rendering.renderer import TriPlaneField

if TYPE_CHECKING:  # it takes a second to import
    import trimesh

# What published volumes leave out at each face, as a share of the side, and what they write there.
PUBLISHED_BORDER = 30 / 256
EMPTY = -1000.0

# Megabytes evaluated at once: on a CPU as much as stays in the cache, on a GPU what keeps it busy.
_CPU_MB, _GPU_MB = 8, 1024
_BYTES_OF_A_POINT = 1024  # by the plain path, which keeps features, hidden layer and outputs
_LARGEST_EXPONENT = 80  # e^88 is more than a float32 holds

# Densities [n, Z] of the rows y of the slab x: (x, slice of y) -> rows.
Rows = Callable[[int, slice], Tensor]


@dataclass(frozen=True, eq=False)
class Volume:
    """Raw density, before the softplus, [X, Y, Z] float32: index (i, j, k) lies at the world point
    origin + spacing * (i, j, k). density_bias and clamp_mode say what the renderer makes of it, as
    in `RenderingOptions`."""

    density: np.ndarray
    origin: tuple[float, float, float]
    spacing: float
    density_bias: float = RenderingOptions.density_bias
    clamp_mode: str = "softplus"

    def turned(self) -> "Volume":
        """Turned about y by 90 degrees, as published volumes are: world (x, y, z) -> (z, y, -x)."""
        last = self.origin[0] + self.spacing * (self.density.shape[0] - 1)
        turned = np.flip(self.density, 0).transpose(2, 1, 0)
        return replace(self, density=turned, origin=(self.origin[2], self.origin[1], -last))

    def mesh(
        self,
        level: float | str = "auto",
        largest: bool = True,
        simplify: int | None = None,
        colors: Callable[[Tensor], Tensor] | None = None,
    ) -> "trimesh.Trimesh":
        """The closed surface at a density, in world units; faces and normals look outwards.

        Args:
            level: raw density of the surface, or 'auto': see `eg3d.mesh.auto_level`.
            largest: keep only the connected part with the most faces.
            simplify: reduce to so many faces (needs fast-simplification).
            colors: points [1, V, 3] -> colours [1, V, 3] in [0, 1] of the vertices, such as
                `Scene.colors`; default none.

        Raises NoSurfaceError where the density does not cross the level, InputError.
        """
        from eg3d.mesh import extract

        return extract(self, level, largest, simplify, colors)


def default_border(rendering_kwargs: Mapping[str, Any]) -> float:
    """The share of the side that volumes of a model leave out: its own `shape_border`, or that of
    the published script."""
    return float(rendering_kwargs.get("shape_border", PUBLISHED_BORDER))


@torch.no_grad()
def density_volume(
    field: TriPlaneField,
    resolution: int,
    border: float = 0.0,
    memory_mb: float | None = None,
    plain: bool = False,
) -> Volume:
    """The volume of a field of one scene, resolution^3 points from face to face of its box.

    Args:
        border: share of the side to leave out at each face (`EMPTY` there), below 0.5; 0 for none.
        memory_mb: evaluate at once what takes so many megabytes, besides the volume and, for each
            pair of axes that planes see, a table of resolution^2 * 256 bytes. Default 8 on a CPU,
            1024 on a GPU.
        plain: look up every point, as `Scene.density` does, instead of using tables.

    Raises InputError.
    """
    _check(field, resolution, border, memory_mb)
    if memory_mb is None:
        memory_mb = _CPU_MB if field.sets[0].planes.device.type == "cpu" else _GPU_MB
    side = field.box_warp
    spacing = side / (resolution - 1)
    empty = int(border * resolution)
    inside = slice(empty, resolution - empty)
    ticks = torch.arange(resolution, dtype=torch.float64)[inside] * spacing - side / 2

    tables = field.averages and is_two_layers(field.decoder) and not plain
    rows, bytes_a_point = (_from_tables if tables else _looked_up)(
        field, ticks.to(field.sets[0].planes)
    )
    count = max(int(memory_mb * 2**20 / (bytes_a_point * len(ticks))), 1)

    density = np.full([resolution] * 3, EMPTY, dtype=np.float32)
    evaluated = density[inside, inside, inside]
    for x in range(len(ticks)):
        for y in range(0, len(ticks), count):
            part = slice(y, y + count)
            evaluated[x, part] = rows(x, part).cpu().numpy()
    return Volume(density, (-side / 2,) * 3, spacing)


def _check(field: TriPlaneField, resolution: int, border: float, memory_mb: float | None) -> None:
    scenes = len(field.sets[0].planes)
    if scenes != 1:
        raise InputError(f"a volume is of one scene, not {scenes}: choose one, scene[i]")
    if resolution < 2:
        raise InputError(f"resolution of a volume is {resolution}: must be 2 or more")
    if not 0 <= border < 0.5:
        raise InputError(f"border of a volume is {border:g} of its side: must be 0 to below 0.5")
    if memory_mb is not None and not memory_mb > 0:
        raise InputError(f"memory for a volume is {memory_mb:g} MB: must be above 0")
    needed, there = 4 * resolution**3, psutil.virtual_memory().available
    if needed > there:
        raise InputError(
            f"resolution of a volume is {resolution}: takes {needed / 2**30:.1f} GB of memory, "
            f"{there / 2**30:.1f} GB are free"
        )


def _looked_up(field: TriPlaneField, ticks: Tensor) -> tuple[Rows, int]:
    """Densities of the grid ticks x ticks x ticks point by point, and the bytes a point takes."""

    def rows(x: int, part: slice) -> Tensor:
        points = torch.cartesian_prod(ticks[x : x + 1], ticks[part], ticks)
        return field(points[None], None, want_rgb=False)["sigma"].view(-1, len(ticks))

    return rows, _BYTES_OF_A_POINT


def _from_tables(field: TriPlaneField, ticks: Tensor) -> tuple[Rows, int]:
    """The same from tables of the hidden layer."""
    weight, bias, w2, b2 = field.decoder.two_layers()
    sigma_weight, sigma_bias = w2[0], b2[0]
    tables = _tables(field, ticks, weight, bias)
    softplus = activations_of(field.decoder)[0] == "softplus"
    # Sums that overflow once they are exponentials are rare enough to go the long way.
    small = softplus and sum(t.amax().clamp(min=0) for t in tables) < _LARGEST_EXPONENT
    if small:
        tables = [table.exp_() for table in tables]
    if not softplus:  # leaky ReLU, whose gain the next layer can have
        sigma_weight = sigma_weight * 2**0.5
    combine = torch.mul if small else torch.add
    tables = [table.expand(*[len(ticks)] * 3, -1) for table in tables]
    memory = tables[0].new_empty(0)

    def rows(x: int, part: slice) -> Tensor:
        # All rows use one piece of memory: getting a new one takes as long as the arithmetic.
        hidden = memory.resize_(tables[0][x, part].shape)
        combine(tables[0][x, part], tables[1][x, part], out=hidden)
        for table in tables[2:]:
            combine(hidden, table[x, part], out=hidden)
        if small:
            hidden.add_(1).log_()
        elif softplus:
            hidden = F.softplus(hidden)
        else:
            F.leaky_relu_(hidden, 0.2)
        return hidden @ sigma_weight + sigma_bias

    return rows, 2 * 4 * len(bias)  # the hidden layer, and its softplus where that is taken


def _tables(field: TriPlaneField, ticks: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """What planes bring to the hidden layer, added up by the axis that they do not see."""
    count = sum(len(s.pairs) for s in field.sets)
    tables: dict[int, Tensor] = {}
    for s in field.sets:
        for pair, plane in zip(s.pairs, s.planes[0], strict=True):
            table = _table(pair, plane, s.scale * ticks, weight, bias / count)
            unseen = 3 - sum(pair)
            tables[unseen] = tables[unseen].add_(table) if unseen in tables else table
    return list(tables.values())


def _table(pair: AxisPair, plane: Tensor, ticks: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What a plane [C, H, W] brings to the hidden layer at the grid ticks x ticks x ticks of the
    cube [-1, 1]^3: [R, R, R, hidden], but 1 in place of R for the axis that it does not see."""
    count = len(ticks)
    shape = [count] * 3
    shape[3 - sum(pair)] = 1
    points = ticks.new_zeros(*shape, 3)
    for axis in pair:
        points[..., axis] = ticks.view([-1 if other == axis else 1 for other in range(3)])
    features = lookup((pair,), plane[None, None], points.view(1, -1, 3))[0, 0]
    return F.linear(features.T, weight, bias).view(*shape, -1)
