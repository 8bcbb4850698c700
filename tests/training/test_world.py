"""Several processes train as one does."""

import json
import socket
from dataclasses import asdict

import pytest
import torch

from tests.processes import Process, together
from training import checkpoints

WORKER = """
import json, sys
from training.config import TrainingConfig
from training.launch import launch
from training.world import join, leave
config = TrainingConfig(**json.load(open(sys.argv[1])))
rank, size = int(sys.argv[2]), int(sys.argv[3])
launch(config, None, join(rank, size, rank))
leave()
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train_together(config, size, folder):
    """The state of the last checkpoint of a run in `size` processes."""
    config.run_dir = str(folder / f"0000{size}-demo-cars")
    config.num_gpus = size
    (folder / f"{size}.json").write_text(json.dumps(asdict(config)))
    meeting = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    given = folder / f"{size}.json"
    outputs = together(size, lambda rank: Process(WORKER, given, rank, size, environment=meeting))
    assert all(out == "" for out, _ in outputs[1:])  # only the first one speaks
    return checkpoints.read_newest(config.run_dir).state


@pytest.fixture(scope="module")
def states(cars, tmp_path_factory, make_tiny_config):
    folder = tmp_path_factory.mktemp("together")
    options = ["--batch=8", "--batch-gpu=2", "--mbstd-group=2", "--aug=ada", "--gen_pose_cond=True"]
    options += ["--style_mixing_prob=0.5", "--disc_c_noise=0.5", "--mirror=True"]
    found = {}
    for size in (1, 2, 4):
        config = make_tiny_config(folder / f"config{size}", *options, iterations=8)
        config.ada_kimg, config.augment_p, config.ada_target = 1, 0.3, -2.0  # p only grows
        config.ema_rampup = None  # else the average would follow the weights exactly
        # Adam's steps have one length, whatever the gradient: where that is all rounding, so would
        # be the step's sign, and after eight of them everything. This makes small steps of those.
        config.G_opt_kwargs["eps"] = config.D_opt_kwargs["eps"] = 1e-2
        found[size] = train_together(config, size, folder)
    return found


def flat(values, prefix=""):
    """{path: tensor} of nested containers."""
    if isinstance(values, torch.Tensor):
        return {prefix: values}
    items = values.items() if isinstance(values, dict) else enumerate(values)
    found = {}
    for key, value in items:
        if isinstance(value, (dict, list, tuple, torch.Tensor)):
            found |= flat(value, f"{prefix}/{key}")
    return found


@pytest.mark.parametrize("size", [2, 4])
def test_any_number_of_processes_trains_alike(states, size):
    alone, together = (flat(states[n]["parts"]) for n in (1, size))
    assert states[size]["counters"] == states[1]["counters"]
    for network in ("G", "D", "G_ema", "augment_pipe"):
        names = [name for name in alone if name.split("/")[1] == network]
        expected, found = (
            torch.cat([s[n].double().flatten() for n in names]) for s in (alone, together)
        )
        assert len(names) >= 3
        assert (found - expected).norm() < 1e-5 * expected.norm(), network
    for name, expected in alone.items():
        if name.split("/")[1] in ("G", "D"):
            scale = expected.double().abs().max().clamp(min=1e-3)
            assert (together[name].double() - expected.double()).abs().max() < 1e-2 * scale, name


@pytest.mark.parametrize("size", [2, 4])
def test_the_tracked_mean_of_w_is_that_of_all_images(states, size):
    alone, together = (states[n]["parts"]["G"]["backbone.mapping.w_avg"] for n in (1, size))
    assert alone.norm() > 0 and torch.allclose(together, alone, rtol=1e-4, atol=1e-7)


def test_the_statistics_are_those_of_all_images(states):
    totals = {size: state["parts"]["statistics"]["totals"] for size, state in states.items()}
    for name in ("Loss/scores/real", "Loss/signs/fake", "Loss/G/loss", "Loss/r1_penalty"):
        assert totals[1][name][0] > 0
        for size in (2, 4):
            assert torch.allclose(totals[size][name], totals[1][name], rtol=1e-4)


def test_augmentation_adapts_alike(states):
    parts = [state["parts"] for state in states.values()]
    p = [part["augment_pipe"]["p"].item() for part in parts]
    assert p[0] > 0.31 and p[1:] == pytest.approx([p[0], p[0]])
    signs = [part["ada"]["moments"]["Loss/signs/real"].tolist() for part in parts]
    assert signs[0][0] > 0 and signs[1] == signs[0] == signs[2]
