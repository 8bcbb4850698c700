"""Each of the method's options changes the weights of a training (that it changes the
configuration is in test_method.py)."""

import functools
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.mimic3d import METHOD
from training.training_loop import training_loop

STAGE_2 = ("--stage=2", "--lpips=none")
PAIRS = [
    ((), STAGE_2),
    (STAGE_2, ("--lpips=random", *STAGE_2[:1])),
    (STAGE_2, ("--patch_gan=0.9", *STAGE_2)),
    (STAGE_2, ("--gamma_patch=30", *STAGE_2)),
    (STAGE_2, ("--dual_patch=True", *STAGE_2)),
    (STAGE_2, ("--feat_match=1", *STAGE_2)),
    (STAGE_2, ("--detail_reg=1", *STAGE_2)),
    (STAGE_2, ("--depth_guided_sample=0.05", *STAGE_2)),
]


def test_every_option_is_tried():
    tried = {argument.partition("=")[0] for _, changed in PAIRS for argument in changed}
    assert {row[0] for row in METHOD.options} <= tried


@pytest.fixture(scope="module")
def train_it(make_tiny_config, tmp_path_factory):
    """`train_it(arguments)` -> weights of all networks after an iteration."""

    def make(arguments):
        side = "--neural_rendering_resolution_initial=16"
        run_dir = tmp_path_factory.mktemp("runs") / "run"
        run_dir.mkdir()
        config = make_tiny_config(run_dir, "--method=mimic3d", side, *arguments, iterations=1)
        planes = dict(plane_resolution=16, aware3d_res=[4, 8, 16])
        training_loop(replace(config, G_kwargs=dict(config.G_kwargs, **planes)))
        return weights(sorted(Path(run_dir).glob("network-snapshot-*.pkl"))[-1])

    return make


@pytest.fixture(scope="module")
def trained(train_it):
    """As `train_it`, each made once."""
    return functools.cache(train_it)


def weights(snapshot):
    with open(snapshot, "rb") as file:
        content = pickle.load(file)
    networks = {k: v for k, v in content.items() if isinstance(v, torch.nn.Module)}
    return {f"{n}.{k}": t for n, m in networks.items() for k, t in m.state_dict().items()}


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("plain, changed", PAIRS, ids=[changed[0] for _, changed in PAIRS])
def test_option_changes_the_training(plain, changed, trained):
    one, other = trained(plain), trained(changed)
    same = one.keys() == other.keys() and all(
        tensor.shape == other[name].shape and torch.equal(tensor, other[name])
        for name, tensor in one.items()
    )
    assert not same


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_same_command_trains_alike(trained, train_it):
    """Else the pairs would prove nothing."""
    first, again = trained(STAGE_2), train_it(STAGE_2)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
