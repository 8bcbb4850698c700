"""Loading snapshots, and what a model knows about itself."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

import eg3d
from eg3d.errors import InputError, SnapshotError


@pytest.fixture
def model(snapshot):
    return eg3d.load(snapshot, device="cpu")


def test_import_is_cheap():
    code = "import eg3d, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_public_names_exist():
    for name in eg3d.__all__:
        assert getattr(eg3d, name) is not None
        assert name in dir(eg3d)
    with pytest.raises(AttributeError, match="nonsense"):
        eg3d.nonsense  # noqa: B018


def test_load_gives_the_network_asked_for(snapshot, generator, model):
    assert not model.generator.training
    assert not any(p.requires_grad for p in model.generator.parameters())
    expected = generator.state_dict()
    for name, value in model.generator.state_dict().items():
        assert torch.equal(value, expected[name]), name
    other = eg3d.load(snapshot, network="G", device="cpu").generator
    assert not torch.equal(other.decoder.net[0].weight, generator.decoder.net[0].weight)


def test_load_maps_storages_to_the_cpu(snapshot, monkeypatch):
    asked, original = [], torch.load

    def spy(*args, **kwargs):
        asked.append(kwargs["map_location"])
        return original(*args, **kwargs)

    monkeypatch.setattr(torch, "load", spy)
    eg3d.load(snapshot, device="cpu")
    assert len(asked) > 10 and set(asked) == {"cpu"}


@pytest.mark.parametrize(
    "content, words",
    [
        (None, ["No such file"]),
        (b"", ["not a snapshot", "EOFError"]),
        (b"PK\x03\x04 anything else", ["not a snapshot"]),
        (pickle.dumps([1]), ["holds a list"]),
        (pickle.dumps({"state": 1}), ["no network 'G_ema'", "none"]),
        (b"cno_such_module\nThing\n.", ["not a snapshot", "no_such_module"]),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path, content, words):
    path = tmp_path / "x.pkl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SnapshotError) as caught:
        eg3d.load(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    assert all(word in text for word in words), text


def test_cut_off_file_is_an_error(tmp_path, snapshot):
    path = tmp_path / "cut.pkl"
    path.write_bytes(snapshot.read_bytes()[:-1000])
    with pytest.raises(SnapshotError, match=r"cut\.pkl: not a snapshot"):
        eg3d.load(path)


def test_missing_network_names_those_present(snapshot):
    with pytest.raises(SnapshotError, match="no network 'augment_pipe'; networks in it: D, G, G_e"):
        eg3d.load(snapshot, network="augment_pipe")
    with pytest.raises(SnapshotError, match="D is a Linear, not a tri-plane generator"):
        eg3d.load(snapshot, network="D")


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_unusable_device_is_named(snapshot, device):
    with pytest.raises(InputError, match=device):
        eg3d.load(snapshot, device=device)


def test_latents_are_the_published_ones(model):
    z = model.latents([3, 2**32 - 1])
    assert z.dtype == torch.float32 and z.shape == (2, 16)
    for row, seed in zip(z, [3, 2**32 - 1], strict=True):
        expected = np.random.RandomState(seed).randn(1, 16).astype(np.float32)
        assert np.array_equal(row.numpy()[None], expected)


def test_mapping_conditions_on_the_frontal_camera(model, generator):
    z = model.latents([0, 1])
    label = model.camera.label()
    assert torch.equal(model.mapping(z), generator.mapping(z, label.expand(2, -1)))
    side = eg3d.views.turned(model, [(0.9, 0.0)])
    assert not torch.allclose(model.mapping(z, side), model.mapping(z))


def test_truncation(model, generator):
    z = model.latents([0])
    mean, full = generator.backbone.mapping.w_avg, model.mapping(z)
    assert torch.allclose(model.mapping(z, psi=0), mean.expand_as(full))
    part = model.mapping(z, psi=0.25, cutoff=2)
    assert torch.allclose(part[:, :2], mean + 0.25 * (full[:, :2] - mean), atol=1e-6)
    assert torch.equal(part[:, 2:], full[:, 2:])
    assert torch.equal(model.mapping(z, psi=0.5, cutoff=99), model.mapping(z, psi=0.5))
    for wrong in (dict(psi=math.nan), dict(psi=math.inf), dict(psi=0.5, cutoff=-1)):
        with pytest.raises(InputError, match="truncation"):
            model.mapping(z, **wrong)


def test_many_seeds_equal_one_by_one(model):
    seeds = list(range(11))  # more than are made at a time
    together = model.scenes(seeds, psi=0.7)
    assert len(together) == 11
    for index in (0, 7, 8, 10):
        alone = model.scene(seeds[index], psi=0.7)
        assert torch.allclose(together[index].planes, alone.planes, atol=1e-5)
        assert torch.allclose(together[index].ws, alone.ws, atol=1e-6)


def test_lens_is_asked_from_the_checkpoint(new_generator, model):
    assert model.intrinsics[0, 0].item() == pytest.approx(4.26339, abs=1e-5)
    assert model.with_fov(45).intrinsics[1, 1].item() == pytest.approx(1.70737, abs=1e-5)
    assert model.with_fov(45).camera.intrinsics[0, 0, 0].item() == pytest.approx(1.70737, abs=1e-5)
    cars = eg3d.Model.of(new_generator(avg_camera_focal=1.025390625))
    expected = [[1.025390625, 0, 0.5], [0, 1.025390625, 0.5], [0, 0, 1]]
    assert cars.intrinsics.tolist() == expected
    for degrees in (0, 180, -5, math.nan):
        with pytest.raises(InputError, match="field of view"):
            model.with_fov(degrees)


def test_what_a_model_knows(model, new_generator):
    assert (model.img_resolution, model.num_ws, model.device.type) == (64, 6, "cpu")
    assert (model.radius, list(model.pivot)) == (2.7, [0, 0, 0.2])
    assert model.rendering_kwargs["depth_resolution"] == 6
    assert model.depth_range == (2.25, 3.3)
    auto = eg3d.Model.of(new_generator(ray_start="auto", ray_end="auto", box_warp=2))
    assert auto.depth_range == pytest.approx((2.7 - math.sqrt(3), 2.7 + math.sqrt(3)))


def test_existing_programs_work(snapshot):
    """What the published README promises about a pickle."""
    with open(snapshot, "rb") as file:
        G = pickle.load(file)["G_ema"]
    z = torch.randn(2, G.z_dim)
    c = eg3d.Model.of(G).camera.label().expand(2, -1)
    assert G(z, c)["image"].shape == (2, 3, 64, 64)
    w = G.mapping(z, c, truncation_psi=0.5, truncation_cutoff=8)
    out = G.synthesis(w, c)
    assert out["image"].shape == (2, 3, 64, 64) and out["image_depth"].shape == (2, 1, 16, 16)
