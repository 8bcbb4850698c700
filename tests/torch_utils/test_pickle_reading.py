"""Published files open with plain `pickle.load`, on a machine that is not like the writer's."""

import importlib
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.published import Global, published_bytes, storage_bytes, written
from tests.tiny import outputs, tiny_discriminator, tiny_generator
from torch_utils.persistence import allow_classes
from training.triplane import OSGDecoder, TriPlaneGenerator
from training.volumetric_rendering.planes import generate_planes

ROOT = Path(__file__).parents[2]
REBUILT = "_imported_module_" + "0123456789abcdef" * 2

no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")


@pytest.fixture(scope="module")
def networks():
    return {"G_ema": tiny_generator(), "D": tiny_discriminator()}


@pytest.fixture(scope="module")
def expected(networks):
    return outputs(networks)


def assert_outputs(networks, expected):
    for name, value in outputs(networks).items():
        np.testing.assert_array_equal(value, expected[name])


FORMS = {
    "NumPy 2": dict(numpy_path="numpy._core.multiarray"),
    "protocol 2": dict(protocol=2),
    "protocol 3": dict(protocol=3, numpy_path="numpy._core.multiarray"),
    "written on a CPU": dict(cuda=False),
    "saved again after a rebuild": dict(decoder_module=REBUILT),
    "the same in protocol 2": dict(decoder_module=REBUILT, protocol=2),
    "saved after a cached rendering": dict(stale_planes=torch.ones(2, 96, 8, 8)),
}


@pytest.mark.filterwarnings("ignore:.*numpy.core:DeprecationWarning")
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_published_files_give_their_pictures(form, networks, expected, tmp_path):
    trap = tmp_path / "ran"
    data = published_bytes(networks, trap=str(trap), **form)
    loaded = pickle.loads(data)
    assert_outputs(loaded, expected)
    assert not trap.exists()
    G = loaded["G_ema"]
    assert G._last_planes is None and type(G.decoder) is OSGDecoder
    assert {type(m.weight_gain) for m in G.modules() if hasattr(m, "weight_gain")} == {float}
    assert {type(m.act_gain) for m in G.modules() if hasattr(m, "act_gain")} == {float}
    assert G.init_kwargs == networks["G_ema"].init_kwargs
    assert not any("numpy" in text for text in map(repr, vars(G).values()))


OTHER_PROCESS = """
import pickle
with open("published.pkl", "rb") as file:
    networks = pickle.load(file)
from tests.tiny import outputs
import numpy
numpy.savez("outputs.npz", **outputs(networks))
"""


def test_a_program_that_imports_nothing_but_pickle(networks, expected, tmp_path):
    trap = tmp_path / "ran"
    data = published_bytes(networks, trap=str(trap), decoder_module=REBUILT)
    (tmp_path / "published.pkl").write_bytes(data)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-c", OTHER_PROCESS]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "outputs.npz") as file:
        for name in file.files:
            # Another process may sum in another order.
            np.testing.assert_allclose(file[name], expected[name], rtol=0, atol=1e-5)
    assert set(expected) == set(file.files) and not trap.exists()


@pytest.mark.parametrize("order", [("D", "augment_pipe", "G_ema"), ("G_ema",)])
def test_other_keys_and_orders(networks, order):
    loaded = pickle.loads(published_bytes({name: networks.get(name) for name in order}))
    assert list(loaded) == list(order)
    assert isinstance(loaded["G_ema"], TriPlaneGenerator) and not loaded.get("augment_pipe")


def test_augmentation():
    augment = pytest.importorskip("training.augment")
    pipe = augment.AugmentPipe(xflip=1, brightness=0.5)
    pipe.p.fill_(0.25)
    loaded = pickle.loads(published_bytes({"augment_pipe": pipe}))["augment_pipe"]
    images = torch.randn(4, 3, 16, 16)
    results = []
    for each in (pipe, loaded):
        torch.manual_seed(0)
        results.append(each(images))
    assert torch.equal(*results) and loaded.p == 0.25 and not torch.equal(results[0], images)


