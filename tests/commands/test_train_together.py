"""train.py in several processes: a killed one, a signal, and the same command again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

import train
from training import checkpoints

ROOT = Path(train.__file__).parent

# The command, with networks and a length for tests. Process 1 dies once if DIE says when.
SCRIPT = """
import os, signal
import train
from training import config, training_loop

build, update, iterations = config.build_config, training_loop.update_ema, iter(range(1000))

def build_small(opts, data):
    small = build(opts, data)
    small.total_kimg, small.kimg_per_tick, small.image_grid = 0.048, 0.008, [2, 2]
    small.G_kwargs["plane_resolution"] = 8
    small.G_kwargs["rendering_kwargs"].update(depth_resolution=4, depth_resolution_importance=4)
    return small

def die_or_update(*args):
    first_start = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if next(iterations) == int(os.environ["DIE"]) and os.environ["RANK"] == "1" and first_start:
        os.kill(os.getpid(), signal.SIGKILL)
    update(*args)

config.build_config, training_loop.update_ema = build_small, die_or_update
train.main()
"""
OPTIONS = ["--cfg=demo", "--batch=4", "--batch-gpu=2", "--mbstd-group=2", "--cbase=64", "--cmax=8"]
OPTIONS += ["--aug=ada", "--workers=1", "--checkpoint-minutes=0"]


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def train_under_torchrun(cars, outdir, folder, die=-1, processes=2):
    script = folder / "small_train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=2"]
    command += [f"--nproc-per-node={processes}", str(script), *OPTIONS]
    command += [f"--data={cars}", f"--outdir={outdir}"]
    done = subprocess.run(
        command, env=environment(DIE=str(die)), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (run_dir,) = outdir.iterdir()
    return checkpoints.read_newest(run_dir).state, done.stdout


def flat(values, path=""):
    if isinstance(values, torch.Tensor):
        yield path, values
    elif isinstance(values, (dict, list, tuple)):
        items = values.items() if isinstance(values, dict) else enumerate(values)
        for key, value in items:
            yield from flat(value, f"{path}/{key}")


def test_a_killed_process_costs_nothing(cars, tmp_path):
    """torchrun starts all again; they go on from the checkpoint, to the same weights."""
    undisturbed, _ = train_under_torchrun(cars, tmp_path / "a", tmp_path)
    disturbed, output = train_under_torchrun(cars, tmp_path / "b", tmp_path, die=6)
    assert "is unfinished and goes on" in output and "Going on from" in output
    assert undisturbed["counters"] == disturbed["counters"]
    expected, found = dict(flat(undisturbed["parts"])), dict(flat(disturbed["parts"]))
    compared = [n for n in expected if n.split("/")[1] in ("G", "D", "G_ema", "G_opt", "D_opt")]
    assert len(compared) > 200
    for name in compared:
        assert torch.equal(expected[name], found[name]), name


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def test_gpus_starts_processes_and_passes_a_signal_on(cars, tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), *OPTIONS, "--gpus=2", "--kimg=100"]
    command += [f"--data={cars}", f"--outdir={tmp_path / 'runs'}"]
    with open(tmp_path / "output", "w") as output:
        process = subprocess.Popen(command, env=environment(), stdout=output, stderr=output)
    try:
        wait_for(lambda: "tick 0" in (tmp_path / "output").read_text())
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=120)
    finally:
        process.kill()
    text = (tmp_path / "output").read_text()
    assert status == 75, text[-3000:]
    assert "Stopped by SIGTERM; the same command goes on from checkpoint-" in text
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert "gpus2" in run_dir.name
    state = checkpoints.read_newest(run_dir).state
    assert state["counters"]["nimg"] >= 4
    assert text.count("Training options:") == 1  # one process speaks
