"""Datasets of images with camera labels, read from a folder, a zip or tar shards.

An image is uint8 [C, H, W]; a label is the 25 numbers of a camera, behind which a class may stand,
or a class alone. docs/datasets.md describes the format on one page. Whatever is wrong with a
dataset is a `DatasetError` of one line that names the file, what is wrong and what would be right.
"""

import io
import json
import os
import struct
import zlib
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dnnlib.util import EasyDict, one_line
from training.cameras import LABEL_SIZE, Camera
from training.dataset_files import open_files
from training.label_file import (
    LABEL_FILE,
    DatasetError,
    count_classes,
    parse_classes,
    parse_labels,
    parse_weights,
)

try:
    import pyspng
except ImportError:
    pyspng = None

__all__ = ["LABEL_FILE", "Dataset", "DatasetError", "ImageFolderDataset"]

_CACHES = ("none", "ram")
_MOST_CLASSES = 10_000  # beside cameras: each is a number of every label
_MODES = ("L", "RGB", "RGBA")
_DECODE_ERRORS = (
    OSError,
    SyntaxError,  # Pillow: broken PNG chunks
    ValueError,
    RuntimeError,  # pyspng
    EOFError,
    struct.error,
    zlib.error,
    MemoryError,
    Image.DecompressionBombError,
)