def test_the_file_decides_not_the_code(networks, expected):
    """Options and plane axes that a constructor would choose otherwise, and a buffer too many."""
    G = tiny_generator()
    G.renderer.plane_axes = generate_planes("orthogonal")
    G.neural_rendering_resolution = 5
    G.rendering_kwargs.update(depth_resolution=5, of_a_derived_project=[1])
    G.backbone.register_buffer("extra", torch.tensor([7.0]))
    loaded = pickle.loads(published_bytes({"G_ema": G}))
    assert_outputs(loaded, outputs({"G_ema": G}))
    loaded = loaded["G_ema"]
    assert torch.equal(loaded.renderer.plane_axes, generate_planes("orthogonal"))
    assert (
        loaded.neural_rendering_resolution == 5 and loaded.rendering_kwargs["depth_resolution"] == 5
    )
    assert loaded.rendering_kwargs["of_a_derived_project"] == [1]
    assert loaded.state_dict()["backbone.extra"] == 7
    assert torch.equal(loaded.dataset_label_std, G.dataset_label_std)


def test_generator_of_published_size():
    """The classes, planes and sizes of ShapeNet cars, with few channels."""
    rendering = dict(
        tiny_generator().rendering_kwargs,
        superresolution_module="training.superresolution.SuperresolutionHybrid2X",
    )
    G = TriPlaneGenerator(
        z_dim=8,
        c_dim=25,
        w_dim=8,
        img_resolution=128,
        img_channels=3,
        sr_num_fp16_res=4,
        mapping_kwargs=dict(num_layers=2),
        rendering_kwargs=rendering,
        channel_base=256,
        channel_max=4,
    ).eval()
    loaded = pickle.loads(published_bytes({"G_ema": G}))["G_ema"]
    assert list(loaded.state_dict()) == list(G.state_dict())
    assert_outputs({"G_ema": loaded}, outputs({"G_ema": G}))


@no_cuda
@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize("location", ["cuda", "cuda:0", "cuda:7"])
def test_tensors_of_absent_devices_land_on_the_cpu(location):
    tensor = torch.randn(5)
    data = storage_bytes(tensor, location)
    storage = torch.storage._load_from_bytes(data)
    assert storage.device.type == "cpu" and storage.tolist() == tensor.tolist()
    storage = torch.load(io.BytesIO(data), weights_only=False)
    assert storage.device.type == "cpu"


@pytest.mark.parametrize("location", ["cudax", "cuda:", "cuda:0 ", "xcuda:0", "nonsense"])
def test_other_locations_are_left_to_torch(location):
    with pytest.raises(RuntimeError):
        torch.storage._load_from_bytes(storage_bytes(torch.zeros(1), location))
    assert torch.storage._load_from_bytes(storage_bytes(torch.zeros(1), "cpu")).device.type == "cpu"
    assert (
        torch.storage._load_from_bytes(storage_bytes(torch.zeros(1), "meta")).device.type == "meta"
    )


def test_rebuilt_modules_hold_the_plain_classes_only():
    module = importlib.import_module(REBUILT)
    assert module.OSGDecoder is OSGDecoder and module.__name__ == REBUILT
    assert not hasattr(module, "TriPlaneGenerator") and not hasattr(module, "os")
    with pytest.raises(AttributeError, match="Mine"):
        pickle.loads(written(Global(REBUILT, "Mine")))
    with allow_classes({"Mine": dict}):
        assert pickle.loads(written(Global(REBUILT, "Mine"))) is dict
    with pytest.raises(AttributeError, match="Mine"):
        pickle.loads(written(Global(REBUILT, "Mine")))


@pytest.mark.parametrize(
    "name",
    [
        "_imported_module_",
        REBUILT[:-1],
        REBUILT + "0",
        REBUILT.upper(),
        f"{REBUILT}.os",
        REBUILT[1:],
    ],
)
def test_no_other_module_is_made_up(name):
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)
