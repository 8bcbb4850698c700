"""The dual generator: recorded numbers of every branch, and what packing and options do."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.recorded_draws import recorded_draws
from tests.training.mimic3d.conftest import ARGUMENTS, RENDERING
from training.mimic3d.generator import DualTriPlaneGenerator
from training.network_record import build, from_module
from training.triplane import TriPlaneGenerator
from training.views import WindowView
from training.volumetric_rendering.draws import FixedDraws
from training.volumetric_rendering.planes import generate_planes

WS = 6  # layers of a backbone of 16 x 16


@pytest.fixture
def latents(recorded):
    return recorded["ws"][:, None].expand(-1, WS, -1)


@pytest.fixture
def synthesis(generator, recorded, latents, monkeypatch):
    """The generator's pictures of the recorded latents, under the recorded draws."""

    def call(**kwargs):
        with recorded_draws(monkeypatch), torch.no_grad():
            return generator.synthesis(latents, recorded["c"], noise_mode="const", **kwargs)

    return call


def thirds(images):
    return images[..., ::3, ::3]


def planes_of(generator, latents, branch="3d"):
    return generator.planes(latents, branch=branch, noise_mode="const")


def test_mapping_is_the_recorded_one(generator, recorded, assert_scaled):
    z, c = recorded["z"], recorded["c"]
    assert_scaled(generator.mapping(z, c), recorded["ws"][:, None].expand(-1, WS, -1))
    truncated = generator.mapping(z, c, truncation_psi=0.7, truncation_cutoff=4)
    assert_scaled(truncated[:, [0, -1]], recorded["ws_trunc"])


def test_the_2d_branch_is_the_recorded_one(synthesis, recorded, assert_scaled):
    found = synthesis(neural_rendering_resolution=32, ret_plane=True, coarse=1)
    assert_scaled(found["image"][..., ::2, 1::2], recorded["image"])
    assert_scaled(found["image_raw"], recorded["image_raw"])
    assert_scaled(found["image_depth"], recorded["image_depth"])
    coarse, detail = found["plane"]
    assert_scaled(coarse[..., ::2, 1::2], recorded["plane0"])
    assert_scaled(detail[..., ::4, 3::4], recorded["plane1"])


def test_super_resolution_that_does_not_resize_adds_to_the_raw_picture(
    synthesis, recorded, assert_scaled
):
    found = synthesis(neural_rendering_resolution=64)
    assert_scaled(thirds(found["image"]), recorded["image64"])
    assert_scaled(found["image_raw"][..., ::2, ::2], recorded["image64_raw"])


def test_the_3d_branch_and_the_detail_are_the_recorded_ones(synthesis, recorded, assert_scaled):
    found = synthesis(neural_rendering_resolution=32, coarse=0)
    assert_scaled(thirds(found["image"]), recorded["image_sum"])
    assert_scaled(found["image_raw"], recorded["raw_sum"])
    found = synthesis(neural_rendering_resolution=32, coarse=2)
    assert_scaled(found["image_raw"], recorded["raw_detail"])
    assert_scaled(found["image_depth"], recorded["depth_detail"])
    found = synthesis(coarse=0)
    assert_scaled(thirds(found["image"]), recorded["image3d"])
    assert_scaled(thirds(found["image_depth"]), recorded["depth3d"])
    assert torch.equal(found["image"], found["image_raw"])


@pytest.mark.parametrize("run_full", [True, False])
def test_windows_are_the_recorded_ones(synthesis, recorded, assert_scaled, run_full):
    found = synthesis(neural_rendering_resolution=32, patch_scale=0.25, run_full=run_full)
    names = ["patch_image_raw", "patch_image", "patch_image_gr"]
    # The recorded windows themselves are 1.6e-5 from what float64 gives.
    for name in names if run_full else names[:1]:
        assert_scaled(found[name], recorded[name], 2e-5 if name == "patch_image_raw" else 1e-5)
    assert run_full or list(found) == ["patch_image_raw"]


def test_a_window_shows_the_same_as_the_whole_picture(generator, recorded, latents, assert_scaled):
    """Without jitter, a window of the 3D branch is that part of its whole picture."""
    planes, c = planes_of(generator, latents), recorded["c"]
    window = WindowView(recorded["window"], 32, 128)
    render = dict(draws=FixedDraws(), options=generator.of_branch("3d"))
    whole = generator.render(planes, latents, c, chunk=5000, **render)["image"]
    assert whole.shape[-1] == 128
    found = generator.windows(planes, latents, c, window, draws=FixedDraws())
    assert_scaled(found["patch_image_raw"], window.crop(whole))


