"""train.py as processes that are signalled and killed: the same command goes on."""

import json
import os
import signal

import pytest
import torch

from tests.processes import Process, wait_for
from training import checkpoints

# The command, with networks and a length for tests. At the iteration PAUSE it waits for a file.
COMMAND = """
import os, time
import train
from training import config, training_loop

build, update, iterations = config.build_config, training_loop.update_ema, iter(range(1000))

def build_small(opts, data):
    small = build(opts, data)
    small.total_kimg, small.kimg_per_tick, small.image_grid = 0.036, 0.008, [2, 2]
    small.G_kwargs["plane_resolution"] = 8
    small.G_kwargs["rendering_kwargs"].update(depth_resolution=4, depth_resolution_importance=4)
    return small

def pause_and_update(*args):
    if next(iterations) == int(os.environ["PAUSE"]):
        print("PAUSED", flush=True)
        while not os.path.exists(os.environ["GO_ON"]):
            time.sleep(0.01)
    update(*args)

config.build_config, training_loop.update_ema = build_small, pause_and_update
train.main()
"""


@pytest.fixture
def start(cars, tmp_path):
    """`start(outdir, pause=-1)`: the command as the leader of a process group."""
    running = []

    def run(outdir, pause=-1):
        options = [
            *(f"--data={cars}", f"--outdir={tmp_path / outdir}", "--cfg=demo", "--aug=ada"),
            *("--batch=4", "--mbstd-group=4", "--cbase=64", "--cmax=8", "--workers=1"),
            *("--neural_rendering_resolution_initial=8", "--checkpoint-minutes=0"),
        ]
        environment = dict(PAUSE=str(pause), GO_ON=str(tmp_path / "go on"))
        process = Process(COMMAND, *options, environment=environment)
        running.append(process)
        if pause >= 0:
            wait_for(lambda: "PAUSED\n" in process.stdout)
        return process

    yield run
    for process in running:
        process.kill_group()


def last_state(outdir):
    (run_dir,) = outdir.iterdir()
    return checkpoints.read_newest(run_dir).state, run_dir


def test_signals_and_kills(start, tmp_path):
    """Signals go to the whole group, as those of a terminal, of `timeout` and of schedulers do."""
    whole = start("whole")
    process = start("broken", pause=2)
    os.killpg(process.pid, signal.SIGTERM)
    (tmp_path / "go on").touch()
    assert process.wait() == 75, process.stderr
    assert "Stopped by SIGTERM; the same command goes on from" in process.stdout
    assert "Traceback" not in process.stdout + process.stderr
    (tmp_path / "go on").unlink()
    process = start("broken", pause=3)
    os.kill(process.pid, signal.SIGKILL)  # Not its data loading process, which lives on a while.
    process.wait()
    process = start("broken")
    assert process.wait() == 0 and "Going on from" in process.stdout, process.stderr
    assert "is unfinished and goes on" in process.stdout + process.stderr

    assert whole.wait() == 0, whole.stderr
    (expected, whole_dir), (found, broken_dir) = (
        last_state(tmp_path / name) for name in ("whole", "broken")
    )
    assert found["counters"] == expected["counters"] and found["counters"]["nimg"] == 36
    for name in ("G", "D", "G_ema", "augment_pipe"):
        for key, value in expected["parts"][name].items():
            assert torch.equal(found["parts"][name][key], value), f"{name}.{key}"
    for name in ("G_opt", "D_opt"):
        for key, state in expected["parts"][name]["state"].items():
            for moment, value in state.items():
                assert torch.equal(found["parts"][name]["state"][key][moment], value)
    ticks = [
        [json.loads(line)["Progress/tick"]["mean"] for line in path.open()]
        for path in (whole_dir / "training_stats.jsonl", broken_dir / "training_stats.jsonl")
    ]
    assert ticks[0] == ticks[1] == list(range(5))
