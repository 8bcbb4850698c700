"""COLMAP's sparse models: `sparse/0` in a project, its pictures in `images`.

Poses map world to camera, as a quaternion and a translation, with the axes of OpenCV. Of the models
of lenses, SIMPLE_PINHOLE and PINHOLE are what a label holds; those that add radial or tangential
distortion count as distorted unless it is 0; others, fisheyes above all, are refused. Pixels are
counted from the corner, as in labels.
"""

from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from dataset_preprocessing.cameras.colmap_files import (
    MODELS,
    CameraRow,
    ImageRow,
    Model,
    read_model,
    write_model,
)
from dataset_preprocessing.cameras.gallery import Gallery
from dataset_preprocessing.cameras.posed import (
    CameraError,
    Export,
    Lens,
    PosedPictures,
    assemble,
    lenses_of,
)

_PLACES = (".", "sparse/0", "sparse")


def is_there(source: Path) -> bool:
    """Whether a folder is a model, or a project with one."""
    return _find(source) is not None


def pictures_folder(source: Path) -> Path:
    """`images` beside the model or up to two folders above it, where projects have it."""
    above = source.resolve()
    folders = [folder / "images" for folder in (above, *above.parents[:2])]
    return next((folder for folder in folders if folder.is_dir()), source)


def read(source: Path, gallery: Gallery) -> PosedPictures:
    """The pictures that COLMAP placed, and the points it found. Raises CameraError."""
    folder, suffix = _find(source)
    model = read_model(folder, suffix)
    where = folder / f"images{suffix}"
    lenses = {row.id: _lens(row) for row in model.cameras}
    for row in model.images:
        if row.camera_id not in lenses:
            raise CameraError(f"{where}: {row.name} has camera {row.camera_id}, which is not there")
    return assemble(
        [gallery.find(row.name) for row in model.images],
        np.array([_cam2world(row, where) for row in model.images]),
        [lenses[row.camera_id] for row in model.images],
        model.points,
    )


def write(posed: PosedPictures, suffix: str = ".bin") -> Export:
    """A project: `sparse/0`, as .bin or .txt, and pictures in `images`. Raises CameraError for
    skew."""
    lenses = lenses_of(posed, "COLMAP")
    ids = {lens: number for number, lens in enumerate(dict.fromkeys(lenses), 1)}
    cameras = [
        CameraRow(id, "PINHOLE", lens.width, lens.height, (lens.fx, lens.fy, lens.cx, lens.cy))
        for lens, id in ids.items()
    ]
    images = [
        ImageRow(number, *_world2cam(pose), ids[lens], name)
        for number, (name, pose, lens) in enumerate(
            zip(posed.names, posed.cam2world, lenses, strict=True), 1
        )
    ]
    files = write_model(Model(cameras, images, np.zeros((0, 3))), suffix)
    files = {f"sparse/0/{name}": content for name, content in files.items()}
    return Export(files, [f"images/{name}" for name in posed.names])


write_text = partial(write, suffix=".txt")


def _find(source: Path) -> tuple[Path, str] | None:
    """Folder and suffix of a model's files; .bin where there are both, as COLMAP does."""
    for folder in (source / place for place in _PLACES):
        for suffix in (".bin", ".txt"):
            if all((folder / f"{name}{suffix}").is_file() for name in ("cameras", "images")):
                return folder, suffix
    return None


def _lens(row: CameraRow) -> Lens:
    focals = MODELS[row.model].focals
    fx, fy = row.parameters[0], row.parameters[focals - 1]
    cx, cy, *distortion = row.parameters[focals:]
    return Lens(row.width, row.height, fx, fy, cx, cy, any(distortion))


def _cam2world(row: ImageRow, where: Path) -> np.ndarray:
    if not np.isfinite([*row.quaternion, *row.translation]).all() or not any(row.quaternion):
        raise CameraError(
            f"{where}: {row.name} has a pose that is not finite, or a quaternion of 0"
        )
    w, x, y, z = row.quaternion
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat([x, y, z, w]).as_matrix().T
    pose[:3, 3] = -pose[:3, :3] @ row.translation
    return pose


def _world2cam(pose: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Quaternion (w, x, y, z) and translation of a cam2world [4, 4]."""
    turn = Rotation.from_matrix(pose[:3, :3].T)
    x, y, z, w = turn.as_quat().tolist()
    return (w, x, y, z), tuple((-turn.as_matrix() @ pose[:3, 3]).tolist())
