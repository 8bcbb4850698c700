"""Pictures as a dataset wants them: upright, 8 bits, grey or RGB; cropped and resized, with the
camera following.

A crop is a rectangle of the picture in pixels, which may reach beyond it: what is outside is black.
Intrinsics in a label are divided by the picture's size, so that resizing leaves them alone and a
crop moves and scales them.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from dnnlib.util import one_line
from training.cameras import LABEL_SIZE, POSE_SIZE

BACKGROUNDS = {"white": 255, "black": 0}
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


class PictureError(ValueError):
    """A picture that cannot be used; the message says why, not which it is."""


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels with the corner (x, y); `width` and `height` above 0."""

    x: float
    y: float
    width: float
    height: float


Crop = Callable[[int, int], Box | None]  # from the width and height of a picture; None: all of it


def decode(content: bytes | np.ndarray, background: str = "black") -> np.ndarray:
    """Pixels uint8 [H, W] of a grey picture, else [H, W, 3].

    Turned as its EXIF entry says, transparent parts before a `background` 'white' or 'black', 16
    bits shortened to 8, any colour model as RGB. Raises PictureError.
    """
    if isinstance(content, np.ndarray):
        return content
    try:
        with Image.open(io.BytesIO(content)) as file:
            file.load()
            picture = ImageOps.exif_transpose(file)
            return _to_pixels(picture, background)
    except PictureError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever they like.
        reason = one_line(error)
        raise PictureError(f"cannot be decoded ({reason})") from None


def is_grey(content: bytes | np.ndarray) -> bool:
    """Whether a picture has no colours, by its header. Raises PictureError."""
    if isinstance(content, np.ndarray):
        return content.ndim == 2
    try:
        with Image.open(io.BytesIO(content)) as file:
            return file.mode in (*_DEEP, "1", "L", "LA", "La")
    except Exception as error:
        raise PictureError(str(error)) from None


def _to_pixels(picture: Image.Image, background: str) -> np.ndarray:
    if picture.mode in _DEEP:
        return _shortened(np.asarray(picture))
    if picture.mode == "1":
        picture = picture.convert("L")
    transparent = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa")
    if transparent or "transparency" in picture.info:
        grey = picture.mode in ("LA", "La", "L")
        picture = picture.convert("RGBA")
        behind = Image.new("RGBA", picture.size, (BACKGROUNDS[background],) * 3 + (255,))
        picture = Image.alpha_composite(behind, picture).convert("L" if grey else "RGB")
    elif picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    return np.array(picture)


def _shortened(values: np.ndarray) -> np.ndarray:
    """8 bits of 16, rounded."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
        raise PictureError("has values outside of 16 bits")
    return np.rint(values / 257).astype(np.uint8)


def center_crop(width: int, height: int) -> Box:
    """The square of the shorter side in the middle."""
    side = min(width, height)
    return Box((width - side) // 2, (height - side) // 2, side, side)


def transformed(pixels: np.ndarray, box: Box | None, size: tuple[int, int] | None) -> np.ndarray:
    """A rectangle of a picture, black outside of it, resized to `size` (width, height) by Lanczos'
    filter; None leaves either as it is."""
    if box is not None:
        pixels = _cut(pixels, box)
    if size is not None and size != (pixels.shape[1], pixels.shape[0]):
        pixels = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    return pixels


def center_crop_wide(
    pixels: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray | None, Box | None]:
    """The middle rows of a picture, as many as it would have at the width of `size` (width,
    height), resized to that, in the middle of a black square; and the square as a crop of the
    picture.

    That is how LSUN cars were made: pictures of the right width keep all their rows, of larger ones
    the proportions change. (None, None) for a picture that is too small.
    """
    width, height = size
    rows = int(np.rint(width * pixels.shape[0] / pixels.shape[1]))
    if pixels.shape[1] < width or rows < height:
        return None, None
    top = (pixels.shape[0] - rows) // 2
    strip = transformed(pixels, Box(0, top, pixels.shape[1], rows), size)
    square = np.zeros((width, width, *strip.shape[2:]), dtype=np.uint8)
    above = (width - height) // 2
    square[above : above + height] = strip
    scale = rows / height
    return square, Box(0, top - above * scale, pixels.shape[1], width * scale)


def cropped_label(label: list[float], box: Box, width: int, height: int) -> list[float]:
    """The camera label of a rectangle of a picture of width x height pixels."""
    if len(label) != LABEL_SIZE:
        return label
    fx, skew, cx, _, fy, cy = label[POSE_SIZE : POSE_SIZE + 6]
    across, down = width / box.width, height / box.height
    lens = [fx * across, skew * across, cx * across - box.x / box.width]
    lens += [0.0, fy * down, cy * down - box.y / box.height]
    return [*label[:POSE_SIZE], *lens, *label[POSE_SIZE + 6 :]]


def _cut(pixels: np.ndarray, box: Box) -> np.ndarray:
    x, y, width, height = (int(v) for v in (box.x, box.y, box.width, box.height))
    found = np.zeros((height, width, *pixels.shape[2:]), dtype=np.uint8)
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, pixels.shape[1]), min(y + height, pixels.shape[0])
    if left < right and top < bottom:
        found[top - y : bottom - y, left - x : right - x] = pixels[top:bottom, left:right]
    return found
