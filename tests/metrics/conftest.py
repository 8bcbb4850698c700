"""A few real pictures with cameras, and detectors in place of the published ones."""

import pytest
import torch

from dataset_preprocessing.procedural import make_dataset
from tests.metrics.tiny_detectors import write_inception


@pytest.fixture(scope="session")
def cars(tmp_path_factory):
    """dataset_kwargs of 70 cars of 32 x 32 pixels."""
    path = tmp_path_factory.mktemp("data") / "cars.zip"
    make_dataset(path, num_images=70, resolution=32, seed=0)
    return dict(class_name="training.dataset.ImageFolderDataset", path=str(path), use_labels=True)


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """A small network for the roles of Inception and VGG16."""
    path = write_inception(tmp_path_factory.mktemp("networks") / "tiny.pt")
    return dict(inception=path, vgg16=path)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The networks are too small for more, which would wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    """Each test has a cache folder of its own, and no detectors but those that it names."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(folder))
    for role in ("INCEPTION", "VGG16", "FACE_EMBEDDER", "DEPTH_ESTIMATOR", "POSE_ESTIMATOR"):
        monkeypatch.delenv(f"EG3D_{role}", raising=False)
    return folder
