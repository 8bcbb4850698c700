"""A few real pictures with cameras."""

import pytest

from dataset_preprocessing.procedural import make_dataset


@pytest.fixture(scope="session")
def cars(tmp_path_factory):
    """dataset_kwargs of 70 cars of 32 x 32 pixels."""
    path = tmp_path_factory.mktemp("data") / "cars.zip"
    make_dataset(path, num_images=70, resolution=32, seed=0)
    return dict(class_name="training.dataset.ImageFolderDataset", path=str(path), use_labels=True)
