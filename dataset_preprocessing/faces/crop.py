"""The crop that Deep3DFaceRecon (Deng et al. 2019) takes of a face, in the size that EG3D uses.

A model of a mean face, seen from afar, is laid over five landmarks by least squares. The crop puts
its origin into the middle and gives it a fixed scale; it does not turn the picture.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from dataset_preprocessing.faces.steps import PreprocessingError

TARGET_SIZE = 1024
_MOST = 1 << 14  # pixels a side of the enlarged picture


@dataclass(frozen=True)
class CropSettings:
    """Sizes in pixels: one unit of the model in a picture of `TARGET_SIZE`, the middle of that
    which is kept, and the result."""

    rescale_factor: float = 300.0
    center_crop_size: int = 700
    output_size: int = 512


def weak_perspective(points: np.ndarray, model: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale s and shift t [2] of the least-squares solution of points [N, 2] = R model [N, 3] + t,
    y up in both; s is the mean length of the rows of R, which need not be orthogonal.

    Raises PreprocessingError if the points coincide.
    """
    unknown = np.concatenate([model, np.ones_like(model[:, :1])], axis=1)
    solution = np.linalg.lstsq(unknown, points, rcond=None)[0]
    scale = float(np.linalg.norm(solution[:3], axis=0).mean())
    if not scale > 1e-6:
        raise PreprocessingError("its landmarks are at one place")
    return scale, solution[3]


def crop_face(
    pixels: np.ndarray,
    points: np.ndarray,
    model: np.ndarray,
    settings: CropSettings = CropSettings(),  # noqa: B008
) -> np.ndarray:
    """The crop uint8 [output_size, output_size, 3] of a picture uint8 [H, W, 3], black beyond it.

    points [5, 2] are its landmarks, model [5, 3] those of a mean face. Raises PreprocessingError.
    """
    height, width = pixels.shape[:2]
    upwards = np.stack([points[:, 0], height - 1 - points[:, 1]], axis=1)
    scale, shift = weak_perspective(upwards, model)
    factor = settings.rescale_factor / scale
    across, down = int(width * factor), int(height * factor)
    if not (0 < across <= _MOST and 0 < down <= _MOST):
        raise PreprocessingError(
            f"its landmarks ask for a picture of {across} x {down} pixels, at most {_MOST} a side; "
            "they are wrong, or the face is too small"
        )
    half = TARGET_SIZE / 2
    left = int(across / 2 - half + (shift[0] - width / 2) * factor)
    top = int(down / 2 - half + (height / 2 - shift[1]) * factor)
    picture = Image.fromarray(pixels).resize((across, down), Image.Resampling.BICUBIC)
    inset = int(half - settings.center_crop_size / 2)
    left, top, side = left + inset, top + inset, settings.center_crop_size
    picture = picture.crop((left, top, left + side, top + side))
    size = (settings.output_size, settings.output_size)
    return np.array(picture.resize(size, Image.Resampling.LANCZOS))
