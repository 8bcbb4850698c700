"""Files of shapes: volumes of density (.mrc) and meshes (.ply, .obj, .glb, .stl)."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from dnnlib.util import replacing
from eg3d.command_line import CONTEXT, FiniteFloat, one_line_errors
from eg3d.errors import InputError
from eg3d.scene import Scene
from eg3d.volume import Volume

if TYPE_CHECKING:  # it takes a second to import
    import trimesh

__all__ = [
    "convert_mrc",
    "convert_sdf_samples_to_ply",
    "main",
    "write_mesh",
    "write_shape",
    "write_volume",
]

MESH_FORMATS = ("ply", "obj", "glb", "stl")
FORMATS = ("mrc", *MESH_FORMATS)
_EXPORT_OPTIONS = {
    "ply": {"vertex_normal": True},
    "obj": {"include_normals": True, "header": None},
    "stl": {},
}
PUBLISHED_LEVEL = 10.0

_VERTEX = [("x", "f4"), ("y", "f4"), ("z", "f4")]
_FACE = [("vertex_indices", "i4", 3)]


def write_shape(
    scene: Scene,
    path: str | Path,
    resolution: int = 256,
    fmt: str | None = None,
    *,
    published: bool = False,
    border: float | None = None,
    memory_mb: float | None = None,
    up: str = "y",
    **surface,
) -> bool:
    """Writes the shape of one scene: its volume (mrc), or a mesh of it (ply, obj, glb, stl).

    Args:
        resolution: points along a side of the grid.
        fmt: one of FORMATS, with or without a dot; default the ending of `path`.
        published: as the published script writes shapes: x, y, z of the file are z, y, -x of the
            world (`Volume.turned`), and meshes are in voxels, at level 10, with all their parts.
        border, memory_mb: of `Scene.volume`.
        up: of `write_mesh`.
        surface: of `Scene.mesh`: level, largest, simplify, colors.

    Returns whether there is a surface; if not, warns and writes nothing. Raises InputError.
    """
    from eg3d.mesh import NoSurfaceError

    fmt = _format(path, fmt, FORMATS)
    if fmt == "mrc" and surface:
        raise InputError(f"{path}: a volume has no {', '.join(surface)}; meshes have")
    scene = scene.complete()
    volume = scene.volume(resolution, border, memory_mb)
    turned = volume.turned() if published else volume
    if fmt == "mrc":
        write_volume(path, turned)
        return True
    defaults = {"colors": scene.colors}
    if published:
        defaults = {"level": PUBLISHED_LEVEL, "largest": False}
    try:
        mesh = volume.mesh(**{**defaults, **surface})
    except NoSurfaceError as error:
        warnings.warn(f"{path}: not written, {error}", stacklevel=2)
        return False
    if published:
        vertices = mesh.vertices[:, [2, 1, 0]] * [1, 1, -1]
        mesh.vertices = (vertices - turned.origin) / turned.spacing
    write_mesh(path, mesh, fmt, up)
    return True


def write_volume(path: str | Path, volume: Volume) -> None:
    """Writes a volume as .mrc: x runs along its columns, y along its rows, z along its sections.

    The header holds origin, spacing (a unit of the world is an Angstrom) and statistics.
    """
    import mrcfile

    with replacing(path) as temporary, mrcfile.new(temporary) as file:
        file.set_data(volume.density.transpose(2, 1, 0))
        file.voxel_size = volume.spacing
        file.header.origin = volume.origin
        file.header.label[0] = "Raw density"  # in place of the time: same volume, same bytes


def write_mesh(
    path: str | Path, mesh: "trimesh.Trimesh", fmt: str | None = None, up: str = "y"
) -> None:
    """Writes a mesh with normals and, but for .stl, the colours of its vertices.

    Args:
        fmt: one of MESH_FORMATS, with or without a dot; default the ending of `path`.
        up: which way is up in the world, 'y' or 'z'. In .glb and .obj it is always y, as their
            readers want; .ply and .stl hold world coordinates as they are.

    Raises InputError.
    """
    fmt = _format(path, fmt, MESH_FORMATS)
    if up not in ("y", "z"):
        raise InputError(f"up is {up!r}: must be y or z")
    if up == "z" and fmt in ("glb", "obj"):
        mesh = mesh.copy()
        mesh.vertices = mesh.vertices[:, [0, 2, 1]] * [1, 1, -1]
    if fmt == "glb":
        content = _glb(mesh)
    else:
        content = mesh.export(file_type=fmt, **_EXPORT_OPTIONS[fmt])
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _format(path: str | Path, fmt: str | None, possible: Sequence[str]) -> str:
    name = (fmt or Path(path).suffix).lower().removeprefix(".")
    if name not in possible:
        raise InputError(f"{path}: format {name!r} is none of {', '.join(possible)}")
    return name


def _glb(mesh: "trimesh.Trimesh") -> bytes:
    """A mesh as glTF, where colours are linear and what has no material is of metal."""
    import trimesh
    from trimesh.exchange.gltf import export_glb

    plain = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    if mesh.visual.kind == "vertex":
        c = mesh.visual.vertex_colors[:, :3] / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
        plain.vertex_attributes["_COLOR_0"] = linear.astype(np.float32)

    def finish(tree: dict) -> None:
        (primitive,) = tree["meshes"][0]["primitives"]
        primitive["material"] = 0
        tree["materials"] = [{"pbrMetallicRoughness": {"metallicFactor": 0.0}}]
        if "_COLOR_0" in primitive["attributes"]:
            primitive["attributes"]["COLOR_0"] = primitive["attributes"].pop("_COLOR_0")

    return export_glb(plain, include_normals=True, tree_postprocessor=finish)


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
