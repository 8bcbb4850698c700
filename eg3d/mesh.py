"""Meshes: the surface of a volume of density, as a `trimesh.Trimesh` in world units."""

import math
from collections.abc import Callable

import numpy as np
import torch
import trimesh
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes

from eg3d.errors import InputError
from eg3d.volume import EMPTY, Volume

_MOST_VOXELS_A_SIDE = 128  # that the automatic level looks at


class NoSurfaceError(InputError):
    """The density nowhere crosses the level."""


def extract(
    volume: Volume,
    level: float | str = "auto",
    largest: bool = True,
    simplify: int | None = None,
    colors: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> trimesh.Trimesh:
    """The closed surface of a volume at a level of density: see `Volume.mesh`.

    By marching cubes (Lewiner et al. 2003). Where the inside reaches a face of the volume, the
    surface runs along that face.
    """
    if isinstance(level, str):
        if level != "auto":
            raise InputError(f"level {level!r}: must be a density or 'auto'")
        level = auto_level(volume)
    density = np.pad(volume.density, 1, constant_values=EMPTY)
    high = density.max()
    if not EMPTY < level < high:
        raise NoSurfaceError(f"no surface at level {level:g}: densities reach {high:g}")
    vertices, faces, _, _ = marching_cubes(density, level, gradient_direction="ascent")
    if largest:
        vertices, faces = largest_part(vertices, faces)
    world = volume.spacing * (vertices.astype(np.float64) - 1) + volume.origin
    mesh = trimesh.Trimesh(world, faces, process=False)
    if simplify is not None:
        mesh = _simplified(mesh, simplify)
    if colors is not None:
        points = torch.from_numpy(np.asarray(mesh.vertices, dtype=np.float32))[None]
        with torch.no_grad():
            mesh.visual.vertex_colors = colors(points)[0].mul(255).round().byte().cpu().numpy()
    return mesh


def auto_level(volume: Volume) -> float:
    """The raw density of the surface that pictures show.

    Light enters from the six sides and is absorbed as in the renderer, by softplus(density - 1) a
    unit of length, or what the volume says in place of that. The level is half the absorption, by
    the median, where half of a ray's light is gone: half, so that also a sudden rise to a constant
    density is met midway.

    Raises NoSurfaceError where no ray loses half of its light.
    """
    step = math.ceil(max(volume.density.shape) / _MOST_VOXELS_A_SIDE)
    soft, bias = volume.clamp_mode == "softplus", volume.density_bias
    biased = volume.density[::step, ::step, ::step] + bias
    absorption = np.logaddexp(0, biased) if soft else np.maximum(biased, 0)
    found = []
    for axis in range(3):
        for along in (absorption, np.flip(absorption, axis)):
            dark = np.cumsum(along, axis) * (volume.spacing * step) > math.log(2)
            first = np.take_along_axis(along, dark.argmax(axis, keepdims=True), axis)
            found.append(first[dark.any(axis, keepdims=True)])
    met = np.concatenate(found)
    if len(met) == 0:
        raise NoSurfaceError("no surface: no ray through the volume loses half of its light")
    middle = np.median(met) / 2
    if not soft:
        return float(middle - bias)
    return float(middle + np.log(-np.expm1(-middle)) - bias)  # softplus(level + bias) = middle


def largest_part(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] and faces [F, 3] of the connected part that has the most faces."""
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_array((np.ones(len(edges)), edges.T), shape=[len(vertices)] * 2)
    parts = connected_components(graph, directed=False)[1]
    chosen = np.bincount(parts[faces[:, 0]]).argmax()
    kept = parts == chosen
    numbers = np.cumsum(kept) - 1
    return vertices[kept], numbers[faces[kept[faces[:, 0]]]]


def _simplified(mesh: trimesh.Trimesh, faces: int) -> trimesh.Trimesh:
    """So many faces or fewer, by quadric error (Garland and Heckbert 1997)."""
    if faces < 4:
        raise InputError(f"simplify to {faces} faces: a closed surface has 4 or more")
    if faces >= len(mesh.faces):
        return mesh
    try:
        from fast_simplification import simplify
    except ImportError as error:
        raise InputError("simplify needs a package: pip install fast-simplification") from error
    # Not through trimesh, which merges vertices that coincide: the surface could open there.
    simpler = simplify(np.asarray(mesh.vertices), np.asarray(mesh.faces), target_count=faces)
    return trimesh.Trimesh(*simpler, process=False)
