"""Labels of pictures that Blender rendered, as EpiGRAF's Megascans are (Skorokhodov et al. 2022).

Pictures are `CLASS/OBJECT/NAME.png`, each beside a matrix `NAME.npy` or `NAME.txt`, 4 x 4 numbers:
Blender's camera to world. Its world is z-up, its cameras look along their -z. Objects stand at the
origin; Blender's front (-y) becomes the labels' (+z). Classes are numbered in the order of their
names.
"""

import json
import math
from pathlib import Path

import numpy as np

from dataset_preprocessing.cameras.gallery import Gallery
from dataset_preprocessing.cameras.posed import CameraError
from dataset_preprocessing.conversion.sources import PROVENANCE
from dataset_preprocessing.faces.steps import PreprocessingError, problems_error
from dataset_preprocessing.faces.values import numbers
from dnnlib.util import replacing
from training.cameras import check_label
from training.label_file import LABEL_FILE

FOV = 30.0  # degrees, of the published renders
_MATRICES = (".npy", ".txt")
_WORLD = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # z-up to y-up
_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])  # right, up, back to right, down, forward


def label_renders(source: str | Path, fov: float = FOV, radius: float | None = None) -> int:
    """Writes a dataset.json with cameras and classes into the folder of the renders; the number of
    pictures.

    Args:
        fov: angle between the left and the right edge of the pictures, in degrees.
        radius: scales the world so that this is the cameras' mean distance from the origin; None:
            as it is.

    Raises PreprocessingError with all pictures that have no camera, cannot be opened, or are not
    where they should; SourceError where there are none.
    """
    source = Path(source)
    if not source.is_dir():
        raise PreprocessingError(f"{source}: must be a folder of CLASS/OBJECT/NAME.png")
    gallery = Gallery(source, labelled=False)
    poses, shapes, problems = [], [], []
    for name in gallery.names:
        try:
            if name.count("/") < 2:
                raise PreprocessingError(f"{source / name}: must be CLASS/OBJECT/NAME")
            poses.append(read_pose(source / name))
            width, height = gallery.size(name)
            shapes.append(width / height)
        except (PreprocessingError, CameraError) as error:
            problems.append(str(error))
    if problems:
        raise problems_error(problems)
    poses = np.array(poses)
    if radius is not None:
        poses[:, :3, 3] *= radius / np.linalg.norm(poses[:, :3, 3], axis=1).mean()
    focal = 0.5 / math.tan(math.radians(fov) / 2)
    labels = [_label(*both, focal) for both in zip(poses, shapes, strict=True)]
    with replacing(source / LABEL_FILE) as temporary:
        temporary.write_bytes(_labels_file(gallery.names, labels))
    return len(labels)


def read_pose(picture: Path) -> np.ndarray:
    """cam2world [4, 4] of a picture, camera axes right, down, forward, y-up world. Raises
    PreprocessingError."""
    files = [picture.with_suffix(end) for end in _MATRICES]
    found = [file for file in files if file.is_file()]
    if not found:
        raise PreprocessingError(f"{picture}: has no camera, {' or '.join(f.name for f in files)}")
    file = found[0]
    try:
        values = np.load(file) if file.suffix == ".npy" else file.read_text().split()
        matrix = numbers("it", np.asarray(values, dtype=np.float64).reshape(4, 4), 4, 4)
    except (OSError, ValueError, EOFError, TypeError):
        raise PreprocessingError(f"{file}: must be 4 x 4 numbers") from None
    pose = _WORLD @ matrix @ _CAMERA
    wrong = check_label(_label(pose))
    if wrong:
        raise PreprocessingError(f"{file}: {wrong}")
    return pose


def _label(pose: np.ndarray, shape: float = 1.0, focal: float = 1.0) -> list[float]:
    """Of a picture whose width is `shape` times its height; `focal` in widths."""
    lens = [focal, 0.0, 0.5, 0.0, focal * shape, 0.5, 0.0, 0.0, 1.0]
    return [*pose.ravel().tolist(), *lens]


def _labels_file(names: list[str], labels: list[list[float]]) -> bytes:
    """The content of a dataset.json, which names the classes as well."""
    kinds = [name.split("/")[-3] for name in names]
    numbers_of = {kind: number for number, kind in enumerate(sorted(set(kinds)))}
    content = dict(
        labels=[list(pair) for pair in zip(names, labels, strict=True)],
        classes=[[name, numbers_of[kind]] for name, kind in zip(names, kinds, strict=True)],
    )
    return json.dumps({**content, PROVENANCE: dict(classes=list(numbers_of))}).encode()
