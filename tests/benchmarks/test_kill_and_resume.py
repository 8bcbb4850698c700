"""What the benchmark of kills calls a lost run."""

import copy
import shutil

import pytest
import torch

from benchmarks.kill_and_resume import COMPARED, differences
from training import checkpoints


class Part:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state


@pytest.fixture
def run(tmp_path):
    """(folder with one run, its last state)."""
    value = dict(state={0: dict(moments=[torch.ones(2), 1.0])})
    progress = checkpoints.Progress({name: Part(copy.deepcopy(value)) for name in COMPARED})
    run_dir = tmp_path / "runs" / "00000-demo"
    run_dir.mkdir(parents=True)
    for name in ("log.txt", "training_options.json"):
        (run_dir / name).touch()
    (tmp_path / "runs" / "00001-empty").mkdir()
    checkpoints.write_checkpoint(run_dir, progress.state_dict())
    return tmp_path / "runs", checkpoints.read_newest(run_dir).state


def test_the_same_bits_are_no_difference(run):
    assert differences(*run) == []


@pytest.mark.parametrize("name", COMPARED)
def test_one_bit_is_a_difference(run, name):
    outdir, state = run
    state["parts"][name]["state"][0]["moments"][0][1] += 2**-23
    assert differences(outdir, state) == [name]


def test_other_differences(run):
    outdir, state = run
    state["counters"]["nimg"] = 1
    assert differences(outdir, state) == ["counters"]
    run_dir = outdir / "00000-demo"
    (run_dir / "log.txt").write_text("Warning: x is damaged (y)\n")
    assert differences(outdir, state) == ["1 damaged checkpoints", "counters"]
    next(run_dir.glob("checkpoint-*")).write_bytes(b"")
    assert differences(outdir, state) == ["no checkpoint"]
    shutil.copytree(run_dir, outdir / "00002-demo")
    assert differences(outdir, state) == ["2 run directories"]
