"""From tensors to picture files: uint8 conversion, depth as grey or colour, grids, PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from dnnlib.util import replacing

# Near to far: dark red, orange, pale yellow, blue-green, dark blue.
_DEPTH_COLORS = np.array(
    [[112, 8, 32], [238, 110, 44], [250, 236, 160], [56, 150, 160], [24, 28, 92]], dtype=np.float64
)


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """[N, 3, H, W], -1 .. 1 -> uint8 [N, H, W, 3], as published: 127.5 x + 128, truncated."""
    pixels = (images.detach().float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def depth_to_uint8(
    depth: torch.Tensor, near: float, far: float, colors: bool = False
) -> np.ndarray:
    """Depth [N, 1, H, W] -> uint8 [N, H, W, 3]; the same range for all, so that videos are steady.

    Grey: `near` is white, `far` black. Colours: from dark red (near) to dark blue.
    """
    if not near < far:
        raise ValueError(f"depth range {near} .. {far}: near must be less than far")
    share = ((depth.detach().float() - near) / (far - near)).clamp(0, 1)[:, 0].cpu().numpy()
    if colors:
        stops = np.linspace(0, 1, len(_DEPTH_COLORS))
        channels = [np.interp(share, stops, channel) for channel in _DEPTH_COLORS.T]
    else:
        channels = [(1 - share) * 255] * 3
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def tile(pictures: Sequence[np.ndarray] | np.ndarray, columns: int, rows: int) -> np.ndarray:
    """[rows * columns, H, W, C], row by row -> [rows * H, columns * W, C]."""
    pictures = np.asarray(pictures)
    count, height, width, channels = pictures.shape
    if count != columns * rows:
        raise ValueError(f"{count} pictures do not fill a grid of {columns}x{rows}")
    cells = pictures.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return cells.reshape(rows * height, columns * width, channels)


def beside(left: np.ndarray, right: np.ndarray, gap: int) -> np.ndarray:
    """Two pictures [H, W, C] of one height with a white gap of so many pixels between them."""
    white = np.full((left.shape[0], gap, left.shape[2]), 255, dtype=np.uint8)
    return np.concatenate([left, white, right], axis=1)


def write_png(path: str | Path, picture: np.ndarray) -> None:
    """Writes uint8 [H, W, 3]; the file appears only when it is complete."""
    with replacing(path) as temporary:
        PIL.Image.fromarray(picture).save(temporary, format="PNG")
