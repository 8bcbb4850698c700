"""Data sets whose pictures are of several classes."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from dataset_preprocessing.procedural import make_dataset
from tests.tiny_runs import CLASSES


def add_classes(path: Path, classes: Sequence[int] | None = None, **more: object) -> Path:
    """Writes `classes` of its pictures, by default 0 to CLASSES - 1 in turns, and `more` entries
    into the dataset.json of a zip."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    content = json.loads(files["dataset.json"])
    names = [name for name, _ in content["labels"]]
    classes = [i % CLASSES for i in range(len(names))] if classes is None else classes
    content |= dict(classes=list(zip(names, classes, strict=True)), **more)
    files["dataset.json"] = json.dumps(content).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_classes(path: Path, count: int = 12, resolution: int = 32) -> Path:
    """Cars that are said to be of CLASSES classes."""
    make_dataset(path, num_images=count, resolution=resolution, seed=0)
    return add_classes(path)
