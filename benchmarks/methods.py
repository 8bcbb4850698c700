"""Runs of several methods on one data set side by side: cost, consistency, quality, learning.

python -m benchmarks.methods --run=eg3d=runs/00000-demo-cars --run=epigraf=runs/00001-epigraf-… \
    --run=mimic3d=runs/00002-mimic3d-… --data=cars.zip [--outdir=out]

A run is a directory of train.py or one network file. A model with branches has a row for each.
"""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch

import dnnlib
import eg3d
from benchmarks.common import machine, named_runs, table, write_json
from benchmarks.learning import find_snapshots
from metrics.frechet import frechet_distance
from metrics.options import MetricOptions, unnoticed
from metrics.random_features import RandomConvFeatures
from metrics.reprojection import reprojection_consistency
from training import setup
from training.cameras import Camera
from training.config import TrainingConfig
from training.dataset import Dataset, ImageFolderDataset
from training.estimate import estimate
from training.runs import OPTIONS_FILE

MB = 1e6
_BATCH = 25


class Distance:
    """Fréchet distance of a model's pictures to all real ones, on the features `randconv112`.

    Args:
        dataset: the real pictures.
        samples: generated ones, of the seeds 0 to samples - 1; conditioned on and rendered from
            cameras of random real pictures, the same for all models.
    """

    def __init__(self, dataset: Dataset, samples: int):
        self._features = RandomConvFeatures()
        picks = np.random.RandomState(0).randint(len(dataset), size=samples)
        self._labels = torch.from_numpy(np.stack([dataset.get_label(i) for i in picks]))
        pictures = (torch.from_numpy(dataset[i][0])[None] for i in range(len(dataset)))
        self._real = self._features.statistics(pictures)
        self.name = self._features.name

    @torch.no_grad()
    def __call__(self, model: eg3d.Model) -> float:
        """The distance."""
        batches = zip(
            model.latents(range(len(self._labels))).split(_BATCH),
            self._labels.split(_BATCH),
            strict=True,
        )
        fakes = (_pictures(model, z, Camera.from_label(c.to(model.device))) for z, c in batches)
        return frechet_distance(self._features.statistics(fakes), self._real)


def _pictures(model: eg3d.Model, z: torch.Tensor, camera: Camera) -> torch.Tensor:
    image = model.scenes_of(model.mapping(z, camera)).render(camera).image
    return (image * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu()


def variants(
    name: str, model: eg3d.Model, branches: Sequence[str] = ()
) -> list[tuple[str, eg3d.Model]]:
    """A model under its name; one with branches once for each of those that are asked for, by
    default '2d' and '3d', under names such as 'mimic3d 3d'."""
    known = model.choices.get("branch", ())
    shown = [branch for branch in branches or ("2d", "3d") if branch in known]
    if not shown:
        return [(name, model)]
    return [(f"{name} {branch}", model.showing(branch=branch)) for branch in shown]


def snapshots_of(path: Path, most: int) -> list[Path]:
    """A network file itself, or `most` of a run's snapshots evenly, oldest first, with the last.
    Raises FileNotFoundError where there are none."""
    if path.is_file():
        return [path]
    found = find_snapshots(path)
    picks = np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)
    return [found[i] for i in (picks if most > 1 else [-1])]


def training_peak(run_dir: Path, dataset: Dataset) -> float | None:
    """MB that a training step needs, weights included, counted on the CPU; None for a network
    file, of whose training nothing is known."""
    options = run_dir / OPTIONS_FILE
    if not options.is_file():
        return None
    config = TrainingConfig(**json.loads(options.read_text(encoding="utf-8")))
    networks = setup.build_networks(config, dataset, torch.device("cpu"))
    trained = {name: networks[name] for name in config.optimizers}
    return estimate(config, trained).peak / MB


def seconds_by_kimg(run_dir: Path) -> dict[float, float]:
    """Seconds since the beginning of a run by the thousands of images at the end of each tick."""
    path = run_dir / "training_stats.jsonl"
    if not path.is_file():
        return {}
    ticks = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {t["Progress/kimg"]["mean"]: t["Timing/total_sec"]["mean"] for t in ticks}


