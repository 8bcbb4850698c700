"""What benchmarks share: timing in turns, the machine's description, tables and JSON."""

import json
import multiprocessing
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import psutil
import torch

from training.presets import PRESETS
from training.triplane import TriPlaneGenerator

Result = TypeVar("Result")


def faces_512(seed: int = 0) -> TriPlaneGenerator:
    """The generator of FFHQ-512 at full size with random weights, for inference."""
    return _faces(seed, 512, "training.superresolution.SuperresolutionHybrid8XDC")


def small_faces(seed: int = 0) -> TriPlaneGenerator:
    """A generator of 64 x 64 pixels that is made in no time, to try things out."""
    module = "training.superresolution.Superresolution"
    narrow = dict(channel_base=64, channel_max=8, plane_resolution=16, widths=[8, 8])
    return _faces(seed, 64, module, samples=4, **narrow)


def _faces(
    seed: int,
    side: int,
    module: str,
    samples: int = 48,
    widths: list[int] | None = None,
    **sizes: int,
) -> TriPlaneGenerator:
    torch.manual_seed(seed)
    fused = dict(fused_modconv_default="inference_only")
    rendering = dict(
        PRESETS["ffhq"].rendering,
        superresolution_module=module,
        superresolution_noise_mode="none",
        sr_antialias=True,
        c_gen_conditioning_zero=False,
        c_scale=1,
        clamp_mode="softplus",
        disparity_space_sampling=False,
        depth_resolution=samples,
        depth_resolution_importance=samples,
    )
    generator = TriPlaneGenerator(
        z_dim=512,
        c_dim=25,
        w_dim=512,
        img_resolution=side,
        img_channels=3,
        sr_num_fp16_res=4,
        mapping_kwargs=dict(num_layers=2),
        rendering_kwargs=rendering,
        sr_kwargs=fused if widths is None else dict(fused, widths=widths),
        num_fp16_res=0,
        conv_clamp=None,
        **fused,
        **sizes,
    )
    return generator.eval().requires_grad_(False)


def timed(
    functions: dict[str, Callable[[], object]], repeats: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each of `repeats` calls of every function.

    The functions take turns, so that whatever else the machine does falls on all of them alike.
    """
    seconds = {name: [] for name in functions}
    for turn in range(-warmup, repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def most_megabytes(function: Callable[[], object]) -> float:
    """By how much (2^20 bytes) this process, which should be a new one, grows at most while the
    function runs; looked at every millisecond."""
    process, done = psutil.Process(), threading.Event()
    most, before = [0], process.memory_info().rss

    def watch():
        while not done.wait(0.001):
            most[0] = max(most[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        function()
    finally:
        done.set()
        watcher.join()
    return most[0] / 2**20


def in_new_process(function: Callable[..., Result], *arguments: object) -> Result:
    """What a function returns that is called in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as new_process:
        return new_process.apply(function, arguments)


def quartiles(seconds: list[float]) -> dict[str, float]:
    """Minimum, lower quartile, median and upper quartile of two measurements or more."""
    lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return dict(minimum=min(seconds), lower=lower, median=median, upper=upper)


def machine() -> dict[str, str | int]:
    """What the numbers depend on: processor, threads, versions, load of the last minute."""
    return dict(
        cpu=_cpu_model(),
        cores=os.cpu_count() or 0,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        python=platform.python_version(),
        load=round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else -1,
        command=" ".join(["python -m", _module(), *sys.argv[1:]]),
    )


def table(rows: list[dict[str, object]]) -> str:
    """Rows of the same keys as a Markdown table; numbers with three decimals."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    for row in rows:
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def named_runs(context, parameter, values: tuple[str, ...]) -> dict[str, Path]:
    """NAME=DIR of an option that is given for each run; a callback of click."""
    runs = {}
    for value in values:
        name, equals, directory = value.partition("=")
        if not (name and equals and directory) or name in runs:
            raise click.BadParameter(f"'{value}' must be NAME=DIRECTORY with a name of its own")
        runs[name] = Path(directory)
    return runs


def write_json(path: str | Path, **contents) -> None:
    """Results and the machine they come from, as one JSON object."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(dict(machine=machine(), **contents), indent=2) + "\n")


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _module() -> str:
    path = Path(sys.argv[0])
    return f"benchmarks.{path.parent.name if path.stem == '__main__' else path.stem}"
