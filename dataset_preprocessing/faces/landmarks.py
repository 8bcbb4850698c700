"""Five landmarks of a face: eyes, nose, corners of the mouth.

Left and right are those of the picture. Coordinates are x to the right, y down, in pixels counted
from the centre of the first one, as detectors count.
"""

from pathlib import Path

import numpy as np
import scipy.io

from dataset_preprocessing.faces.steps import PreprocessingError
from dataset_preprocessing.faces.values import numbers

NAMES = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
COUNT = len(NAMES)

# Of the 68 landmarks that are usual (Sagonas et al. 2013): the contours of the eyes, the tip of the
# nose, the corners of the mouth; and for models of faces only the corners of the eyes.
_EYES = (slice(36, 42), slice(42, 48))
_EYE_CORNERS = ([36, 39], [42, 45])
_NOSE, _MOUTH = 30, [48, 54]
_ALL = 68


def five_of_68(points: np.ndarray) -> np.ndarray:
    """Of landmarks [68, D] of a picture: the middle of each eye's contour, and so on; [5, D]."""
    eyes = [points[eye].mean(0) for eye in _EYES]
    return np.stack([*eyes, points[_NOSE], *points[_MOUTH]])


def five_of_model(points: np.ndarray) -> np.ndarray:
    """Of the landmarks [68, 3] of a model of faces: the middle between the corners of each eye, and
    so on; [5, 3]."""
    eyes = [points[corners].mean(0) for corners in _EYE_CORNERS]
    return np.stack([*eyes, points[_NOSE], *points[_MOUTH]])


def read_model(path: str | Path) -> np.ndarray:
    """The five landmarks [5, 3] of a mean face, x right, y up, z out of the face, from the 68 in
    `similarity_Lm3D_all.mat`. Raises PreprocessingError."""
    path = Path(path)
    if not path.is_file():
        raise PreprocessingError(
            f"{path}: no such file; it is similarity_Lm3D_all.mat of Deep3DFaceRecon_pytorch's BFM "
            "folder: put it there, or say with --lm3d where it is"
        )
    try:
        content = scipy.io.loadmat(str(path))
    except Exception as error:  # Of many kinds where the file is broken.
        raise PreprocessingError(f"{path}: not a .mat file ({error})") from None
    arrays = [v for v in content.values() if np.shape(v) == (_ALL, 3) and np.isrealobj(v)]
    if len(arrays) != 1 or not np.isfinite(arrays[0]).all():
        raise PreprocessingError(f"{path}: must have one array of 68 x 3 numbers, the landmarks")
    return five_of_model(np.asarray(arrays[0], dtype=np.float64))


def read_points(path: str | Path) -> np.ndarray:
    """Landmarks [5, 2] of a text file with a line "x y" each. Raises PreprocessingError, without
    saying of which file."""
    try:
        rows = [line.split() for line in Path(path).read_text().splitlines() if line.strip()]
        values = [[float(word) for word in row] for row in rows]
        return numbers("landmarks", values, COUNT, 2)
    except (OSError, ValueError):
        raise PreprocessingError(f"must have five lines 'x y': {', '.join(NAMES)}") from None


def format_points(points: np.ndarray) -> bytes:
    """The text of such a file."""
    return "".join(f"{x:.4f} {y:.4f}\n" for x, y in np.asarray(points).tolist()).encode()
