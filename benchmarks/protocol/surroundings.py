"""B9, B10, B11: pictures for metrics, pictures for training, and the first picture of a process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import torch

import train
from benchmarks.datasets import opened, read
from benchmarks.metrics import measure_passes
from benchmarks.protocol.clock import Effort, Work
from benchmarks.protocol.measuring import Case, Protocol
from benchmarks.protocol.training_steps import opened as opened_training
from benchmarks.protocol.training_steps import sizes
from benchmarks.protocol.ways import HOST, KERNELS, PLAIN, Way
from metrics.options import MetricOptions
from training.dataset import ImageFolderDataset
from training.snapshots import save_snapshot

EXACT = Way(PLAIN, "float32")
SHIPPED = (Way(PLAIN, "half"), Way(KERNELS, "half"))
_DATASET = "training.dataset.ImageFolderDataset"
_SOON = 5.0  # seconds to the first picture: the aim


def able(protocol: Protocol) -> list[Way]:
    """The ways that the device has. Metrics and commands decide themselves whether float32 products
    round their factors: the metrics do not."""
    return protocol.able(*(() if protocol.on_gpu else (EXACT,)), *SHIPPED)


def b9(protocol: Protocol) -> None:
    """The passes of FID with random features in place of Inception's, part by part."""
    side = 512 if protocol.on_gpu else 64 if protocol.full else 32
    pictures, batch = {512: (256, 64), 64: (64, 16), 32: (4, 4)}[side]
    kind = "ffhq" if protocol.on_gpu else "demo"
    for way in able(protocol):
        rates: dict[str, list[float]] = {}

        def prepare(rates=rates) -> Work:
            options = MetricOptions(
                _generator(protocol),
                dataset_kwargs=dict(class_name=_DATASET, path=protocol.inputs.cars(side)),
                networks=dict(inception="randconv112"),
                batch=batch,
                workers=3 if protocol.on_gpu else 0,
                cache=False,
            )

            def run(_: None) -> None:
                options.memory.clear()  # so that real pictures are read again
                for row in measure_passes(options, pictures):
                    rates.setdefault(row["part"], []).append(row["images/s"])

            return Work(run)

        effort = Effort(warmups=0, repeats=3, seconds=20)
        case = Case(f"all passes, {kind}", way, prepare, batch, "s", float, effort=effort)
        protocol.measure(case)
        for part, found in rates.items():
            protocol.record(f"{part}, {kind}", way, batch, "images/s", found)


def _generator(protocol: Protocol) -> torch.nn.Module:
    """FFHQ-512's on a GPU, else the demo's."""
    if protocol.on_gpu:
        return protocol.inputs.networks(protocol.device)[0]
    return opened_training(protocol, *sizes(protocol)[0], EXACT).networks["G_ema"]


def b10(protocol: Protocol) -> None:
    """Readers of a zip, as training has them, by processes; and of what is in memory already."""
    host = protocol.on(torch.device("cpu"))
    side = 512 if protocol.on_gpu else 64 if protocol.full else 32
    data = protocol.inputs.cars(side)
    total, pictures = len(ImageFolderDataset(data)), {512: 256, 64: 2000, 32: 16}[side]

    def reader(cache: str, workers: int) -> Work:
        def run(_: None) -> float:
            with opened(data, cache, workers) as source:
                return pictures / read(source, total, pictures)

        return Work(run)

    kinds = [("none", 0), ("ram", 0)] if protocol.quick else [("none", n) for n in range(4)]
    for cache, workers in kinds if protocol.quick else [*kinds, ("ram", 0)]:
        words = f"{workers} workers" if cache == "none" else "out of memory's cache"
        prepare = partial(reader, cache, workers)
        host.measure(
            Case(
                *(f"{side}^2 pictures, {words}", HOST, prepare, None, "images/s", None),
                effort=Effort(0, 3, 15),
            )
        )


def b11(protocol: Protocol) -> None:
    """From the command to the picture of a new process, with caches that are warm."""
    G, _ = protocol.inputs.networks(protocol.device)
    snapshot = protocol.inputs.folder / "faces.pkl"
    save_snapshot(snapshot, None, G=None, D=None, G_ema=G)
    effort = Effort(warmups=1, repeats=3, seconds=20)
    for way in able(protocol):
        prepare = partial(new_process, protocol, way, snapshot, count())
        part = f"gen_samples.py, {G.img_resolution}^2"
        case = Case(part, way, prepare, 1, "s", float, target=_SOON, effort=effort)
        protocol.measure(case)


def new_process(protocol: Protocol, way: Way, snapshot: Path, seeds: Iterator[int]) -> Work:
    """A picture of another seed each time by a process of its own."""
    script = Path(train.__file__).with_name("gen_samples.py")
    threads = dict(OMP_NUM_THREADS=str(torch.get_num_threads()))
    ops = "torch" if way.implementation == PLAIN else "triton"

    def run(seed: int) -> None:
        arguments = [f"--network={snapshot}", f"--seeds={seed}", "--views=front", f"--ops={ops}"]
        arguments += [f"--outdir={protocol.inputs.folder}", f"--device={protocol.device.type}"]
        done = subprocess.run(
            [sys.executable, script, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **threads},
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise RuntimeError(f"{script.name}: {lines[-1]}")

    return Work(run, lambda: next(seeds))
