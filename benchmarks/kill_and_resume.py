"""How many runs are lost to kills: a tiny training with ADA, killed again and again.

python -m benchmarks.kill_and_resume --kills=60

Half of the kills (SIGKILL) come at random moments, half while a checkpoint is being written. After
each the same command is given again. A run is lost if it does not end with the same bits as a run
that nothing killed: weights, averaged weights, optimizers, strength of augmentation, counters.
"""

import contextlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import torch

import train
from benchmarks.common import machine, table
from dataset_preprocessing.procedural import make_dataset
from training import checkpoints, config, runs
from training.config import TrainingConfig
from training.dataset import ImageFolderDataset
from training.launch import launch

COMPARED = ("G", "D", "G_ema", "augment_pipe", "ada", "G_opt", "D_opt")
PRELOADED = [  # What a training imports: a process of it then begins at once.
    *("torch._dynamo", "torch.utils.tensorboard", "train", "dataset_preprocessing.procedural"),
    *("benchmarks.common", "training.training_loop", "training.triplane", "training.augment"),
    *("training.dual_discriminator", "training.superresolution"),
]
_POLL = 0.0005


@dataclass
class Times:
    """Seconds of the unbroken run that say when to kill."""

    first: float = 0.0  # from the start of the process to the first checkpoint
    whole: float = 0.0
    writes: list[float] = field(default_factory=list)  # how long each temporary file was there


def tiny_config(data: Path, outdir: Path, iterations: int) -> TrainingConfig:
    """A training of seconds: two iterations a tick, a checkpoint at each."""
    options = [
        *(f"--data={data}", f"--outdir={outdir}", "--cfg=demo", "--aug=ada"),
        *("--batch=4", "--mbstd-group=4", "--cbase=64", "--cmax=8", "--workers=1"),
        *("--neural_rendering_resolution_initial=8", "--checkpoint-minutes=0", "--snap=20"),
    ]
    context = train.main.make_context("train", list(options))
    given = {option.split("=")[0].strip("-").replace("-", "_") for option in options}
    opts = config.with_preset(context.params, given)
    tiny = config.build_config(opts, ImageFolderDataset(path=opts.data, use_labels=True))
    tiny.G_kwargs["plane_resolution"] = 8
    tiny.G_kwargs["rendering_kwargs"].update(depth_resolution=4, depth_resolution_importance=4)
    tiny.G_kwargs["sr_kwargs"]["widths"] = [8, 8]
    length = iterations * tiny.batch_size / 1000
    return replace(
        tiny, total_kimg=length, kimg_per_tick=0.008, image_grid=[2, 2], augment_p=0.5, ada_kimg=1
    )


def command(configuration: TrainingConfig) -> None:
    """What `train.py` does with a configuration; runs in a process of its own."""
    torch.set_num_threads(1)
    # For the data loading processes, as in train.py; they would inherit the fork server's method.
    multiprocessing.set_start_method("fork", force=True)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        choice = runs.choose(configuration, None)
        sys.exit(0 if launch(choice.config, choice.lock) else 75)


def writing(outdir: Path) -> bool:
    """Whether a checkpoint is being written at this moment."""
    for run_dir in os.scandir(outdir) if outdir.is_dir() else ():
        for file in os.scandir(run_dir):
            if file.name.startswith(".checkpoint-"):
                return True
    return False


def watch(process, outdir: Path) -> Times:
    """Times of a run that is left alone."""
    times, start, seen = Times(), time.perf_counter(), None
    while process.is_alive():
        now = time.perf_counter()
        if writing(outdir):
            times.first = times.first or now - start
            seen = seen or now
        elif seen is not None:
            times.writes.append(now - seen)
            seen = None
        time.sleep(_POLL)
    times.whole = time.perf_counter() - start
    return times


def kill_at_random(process, times: Times, draw: random.Random) -> bool:
    """Kills within the process's first ticks, or before them; False if it ended by itself."""
    tick = (times.whole - times.first) / max(len(times.writes), 1)
    process.join(draw.uniform(0, times.first + 6 * tick))
    return _kill(process)


