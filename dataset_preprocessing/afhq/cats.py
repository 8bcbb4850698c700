"""The training pictures of AFHQ's cats with mirror images and cameras.

Labels are those that the EG3D authors host, or follow from rotations of the heads as theirs did:
the camera stands at a fixed distance and looks at the origin.
"""

import hashlib
import re
from functools import partial
from pathlib import Path

import numpy as np

from dataset_preprocessing.faces.archives import members, read_member
from dataset_preprocessing.faces.labels import RADIUS, label_of, labels_file, read_labels
from dataset_preprocessing.faces.mirror import closing_labels
from dataset_preprocessing.faces.pictures import (
    EXTENSIONS,
    is_mirror,
    mirror_name,
    mirrored_png,
)
from dataset_preprocessing.faces.steps import Job, PreprocessingError, Step, problems_error
from dataset_preprocessing.faces.values import numbers, parse_object
from training.cameras import check_label

_CATS = re.compile(r"(?:.*/)?train/cat/([^/]+)")


Labels = dict[str, list[float]]  # by the stem of the picture


def cats_step(inzip: str | Path, labels: Labels) -> Step:
    """The step that copies and mirrors the pictures of train/cat in AFHQ's zip, and labels them by
    `hosted_labels` or `labels_of_rotations`. Raises PreprocessingError."""
    cats = {}
    for member, size in members(inzip).items():
        found = _CATS.fullmatch(member)
        if found and Path(member).suffix.lower() in EXTENSIONS:
            cats[found[1]] = dict(archive=str(inzip), member=member, size=size)
    if not cats:
        raise PreprocessingError(f"{inzip}: has no pictures in train/cat; it must be AFHQ's zip")
    jobs: dict[str, Job] = {}
    entries, problems = [], {}
    for name in sorted(cats):
        if Path(name).stem not in labels:
            problems[name] = "there is no label for it"
            continue
        jobs[name] = dict(cats[name], mirror=False)
        jobs[mirror_name(name)] = dict(cats[name], mirror=True)
        entries.append((name, labels[Path(name).stem]))
    digest = hashlib.sha256(labels_file(entries, {})).hexdigest()
    labelled = partial(closing_labels, entries, {})
    return Step("cats", make_cat, jobs, dict(labels=digest), closing=labelled, problems=problems)


def make_cat(job: Job) -> bytes:
    """A picture as it is, or its mirror image. Raises PictureError, OSError."""
    content = read_member(job)
    return mirrored_png(content) if job["mirror"] else content


def hosted_labels(path: Path) -> Labels:
    """The labels in a dataset.json, but for those of mirror images. Raises PreprocessingError."""
    if not path.is_file():
        raise PreprocessingError(
            f"{path}: no such file; it is the dataset.json that the EG3D authors host for AFHQ's "
            "cats: get it and name it with --labels, or give --cameras"
        )
    entries, _ = read_labels(path.read_bytes(), path)
    return {Path(name).stem: label for name, label in entries if not is_mirror(name)}


def labels_of_rotations(path: Path) -> Labels:
    """The labels from a cameras.json, {stem: rotation 3 x 3 of the camera}. Raises
    PreprocessingError with all rotations that are wrong."""
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
    return labels


def pose_of_rotation(rotation: object) -> np.ndarray:
    """cam2world [4, 4] of a camera turned by a rotation [3, 3] that looks at the origin. Raises
    ValueError."""
    pose = np.eye(4)
    pose[:3, :3] = numbers("rotation", rotation, 3, 3)
    with np.errstate(over="ignore"):  # what is no rotation is found later
        pose[:3, 3] = -RADIUS * pose[:3, 2]
    return pose
