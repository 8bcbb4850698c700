"""The files of a COLMAP model, row by row, as .bin (little-endian) or .txt: what they say, not what
it means.

Format: colmap.github.io/format.html, "Sparse Reconstruction". What is seen of which point is passed
over.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset_preprocessing.cameras.posed import CameraError


class LensModel(NamedTuple):
    """Number in .bin, how many parameters are focal lengths, and how many come after the principal
    point, which is next: distortion."""

    number: int
    focals: int
    distortion: int

    @property
    def parameters(self) -> int:
        return self.focals + 2 + self.distortion


MODELS = {
    "SIMPLE_PINHOLE": LensModel(0, 1, 0),
    "PINHOLE": LensModel(1, 2, 0),
    "SIMPLE_RADIAL": LensModel(2, 1, 1),
    "RADIAL": LensModel(3, 1, 2),
    "OPENCV": LensModel(4, 2, 4),
    "FULL_OPENCV": LensModel(6, 2, 8),
}
_BY_NUMBER = {model.number: name for name, model in MODELS.items()}


@dataclass(frozen=True)
class CameraRow:
    """A lens: its model, size in pixels and parameters in the model's order."""

    id: int
    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ImageRow:
    """A picture: world to camera as quaternion (w, x, y, z) and translation, lens and name."""

    id: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    camera_id: int
    name: str


@dataclass(frozen=True)
class Model:
    """The rows of a model; points float64 [M, 3]."""

    cameras: list[CameraRow]
    images: list[ImageRow]
    points: np.ndarray


def read_model(folder: Path, suffix: str) -> Model:
    """The files in a folder that end in '.bin' or '.txt'; points may be missing. Raises
    CameraError."""
    read = _read_binary if suffix == ".bin" else _read_text
    points = folder / f"points3D{suffix}"
    return Model(
        read(folder / f"cameras{suffix}", "camera"),
        read(folder / f"images{suffix}", "image"),
        np.array(read(points, "point") if points.is_file() else []).reshape(-1, 3),
    )


def write_model(model: Model, suffix: str) -> dict[str, bytes]:
    """The content of the three files; without points, which have colours and views that are not
    known here."""
    write = _write_binary if suffix == ".bin" else _write_text
    parts = zip(("cameras", "images", "points3D"), write(model.cameras, model.images), strict=True)
    return {f"{name}{suffix}": content for name, content in parts}


# -- Binary ----------------------------------------------------------------------------------------


class _Bytes:
    """A file, taken piece by piece."""

    def __init__(self, path: Path):
        self.path, self.content, self.place = path, path.read_bytes(), 0

    def take(self, layout: str) -> tuple:
        start, self.place = self.place, self.place + struct.calcsize("<" + layout)
        self._check()
        return struct.unpack_from("<" + layout, self.content, start)

    def text(self) -> str:
        start, end = self.place, self.content.find(b"\0", self.place)
        self.place = end + 1 if end >= 0 else len(self.content) + 1
        self._check()
        return self.content[start:end].decode("utf-8", "replace")

    def skip(self, count: int) -> None:
        self.place += count
        self._check()

    def _check(self) -> None:
        if self.place > len(self.content):
            raise CameraError(f"{self.path}: is cut short, or no file of COLMAP")


def _read_binary(path: Path, kind: str) -> list:
    file = _Bytes(path)
    take = {"camera": _take_camera, "image": _take_image, "point": _take_point}[kind]
    (count,) = file.take("Q")
    rows = [take(file) for _ in range(count)]
    if file.place != len(file.content):
        raise CameraError(f"{path}: goes on after its last {kind}; is no file of COLMAP")
    return rows


def _take_camera(file: _Bytes) -> CameraRow:
    id, number, width, height = file.take("IiQQ")
    if number not in _BY_NUMBER:
        raise _unknown_model(file.path, id, f"number {number}")
    model = _BY_NUMBER[number]
    return CameraRow(id, model, width, height, file.take(f"{MODELS[model].parameters}d"))


def _take_image(file: _Bytes) -> ImageRow:
    id, *pose, camera_id = file.take("I7dI")
    name = file.text()
    (seen,) = file.take("Q")
    file.skip(seen * struct.calcsize("<2dQ"))
    return ImageRow(id, tuple(pose[:4]), tuple(pose[4:]), camera_id, name)


def _take_point(file: _Bytes) -> tuple[float, ...]:
    _, *point = file.take("Q3d")
    file.skip(struct.calcsize("<3Bd"))  # colour, error
    (seen,) = file.take("Q")
    file.skip(seen * struct.calcsize("<2I"))
    return tuple(point)


def _write_binary(cameras: list[CameraRow], images: list[ImageRow]) -> list[bytes]:
    first = [struct.pack("<Q", len(cameras))]
    for row in cameras:
        head = struct.pack("<IiQQ", row.id, MODELS[row.model].number, row.width, row.height)
        first += [head, struct.pack(f"<{len(row.parameters)}d", *row.parameters)]
    second = [struct.pack("<Q", len(images))]
    for row in images:
        pose = (*row.quaternion, *row.translation)
        second.append(struct.pack("<I7dI", row.id, *pose, row.camera_id))
        second.append(row.name.encode() + b"\0" + struct.pack("<Q", 0))
    return [b"".join(first), b"".join(second), struct.pack("<Q", 0)]


# -- Text ------------------------------------------------------------------------------------------


def _read_text(path: Path, kind: str) -> list:
    parse = {"camera": _parse_camera, "image": _parse_image, "point": _parse_point}[kind]
    lines = enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
    rows = []
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        try:
            rows.append(parse(line, path))
        except CameraError:
            raise
        except ValueError:
            raise CameraError(f"{path}: line {number} is no {kind}: {line[:60]}") from None
        if kind == "image":  # The next line, maybe empty, has triples: what is seen of which point.
            number, line = next(lines, (number, ""))
            if len(line.split()) % 3:
                raise CameraError(
                    f"{path}: line {number} must have the points in {rows[-1].name}, or be empty"
                )
    return rows


def _parse_camera(line: str, path: Path) -> CameraRow:
    id, model, width, height, *parameters = line.split()
    if model not in MODELS:
        raise _unknown_model(path, id, model)
    if len(parameters) != MODELS[model].parameters:
        raise ValueError
    values = tuple(float(value) for value in parameters)
    return CameraRow(int(id), model, int(width), int(height), values)


def _parse_image(line: str, _: Path) -> ImageRow:
    id, *pose, camera_id, name = line.split(maxsplit=9)
    values = tuple(float(value) for value in pose)
    return ImageRow(int(id), values[:4], values[4:], int(camera_id), name.strip())


def _parse_point(line: str, _: Path) -> tuple[float, ...]:
    x, y, z = line.split()[1:4]
    return float(x), float(y), float(z)


def _write_text(cameras: list[CameraRow], images: list[ImageRow]) -> list[bytes]:
    first = ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS"]
    for row in cameras:
        first.append(_line(row.id, row.model, row.width, row.height, *row.parameters))
    second = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of POINTS2D"]
    for row in images:
        second.append(_line(row.id, *row.quaternion, *row.translation, row.camera_id, row.name))
        second.append("")
    return ["".join(f"{line}\n" for line in lines).encode() for lines in (first, second, [])]


def _line(*values: object) -> str:
    return " ".join(str(value) for value in values)


def _unknown_model(path: Path, id: object, model: object) -> CameraError:
    return CameraError(
        f"{path}: camera {id} is of model {model}; must be one of {', '.join(MODELS)}: "
        "undistort the pictures (colmap image_undistorter)"
    )