class Dataset(torch.utils.data.Dataset, ABC):
    """Images and labels by index; subclasses say where they come from.

    raw_shape is [N, C, H, W]. max_size keeps that many images, chosen by random_seed. xflip
    appends a mirrored copy of every image; mirror_labels gives it the mirrored camera as well
    (False: the unmirrored one, which teaches wrong poses). cache 'ram' keeps decoded images in
    memory, in each process that reads them. use_classes puts behind the camera of each label, if
    labels are used, what kind of thing the image shows: K numbers, one-hot.
    """

    def __init__(
        self,
        name: str,
        raw_shape: list[int],
        max_size: int | None = None,
        use_labels: bool = False,
        xflip: bool = False,
        random_seed: int = 0,
        mirror_labels: bool = True,
        cache: str = "none",
        use_classes: bool = False,
    ) -> None:
        if cache not in _CACHES:
            raise ValueError(f"cache is '{cache}', must be one of {', '.join(_CACHES)}")
        self._name = name
        self._raw_shape = list(raw_shape)
        self._use_labels = use_labels
        self._use_classes = use_classes and use_labels
        self._mirror_labels = mirror_labels
        self._raw_labels: np.ndarray | None = None
        self._item_labels: np.ndarray | None = None
        self._cached: dict[int, np.ndarray] | None = {} if cache == "ram" else None
        indices = np.arange(self._raw_shape[0], dtype=np.int64)
        if max_size is not None and max_size < indices.size:
            np.random.RandomState(random_seed).shuffle(indices)
            indices = np.sort(indices[:max_size])
        self._raw_idx = np.tile(indices, 2) if xflip else indices
        self._xflip = np.arange(self._raw_idx.size) >= indices.size

    @abstractmethod
    def _load_raw_image(self, raw_idx: int) -> np.ndarray:
        """Decode one image, uint8 [C, H, W]."""

    @abstractmethod
    def _load_raw_labels(self) -> np.ndarray | None:
        """Labels of all images: float32 [N, L], int64 [N] of classes >= 0, or None."""

    def _load_raw_classes(self) -> tuple[np.ndarray, int]:
        """What kind of thing each image shows besides its camera, int64 [N], and how many kinds
        there are."""
        raise DatasetError(f"{self._name}: has no classes beside cameras")

    def _load_raw_weights(self) -> np.ndarray | None:
        """How often each image is to be drawn beside the others, float64 [N]; None: alike."""

    def _describe(self, raw_idx: int) -> str:
        """Where an image comes from, for messages."""
        return f"{self._name}: image {raw_idx}"

    def close(self) -> None:
        """Release open files; reading again opens them again."""

    def __getstate__(self) -> dict:
        cached = None if self._cached is None else {}
        return {**self.__dict__, "_raw_labels": None, "_item_labels": None, "_cached": cached}

    def __len__(self) -> int:
        return self._raw_idx.size

    def __getitem__(self, idx: int) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [C, H, W] and label float32 [label_dim], both copies."""
        image = self._raw_image(int(self._raw_idx[idx]))
        if self._xflip[idx]:
            image = image[:, :, ::-1]
        return image.copy(), self.get_label(idx)

    def get_label(self, idx: int) -> np.ndarray:
        """Label float32 [label_dim] of an item: one-hot for classes, mirrored as its image."""
        return self._labels_of(np.array([idx]))[0]

    def all_labels(self) -> np.ndarray:
        """The labels float32 [len(self), label_dim] of all items; row i equals `get_label(i)`.

        Made at the first call and kept: all callers share the array, do not change it.
        """
        if self._item_labels is None:
            self._item_labels = self._labels_of(np.arange(len(self)))
        return self._item_labels

    def all_weights(self) -> np.ndarray | None:
        """How often each item is to be drawn beside the others, float64 [len(self)]; None where the
        dataset does not say."""
        weights = self._load_raw_weights()
        return None if weights is None else weights[self._raw_idx]

    def get_details(self, idx: int) -> EasyDict:
        """raw_idx, xflip and raw_label (unmirrored; a class is its number) of an item."""
        raw_idx = int(self._raw_idx[idx])
        label = self._labels()[raw_idx].copy()
        return EasyDict(raw_idx=raw_idx, xflip=bool(self._xflip[idx]), raw_label=label)

    def get_label_std(self) -> np.ndarray:
        """Standard deviation [label_dim] over all raw labels, whatever max_size and xflip are."""
        labels = self._labels()
        if labels.dtype == np.int64:
            labels = one_hot(labels, self.label_dim)
        return labels.std(axis=0).astype(np.float32)

    @property
    def name(self) -> str:
        """Short name, for logs and file names."""
        return self._name

    @property
    def image_shape(self) -> list[int]:
        """[C, H, W] of every image."""
        return list(self._raw_shape[1:])

    @property
    def num_channels(self) -> int:
        """Channels of every image: 1 grey, 3 RGB, 4 RGBA."""
        return self._raw_shape[1]

    @property
    def resolution(self) -> int:
        """Side of the images in pixels; DatasetError when they are not square."""
        height, width = self._raw_shape[2:]
        if height != width:
            raise DatasetError(f"{self._name}: images are {width}x{height}, must be square")
        return height

    @property
    def label_shape(self) -> list[int]:
        """[L] of every label; for classes L is the greatest class plus one."""
        labels = self._labels()
        if labels.dtype == np.int64:
            return [int(labels.max()) + 1]
        return list(labels.shape[1:])

    @property
    def label_dim(self) -> int:
        """Numbers in a label; 0 without labels."""
        return self.label_shape[0]

    @property
    def has_labels(self) -> bool:
        """Whether labels have any numbers."""
        return self.label_dim > 0

    @property
    def has_onehot_labels(self) -> bool:
        """Whether labels are classes."""
        return self._labels().dtype == np.int64

    def _labels(self) -> np.ndarray:
        """All raw labels, read when first wanted: float32 [N, L] or int64 [N]."""
        if self._raw_labels is None:
            labels = self._load_raw_labels() if self._use_labels else None
            if labels is None:
                labels = np.zeros([self._raw_shape[0], 0], dtype=np.float32)
            if self._use_classes:
                if labels.shape[1:] != (LABEL_SIZE,):
                    raise DatasetError(
                        f"{self._describe(0)}: its label is no camera of {LABEL_SIZE} numbers, "
                        "which a class could stand beside"
                    )
                labels = np.concatenate([labels, one_hot(*self._load_raw_classes())], axis=1)
            self._raw_labels = labels
        return self._raw_labels

    def _labels_of(self, items: np.ndarray) -> np.ndarray:
        """Labels float32 [n, label_dim] of the items with the indices int64 [n], as a copy."""
        labels = self._labels()[self._raw_idx[items]]
        if labels.dtype == np.int64:
            return one_hot(labels, self.label_dim)
        mirrored = np.flatnonzero(self._xflip[items])
        has_cameras = labels.shape[1] == LABEL_SIZE or self._use_classes
        if self._mirror_labels and mirrored.size and has_cameras:
            cameras = Camera.from_label(torch.from_numpy(labels[mirrored]))
            labels[mirrored, :LABEL_SIZE] = cameras.mirror().label().numpy()
        return labels

    def _raw_image(self, raw_idx: int) -> np.ndarray:
        if self._cached is not None and raw_idx in self._cached:
            return self._cached[raw_idx]
        image = self._load_raw_image(raw_idx)
        if image.dtype != np.uint8 or list(image.shape) != self.image_shape:
            raise DatasetError(
                f"{self._describe(raw_idx)} is {_kind(image.shape)}, must be "
                f"{_kind(self.image_shape)} as the first image of the dataset"
            )
        if self._cached is not None:
            self._cached[raw_idx] = image
        return image


class ImageFolderDataset(Dataset):
    """Images below a folder, in a zip or in tar shards (`training.shards`); labels from the
    `dataset.json` at its root, or beside each image of a shard.

    `resolution`, when given, must be that of the images. Further arguments are `Dataset`'s. With
    use_labels=True all labels are read and checked at once. Raises DatasetError.
    """

    def __init__(self, path: str | Path, resolution: int | None = None, **options) -> None:
        self._path = str(path)
        self._files = open_files(path)
        Image.init()
        self._images = sorted(f for f in self._files.names if _extension(f) in Image.EXTENSION)
        if not self._images:
            raise DatasetError(f"{path}: no images; expected PNG files or others Pillow can read")
        shape = list(self._load_raw_image(0).shape)
        super().__init__(self._files.name, [len(self._images), *shape], **options)
        if resolution is not None and shape[1:] != [resolution, resolution]:
            raise DatasetError(
                f"{self._describe(0)} is {_kind(shape)}, must be {resolution}x{resolution} "
                "as the resolution asked for"
            )
        if shape[1] != shape[2]:
            raise DatasetError(f"{self._describe(0)} is {_kind(shape)}, must be square")
        if self._use_labels:
            self._labels()

    def close(self) -> None:
        """Close the zip or the shards."""
        self._files.close()

    def _describe(self, raw_idx: int) -> str:
        return f"{self._path}/{self._images[raw_idx]}"

    def _read(self, name: str) -> bytes:
        return self._files.read(name)

    def _load_raw_image(self, raw_idx: int) -> np.ndarray:
        try:
            pixels = _decode(self._images[raw_idx], self._read(self._images[raw_idx]))
        except _DECODE_ERRORS as error:
            reason = one_line(error)
            raise DatasetError(
                f"{self._describe(raw_idx)} cannot be decoded ({reason}); "
                "must be an intact 8-bit image, grey, RGB or RGBA"
            ) from None
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _load_raw_labels(self) -> np.ndarray:
        return parse_labels(self._label_content(), self._images, self._where_labels_are())

    def _load_raw_classes(self) -> tuple[np.ndarray, int]:
        content, where = self._label_content(), self._where_labels_are()
        classes = parse_classes(content, self._images, where)
        if classes is None:
            raise DatasetError(
                f'{where} has no "classes", but classes are wanted; must have "classes": '
                "[[file name, whole number], ...]"
            )
        count = count_classes(content, classes, where)
        if count > _MOST_CLASSES:
            raise DatasetError(
                f"{where}: has {count} classes, counted from 0 to the greatest; must be at most "
                f"{_MOST_CLASSES}"
            )
        return classes, count

    def _load_raw_weights(self) -> np.ndarray | None:
        return parse_weights(self._label_content(), self._images, self._where_labels_are())

    def _where_labels_are(self) -> str:
        return f"{self._path}/{LABEL_FILE}"

    def _label_content(self) -> object:
        """Of the dataset.json, or of what stands for it."""
        content = self._files.labels()
        if content is not None:
            return content
        where = self._where_labels_are()
        if LABEL_FILE not in self._files.names:
            raise DatasetError(f"{where} is missing, but labels are wanted; must list every image")
        try:
            return json.loads(self._read(LABEL_FILE))
        except (OSError, ValueError, RecursionError) as error:
            raise DatasetError(f"{where} is not readable JSON ({error})") from None


def one_hot(classes: np.ndarray, count: int) -> np.ndarray:
    """Classes int64 [n] below `count` as rows float32 [n, count] of zeros and a one."""
    rows = np.zeros([len(classes), count], dtype=np.float32)
    rows[np.arange(len(classes)), classes] = 1
    return rows


def _decode(name: str, content: bytes) -> np.ndarray:
    """Pixels uint8 [H, W] or [H, W, C] of an encoded image."""
    if pyspng is not None and _extension(name) == ".png":
        return pyspng.load(content)
    with Image.open(io.BytesIO(content)) as image:
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        if image.mode not in _MODES:
            raise ValueError(f"its mode is {image.mode}")
        return np.array(image)


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _kind(shape: list[int]) -> str:
    """Words for an image shape [C, H, W]."""
    channels, height, width = shape
    colour = {1: "grey", 3: "RGB", 4: "RGBA"}.get(channels, f"{channels} channels")
    return f"{width}x{height} {colour}"
