"""train.py as processes that are signalled and killed: the same command goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train
from training import checkpoints

ROOT = Path(train.__file__).parent

# The command, with networks and a length for tests. At the iteration PAUSE it waits for a line.
COMMAND = """
import os, sys
import train
from training import config, training_loop

build, update, iterations = config.build_config, training_loop.update_ema, iter(range(1000))

def build_small(opts, data):
    small = build(opts, data)
    small.total_kimg, small.kimg_per_tick, small.image_grid = 0.06, 0.008, [2, 2]
    small.G_kwargs["plane_resolution"] = 8
    small.G_kwargs["rendering_kwargs"].update(depth_resolution=4, depth_resolution_importance=4)
    return small

def pause_and_update(*args):
    if next(iterations) == int(os.environ["PAUSE"]):
        print("PAUSED", flush=True)
        sys.stdin.readline()
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
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *options],
            env=dict(os.environ, PAUSE=str(pause), OMP_NUM_THREADS="1"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            cwd=ROOT,
        )
        running.append(process)
        if pause >= 0:
            lines = iter(process.stdout.readline, "")
            assert "PAUSED\n" in lines
        return process

    yield run
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def last_state(outdir):
    (run_dir,) = outdir.iterdir()
    return checkpoints.read_newest(run_dir).state, run_dir


def test_signals_and_kills(start, tmp_path):
    """Signals go to the whole group, as those of a terminal, of `timeout` and of schedulers do."""
    whole = start("whole")
    process = start("broken", pause=2)
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate("\n", timeout=60)
    assert process.returncode == 75, output
    assert "Stopped by SIGTERM; the same command goes on from" in output
    assert "Traceback" not in output
    process = start("broken", pause=3)
    process.kill()  # Not its data loading process, which lives for some seconds more.
    process.wait(timeout=60)
    process = start("broken")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "Going on from" in output, output
    assert "is unfinished and goes on" in output

    output, _ = whole.communicate(timeout=60)
    assert whole.returncode == 0, output
    (expected, whole_dir), (found, broken_dir) = (
        last_state(tmp_path / name) for name in ("whole", "broken")
    )
    assert found["counters"] == expected["counters"] and found["counters"]["nimg"] == 60
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
    assert ticks[0] == ticks[1] == list(range(8))
