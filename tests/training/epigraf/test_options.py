"""Each of the method's options changes the configuration, and then the weights of a training."""

import pickle
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import train
from training import config as configuration
from training.dataset import ImageFolderDataset
from training.epigraf import METHOD
from training.training_loop import training_loop

BASE = ["--method=epigraf", "--cfg=demo", "--batch=4", "--mbstd-group=2", "--kimg=2"]
BASE += ["--cbase=64", "--cmax=8", "--patch_resolution=16"]
TOLD = ("--disc_pose_cond=True",)
SMALL = ("--patch_anneal_kimg=0",)
# Two command lines each, which differ in one option; a kimg is one iteration.
PAIRS = [
    ((), ("--patch_resolution=8",)),
    (("--patch_distribution=whole",), ("--patch_distribution=beta", *SMALL)),
    (SMALL, ("--patch_min_scale=0.9", *SMALL)),
    (("--patch_anneal_kimg=5",), SMALL),
    (SMALL, ("--patch_grouping=contiguous", *SMALL)),
    ((), ("--background=plane",)),
    ((), ("--background=sphere",)),
    (("--disc_pose_cond=False",), TOLD),
    (("--disc_pose_drop=0.2", *TOLD), ("--disc_pose_drop=0.9", *TOLD)),
    (
        ("--disc_pose_drop=0.5", *TOLD),
        ("--disc_pose_drop_kind=sample", "--disc_pose_drop=0.5", *TOLD),
    ),
    ((), ("--camera_dist=uniform",)),
    (("--density_noise=0",), ("--density_noise=1",)),
    (("--density_noise_fade_kimg=1",), ("--density_noise_fade_kimg=10",)),
]


def config_of(cars, *arguments):
    """The configuration of a command line; of an option twice the last one holds."""
    line = [f"--data={cars}", "--outdir=runs", *BASE, *arguments]
    context = train.main.make_context("train", line)
    given = {n for n in context.params if context.get_parameter_source(n).name == "COMMANDLINE"}
    opts = configuration.with_preset(context.params, given)
    return configuration.build_config(opts, ImageFolderDataset(path=cars, use_labels=True))


def weights_of(config, run_dir):
    """The weights of G and D after a training of it with tiny networks."""
    rendering = dict(config.G_kwargs["rendering_kwargs"], background_steps=3)
    rendering |= dict(depth_resolution=4, depth_resolution_importance=4)
    G_kwargs = dict(config.G_kwargs, plane_resolution=8, z_dim=16, w_dim=16)
    loss = dict(config.loss_kwargs)
    iteration = config.batch_size / 1000
    loss["density_noise_fade_kimg"] *= iteration
    if loss["patches"]:
        anneal = loss["patches"]["anneal_kimg"] * iteration
        loss["patches"] = dict(loss["patches"], anneal_kimg=anneal)
    config = replace(
        config,
        G_kwargs=dict(G_kwargs, rendering_kwargs=rendering),
        loss_kwargs=loss,
        run_dir=str(run_dir),
        total_kimg=2 * iteration,
        image_grid=[2, 2],
        data_loader_kwargs=dict(config.data_loader_kwargs, num_workers=0),
    )
    run_dir.mkdir()
    training_loop(config)
    with open(sorted(Path(run_dir).glob("network-snapshot-*.pkl"))[-1], "rb") as file:
        networks = pickle.load(file)
    return {f"{n}.{k}": t for n in "GD" for k, t in networks[n].state_dict().items()}


def test_every_option_is_tried():
    tried = {argument.partition("=")[0] for _, changed in PAIRS for argument in changed}
    assert {row[0] for row in METHOD.options} <= tried


@pytest.fixture(scope="module")
def trained(cars, tmp_path_factory):
    """`trained(arguments)` -> configuration and weights, each made once."""
    made = {}

    def make(arguments):
        if arguments not in made:
            folder = tmp_path_factory.mktemp("runs") / "run"
            config = config_of(cars, *arguments)
            made[arguments] = asdict(config), weights_of(config, folder)
        return made[arguments]

    return make


@pytest.mark.parametrize("plain, changed", PAIRS, ids=[changed[0] for _, changed in PAIRS])
def test_option_changes_the_configuration(plain, changed, cars):
    assert asdict(config_of(cars, *plain)) != asdict(config_of(cars, *changed))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("plain, changed", PAIRS, ids=[changed[0] for _, changed in PAIRS])
def test_option_changes_the_training(plain, changed, trained):
    one, other = trained(plain), trained(changed)
    same = one[1].keys() == other[1].keys() and all(
        tensor.shape == other[1][name].shape and torch.equal(tensor, other[1][name])
        for name, tensor in one[1].items()
    )
    assert not same


@pytest.mark.usefixtures("one_thread")
def test_the_same_command_trains_alike(cars, trained, tmp_path):
    """Else the pairs would prove nothing."""
    weights = weights_of(config_of(cars, *SMALL), tmp_path / "again")
    first = trained(SMALL)[1]
    assert all(torch.equal(tensor, first[name]) for name, tensor in weights.items())
