"""A dataset of pictures and their mirror images, with mirrored labels."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from dataset_preprocessing.faces.labels import (
    Entries,
    labels_file,
    mirrored_label,
    read_label_file,
)
from dataset_preprocessing.faces.pictures import EXTENSIONS, is_mirror, mirror_name, mirrored_png
from dataset_preprocessing.faces.steps import (
    Job,
    PreprocessingError,
    Step,
    provenance_of,
)
from training.label_file import LABEL_FILE


def mirror_step(source: str | Path, max_images: int | None = None) -> Step:
    """The step that copies the pictures of a folder, as they are, and mirrors each.

    With a dataset.json in the folder its pictures are taken, and get labels; else all pictures
    below the folder. Pictures that are mirror images already are left alone. Raises
    PreprocessingError.
    """
    source = Path(source)
    if not source.is_dir():
        raise PreprocessingError(f"{source}: no such folder")
    labelled = read_label_file(source)
    if labelled is None:
        paths = sorted(p for p in source.rglob("*") if p.suffix.lower() in EXTENSIONS)
        names = [path.relative_to(source).as_posix() for path in paths]
        entries, provenance = None, provenance_of(source)
    else:
        entries, provenance = labelled
        names = [name for name, _ in entries]
    names = [name for name in names if not is_mirror(name)][:max_images]
    if entries is not None:
        by_name = dict(entries)
        entries = [(name, by_name[name]) for name in names]
    return mirrored_step(source, names, entries, provenance)


def mirrored_step(
    source: Path, names: list[str], entries: Entries | None, provenance: dict[str, Any]
) -> Step:
    """The step that copies and mirrors pictures with these names in a folder, and labels
    them."""
    problems = {
        name: f"no such file in {source}" for name in names if not (source / name).is_file()
    }
    jobs: dict[str, Job] = {}
    for name in names:
        if mirror_name(name) in jobs:
            problems[name] = "its mirror image would have the name of another one"
        if name in problems:
            continue
        path = source / name
        job = dict(picture=str(path), size=path.stat().st_size)
        jobs[name] = dict(job, mirror=False)
        jobs[mirror_name(name)] = dict(job, mirror=True)
    if entries is None:
        return Step("mirror", make_copy, jobs, provenance=provenance, problems=problems)
    digest = hashlib.sha256(labels_file(entries, {})).hexdigest()
    closing = partial(closing_labels, entries, provenance)
    return Step("mirror", make_copy, jobs, dict(labels=digest), provenance, closing, problems)


def make_copy(job: Job) -> bytes:
    """A picture as it is, or its mirror image. Raises PictureError, OSError."""
    content = Path(job["picture"]).read_bytes()
    return mirrored_png(content) if job["mirror"] else content


def with_mirrors(entries: Entries) -> Entries:
    """Labels of pictures, and after all of them those of their mirror images."""
    mirrors = [(mirror_name(name), mirrored_label(label)) for name, label in entries]
    return [*entries, *mirrors]


def closing_labels(
    entries: Entries, provenance: dict[str, Any], made: list[str]
) -> dict[str, bytes]:
    """The dataset.json of the pictures that were made, of `entries` and their mirror images."""
    there = set(made)
    kept = [(name, label) for name, label in with_mirrors(entries) if name in there]
    return {LABEL_FILE: labels_file(kept, provenance)}
