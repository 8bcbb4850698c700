"""transforms.json of nerfstudio, instant-ngp and Blender's NeRF scenes.

Poses map camera to world with the axes of OpenGL: right, up, backward. What a frame says of its
lens goes before what the file says. Blender's files have a field of view and no size: that is the
picture's own. A folder without a transforms.json may have the three of Blender, for training,
validation and test, which are read as one.

Formats: docs.nerf.studio, "Data conventions"; instant-ngp, docs/nerf_dataset_tips.md.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from dataset_preprocessing.cameras.gallery import Gallery
from dataset_preprocessing.cameras.posed import (
    CameraError,
    Export,
    Lens,
    PosedPictures,
    assemble,
    lenses_of,
)

_FILE = "transforms.json"
_SPLITS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
_MODELS = ("PERSPECTIVE", "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_MODELS += ("FULL_OPENCV",)
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
_GL_TO_CV = np.diag([1.0, -1.0, -1.0, 1.0])


def is_there(source: Path) -> bool:
    """Whether a path is such a file, or a folder with one."""
    return bool(_files(source))


def pictures_folder(source: Path) -> Path:
    """The file's folder, which its paths start from."""
    return source if source.is_dir() else source.parent


def read(source: Path, gallery: Gallery) -> PosedPictures:
    """Cameras of a file, or of the files in a folder. Raises CameraError."""
    names, poses, lenses = [], [], []
    for file in _files(source):
        content = _load(file)
        for number, frame in enumerate(content["frames"]):
            where = f"{file}: frame {number}"
            if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
                raise CameraError(f"{where} has no file_path")
            name = gallery.find(frame["file_path"])
            names.append(name)
            poses.append(_pose(frame.get("transform_matrix"), where))
            lenses.append(_lens({**content, **frame}, name, gallery, where))
    return assemble(names, np.array(poses).reshape(-1, 4, 4) @ _GL_TO_CV, lenses)


def write(posed: PosedPictures) -> Export:
    """A transforms.json that nerfstudio and instant-ngp read, and Blender's readers where all
    pictures have the same lens. Raises CameraError for skew."""
    lenses = lenses_of(posed, "transforms.json")
    pictures = [f"images/{name}" for name in posed.names]
    frames: list[dict[str, Any]] = [
        dict(file_path=path, transform_matrix=pose.tolist())
        for path, pose in zip(pictures, posed.cam2world @ _GL_TO_CV, strict=True)
    ]
    content: dict[str, Any] = dict(camera_model="PINHOLE")
    if len(set(lenses)) == 1:
        content |= _entries(lenses[0])
    else:
        frames = [{**_entries(lens), **f} for lens, f in zip(lenses, frames, strict=True)]
    content["frames"] = frames
    return Export({_FILE: json.dumps(content, indent=1).encode()}, pictures)


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        if (source / _FILE).is_file():
            return [source / _FILE]
        return [source / name for name in _SPLITS if (source / name).is_file()]
    is_json = source.suffix.lower() == ".json" and source.is_file()
    return [source] if is_json and source.name != "dataset.json" else []


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise CameraError(f"{file}: not a JSON file ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise CameraError(f'{file}: has no list "frames"')
    return content


def _pose(value: Any, where: str) -> np.ndarray:
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise CameraError(f"{where}: transform_matrix must be 4 x 4 numbers")
    return np.concatenate([matrix, [[0.0, 0.0, 0.0, 1.0]]])[:4]


def _lens(settings: dict[str, Any], name: str, gallery: Gallery, where: str) -> Lens:
    model = str(settings.get("camera_model", "PINHOLE")).upper()
    if model not in _MODELS or settings.get("is_fisheye"):
        kind = model if model not in _MODELS else "a fisheye"
        raise CameraError(f"{where}: camera is {kind}, must be one of {', '.join(_MODELS)}")
    if "w" in settings and "h" in settings:
        width, height = (round(_number(settings, key, where)) for key in ("w", "h"))
    else:
        width, height = gallery.size(name)
    fx = _focal(settings, "x", width, where)
    fy = _focal(settings, "y", height, where)
    if fx is None:
        raise CameraError(f"{where} has no focal length; must be fl_x or camera_angle_x")
    cx = _number(settings, "cx", where) if "cx" in settings else width / 2
    cy = _number(settings, "cy", where) if "cy" in settings else height / 2
    distorted = any(_number(settings, key, where) for key in _DISTORTION if key in settings)
    return Lens(width, height, fx, fx if fy is None else fy, cx, cy, distorted)


def _focal(settings: dict[str, Any], axis: str, side: int, where: str) -> float | None:
    """In pixels: as it is, of an angle in radians, or (early instant-ngp) of one in degrees."""
    if f"fl_{axis}" in settings:
        return _number(settings, f"fl_{axis}", where)
    for key, unit in ((f"camera_angle_{axis}", 1.0), (f"{axis}_fov", math.pi / 180)):
        if key in settings:
            angle = _number(settings, key, where) * unit
            if not 0 < angle < math.pi:
                raise CameraError(f"{where}: {key} is {settings[key]}, must be below 180 degrees")
            return side / (2 * math.tan(angle / 2))
    return None


def _number(settings: dict[str, Any], key: str, where: str) -> float:
    value = settings[key]
    if type(value) not in (int, float) or not math.isfinite(value):
        raise CameraError(f"{where}: {key} is {value!r}, must be a number")
    return float(value)


def _entries(lens: Lens) -> dict[str, float]:
    angle = 2 * math.atan(lens.width / (2 * lens.fx))
    size = dict(w=lens.width, h=lens.height)
    return dict(size, fl_x=lens.fx, fl_y=lens.fy, cx=lens.cx, cy=lens.cy, camera_angle_x=angle)