def test_depth_guided_sampling_is_the_recorded_one(generator, synthesis, recorded, assert_scaled):
    generator.depth_guided_sample = 0.15
    found = synthesis(neural_rendering_resolution=32, coarse=0)
    assert_scaled(found["image_raw"], recorded["raw_guided"])


def test_densities_are_those_of_both_sets(generator, recorded, latents, assert_scaled):
    for branch in ("2d", "3d", "detail"):
        generator.rendering_kwargs["branch"] = branch
        points = recorded["points"]
        found = generator.sample_mixed(points, points, latents, noise_mode="const")
        assert_scaled(found["sigma"], recorded["sample_sigma"])
        assert_scaled(found["rgb"], recorded["sample_rgb"])


def test_the_first_stage_has_a_part_of_the_weights_and_the_same_2d_branch(
    generator, recorded, latents, monkeypatch, state_of
):
    stream = dict(aware3d_res=[4, 8, 16])
    first = TriPlaneGenerator(**ARGUMENTS, **stream, rendering_kwargs=dict(RENDERING)).eval()
    known = first.state_dict().keys()
    state = state_of(recorded)
    assert known < state.keys()
    new = {name.removeprefix("backbone.synthesis.")[:12] for name in state.keys() - known}
    assert new == {"b3d16.block2", "b3d16.block3"}
    first.load_state_dict({name: state[name] for name in known})
    pictures = []
    for G in (first, generator):
        with recorded_draws(monkeypatch), torch.no_grad():
            pictures.append(G.synthesis(latents, recorded["c"], 32, noise_mode="const"))
    for name in ("image", "image_raw", "image_depth"):
        assert torch.equal(pictures[0][name], pictures[1][name])


def test_packed_planes_come_apart_without_loss(generator, latents):
    pair = generator.backbone.synthesis(latents, noise_mode="const")
    packed = planes_of(generator, latents)
    assert packed.shape == (2, 3, 160, 16, 16)
    for planes, expected in zip(generator.plane_sets(packed), pair, strict=True):
        assert torch.equal(planes.flatten(1, 2), expected)
    assert torch.equal(generator.plane_sets(packed[1:])[1][0].flatten(0, 1), pair[1][1])


def test_the_2d_branch_makes_none_of_the_finer_planes(generator, recorded, latents):
    """Nothing of theirs runs, and what else is made has the same bits."""
    ran = []
    for name, module in generator.named_modules():
        if name.endswith((".block2", ".block3")):
            module.register_forward_hook(lambda module, *_, name=name: ran.append(name))
    whole = planes_of(generator, latents)
    assert len(ran) == 2 and planes_of(generator, latents, "detail").equal(whole)
    ran.clear()
    plain = generator.planes(latents, noise_mode="const")
    assert plain.equal(planes_of(generator, latents, "2d")) and plain.equal(whole[:, :, :32])
    c, side = recorded["c"], dict(neural_rendering_resolution=8)
    found, expected = (
        generator.render(planes, latents, c, draws=FixedDraws(), **side)
        for planes in (plain, whole)
    )
    assert all(found[name].equal(expected[name]) for name in expected)
    generator.synthesis(latents, c, coarse=1, **side)
    assert not ran
    generator.synthesis(latents, c, coarse=0, **side)
    assert len(ran) == 2


@pytest.mark.parametrize("aware", [True, False])
def test_missing_planes_are_added_as_if_they_had_been_made_at_once(generator, latents, aware):
    if not aware:
        stream = dict(aware3d_res=[], add_sr_module=True)
        generator = DualTriPlaneGenerator(**ARGUMENTS, **stream, rendering_kwargs=RENDERING).eval()
    own = dict(noise_mode="const")
    with torch.no_grad():
        whole, plain = (planes_of(generator, latents, branch) for branch in ("3d", "2d"))
        assert generator.complete(plain, latents, generator.of_branch("2d"), **own) is plain
        assert generator.complete(whole, latents, **own) is whole
        for options in (None, generator.of_branch("3d"), generator.of_branch("detail")):
            assert generator.complete(plain, latents, options, **own).equal(whole)
    for call in (generator.plane_sets, generator.field):
        with pytest.raises(ValueError, match=r"2D branch alone; G.complete\(planes, ws\) adds"):
            call(plain)


