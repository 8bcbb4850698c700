"""Loading snapshots, and what a model knows about itself."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

import eg3d
from eg3d.errors import InputError


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


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_unusable_device_is_named(snapshot, device):
    with pytest.raises(InputError, match=device):
        eg3d.load(snapshot, device=device)


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


@pytest.fixture(scope="module")
def classed(new_generator):
    """A model of three classes that also looks at cameras."""
    return eg3d.Model.of(new_generator(classes=3))


def test_latents_of_a_class(classed):
    z = classed.latents([0, 1])
    assert classed.num_classes == 3
    camera = classed.camera.label().expand(2, -1)
    expected = classed.generator.mapping(z, torch.cat([camera, torch.eye(3)[[2, 0]]], dim=1))
    assert torch.equal(classed.mapping(z, classes=[2, 0]), expected)
    assert torch.equal(classed.mapping(z), classed.mapping(z, classes=[0]))
    each = [classed.mapping(z, classes=[index]) for index in range(3)]
    assert min((a - b).abs().max() for a, b in zip(each, each[1:], strict=False)) > 1e-3


def test_scenes_of_a_class(classed):
    drawn = classed.classes([0, 1, 2, 3])
    assert drawn == [np.random.RandomState(seed).choice(3) for seed in range(4)]
    assert classed.classes([0, 1], 2) == [2, 2]
    for index in (None, 2):
        kinds = classed.classes([0, 1], index)
        ws = classed.mapping(classed.latents([0, 1]), classes=kinds)
        assert torch.equal(classed.scenes([0, 1], class_index=index).ws, ws)
        assert torch.allclose(classed.scene(1, class_index=index).ws, ws[1:], atol=1e-6)
    z = classed.latents([5])
    found = classed.scenes(z=z, class_index=1).ws
    assert torch.equal(found, classed.mapping(z, classes=[1]))
    assert torch.equal(classed.scenes(z=z).ws, classed.mapping(z, classes=[0]))


def test_truncation_goes_to_the_mean_of_the_class(classed):
    random = torch.Generator().manual_seed(0)
    many = torch.randn(256, 16, generator=random)
    rows = [classed.mapping(z[None], classes=[1])[0, 0] for z in many]
    mean = sum(rows) / 256
    assert torch.allclose(classed.class_mean(1), mean, atol=1e-5)
    z, kinds = classed.latents([0, 1]), [1, 2]
    full = classed.mapping(z, classes=kinds)
    part = classed.mapping(z, psi=0.25, cutoff=2, classes=kinds)
    assert torch.allclose(part[0, :2], mean + 0.25 * (full[0, :2] - mean), atol=1e-5)
    assert torch.equal(part[:, 2:], full[:, 2:])
    assert torch.allclose(classed.mapping(z, psi=0, classes=kinds)[1, 0], classed.class_mean(2))
    assert torch.allclose(classed.mapping(z, psi=0, classes=[1])[:, 3], mean, atol=1e-5)


def test_classes_that_are_not_there(classed, model):
    for index in (3, -1):
        with pytest.raises(InputError, match=f"class {index}: this model has classes 0 to 2"):
            classed.scene(0, class_index=index)
        with pytest.raises(InputError, match=f"class {index}: this model has classes 0 to 2"):
            classed.mapping(classed.latents([0]), classes=[index])
    with pytest.raises(InputError, match="class 0: this model has no classes; leave it out"):
        model.scene(0, class_index=0)
    with pytest.raises(InputError, match="class 1: this model has no classes"):
        model.mapping(model.latents([0]), classes=[1])
    assert model.num_classes == 0 and model.classes([0, 1]) is None
    with pytest.raises(InputError, match="class_index have no effect on ws"):
        classed.scenes(ws=torch.zeros(1, 1, 16), class_index=1)


def test_many_seeds_equal_one_by_one(model):
    seeds = list(range(11))  # more than are made at a time
    together = model.scenes(seeds, psi=0.7)
    assert len(together) == 11
    for index in (0, 7, 8, 10):
        alone = model.scene(seeds[index], psi=0.7)
        assert torch.allclose(together[index].planes, alone.planes, atol=1e-5)
        assert torch.allclose(together[index].ws, alone.ws, atol=1e-6)


def test_scenes_of_seeds_z_and_ws(model):
    scenes = model.scenes(seeds=[3, 5], psi=0.7, cutoff=2)
    z = model.latents([3, 5])
    ws = model.mapping(z, psi=0.7, cutoff=2)
    assert torch.equal(scenes.ws, ws)
    for others in (model.scenes(z=z, psi=0.7, cutoff=2), model.scenes(ws=ws), model.scenes_of(ws)):
        assert torch.equal(others.planes, scenes.planes) and torch.equal(others.ws, ws)
    single = model.mapping(z)  # nothing truncated: one latent for all layers
    assert torch.equal(model.scenes(ws=single[:, :1]).planes, model.scenes(z=z).planes)
    for wrong in ({}, dict(seeds=[1], z=z), dict(z=z, ws=ws)):
        with pytest.raises(InputError, match="give one of seeds, z and ws"):
            model.scenes(**wrong)
    for wrong in (dict(psi=0.5), dict(cutoff=3)):
        with pytest.raises(InputError, match="no effect on ws"):
            model.scenes(ws=ws, **wrong)


def test_latents_are_checked(model):
    for shape in ((6, 16), (1, 5, 16), (1, 6, 17)):
        with pytest.raises(InputError, match=r"ws of shape .*: must be \[N, 6, 16\]"):
            model.scenes_of(torch.zeros(shape))
    with pytest.raises(InputError, match="seed -1"):
        model.scenes([-1])


def test_noise_modes(new_generator):
    generator = new_generator()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.5)
    model = eg3d.Model.of(generator)
    ws = model.mapping(model.latents([0]))
    for noise_mode in ("const", "none"):
        expected = generator.planes(ws, noise_mode=noise_mode)
        assert torch.equal(model.scenes([0], noise_mode=noise_mode).planes, expected)
        assert torch.equal(model.scene(0, noise_mode=noise_mode).planes, expected)
        assert torch.equal(model.scenes_of(ws, noise_mode).planes, expected)
    one, two = (model.scene(0, noise_mode="random").planes for _ in range(2))
    assert not torch.equal(one, two) and not torch.equal(one, expected)


def test_lens_is_asked_from_the_checkpoint(new_generator, model):
    assert model.intrinsics[0, 0].item() == pytest.approx(4.26339, abs=1e-5)
    assert model.with_fov(45).intrinsics[1, 1].item() == pytest.approx(1.70737, abs=1e-5)
    assert model.with_fov(45).camera.intrinsics[0, 0, 0].item() == pytest.approx(1.70737, abs=1e-5)
    cars = eg3d.Model.of(new_generator(avg_camera_focal=1.025390625))
    expected = [[1.025390625, 0, 0.5], [0, 1.025390625, 0.5], [0, 0, 1]]
    assert cars.intrinsics.tolist() == expected
    assert model.with_fov(90, "width").intrinsics[0, 0].item() == pytest.approx(0.5)
    for degrees in (0, 180, -5, math.nan):
        with pytest.raises(InputError, match="field of view"):
            model.with_fov(degrees)
    with pytest.raises(InputError, match="across 'height': must be diagonal or width"):
        model.with_fov(30, "height")


def test_what_a_model_knows(model, new_generator):
    assert (model.img_resolution, model.device.type) == (64, "cpu")
    assert (model.num_ws, model.w_dim) == (6, 16)
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
