"""Pictures of faces turned upright, scaled and centred by eyes and mouth (Karras et al. 2018,
appendix C, in the wider frame of EG3D).

What the frame reaches beyond the picture is the picture reflected, which blurs into its median
colour. The published code resamples the blurred copy by OpenCV; here Pillow does, which can only be
seen in that margin.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from dataset_preprocessing.faces.steps import PreprocessingError

OUTPUT_SIZE, TRANSFORM_SIZE = 1500, 4096
_ENLARGE = 1.8  # of the frame of FFHQ
_LOW = 0.1  # scale of the blurred copy


@dataclass(frozen=True, eq=False)
class Frame:
    """A square in a picture: its corners [4, 2], upper left first, then counter-clockwise, in
    pixels from the centre of the first one; and the length of its sides."""

    corners: np.ndarray
    side: float

    def moved(self, x: float, y: float) -> "Frame":
        """In a picture that begins at (-x, -y) of this one."""
        return replace(self, corners=self.corners + (x, y))

    def scaled(self, factor: float) -> "Frame":
        """In the picture made larger by a factor."""
        return Frame((self.corners + 0.5) * factor - 0.5, self.side * factor)

    def bounds(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of whole pixels around it."""
        low, high = np.floor(self.corners.min(0)), np.ceil(self.corners.max(0))
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def face_frame(points: np.ndarray) -> Frame:
    """The frame of a face by its landmarks [5, 2]. Raises PreprocessingError if these coincide."""
    left, right, _, *mouth = points
    between, eyes = right - left, (left + right) / 2
    down = np.mean(mouth, axis=0) - eyes
    across = between + (down[1], -down[0])  # `down`, turned, points right as the eyes do
    length = np.hypot(*across)
    if not length > 0:
        raise PreprocessingError("its eyes and mouth are at one place")
    half = max(2 * np.hypot(*between), 1.8 * np.hypot(*down)) * _ENLARGE
    x = across / length * half
    y = np.array([-x[1], x[0]])
    center = eyes + 0.1 * down
    corners = np.stack([center - x - y, center - x + y, center + x + y, center + x - y])
    return Frame(corners, 2 * float(half))


def align_face(
    pixels: np.ndarray,
    points: np.ndarray,
    output_size: int = OUTPUT_SIZE,
    transform_size: int = TRANSFORM_SIZE,
) -> np.ndarray:
    """The frame of a face as a picture uint8 [O, O, 3].

    pixels uint8 [H, W, 3], landmarks [5, 2]; the frame is resampled at `transform_size` first.
    Raises PreprocessingError.
    """
    frame = face_frame(points)
    picture = Image.fromarray(pixels)
    shrink = int(frame.side / output_size / 2)
    if shrink > 1:
        size = [int(np.rint(side / shrink)) for side in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        frame = frame.scaled(1 / shrink)
    picture, frame = _cut(picture, frame)
    picture, frame = _padded(picture, frame)
    corners = (frame.corners + 0.5).ravel()  # Pillow counts from the corner of the first pixel
    size = (transform_size, transform_size)
    method, filter = Image.Transform.QUAD, Image.Resampling.BILINEAR
    picture = picture.transform(size, method, corners, filter)
    if output_size < transform_size:
        picture = picture.resize((output_size, output_size), Image.Resampling.LANCZOS)
    return np.array(picture)


def _border(frame: Frame) -> int:
    return max(int(np.rint(frame.side * 0.1)), 3)


def _cut(picture: Image.Image, frame: Frame) -> tuple[Image.Image, Frame]:
    """Only what lies around the frame."""
    left, top, right, bottom = frame.bounds()
    border = _border(frame)
    left, top = max(left - border, 0), max(top - border, 0)
    right, bottom = min(right + border, picture.width), min(bottom + border, picture.height)
    if right - left < 2 or bottom - top < 2:
        raise PreprocessingError("its face lies outside of the picture")
    return picture.crop((left, top, right, bottom)), frame.moved(-left, -top)


def _padded(picture: Image.Image, frame: Frame) -> tuple[Image.Image, Frame]:
    """With a margin, if the frame reaches beyond the picture."""
    left, top, right, bottom = frame.bounds()
    border = _border(frame)
    beyond = (-left, -top, right - picture.width, bottom - picture.height)
    pad = np.array([max(side + border, 0) for side in beyond])
    if pad.max() <= border - 4:
        return picture, frame
    left, top, right, bottom = np.maximum(pad, int(np.rint(frame.side * 0.3)))
    pixels = np.asarray(picture, dtype=np.float32)
    pixels = np.pad(pixels, ((top, bottom), (left, right), (0, 0)), mode="reflect")
    depth = _depth(pixels.shape[:2], (left, top, right, bottom))[:, :, None]
    pixels += (_blurred(pixels, frame.side) - pixels) * np.clip(3 * depth + 1, 0, 1)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(depth, 0, 1)
    pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels), frame.moved(left, top)


def _depth(shape: tuple[int, int], pad: tuple[int, int, int, int]) -> np.ndarray:
    """How deep in the margin each pixel [H, W] is: 1 at the outer edge, 0 at the edge of the
    picture, below 0 inside."""
    left, top, right, bottom = pad
    y, x = np.arange(shape[0]), np.arange(shape[1])
    rows = 1 - np.minimum(y / top, y[::-1] / bottom)
    columns = 1 - np.minimum(x / left, x[::-1] / right)
    return np.maximum(rows[:, None], columns).astype(np.float32)


def _blurred(pixels: np.ndarray, side: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    small = max(int(width * _LOW), 1), max(int(height * _LOW), 1)
    sigma = 0.02 * _LOW * side
    channels = []
    for channel in np.moveaxis(pixels, 2, 0):
        low = Image.fromarray(channel).resize(small, Image.Resampling.BOX)
        low = Image.fromarray(ndimage.gaussian_filter(np.asarray(low), sigma))
        channels.append(low.resize((width, height), Image.Resampling.LANCZOS))
    return np.stack([np.asarray(channel) for channel in channels], axis=2)
