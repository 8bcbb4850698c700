"""Commands, metrics and viewer show either branch, and leave the loaded model as it was."""

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import calc_metrics
import gen_samples
import gen_videos
from eg3d import generate, invert_command, scene
from eg3d.errors import InputError
from eg3d.model import Model
from eg3d.shape_files import write_shape
from eg3d.viewer.painter import Detail, Painter, side
from eg3d.viewer.session import compared
from eg3d.viewer.state import ViewState
from metrics.fixed_views import fixed_views
from metrics.options import MetricOptions
from metrics.provenance import computed
from metrics.samples import latents
from tests.tiny import tiny_generator
from training.snapshots import save_snapshot
from training.volumetric_rendering.draws import FixedDraws

SIDES = {"2d": 64, "3d": 128, "detail": 128}


@pytest.fixture
def model(generator):
    return Model.of(generator)


def directly(model, seed, branch, psi=1.0):
    """The picture of a seed by the generator alone, which is told the branch by an argument."""
    G, c = model.generator, model.camera.label()
    with torch.no_grad():
        ws = model.mapping(model.latents([seed]), psi=psi)
        planes = G.planes(ws, branch="3d", noise_mode="const")
        return G.render(planes, ws, c, draws=FixedDraws(), options=G.of_branch(branch))


@pytest.mark.parametrize("branch", SIDES)
def test_scenes_show_the_branch_at_its_side(model, branch, assert_scaled):
    with torch.no_grad():
        shown = model.showing(branch=branch).scene(3).render(model.camera)
    assert shown.raw.shape[2] == SIDES[branch] and shown.image.shape[2] == 128
    assert_scaled(shown.image, directly(model, 3, branch)["image"])
    assert "branch" not in model.rendering_kwargs
    assert model.showing(branch=None, layers=None) is model


@torch.no_grad()
def test_scenes_of_one_branch_can_be_seen_by_the_other(model, assert_scaled):
    """What the first did not need is added, with the noise that the scenes were made with."""
    fine = model.showing(branch="3d").generator
    points = torch.rand((1, 50, 3)) - 0.5
    for noise_mode in ("const", "none"):
        scenes = model.scenes(range(9), noise_mode=noise_mode)
        plain, whole = scenes[8], model.showing(branch="3d").scene(8, noise_mode=noise_mode)
        assert plain.planes.shape[2] == 32 and whole.planes.shape[2] == 160
        found, expected = (replace(scene, generator=fine) for scene in (plain, whole))
        found, expected = (scene.render(model.camera, 16) for scene in (found, expected))
        assert_scaled(found.image, expected.image)
        for ask in (lambda s: s.density(points), lambda s: s.volume(6).density):
            assert_scaled(torch.as_tensor(ask(plain)), torch.as_tensor(ask(whole)))
        assert plain.complete(model.rendering_kwargs) is plain and whole.complete() is whole
    const = model.showing(branch="3d").scene(8).render(model.camera, 16)
    assert not torch.equal(const.image, expected.image)


def test_geometry_of_the_2d_branch_asks_once_for_the_finer_planes(model, tmp_path):
    made = []
    block = model.generator.backbone.synthesis.b3d16.block3
    block.register_forward_hook(lambda *_: made.append(1))
    with torch.no_grad():
        scene = model.scene(0)
        assert not made
        level = scene.volume(24).density.mean().item()
        assert len(made) == 1
        scene.mesh(24, level=level)
        assert len(made) == 2
        assert write_shape(scene, tmp_path / "a.ply", 24, level=level)
    assert len(made) == 3


def test_rays_in_parts_are_those_of_the_whole_picture(model, monkeypatch, assert_scaled):
    fine = model.showing(branch="3d")
    asked = []
    render = type(model.generator).render
    monkeypatch.setattr(
        type(model.generator),
        "render",
        lambda *args, **kwargs: asked.append(kwargs.get("chunk")) or render(*args, **kwargs),
    )
    with torch.no_grad():
        whole = fine.scene(0).render(model.camera)
        monkeypatch.setattr(scene, "_POINTS_AT_ONCE", 20 * 5000)
        parts = fine.scene(0).render(model.camera)
    assert asked == [None, 5000]
    assert_scaled(parts.image, whole.image)
    assert_scaled(parts.depth, whole.depth)


def test_what_a_model_has_not_is_one_line(model):
    with pytest.raises(InputError, match="branch '4d': this model has 2d, 3d, detail"):
        model.showing(branch="4d")
    with pytest.raises(InputError, match="layers 'all': this model leaves no choice of layers"):
        model.showing(layers="all")


def test_pictures_of_the_command(model, tmp_path):
    path = tmp_path / "network.pkl"
    save_snapshot(path, {}, G=model.generator, D=None, G_ema=model.generator)
    pictures = {}
    for options in ([], ["--branch=2d"], ["--branch=3d"]):
        line = [f"--network={path}", "--seeds=1", f"--outdir={tmp_path}", "--views=front"]
        done = CliRunner().invoke(gen_samples.main, [*line, "--device=cpu", *options])
        assert done.exit_code == 0, done.output
        pictures["".join(options)] = np.array(PIL.Image.open(tmp_path / "seed0001.png"))
    assert np.array_equal(pictures[""], pictures["--branch=2d"])
    expected = generate.pictures.to_uint8(directly(model, 1, "3d")["image"])[0]
    difference = np.abs(pictures["--branch=3d"].astype(int) - expected)
    assert difference.max() <= 1 and not np.array_equal(pictures[""], pictures["--branch=3d"])
    refused = CliRunner().invoke(gen_samples.main, [*line, "--layers=background"])
    assert refused.exit_code == 1 and "leaves no choice of layers" in refused.output


