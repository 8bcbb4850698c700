"""The labels of a dataset, in its dataset.json."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from dataset_preprocessing.cameras import epigraf
from dataset_preprocessing.cameras.gallery import Gallery
from dataset_preprocessing.cameras.posed import CameraError, Export, PosedPictures
from training.label_file import LABEL_FILE, parse_labels


def is_there(source: Path) -> bool:
    """Whether a path is a dataset: a folder with labels, or a zip. One of EpiGRAF is none: it looks
    alike from outside."""
    if epigraf.is_there(source):
        return False
    if source.is_file():
        return source.suffix.lower() == ".zip" or source.name == LABEL_FILE
    return (source / LABEL_FILE).is_file()


def pictures_folder(source: Path) -> Path:
    """The dataset."""
    return source.parent if source.name == LABEL_FILE else source


def read(source: Path, gallery: Gallery) -> PosedPictures:
    """The cameras of all pictures. Raises CameraError, DatasetError."""
    if all(label is None for label in gallery.labels):
        raise CameraError(f"{source}: has no cameras in a {LABEL_FILE}")
    names = gallery.names
    content = dict(labels=[list(pair) for pair in zip(names, gallery.labels, strict=True)])
    if parse_labels(content, names, str(source)).ndim == 1:
        raise CameraError(f"{source}: its labels are classes, must be cameras")
    sizes = np.array([gallery.size(name) for name in names])
    posed = PosedPictures.from_labels(names, np.array(gallery.labels, dtype=np.float64), sizes)
    return replace(posed, classes=gallery.classes)


def write(posed: PosedPictures) -> Export:
    """A dataset.json. Pictures keep their names."""
    entries = dict(labels=posed.labels().tolist())
    if posed.classes is not None:
        entries["classes"] = posed.classes
    content = {
        key: [list(pair) for pair in zip(posed.names, values, strict=True)]
        for key, values in entries.items()
    }
    return Export({LABEL_FILE: json.dumps(content).encode()}, posed.names)