def seconds_at(ticks: dict[float, float], kimg: int | None) -> float | None:
    """The seconds of the tick that a snapshot's number of thousands of images means."""
    near = [t for t in ticks if kimg is not None and abs(t - kimg) < 1]
    return ticks[min(near, key=lambda t: abs(t - kimg))] if near else None


@torch.no_grad()
def seconds_a_picture(model: eg3d.Model, pictures: int = 4) -> float:
    """The shortest time for a picture, mapping and planes included, of some made one by one."""
    seconds = []
    for seed in range(pictures + 1):
        start = time.perf_counter()
        _pictures(model, model.latents([seed]), model.camera)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])  # the first one makes preparations


def consistency(model: eg3d.Model, data: str, subjects: int) -> dict[str, float | None]:
    """PSNR and SSIM between views, None where no two show the same, and the share of what both
    show, see `metrics.reprojection`."""
    kwargs = dict(class_name="training.dataset.ImageFolderDataset", path=data, use_labels=True)
    options = MetricOptions(model.generator, dataset_kwargs=dnnlib.EasyDict(kwargs))
    with unnoticed(options):
        found = reprojection_consistency(options, subjects=subjects)
    values = {name: found[f"reprojection_{name}"] for name in ("psnr", "ssim", "covisible")}
    # Where nothing is seen from two sides there is nothing to compare, and JSON has no NaN.
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def learning_curve(
    name: str, path: Path, distance: Distance, branches: Sequence[str], points: int
) -> list[dict[str, object]]:
    """Rows of distance by kimg and seconds, of each branch of each snapshot."""
    rows, ticks = [], seconds_by_kimg(path)
    for snapshot in snapshots_of(path, points):
        number = snapshot.stem.rpartition("-")[2]
        kimg = int(number) if number.isdecimal() else None
        for label, model in variants(name, eg3d.load(snapshot), branches):
            seconds = seconds_at(ticks, kimg)
            rows.append(dict(method=label, kimg=kimg, seconds=seconds, distance=distance(model)))
    return rows


def compare(
    runs: dict[str, Path],
    data: str,
    samples: int,
    subjects: int,
    points: int,
    branches: Sequence[str] = (),
) -> tuple[list[dict], list[dict]]:
    """Rows of cost, consistency and quality of the last snapshots, and of all learning curves."""
    dataset = ImageFolderDataset(data, use_labels=True)
    distance, rows, curves = Distance(dataset, samples), [], []
    for name, path in runs.items():
        curve = learning_curve(name, path, distance, branches, points)
        last = {row["method"]: row["distance"] for row in curve}
        curves += curve
        peak = training_peak(path, dataset)
        for label, model in variants(name, eg3d.load(snapshots_of(path, 1)[-1]), branches):
            parameters = sum(p.numel() for p in model.generator.parameters())
            rows.append(
                {
                    "method": label,
                    "parameters of G": parameters,
                    "seconds a picture": seconds_a_picture(model),
                    "training MB": None if peak is None else round(peak),
                    **consistency(model, data, subjects),
                    f"fd {distance.name}": last[label],
                }
            )
    return rows, curves


@click.command()
@click.option(
    "--run", "runs", multiple=True, required=True, callback=named_runs, help="NAME=DIR or NAME=FILE"
)
@click.option("--data", required=True, help="The runs' dataset")
@click.option("--branch", "branches", multiple=True, help="Of models with branches [2d, 3d]")
@click.option("--samples", type=click.IntRange(min=2), default=500, show_default=True)
@click.option("--subjects", type=click.IntRange(min=1), default=25, show_default=True)
@click.option(
    "--points", type=click.IntRange(min=1), default=6, help="Of curves", show_default=True
)
@click.option("--threads", type=click.IntRange(min=1), help="Default: what torch chooses.")
@click.option("--outdir", help="Where methods.json goes")
def main(runs, data, branches, samples, subjects, points, threads, outdir) -> None:
    """Compares runs of several methods on one data set."""
    if threads:
        torch.set_num_threads(threads)
    try:
        rows, curves = compare(runs, data, samples, subjects, points, branches)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(f"{table(rows)}\n\n{table(curves)}")
    if outdir:
        settings = dict(samples=samples, subjects=subjects)
        write_json(Path(outdir) / "methods.json", **settings, methods=rows, curves=curves)


if __name__ == "__main__":
    main()