def kill_while_writing(process, outdir: Path, times: Times, draw: random.Random) -> bool:
    """Kills during the first to third checkpoint; False if the process ended by itself."""
    for _ in range(draw.randint(1, 3)):
        while writing(outdir) and process.is_alive():
            time.sleep(_POLL)
        while not writing(outdir) and process.is_alive():
            time.sleep(_POLL)
    usual = sorted(times.writes)[len(times.writes) // 2]
    time.sleep(draw.random() * usual)
    return _kill(process)


def _kill(process) -> bool:
    if not process.is_alive():
        return False
    process.kill()
    process.join()
    return process.exitcode != 0


def killed_run(start, outdir: Path, times: Times, draw: random.Random, kinds: list[bool]) -> dict:
    """One run, killed once for each of `kinds` (True: while writing), then left to its end."""
    counts: Counter = Counter()
    for while_writing in kinds:
        process = start()
        if while_writing:
            killed = kill_while_writing(process, outdir, times, draw)
        else:
            killed = kill_at_random(process, times, draw)
        if not killed:
            break
        counts["kills while writing" if while_writing else "kills at random"] += 1
        counts["files left half written"] += writing(outdir)
        made = any(checkpoints.list_checkpoints(d) for d in outdir.glob("*"))
        counts["kills before the first checkpoint"] += not made
    process = start()
    process.join()
    counts["ended in an error"] += process.exitcode not in (0, None)
    return counts


def differences(outdir: Path, expected: dict) -> list[str]:
    """What of the final state of the only run in a folder differs from `expected`."""
    # A process that dies while it makes a run directory leaves an empty one.
    run_dirs = [path.parent for path in outdir.glob(f"*/{runs.OPTIONS_FILE}")]
    if len(run_dirs) != 1:
        return [f"{len(run_dirs)} run directories"]
    found = checkpoints.read_newest(run_dirs[0])
    if found is None:
        return ["no checkpoint"]
    damaged = (run_dirs[0] / "log.txt").read_text().count("is damaged")
    result = [f"{damaged} damaged checkpoints"] if damaged else []
    if found.state["counters"] != expected["counters"]:
        result.append("counters")
    return result + [
        name for name in COMPARED if not _equal(found.state["parts"][name], expected["parts"][name])
    ]


def _equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a == b


@click.command(help=__doc__.splitlines()[0])
@click.option("--kills", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--kills-per-run", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--iterations", type=click.IntRange(min=10), default=80, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the moments of the kills")
def main(kills: int, kills_per_run: int, iterations: int, seed: int) -> None:
    """Prints one table."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    draw, begun = random.Random(seed), time.perf_counter()
    total: Counter = Counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        data = Path(folder, "cars.zip")
        make_dataset(data, num_images=12, resolution=32, seed=0)

        def starter(outdir: Path):
            configuration = tiny_config(data, outdir, iterations)

            def start():
                process = context.Process(target=command, args=(configuration,))
                process.start()
                return process

            return start

        unbroken = Path(folder, "unbroken")
        times = watch(starter(unbroken)(), unbroken)
        expected = checkpoints.read_newest(next(unbroken.iterdir())).state
        while total["kills at random"] + total["kills while writing"] < kills:
            left = kills - total["kills at random"] - total["kills while writing"]
            kinds = [i % 2 == 1 for i in range(min(kills_per_run, left))]
            draw.shuffle(kinds)
            outdir = Path(folder, f"killed{total['runs']}")
            total += killed_run(starter(outdir), outdir, times, draw, kinds)
            differing = differences(outdir, expected)
            total += {"runs": 1, "lost runs": bool(differing)}
            if differing:
                click.echo(f"run {total['runs']} differs: {', '.join(differing)}")
    rows = ["runs", "kills at random", "kills while writing", "files left half written"]
    rows += ["kills before the first checkpoint", "ended in an error", "lost runs"]
    seconds = time.perf_counter() - begun
    click.echo(
        f"{json.dumps(machine())}\n\n{seconds:.0f} s in all; the run that nothing killed took "
        f"{times.whole:.1f} s and wrote {len(times.writes)} checkpoints.\n"
    )
    click.echo(table([{name: total[name] for name in rows}]))


if __name__ == "__main__":
    main()
