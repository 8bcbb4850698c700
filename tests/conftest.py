"""Shared fixtures: recorded reference numbers and a fixed random state."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_preprocessing.procedural import make_dataset

DATA = Path(__file__).parent / "data"
# Files of twenty seconds and more. They come first: of two processes that share the files one would
# wait at the end for a long one of the other's.
LONG = [
    "commands/test_options_have_effects.py",
    "training/test_training_loop.py",
    "commands/test_train_together.py",
    "training/test_resume.py",
    "torch_utils/ops_triton/test_render_whole.py",
    "test_methods.py",
    "training/test_world.py",
    "torch_utils/ops_triton/test_upfirdn2d.py",
    "training/test_loss.py",
    "torch_utils/ops_triton/test_compile_render.py",
    "commands/test_calc_metrics.py",
    "torch_utils/ops_triton/test_render.py",
    "training/mimic3d/test_loss.py",
    "training/test_phase_graphs.py",
    "commands/test_train_kills.py",
    "test_hostile_files.py",
]


def pytest_configure(config):
    """pytest-xdist would put files of few tests last, however long these are."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    root = Path(__file__).parent
    place = {root / name: index for index, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


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
