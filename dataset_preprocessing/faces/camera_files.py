"""`cameras.json` of crops of faces: made from Deep3DFaceRecon's results, turned into labels.

{"NAME.png": {"pose": cam2world 4 x 4, "intrinsics": 3 x 3 in pixels of the crop of 1024}}. Labels
have the cameras moved to one distance and one focal length, since estimates of both are rough.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from dataset_preprocessing.cameras.deep3dface import camera_of, load, to_radius
from dataset_preprocessing.cameras.posed import CameraError
from dataset_preprocessing.faces.labels import label_of
from dataset_preprocessing.faces.mirror import mirrored_step
from dataset_preprocessing.faces.pictures import is_mirror
from dataset_preprocessing.faces.steps import (
    PreprocessingError,
    Step,
    problems_error,
    provenance_of,
)
from dataset_preprocessing.faces.values import leads_out, numbers, parse_object
from dnnlib.util import replacing
from training.cameras import check_label

CAMERAS_FILE = "cameras.json"
INTRINSICS = [[2985.29, 0.0, 512.0], [0.0, 2985.29, 512.0], [0.0, 0.0, 1.0]]

Poses = dict[str, np.ndarray]  # cam2world [4, 4] by the name of the picture


def poses_of_results(folder: str | Path) -> tuple[Poses, dict[str, Any]]:
    """Poses, as estimated, of a folder of Deep3DFaceRecon's results NAME.mat, and what to record of
    them. Raises PreprocessingError with all files that cannot be read."""
    files = sorted(Path(folder).glob("*.mat"))
    if not files:
        raise PreprocessingError(
            f"{folder}: has no .mat files; name the folder with Deep3DFaceRecon's results"
        )
    poses, problems, digest = {}, [], hashlib.sha256()
    for file in files:
        try:
            coefficients = load(file)
        except CameraError as error:
            problems.append(str(error))
            continue
        digest.update(np.concatenate(coefficients).tobytes())
        poses[f"{file.stem}.png"] = camera_of(*coefficients)
    if problems:
        raise problems_error(problems)
    record = dict(estimator="Deep3DFaceRecon", results=len(poses), sha256=digest.hexdigest())
    return poses, record


def write_cameras(path: str | Path, poses: Poses, record: dict[str, Any]) -> None:
    """Writes a cameras.json, and beside it what estimated the poses, `cameras.record.json`; both
    anew if they are there."""
    cameras = {
        name: dict(pose=pose.tolist(), intrinsics=INTRINSICS) for name, pose in poses.items()
    }
    for target, content in ((record_path(path), record), (Path(path), cameras)):
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(content, indent=1))


def record_path(path: str | Path) -> Path:
    """Where `write_cameras` says what estimated the poses of a file."""
    return Path(path).with_suffix(".record.json")


def read_cameras(path: str | Path) -> Poses:
    """The poses of a cameras.json. Raises PreprocessingError with all entries that are wrong."""
    path = Path(path)
    if not path.is_file():
        raise PreprocessingError(
            f"{path}: no such file; `python -m dataset_preprocessing.ffhq poses` makes it"
        )
    entries = parse_object(path.read_bytes(), path, "{name: {pose, intrinsics}, ...}")
    poses, problems = {}, []
    for name, entry in entries.items():
        try:
            poses[name] = _pose_of(name, entry)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else error
            problems.append(f"{path}: {name!a}: {reason}")
    if problems:
        raise problems_error(problems)
    return poses


def labelled_step(
    source: str | Path,
    mode: str = "orig",
    max_images: int | None = None,
    cameras: str | Path | None = None,
) -> Step:
    """The step that copies and mirrors the crops in a folder that its cameras.json names, and
    labels them.

    Args:
        mode: 'orig' moves cameras to the distance of 2.7 from the origin, 'cor' from a point within
            the head.
        cameras: the file, if it lies elsewhere.

    Raises PreprocessingError.
    """
    source = Path(source)
    file = Path(cameras or source / CAMERAS_FILE)
    poses = {name: pose for name, pose in read_cameras(file).items() if not is_mirror(name)}
    names = sorted(poses)[:max_images]
    entries = [(name, label_of(to_radius(poses[name], mode))) for name in names]
    provenance = dict(provenance_of(source), distance=mode)
    if record_path(file).is_file():
        provenance["pose"] = json.loads(record_path(file).read_text())
    return mirrored_step(source, names, entries, provenance)


def _pose_of(name: str, entry: dict[str, Any]) -> np.ndarray:
    """The pose [4, 4] of an entry. Raises KeyError, TypeError or ValueError if something is wrong
    with it."""
    pose = numbers("pose", entry["pose"], 4, 4)
    lens = numbers("intrinsics", entry["intrinsics"], 3, 3)
    if lens[0, 1] != 0:
        raise ValueError(f"its pixels have a skew of {lens[0, 1]:.4g}, must be 0")
    if np.allclose(pose[:3, 3], 0):
        raise ValueError("its camera is at the origin")
    problem = check_label(label_of(pose))
    if leads_out(name):
        problem = "must be the name of a file inside the folder"
    if problem is not None:
        raise ValueError(problem)
    return pose