@pytest.mark.parametrize("vis", [["image"], ["depth", "raw"]])
def test_video_of_both_branches(model, tmp_path, vis):
    """The panels of the 2D branch, then those of the 3D branch."""
    path = tmp_path / "network.pkl"
    save_snapshot(path, {}, G=None, D=None, G_ema=model.generator)
    line = [f"--network={path}", "--seeds=1", "--frames=1", "--format=png", "--sample-mult=0.4"]
    line += ["--path=front", "--device=cpu", f"--vis={','.join(vis)}"]
    frames = {}
    for branch in ("2d", "3d", "both"):
        options = [f"--outdir={tmp_path / branch}", f"--branch={branch}"]
        done = CliRunner().invoke(gen_videos.main, [*line, *options])
        assert done.exit_code == 0, done.output
        (frame,) = (tmp_path / branch / "front").iterdir()
        frames[branch] = np.array(PIL.Image.open(frame)).astype(int)
    assert frames["3d"].shape == (128, 128 * len(vis), 3)
    two, three = np.split(frames["both"], 2, axis=1)
    assert np.abs(three - frames["3d"]).max() <= 1
    if vis == ["image"]:
        assert np.abs(two - frames["2d"]).max() <= 1 and np.abs(two - three).max() > 10
    else:  # panels of 64 pixels, enlarged
        blocks = two.reshape(64, 2, -1, 2, 3).mean((1, 3))
        assert np.abs(blocks[1:-1, 1:63] - frames["2d"][1:-1, 1:63]).mean() < 4


def test_models_without_branches_have_none_to_show_side_by_side(tmp_path):
    path = tmp_path / "network.pkl"
    save_snapshot(path, {}, G=None, D=None, G_ema=tiny_generator())
    line = [f"--network={path}", "--seeds=1", f"--outdir={tmp_path / 'out'}", "--branch=both"]
    done = CliRunner().invoke(gen_videos.main, [*line, "--device=cpu"])
    assert done.exit_code == 1 and not (tmp_path / "out").exists()
    message = "Error: --branch=both: this model leaves no choice of branch; leave it out"
    assert done.output.splitlines() == [message]
    assert CliRunner().invoke(gen_samples.main, line).exit_code == 2


def test_metrics_and_inversion_are_given_the_branch(model, tmp_path, monkeypatch):
    path = tmp_path / "network.pkl"
    save_snapshot(path, dict(path=str(tmp_path)), G=None, D=None, G_ema=model.generator)
    PIL.Image.new("RGB", (128, 128)).save(tmp_path / "picture.png")
    seen = []

    def measured(names, G, **options):
        seen.append(G)
        return {}

    def inverted(model, *arguments):
        seen.append(model.generator)
        raise InputError("enough")

    monkeypatch.setattr("metrics.metric_main.calc_metrics", measured)
    monkeypatch.setattr("eg3d.invert_command.invert", inverted)
    common = [f"--network={path}", "--device=cpu", "--branch=3d"]
    done = CliRunner().invoke(calc_metrics.main, [*common, "--metrics=none"])
    assert done.exit_code == 0, done.output
    line = [str(tmp_path / "picture.png"), f"--outdir={tmp_path}", *common]
    assert "enough" in CliRunner().invoke(invert_command.main, line).output
    assert [G.rendering_kwargs["branch"] for G in seen] == ["3d", "3d"]


@pytest.mark.parametrize("branch", ["2d", "3d"])
def test_metrics_look_at_the_branch_and_say_so(model, branch, assert_scaled, tmp_path):
    generator = model.showing(branch=branch).generator
    options = MetricOptions(generator, dataset_kwargs=dict(path=str(tmp_path)))
    c = model.camera.label()
    with torch.no_grad():
        found = fixed_views(options, range(2, 3), c)(c)
        ws = model.mapping(latents(range(2, 3), model.generator.z_dim, 0))
        expected = model.showing(branch=branch).scenes(ws=ws).render(model.camera)
    assert_scaled(found["image"], expected.image.clamp(-1, 1))
    said = computed(options)["generator"]
    assert said["branch"] == branch and said["neural_rendering_resolution"] == SIDES[branch]


def test_viewer_shows_the_branch_from_the_same_planes(model):
    painter, plain = Painter(), ViewState()
    fine = plain.with_(chosen=(("branch", "3d"), ("layers", "background")))
    assert painter.paint(model, plain).new_planes
    picture = painter.paint(model, fine)
    assert not picture.new_planes and (side(model, plain), side(model, fine)) == (64, 128)
    expected = generate.pictures.to_uint8(directly(model, 0, "3d", psi=0.7)["image"])[0]
    assert np.abs(picture.pixels.astype(int) - expected).max() <= 1
    beside = plain.with_(compare="choice", compare_chosen=fine.chosen)
    assert np.array_equal(painter.paint(model, compared(beside)).pixels, picture.pixels)


def test_viewer_lists_the_same_layers_whatever_is_shown(model):
    found = [
        {layer.name for layer in Painter().all_layers(model, ViewState(chosen=chosen))}
        for chosen in ((), (("branch", "3d"),))
    ]
    assert found[0] - found[1] == {n for n in found[0] if n.startswith("superresolution")}
    assert any(".block3." in name for name in found[0] & found[1])


def test_coarse_frames_of_the_3d_branch_are_not_super_resolved(model):
    state = ViewState(chosen=(("branch", "3d"),))
    quick = Painter().paint(model, state, Detail(0.25)).pixels
    raw = Painter().paint(model, state.with_(view="raw"), Detail(0.25)).pixels
    assert raw.shape == (32, 32, 3) and quick.shape == (128, 128, 3)
    blocks = quick.reshape(32, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(blocks[1:-1, 1:-1] - raw[1:-1, 1:-1]).mean() < 4