def test_options_choose_the_branch(generator, recorded, latents):
    planes, c = planes_of(generator, latents[:1]), recorded["c"][:1]
    pictures = {}
    for branch in generator.choices["branch"]:
        options = generator.of_branch(branch)
        torch.manual_seed(0)
        found = generator.render(planes, latents[:1], c, 16, options=options)
        torch.manual_seed(0)
        generator.rendering_kwargs["branch"] = branch
        again = generator.render(planes, latents[:1], c, 16)
        assert torch.equal(found["image_raw"], again["image_raw"])
        pictures[branch] = found["image_raw"]
    assert generator.choices["branch"][0] == "2d"
    assert not torch.equal(pictures["2d"], pictures["3d"])
    assert not torch.equal(pictures["detail"], pictures["3d"])
    with pytest.raises(ValueError, match="'4d'.*'2d', '3d' or 'detail'"):
        generator.render(planes, latents, c, options=generator.of_branch("4d"))


def test_the_default_side_follows_the_branch(generator, recorded, latents):
    generator.neural_rendering_resolution = 8
    planes, c = planes_of(generator, latents[:1]), recorded["c"][:1]
    sides = {}
    for branch in generator.choices["branch"]:
        options = dict(generator.of_branch(branch), depth_resolution=4)
        found = generator.render(planes, latents[:1], c, options=options)
        sides[branch] = found["image_raw"].shape[-1], found["image"].shape[-1]
    assert sides == {"2d": (8, 128), "3d": (128, 128), "detail": (128, 128)}


def test_cached_planes_are_used_again(generator, recorded, latents):
    c = recorded["c"]
    call = dict(neural_rendering_resolution=8, noise_mode="const", coarse=0)
    torch.manual_seed(0)
    first = generator.synthesis(latents, c, cache_backbone=True, **call)
    torch.manual_seed(0)
    again = generator.synthesis(latents * 2, c, use_cached_backbone=True, **call)
    assert torch.equal(first["image_raw"], again["image_raw"])
    assert copy.deepcopy(generator)._last_planes is None


@pytest.mark.parametrize("name, function", [("tanh", torch.tanh), ("sigmoid", torch.sigmoid)])
def test_activation_of_the_planes(generator, latents, name, function, assert_scaled):
    plain = generator.plane_sets(planes_of(generator, latents))
    generator.triplane_act = name
    active = generator.plane_sets(planes_of(generator, latents))
    for planes, expected in zip(active, plain, strict=True):
        assert_scaled(planes, function(expected))


@pytest.mark.parametrize(
    "wrong",
    [
        dict(triplane_act="relu"),
        dict(triplane_act=False),
        dict(triplane_channels=48),
        dict(decoder_output_dim=3),
        dict(blur_plane=2),
        dict(retidx=[-1]),
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} is "):
        DualTriPlaneGenerator(**ARGUMENTS, rendering_kwargs=dict(RENDERING), **wrong)


def test_planes_follow_each_other_in_a_circle_also_in_files_that_do_not_say_so(generator):
    record = from_module(generator)
    silent = {k: v for k, v in RENDERING.items() if k != "plane_axes"}
    kwargs = dict(record.init_kwargs, rendering_kwargs=silent)
    settings = dict(neural_rendering_resolution=64, rendering_kwargs=silent)
    built = build(replace(record, init_kwargs=kwargs, settings=settings))
    assert torch.equal(built.renderer.plane_axes, generate_planes("cyclic"))
    with pytest.raises(ValueError, match="^plane_axes is 'legacy'; must be 'cyclic'"):
        DualTriPlaneGenerator(**ARGUMENTS, rendering_kwargs=dict(silent, plane_axes="legacy"))


@pytest.mark.parametrize("resolution, parameters", [(512, 34_508_618), (256, 33_433_994)])
def test_its_size_is_the_published_one(resolution, parameters):
    name = {512: "SuperresolutionHybrid8XDC", 256: "SuperresolutionHybrid4X"}[resolution]
    rendering = dict(RENDERING, superresolution_module=f"training.superresolution.{name}")
    with torch.device("meta"):
        G = DualTriPlaneGenerator(
            512,
            25,
            512,
            resolution,
            3,
            mapping_kwargs=dict(num_layers=2),
            rendering_kwargs=rendering,
        )
    assert sum(p.numel() for p in G.parameters()) == parameters
