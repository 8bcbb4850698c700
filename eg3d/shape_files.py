"""Surfaces from volumes of density: .ply meshes, also from .mrc files."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from dnnlib.util import replacing
from eg3d.command_line import CONTEXT, FiniteFloat, one_line_errors
from eg3d.errors import InputError

__all__ = ["convert_mrc", "convert_sdf_samples_to_ply", "main"]

_VERTEX = [("x", "f4"), ("y", "f4"), ("z", "f4")]
_FACE = [("vertex_indices", "i4", 3)]


def convert_sdf_samples_to_ply(
    numpy_3d_sdf_tensor: np.ndarray,
    voxel_grid_origin: Sequence[float],
    voxel_size: float,
    ply_filename_out: str | Path,
    offset: float | Sequence[float] | None = None,
    scale: float | Sequence[float] | None = None,
    level: float = 0.0,
    high_inside: bool = True,
) -> bool:
    """Writes the surface where a volume [X, Y, Z] has the value `level` as a binary PLY mesh.

    A vertex lies at (voxel_grid_origin + voxel index * voxel_size) / scale - offset. Faces are
    counterclockwise as seen from outside, where values are lower: volumes of density, as of EG3D.
    `high_inside=False` is for signed distances, which are lower inside.

    Returns whether there is a surface; if not, warns and writes nothing. Raises InputError for an
    array that is no volume.
    """
    from skimage.measure import marching_cubes  # here: it takes a second to import

    volume = np.asarray(numpy_3d_sdf_tensor)
    if volume.ndim != 3 or min(volume.shape) < 2:
        raise InputError(
            f"volume of shape {list(volume.shape)}: must be [X, Y, Z], each at least 2"
        )
    low, high = volume.min(), volume.max()
    if not low < level < high:
        warnings.warn(
            f"{ply_filename_out}: not written, there is no surface at level {level:g}; "
            f"values are from {low:g} to {high:g}",
            stacklevel=2,
        )
        return False
    vertices, faces, _, _ = marching_cubes(
        volume,
        level,
        spacing=[voxel_size] * 3,
        gradient_direction="ascent" if high_inside else "descent",
    )
    vertices = vertices + np.asarray(voxel_grid_origin)
    if scale is not None:
        vertices = vertices / np.asarray(scale)
    if offset is not None:
        vertices = vertices - np.asarray(offset)
    _write_ply(ply_filename_out, vertices, faces)
    print(f"{ply_filename_out}: {len(vertices):,} vertices, {len(faces):,} faces")
    return True


def convert_mrc(
    input_filename: str | Path, output_filename: str | Path, isosurface_level: float = 1
) -> bool:
    """Writes the surface of a .mrc volume as .ply: in voxels, PLY axes x, y, z = MRC x, y, z.

    Returns whether there is a surface at the level. Raises InputError for what is no .mrc file.
    """
    import mrcfile

    try:
        with mrcfile.open(input_filename) as file:
            volume = np.transpose(file.data, (2, 1, 0))
    except ValueError as error:
        raise InputError(f"{input_filename}: no .mrc volume that can be read: {error}") from error
    return convert_sdf_samples_to_ply(volume, (0, 0, 0), 1, output_filename, level=isosurface_level)


def _write_ply(path: str | Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    from plyfile import PlyData, PlyElement

    points = np.ascontiguousarray(vertices, "f4").view(_VERTEX).squeeze(1)
    triangles = np.ascontiguousarray(faces, "i4").view(_FACE).squeeze(1)
    elements = [PlyElement.describe(points, "vertex"), PlyElement.describe(triangles, "face")]
    with replacing(path) as temporary:
        PlyData(elements, byte_order="<").write(temporary)


@click.command(context_settings=CONTEXT)
@click.argument("input_mrc_path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--level", type=FiniteFloat(), default=10.0, show_default=True, help="Density of the surface."
)
@one_line_errors
def main(input_mrc_path: Path, level: float) -> None:
    """Converts a .mrc file, or every one in a folder, to a .ply file beside it."""
    if input_mrc_path.is_dir():
        sources = sorted(p for p in input_mrc_path.iterdir() if p.suffix.lower() == ".mrc")
        if not sources:
            raise InputError(f"{input_mrc_path}: no .mrc file in this folder")
    elif input_mrc_path.suffix.lower() == ".mrc":
        sources = [input_mrc_path]
    else:
        raise InputError(f"{input_mrc_path}: must be a .mrc file or a folder of them")
    for source in sources:
        convert_mrc(source, source.with_suffix(".ply"), level)
