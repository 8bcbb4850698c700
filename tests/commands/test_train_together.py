"""train.py in several processes: a killed one, a signal, and the same command again."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch

import train
from tests.processes import Process, together, wait_for
from training import checkpoints

ROOT = Path(train.__file__).parent

# The command, with networks and a length for tests. Under torchrun process 1 dies at iteration 3;
# when all have started again, they wait at iteration 2 of theirs for a signal.
SCRIPT = """
import os, signal, sys, time
import train
from training import config, training_loop

build, update, iterations = config.build_config, training_loop.update_ema, iter(range(1000))

def build_small(opts, data):
    small = build(opts, data)
    small.total_kimg, small.kimg_per_tick, small.image_grid = 0.032, 0.008, [2, 2]
    small.G_kwargs["plane_resolution"] = 8
    small.G_kwargs["rendering_kwargs"].update(depth_resolution=4, depth_resolution_importance=4)
    return small

def update_ema(*args):
    now = os.environ.get("TORCHELASTIC_RESTART_COUNT"), next(iterations)
    if now == ("0", 3) and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    if now == ("1", 2):
        print("WAITING", flush=True)
        while callable(signal.getsignal(signal.SIGTERM)):  # until the first signal has come
            time.sleep(0.01)
    update(*args)

config.build_config, training_loop.update_ema = build_small, update_ema
train.__file__ = sys.argv[0]  # what --gpus starts
train.main()
"""
OPTIONS = ["--cfg=demo", "--batch=4", "--batch-gpu=2", "--mbstd-group=2", "--cbase=64", "--cmax=8"]
OPTIONS += ["--aug=ada", "--workers=1", "--checkpoint-minutes=0", "--gpus=2"]
OPTIONS += ["--neural_rendering_resolution_initial=8"]


def train_quietly(*options):
    """The command as the two processes that it would start; (stdout, stderr) of each."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    world = dict(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)

    def start(rank):
        place = dict(world, RANK=str(rank), LOCAL_RANK=str(rank))
        return Process(SCRIPT, *options, environment=place)

    return together(2, start)


def train_with_a_death_and_a_signal(folder, *options):
    """The command as a process: its exit status and output."""
    (folder / "train_small.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    path = folder / "output"
    with open(path, "w") as output:
        process = subprocess.Popen(
            [sys.executable, str(folder / "train_small.py"), *options],
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: "WAITING" in path.read_text() or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=120), path.read_text()
    finally:
        process.kill()


def flat(values, path=""):
    if isinstance(values, torch.Tensor):
        yield path, values
    elif isinstance(values, (dict, list, tuple)):
        items = values.items() if isinstance(values, dict) else enumerate(values)
        for key, value in items:
            yield from flat(value, f"{path}/{key}")


def test_a_killed_process_and_a_signal_cost_nothing(cars, tmp_path):
    """--gpus starts all again after a death and passes a signal on; the command goes on each time
    from the checkpoint, to the same weights."""
    options = [*OPTIONS, f"--data={cars}"]
    train_quietly(*options, f"--outdir={tmp_path / 'a'}")
    options += [f"--outdir={tmp_path / 'b'}"]
    status, text = train_with_a_death_and_a_signal(tmp_path, *options)
    assert status == 75, text[-3000:]
    assert "is unfinished and goes on" in text and "Going on from" in text
    assert "Stopped by SIGTERM; the same command goes on from checkpoint-" in text
    assert text.count("Training options:") == 2  # one process speaks, at each start
    (first, _), _ = train_quietly(*options)
    assert "Going on from" in first

    (whole,), (broken,) = (list((tmp_path / name).iterdir()) for name in "ab")
    assert "gpus2" in broken.name
    undisturbed, disturbed = (checkpoints.read_newest(run_dir).state for run_dir in (whole, broken))
    assert undisturbed["counters"] == disturbed["counters"]
    expected, found = dict(flat(undisturbed["parts"])), dict(flat(disturbed["parts"]))
    compared = [n for n in expected if n.split("/")[1] in ("G", "D", "G_ema", "G_opt", "D_opt")]
    assert len(compared) > 200
    for name in compared:
        assert torch.equal(expected[name], found[name]), name
