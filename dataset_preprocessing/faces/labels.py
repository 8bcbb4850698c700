"""Labels of the pipelines: the dataset.json of pictures and their mirror images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset_preprocessing.conversion.sources import PROVENANCE
from dataset_preprocessing.faces.steps import PreprocessingError, problems_error
from dataset_preprocessing.faces.values import leads_out, numbers, parse_object
from training.cameras import LABEL_SIZE, Camera, check_label
from training.label_file import LABEL_FILE

FOCAL = 2985.29 / 700  # of faces and cats, divided by the side of the picture
RADIUS = 2.7

Entries = list[tuple[str, list[float]]]  # name of a picture and its label, in order


def label_of(pose: np.ndarray) -> list[float]:
    """The label of a cam2world [4, 4] of a face's or cat's picture."""
    lens = [FOCAL, 0.0, 0.5, 0.0, FOCAL, 0.5, 0.0, 0.0, 1.0]
    return [*np.asarray(pose, dtype=np.float64).ravel().tolist(), *lens]


def mirrored_label(label: list[float]) -> list[float]:
    """The label of the mirror image."""
    camera = Camera.from_label(torch.tensor([label], dtype=torch.float64))
    return camera.mirror().label()[0].tolist()


def labels_file(entries: Entries, provenance: dict[str, Any]) -> bytes:
    """The content of a dataset.json."""
    content: dict[str, Any] = dict(labels=[[name, label] for name, label in entries])
    if provenance:
        content[PROVENANCE] = provenance
    return json.dumps(content).encode()


def read_labels(content: bytes, where: str | Path) -> tuple[Entries, dict[str, Any]]:
    """Entries and provenance of a dataset.json called `where` in messages.

    Raises PreprocessingError with all labels that are no cameras.
    """
    form = '{"labels": [[file name, 25 numbers], ...]}'
    found = parse_object(content, where, form)
    try:
        entries = [(name.replace("\\", "/"), label) for name, label in found["labels"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PreprocessingError(f"{where}: must be {form}") from None
    problems = []
    for name, label in entries:
        problem = _wrong_name(name) or _wrong_label(label)
        problems += [f"{where}: {name!a}: {problem}"] if problem else []
    if problems:
        raise problems_error(problems)
    provenance = found.get(PROVENANCE)
    return entries, provenance if isinstance(provenance, dict) else {}


def read_label_file(folder: Path) -> tuple[Entries, dict[str, Any]] | None:
    """Of the dataset.json in a folder; None if it has none. Raises PreprocessingError."""
    path = folder / LABEL_FILE
    return read_labels(path.read_bytes(), path) if path.is_file() else None


def _wrong_name(name: str) -> str | None:
    return "must be the name of a file inside the folder" if leads_out(name) else None


def _wrong_label(label: object) -> str | None:
    try:
        return check_label(numbers("label", label, LABEL_SIZE))
    except ValueError as error:
        return str(error)
