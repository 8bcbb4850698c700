"""The training pictures of AFHQ's cats with mirror images and cameras.

Labels are those that the EG3D authors host, or follow from rotations of the heads as theirs did:
the camera stands at a fixed distance and looks at the origin.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dataset_preprocessing.faces.archives import members, read_member
from dataset_preprocessing.faces.labels import RADIUS, Entries, label_of, labels_file, read_labels
from dataset_preprocessing.faces.mirror import with_mirrors
from dataset_preprocessing.faces.pictures import (
    EXTENSIONS,
    is_mirror,
    mirror_name,
    mirrored_png,
)
from dataset_preprocessing.faces.steps import Job, PreprocessingError, Step, problems_error
from dataset_preprocessing.faces.values import numbers, parse_object
from training.cameras import check_label
from training.label_file import LABEL_FILE

_CATS = re.compile(r"(?:.*/)?train/cat/([^/]+)")


def cats_step(inzip: str | Path, labels_of: Callable[[list[str]], Entries]) -> Step:
    """The step that copies and mirrors the pictures of train/cat in AFHQ's zip, and labels them.

    labels_of: `hosted_labels` or `labels_of_rotations` of a file. Raises PreprocessingError.
    """
    cats = {}
    for member, size in members(inzip).items():
        found = _CATS.fullmatch(member)
        if found and Path(member).suffix.lower() in EXTENSIONS:
            cats[found[1]] = dict(archive=str(inzip), member=member, size=size)
    if not cats:
        raise PreprocessingError(f"{inzip}: has no pictures in train/cat; it must be AFHQ's zip")
    entries = with_mirrors(labels_of(sorted(cats)))
    jobs: dict[str, Job] = {}
    for name in sorted(cats):
        jobs[name] = dict(cats[name], mirror=False)
        jobs[mirror_name(name)] = dict(cats[name], mirror=True)
    content = labels_file(entries, {})
    digest = hashlib.sha256(content).hexdigest()
    return Step(
        "cats", make_cat, jobs, dict(labels=digest), closing=lambda _: {LABEL_FILE: content}
    )


def make_cat(job: Job) -> bytes:
    """A picture as it is, or its mirror image. Raises PictureError, OSError."""
    content = read_member(job)
    return mirrored_png(content) if job["mirror"] else content


def hosted_labels(path: Path, names: list[str]) -> Entries:
    """The labels of pictures in a dataset.json, which may have those of mirror images besides.
    Raises PreprocessingError with all pictures that have none."""
    if not path.is_file():
        raise PreprocessingError(
            f"{path}: no such file; it is the dataset.json that the EG3D authors host for AFHQ's "
            "cats: get it and name it with --labels, or give --cameras"
        )
    entries, _ = read_labels(path.read_bytes(), path)
    by_name = {Path(name).stem: label for name, label in entries if not is_mirror(name)}
    return _for_all(path, names, by_name)


def labels_of_rotations(path: Path, names: list[str]) -> Entries:
    """The labels of pictures from a cameras.json, {stem: rotation 3 x 3 of the camera}. Raises
    PreprocessingError with all pictures that have none, and all rotations that are wrong."""
    if not path.is_file():
        raise PreprocessingError(f"{path}: no such file")
    rotations = parse_object(path.read_bytes(), path, "{name: rotation 3 x 3, ...}")
    labels, problems = {}, []
    for stem, rotation in rotations.items():
        try:
            labels[stem] = label_of(pose_of_rotation(rotation))
            problem = check_label(labels[stem])
        except ValueError as error:
            problem = str(error)
        problems += [f"{path}: {stem}: {problem}"] if problem else []
    if problems:
        raise problems_error(problems)
    return _for_all(path, names, labels)


def pose_of_rotation(rotation: object) -> np.ndarray:
    """cam2world [4, 4] of a camera turned by a rotation [3, 3] that looks at the origin. Raises
    ValueError."""
    pose = np.eye(4)
    pose[:3, :3] = numbers("rotation", rotation, 3, 3)
    with np.errstate(over="ignore"):  # what is no rotation is found later
        pose[:3, 3] = -RADIUS * pose[:3, 2]
    return pose


def _for_all(path: Path, names: list[str], by_stem: dict[str, list[float]]) -> Entries:
    missing = [f"{path}: has no entry for {n}" for n in names if Path(n).stem not in by_stem]
    if missing:
        raise problems_error(missing)
    return [(name, by_stem[Path(name).stem]) for name in names]
