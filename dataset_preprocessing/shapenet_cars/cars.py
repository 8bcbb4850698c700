"""Labels of the cars that were rendered for Scene Representation Networks (Sitzmann et al. 2019).

Each car is a folder with `rgb/NAME.png`, `pose/NAME.txt` (16 numbers, camera to world with the axes
of OpenCV, used as they are: the world is z-up) and `intrinsics.txt`, whose first line begins with
focal length and principal point in pixels of 512.
"""

import json
from pathlib import Path

import numpy as np

from dataset_preprocessing.faces.labels import Entries, labels_file
from dataset_preprocessing.faces.pictures import EXTENSIONS
from dataset_preprocessing.faces.steps import PreprocessingError, problems_error
from dnnlib.util import replacing
from training.cameras import check_label
from training.label_file import LABEL_FILE

CAMERAS_FILE = "cameras.json"
SIZE = 512  # pixels that the published intrinsics are for
_CENTERED = (0.25, 0.75)  # of the picture, where a principal point may be


def label_cars(source: str | Path, size: int = SIZE) -> int:
    """Writes dataset.json and cameras.json into the folder of the cars; the number of pictures.

    Raises PreprocessingError with all pictures that have no camera, and all files that are wrong.
    """
    source = Path(source)
    scenes = sorted(path.parent for path in source.rglob("intrinsics.txt"))
    if not scenes:
        raise PreprocessingError(
            f"{source}: has no cars, folders with rgb, pose and intrinsics.txt; it is what "
            "cars_train.zip unpacks to"
        )
    entries: Entries = []
    cameras, problems = {}, []
    for scene in scenes:
        found, wrong = read_scene(scene, size)
        problems += wrong
        for path, label in found:
            name = path.relative_to(source).as_posix()
            entries.append((name, label))
            pose, lens = np.reshape(label[:16], (4, 4)), np.reshape(label[16:], (3, 3))
            cameras[name] = {
                "pose": pose.tolist(),
                "intrinsics": lens.tolist(),
                "scene-name": scene.name,
            }
    if problems:
        raise problems_error(problems)
    contents = {LABEL_FILE: labels_file(entries, {}), CAMERAS_FILE: json.dumps(cameras).encode()}
    for name, content in contents.items():
        with replacing(source / name) as temporary:
            temporary.write_bytes(content)
    return len(entries)


def read_scene(scene: Path, size: int) -> tuple[list[tuple[Path, list[float]]], list[str]]:
    """Pictures and labels of one car in order, and all that is wrong with it."""
    lens, problems = None, []
    try:
        lens = _lens(scene / "intrinsics.txt", size)
    except PreprocessingError as error:
        problems.append(str(error))
    found = []
    pictures = sorted(p for p in (scene / "rgb").glob("*") if p.suffix.lower() in EXTENSIONS)
    if not pictures:
        problems.append(f"{scene / 'rgb'}: has no pictures")
    for picture in pictures:
        try:
            pose = _numbers(scene / "pose" / f"{picture.stem}.txt")
            if len(pose) != 16:
                raise PreprocessingError(
                    f"{scene}/pose/{picture.stem}.txt: has {len(pose)} numbers, must be 16"
                )
        except PreprocessingError as error:
            problems.append(str(error))
            continue
        if lens is not None:
            label = [*pose, *lens]
            wrong = check_label(label)
            problems += [f"{scene}/pose/{picture.stem}.txt: {wrong}"] if wrong else []
            found.append((picture, label))
    return found, problems


def _lens(path: Path, size: int) -> list[float]:
    """Nine intrinsics, divided by the size of the picture."""
    values = _numbers(path, lines=1)
    if len(values) < 3:
        raise PreprocessingError(f"{path}: must begin with focal length, cx and cy")
    focal, cx, cy = (value / size for value in values[:3])
    if not all(_CENTERED[0] < center < _CENTERED[1] for center in (cx, cy)):
        raise PreprocessingError(
            f"{path}: its principal point {values[1]:g}, {values[2]:g} is not in the middle of "
            f"{size} pixels; --intrinsics-size says what size the numbers are for"
        )
    return [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]


def _numbers(path: Path, lines: int | None = None) -> list[float]:
    try:
        words = " ".join(path.read_text().splitlines()[:lines]).split()
        values = [float(word) for word in words]
    except FileNotFoundError:
        raise PreprocessingError(f"{path}: no such file") from None
    except ValueError:
        raise PreprocessingError(f"{path}: must be numbers") from None
    if not np.isfinite(values).all():
        raise PreprocessingError(f"{path}: has a number that is not finite")
    return values
