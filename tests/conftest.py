"""Shared fixtures: recorded reference numbers and a fixed random state."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_preprocessing.procedural import make_dataset

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def conformance():
    """`conformance(name)` -> {array name: float tensor} of the recorded file tests/data/<name>.npz.

    Arrays stored as float16 come back as float32; float64 stays float64.
    """

    def load(name):
        with np.load(DATA / f"{name}.npz") as file:
            arrays = {key: file[key] for key in file.files}
        return {
            key: torch.from_numpy(a.astype(np.float32) if a.dtype == np.float16 else a)
            for key, a in arrays.items()
        }

    return load


@pytest.fixture
def state_of():
    """`state_of(arrays)` -> the state_dict recorded in a conformance file under `state/NAME`."""

    def pick(arrays, prefix="state/"):
        return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}

    return pick


@pytest.fixture
def assert_scaled():
    """`assert_scaled(actual, expected, tol)`: largest error relative to the expected scale."""

    def check(actual, expected, tol=1e-5):
        actual, expected = torch.as_tensor(actual).double(), torch.as_tensor(expected).double()
        assert actual.shape == expected.shape
        scale = expected.abs().max().clamp(min=1e-30)
        error = ((actual - expected).abs().max() / scale).item()
        assert error <= tol, f"error {error:.3g} of the scale, allowed {tol:g}"

    return check


@pytest.fixture(scope="session")
def cars(tmp_path_factory):
    """A dataset of 12 cars, 32 x 32."""
    path = tmp_path_factory.mktemp("data") / "cars.zip"
    make_dataset(path, num_images=12, resolution=32, seed=0)
    return path
