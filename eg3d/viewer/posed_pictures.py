"""Some pictures of a data set with their cameras, to be shown where they were taken."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from eg3d.errors import InputError
from training.cameras import Camera, check_label

_MOST_LABEL_BYTES = 1 << 30
_MOST_PICTURE_BYTES = 1 << 26


@dataclass(frozen=True, eq=False)
class PosedPicture:
    """A picture uint8 [H, W, 3] and the camera that took it, N = 1."""

    name: str
    pixels: np.ndarray
    camera: Camera


def read(path: str, count: int, side: int = 64) -> list[PosedPicture]:
    """`count` pictures of a zip or folder, evenly spaced in its dataset.json, at most `side` large.

    Raises InputError.
    """
    source = Path(path)
    try:
        if source.is_dir():
            return _read(path, lambda name, most: _file(source, name, most), count, side)
        with zipfile.ZipFile(source) as file:
            return _read(path, lambda name, most: _member(file, name, most), count, side)
    except (OSError, zipfile.BadZipFile, PIL.UnidentifiedImageError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: {reason}; expected a data set, a .zip or a folder") from error


def _read(
    path: str, content: Callable[[str, int], bytes], count: int, side: int
) -> list[PosedPicture]:
    try:
        labels = json.loads(content("dataset.json", _MOST_LABEL_BYTES))["labels"]
        labels = [(str(name), label) for name, label in labels]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: dataset.json has no list of labels") from error
    chosen = np.linspace(0, len(labels), min(count, len(labels)), endpoint=False).astype(int)
    found = []
    for name, label in (labels[index] for index in chosen):
        try:
            problem = check_label(label)
        except (TypeError, ValueError):
            problem = "must be a camera label of 25 numbers"
        if problem:
            raise InputError(f"{path}: {name}: {problem}")
        picture = PIL.Image.open(io.BytesIO(content(name, _MOST_PICTURE_BYTES)))
        picture.thumbnail((side, side))
        camera = Camera.from_label(torch.tensor([label], dtype=torch.float32))
        found.append(PosedPicture(name, np.asarray(picture.convert("RGB")), camera))
    return found


def _member(file: zipfile.ZipFile, name: str, most: int) -> bytes:
    try:
        size = file.getinfo(name).file_size
    except KeyError:
        raise InputError(f"{file.filename}: has no {name}") from None
    if size > most:
        raise InputError(f"{file.filename}: {name} has {size:,} bytes, must be at most {most:,}")
    return file.read(name)


def _file(folder: Path, name: str, most: int) -> bytes:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise InputError(f"{folder}: has no {name}")
    if path.stat().st_size > most:
        raise InputError(f"{path}: has more than {most:,} bytes")
    return path.read_bytes()
