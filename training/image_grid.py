"""Grids of pictures for snapshots: which to show, and how to write them."""

from pathlib import Path

import numpy as np
import PIL.Image

from dnnlib.util import replacing
from training.cameras import LABEL_SIZE


def setup_snapshot_image_grid(training_set, random_seed: int = 0, grid_size=None):
    """Chooses real images for a grid of `grid_size`, by default one that fills 7680 x 4320 pixels.

    Labelled sets get rows of equal labels where two or more images share a label on average
    (classes, few cameras), and random members where about each image has its own camera: a row of
    one image repeated would show nothing. Where a class stands behind the camera it alone counts.

    Returns:
        ((columns, rows), images uint8 [rows * columns, C, H, W], labels [rows * columns, L]).
    """
    _, height, width = training_set.image_shape
    filling = (int(np.clip(7680 // width, 7, 32)), int(np.clip(4320 // height, 4, 32)))
    columns, rows = grid_size or filling
    return (columns, rows), *choose_images(training_set, columns, rows, random_seed)


def choose_images(training_set, columns: int, rows: int, random_seed: int = 0):
    """Images [rows * columns, C, H, W] and labels [rows * columns, L] of a snapshot grid."""
    rnd = np.random.RandomState(random_seed)
    indices = list(range(len(training_set)))
    rnd.shuffle(indices)
    if training_set.has_labels:
        groups, images = {}, set()
        for index in indices:
            details = training_set.get_details(index)
            groups.setdefault(_kind(details.raw_label), []).append(index)
            images.add(details.raw_idx)  # A mirrored image has the raw label of its original.
        if len(images) >= 2 * len(groups):
            indices = _rows_of_groups(list(groups.values()), columns, rows)
    chosen = [indices[i % len(indices)] for i in range(rows * columns)]
    images, labels = zip(*[training_set[i] for i in chosen], strict=True)
    return np.stack(images), np.stack(labels)


def _kind(raw_label: np.ndarray) -> tuple:
    """What the images of a row have in common: their class, or the whole label."""
    label = np.atleast_1d(raw_label)
    return tuple(label[LABEL_SIZE:] if label.size > LABEL_SIZE else label)


def _rows_of_groups(groups: list[list[int]], columns: int, rows: int) -> list[int]:
    """Each row shows one group, members over and over; a later row goes on where one ended."""
    chosen = []
    for row in range(rows):
        group, first = groups[row % len(groups)], row // len(groups) * columns
        chosen += [group[(first + x) % len(group)] for x in range(columns)]
    return chosen


def to_uint8(images: np.ndarray, drange: tuple[float, float]) -> np.ndarray:
    """Maps the range `drange` to 0..255, rounded and clipped."""
    low, high = drange
    span = max(high - low, 1e-12)
    images = (np.asarray(images, dtype=np.float32) - low) * (255 / span)
    return np.rint(images).clip(0, 255).astype(np.uint8)


def tile(images: np.ndarray, grid_size: tuple[int, int]) -> np.ndarray:
    """[rows * columns, C, H, W] -> [rows * H, columns * W, C]."""
    columns, rows = grid_size
    _, channels, height, width = images.shape
    tiled = images.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    return tiled.reshape(rows * height, columns * width, channels)


def save_image_grid(
    img: np.ndarray, fname: str | Path, drange: tuple[float, float], grid_size: tuple[int, int]
) -> np.ndarray:
    """Writes images [N, C, H, W] (C 1 or 3) as one picture and returns it, [H', W', C] uint8."""
    if img.shape[1] not in (1, 3):
        raise ValueError(f"{fname}: pictures have 1 or 3 channels, not {img.shape[1]}")
    grid = tile(to_uint8(img, drange), grid_size)
    picture = PIL.Image.fromarray(grid[:, :, 0] if grid.shape[2] == 1 else grid)
    with replacing(fname) as temporary:
        picture.save(temporary, format="PNG")
    return grid
