"""A small dataset of procedural cars, and a broken copy of it."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from dataset_preprocessing.procedural import make_dataset

COUNT = 24


@pytest.fixture(scope="session")
def cars(tmp_path_factory):
    """24 toy cars of 32 x 32."""
    path = tmp_path_factory.mktemp("cars") / "cars.zip"
    make_dataset(path, num_images=COUNT, resolution=32, workers=1)
    return path


@pytest.fixture(scope="session")
def content(cars):
    """{name: bytes} of the cars, and their labels by name."""
    with zipfile.ZipFile(cars) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return files, dict(json.loads(files["dataset.json"])["labels"])


def png(pixels):
    """An encoded picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def rewrite(content, tmp_path):
    """`rewrite(change, name)` -> zip of the cars after change(files, labels) has been at them."""

    def make(change=lambda files, labels: None, name="changed.zip"):
        files = dict(content[0])
        labels = {name: list(label) for name, label in content[1].items()}
        change(files, labels)
        files["dataset.json"] = json.dumps(dict(labels=list(labels.items()))).encode()
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for key, value in files.items():
                archive.writestr(key, value)
        return tmp_path / name

    return make


def break_things(files, labels):
    """One of everything, each on a picture of its own; by number."""
    names = sorted(labels)
    white = np.full((32, 32, 3), 255, np.uint8)
    files[names[0]] = files[names[0]][:-40]
    files[names[1]] = png(white)
    files[names[2]] = files[names[5]]
    picture = np.asarray(Image.open(io.BytesIO(files[names[6]])))
    files[names[3]] = png(np.clip(picture.astype(int) - 2, 0, 255).astype(np.uint8))
    files[names[4]] = png(np.zeros((16, 16, 3), np.uint8))
    turn = np.array(labels[names[7]][:16]).reshape(4, 4)
    turn[:3, 0] *= 1.03
    labels[names[7]][:16] = turn.ravel().tolist()
    for k in (16, 18, 20, 21):
        labels[names[8]][k] *= 32
    turn = np.array(labels[names[9]][:16]).reshape(4, 4)
    turn[:3, 0] *= -1
    labels[names[9]][:16] = turn.ravel().tolist()
    del labels[names[10]]
    for k in (3, 7, 11):
        labels[names[11]][k] *= 2
    labels[names[12]][3] = float("nan")
    labels[names[13]][12:16] = [0, 0, 0, 0]
    labels[names[14]][24] = 0
