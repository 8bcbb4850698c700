"""Pictures of the pipelines: found, read, mirrored, written."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from dataset_preprocessing.conversion.pictures import decode
from dataset_preprocessing.faces.steps import PreprocessingError

EXTENSIONS = (".png", ".jpg", ".jpeg")


def pictures_in(folder: str | Path, below: bool = False) -> dict[str, Path]:
    """{stem: path} of the pictures in a folder, in the order of their paths; with `below`, also of
    those in folders below.

    Raises PreprocessingError if there is no folder or picture, or two have one stem: what belongs
    to pictures is found by their stems.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PreprocessingError(f"{folder}: no such folder")
    paths = folder.rglob("*") if below else folder.iterdir()
    found: dict[str, Path] = {}
    for path in sorted(path for path in paths if path.suffix.lower() in EXTENSIONS):
        if path.stem in found:
            raise PreprocessingError(
                f"{folder}: {path.name} and {found[path.stem].name} differ in nothing but folder "
                "or extension; rename one"
            )
        found[path.stem] = path
    if not found:
        raise PreprocessingError(f"{folder}: has no pictures ({', '.join(EXTENSIONS)})")
    return found


def read_rgb(content: bytes) -> np.ndarray:
    """Pixels uint8 [H, W, 3] of an encoded picture, upright. Raises PictureError."""
    pixels = decode(content)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def to_png(pixels: np.ndarray, compress_level: int = 0) -> bytes:
    """PNG of pixels uint8; not compressed is fastest to read."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=compress_level)
    return buffer.getvalue()


def mirrored_png(content: bytes) -> bytes:
    """An encoded picture as its mirror image. Raises PictureError."""
    return to_png(np.ascontiguousarray(decode(content)[:, ::-1]))


def mirror_name(name: str) -> str:
    """`a/b.jpg` to `a/b_mirror.png`: mirror images are stored without loss."""
    return os.path.splitext(name)[0] + "_mirror.png"


def is_mirror(name: str) -> bool:
    """Whether a name is that of a mirror image."""
    return os.path.splitext(name)[0].endswith("_mirror")
