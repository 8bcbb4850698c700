"""Datasets of EpiGRAF (Skorokhodov et al. 2022): pictures and a dataset.json with angles.

`{"camera_angles": {file: [yaw, pitch, roll]}}` in radians, as `training.orbit_angles` has them, and
perhaps `"labels": {file: class}`. Cameras stand at the distance 1 from the origin and look at it;
all have the same field of view, which the file does not say. The roll is not used, as in EpiGRAF's
renderer. File names may lack extensions, or have the dataset's name as a first folder.
"""

import json
import math
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset_preprocessing.cameras.gallery import Gallery
from dataset_preprocessing.cameras.posed import CameraError, Export, PosedPictures
from dataset_preprocessing.conversion.sources import PROVENANCE
from dnnlib.util import one_line
from training.dataset_files import open_files
from training.label_file import LABEL_FILE, DatasetError
from training.orbit_angles import angles_from_label, label_from_angles

_ENTRY = "camera_angles"
_SLACK = 1e-3  # of yaw and pitch around their ranges, in radians
_SAME = 1e-3  # of labels: less than the width of a pixel
Shorten = Callable[[str], str]


def is_there(source: Path) -> bool:
    """Whether a path is such a dataset: a folder, a zip, or its dataset.json."""
    try:
        return isinstance(_load(source).get(_ENTRY), dict)
    except CameraError:
        return False


def pictures_folder(source: Path) -> Path:
    """The dataset."""
    return source.parent if source.name == LABEL_FILE else source


def read(
    source: Path, gallery: Gallery, fov: float | None = None, negate_yaw: bool = False
) -> PosedPictures:
    """The cameras of all pictures, at the distance 1.

    Args:
        fov: angle between the left and the right edge of all pictures, in degrees.
        negate_yaw: for angles taken from Blender's matrices, whose yaw runs the other way round.

    Raises CameraError.
    """
    if fov is None:
        raise CameraError(
            f"{source}: does not say the field of view of its cameras; --fov=DEGREES does, 12 for "
            "FFHQ and Cats, 30 for Megascans"
        )
    content, names = _load(source), gallery.names
    found = _by_picture(content[_ENTRY], names, f"{source}: has no {_ENTRY}")
    angles = np.array([_checked(value, name, source) for name, value in found])
    if not angles.any():
        raise CameraError(f"{source}: all its {_ENTRY} are 0; it has no poses")
    if negate_yaw:
        angles[:, 0] *= -1
    labels = label_from_angles(torch.from_numpy(angles), 1.0, fov).numpy()
    sizes = np.array([gallery.size(name) for name in names])
    classes = _classes(content, names, source)
    return replace(PosedPictures.from_labels(names, labels, sizes), classes=classes)


def write(posed: PosedPictures, approximate: bool = False) -> Export:
    """A dataset that EpiGRAF reads. Pictures keep their names. Field of view and distance, for
    EpiGRAF's settings, are in the `provenance` of its dataset.json.

    approximate: takes the angles of the cameras' places where they have a roll, look past the
        origin, or differ in distance or lens. Else these raise CameraError.
    """
    labels = torch.from_numpy(posed.labels())
    angles = angles_from_label(labels)
    radius = labels[:, [3, 7, 11]].norm(dim=1).median().item()
    fov = 2 * math.degrees(math.atan(0.5 / labels[:, 16].median().item()))
    unlike = (labels - label_from_angles(angles, radius, fov)).abs().amax(dim=1)
    if unlike.max() > _SAME and not approximate:
        raise CameraError(
            f"{posed.names[int(unlike.argmax())]}: its camera does not look at the origin upright "
            f"(y-up), from a distance of {radius:.4g}, with a field of view of {fov:.4g} degrees; "
            "EpiGRAF has no others: --approximate takes the nearest"
        )
    content = {
        _ENTRY: dict(zip(posed.names, angles.tolist(), strict=True)),
        PROVENANCE: dict(fov=fov, radius=radius),
    }
    if posed.classes is not None:
        content["labels"] = dict(zip(posed.names, posed.classes, strict=True))
    return Export({LABEL_FILE: json.dumps(content).encode()}, posed.names)


def _load(source: Path) -> dict[str, Any]:
    """The content of a dataset.json."""
    try:
        content = json.loads(_read(source))
    except (DatasetError, OSError, ValueError, RecursionError) as error:
        raise CameraError(f"{source}: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise CameraError(f"{source}: its {LABEL_FILE} must be an object")
    return content


def _read(source: Path) -> bytes:
    """The dataset.json of a folder, a zip, or itself. Raises DatasetError, OSError."""
    if source.is_dir() or source.name == LABEL_FILE:
        return (pictures_folder(source) / LABEL_FILE).read_bytes()
    with closing(open_files(source)) as files:
        if LABEL_FILE not in files.names:
            raise DatasetError(f"has no {LABEL_FILE}")
        return files.read(LABEL_FILE)


def _classes(content: dict[str, Any], names: list[str], source: Path) -> list[int] | None:
    """The classes of all pictures; None where there are none."""
    entries = content.get("labels")
    if not isinstance(entries, dict):
        return None
    found = _by_picture(entries, names, f"{source}: has no class among its labels")
    for name, value in found:
        if type(value) is not int or value < 0:
            raise CameraError(f"{source}: label of {name} is {value}, must be a class, 0 or more")
    return [value for _, value in found]


def _by_picture(entries: dict[str, Any], names: list[str], lack: str) -> list[tuple[str, Any]]:
    """(name, value) for all pictures; entries of others are ignored. Raises CameraError that
    begins with `lack`."""
    pairings: list[tuple[Shorten, Shorten]] = [(_stem, _stem), (_inner, _stem), (_stem, _inner)]
    for of_entry, of_name in pairings:
        values = {of_entry(key): value for key, value in entries.items()}
        if of_name(names[0]) in values:
            missing = [name for name in names if of_name(name) not in values]
            if not missing:
                return [(name, values[of_name(name)]) for name in names]
            break
    else:
        missing = names
    raise CameraError(
        f"{lack} for {missing[0]} ({len(missing)} of {len(names)} pictures have none); every "
        "picture must have one"
    )


def _stem(path: str) -> str:
    return os.path.splitext(path.replace("\\", "/"))[0]


def _inner(path: str) -> str:
    """Without the first folder."""
    return _stem(path).partition("/")[2]


def _checked(value: Any, name: str, source: Path) -> list[float]:
    """Yaw, pitch, roll."""
    where = f"{source}: {_ENTRY} of {name}"
    if not isinstance(value, list) or len(value) != 3:
        raise CameraError(f"{where} must be yaw, pitch and roll, 3 numbers")
    if not all(type(v) in (int, float) and abs(v) < 1e6 for v in value):  # false for NaN
        raise CameraError(f"{where} are {value}, must be 3 numbers in radians")
    yaw, pitch, _ = value
    if abs(yaw) > math.pi + _SLACK or not -_SLACK <= pitch <= math.pi + _SLACK:
        raise CameraError(
            f"{where} are {value}; yaw must be in [-pi, pi], pitch in [0, pi] with pi/2 level"
        )
    return value
