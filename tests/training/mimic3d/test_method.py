"""Mimic3D as a method of train.py: what its options come to, and both stages as runs."""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train
from training import config as configuration
from training.dataset import ImageFolderDataset
from training.mimic3d.generator import DualTriPlaneGenerator
from training.network_files import read_networks
from training.option_checks import OptionError
from training.training_loop import training_loop


def command(data, *arguments):
    """The configuration of a command line."""
    base = [f"--data={data}", "--outdir=runs", "--method=mimic3d"]
    context = train.main.make_context("train", [*base, *arguments])
    given = {n for n in context.params if context.get_parameter_source(n).name == "COMMANDLINE"}
    opts = configuration.with_preset(context.params, given)
    assert configuration.idle_options(opts, given) == []
    return configuration.build_config(opts, ImageFolderDataset(path=data, use_labels=True))


def test_stage_1_is_eg3d_with_planes_that_know_of_each_other(cars):
    config = command(cars, "--cfg=ffhq")
    rendering = config.G_kwargs["rendering_kwargs"]
    assert config.G_kwargs["class_name"] == "training.triplane.TriPlaneGenerator"
    assert config.G_kwargs["aware3d_res"] == [4, 8, 16, 32, 64, 128, 256]
    assert config.loss_kwargs["class_name"] == "training.loss.StyleGAN2Loss"
    assert (rendering["plane_axes"], rendering["density_reg_p_dist"]) == ("cyclic", 0.004)
    assert not rendering["c_gen_conditioning_zero"] and config.extra_networks == {}
    assert (config.num_gpus, config.batch_size, config.loss_kwargs["r1_gamma"]) == (8, 32, 1)


def test_stage_2_has_two_branches_and_a_third_network(cars):
    config = command(
        cars, "--cfg=afhq", "--stage=2", "--lpips=none", "--neural_rendering_resolution_initial=16"
    )
    assert config.G_kwargs["class_name"] == "training.mimic3d.generator.DualTriPlaneGenerator"
    assert config.G_kwargs["rendering_kwargs"]["density_reg_p_dist"] == 0.002
    assert config.ada_target == 0.6
    loss = {k: config.loss_kwargs[k] for k in ("r1_gamma", "r1_gamma_patch", "patch_gan", "lpips")}
    assert loss == dict(r1_gamma=5, r1_gamma_patch=5, patch_gan=0.2, lpips=None)
    ((name, D_patch),) = config.extra_networks.items()
    assert name == "D_patch" and D_patch["reg_interval"] == 16
    assert D_patch["kwargs"]["class_name"] == "training.dual_discriminator.SingleDiscriminator"
    assert (D_patch["kwargs"]["c_dim"], D_patch["kwargs"]["img_resolution"]) == (0, 16)


STAGE_2 = ["--cfg=demo", "--stage=2", "--lpips=none"]


@pytest.mark.parametrize(
    "option",
    [
        "--lpips=random",
        "--patch_gan=0.7",
        "--gamma_patch=3",
        "--dual_patch=True",
        "--feat_match=0.1",
        "--detail_reg=0.1",
        "--depth_guided_sample=0.1",
        "--density_reg_p_dist=0.004",
    ],
)
def test_option_changes_the_configuration(cars, option):
    assert command(cars, *STAGE_2) != command(cars, *STAGE_2, option)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--stage=2"], "--lpips: --stage=2 needs"),
        (["--stage=2", "--lpips=missing.pt"], "--lpips=missing.pt: no such file"),
        (["--lpips=random"], "--lpips=random: is for --stage=2"),
        (["--patch_gan=0"], "--patch_gan=0.0: is for --stage=2"),
        (["--dual_patch=True"], "--dual_patch=True: is for --stage=2"),
        ([*STAGE_2, "--aware3d=False"], "--aware3d=False: the finer planes"),
        ([*STAGE_2, "--plane_axes=legacy"], "--plane_axes=cyclic"),
        (
            [*STAGE_2, "--neural_rendering_resolution_initial=24"],
            "--neural_rendering_resolution_initial=24: .* power of two from 16 to 32",
        ),
        (
            [*STAGE_2, "--neural_rendering_resolution_initial=64"],
            "power of two from 16 to 32",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_options_that_cannot_be_used_are_named(cars, arguments, message):
    with pytest.raises(OptionError, match=message) as caught:
        command(cars, "--cfg=demo", *arguments)
    assert "\n" not in str(caught.value)


@pytest.fixture
def run(tiny_config):
    """`run(option, ...)` trains for two iterations; returns the directory and the snapshot."""

    def train_it(*arguments):
        side = "--neural_rendering_resolution_initial=16"
        config = tiny_config("--method=mimic3d", side, *arguments)
        planes = dict(plane_resolution=16, aware3d_res=[4, 8, 16])
        config = replace(config, G_kwargs=dict(config.G_kwargs, **planes))
        training_loop(config)
        run_dir = Path(config.run_dir)
        return run_dir, sorted(run_dir.glob("network-snapshot-*.pkl"))[-1]

    return train_it


@pytest.mark.usefixtures("one_thread")
def test_stage_2_goes_on_from_stage_1(run, capsys):
    _, first = run("--kimg=1")
    run_dir, second = run("--stage=2", "--lpips=random", f"--resume={first}")
    assert re.search(r"has no D_patch: it starts from nothing", capsys.readouterr().err)
    stats = (run_dir / "training_stats.jsonl").read_text().splitlines()[-1]
    for name in ("Loss/G/lpips", "Loss/D_patch/loss", "Loss/patch_r1_penalty", "Timing/D_patchreg"):
        assert f'"{name}"' in stats
    with open(second, "rb") as file:
        content = pickle.load(file)
    assert type(content["G_ema"]) is DualTriPlaneGenerator
    assert content["D_patch"].img_resolution == 16
    # What opens files of strangers reads the same networks.
    opened = read_networks(second)
    for name in ("G_ema", "D_patch"):
        state = opened.build(name).state_dict()
        for key, tensor in content[name].state_dict().items():
            assert torch.equal(state[key], tensor)
