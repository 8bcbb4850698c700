"""Does a class-conditional model show the class that it is asked for?

python -m dataset_preprocessing.procedural --dest=both.zip --category=all
python train.py --cfg=demo --data=both.zip --outdir=runs --cond_classes=True
python -m benchmarks.classes --run=eg3d=runs/00000-demo-both-… --data=both.zip [--outdir=out]

On the features `randconv112`, which know no classes: the Fréchet distance of the pictures of each
class that is asked for to the real ones of each class, and the share of them whose nearest real
picture is of that class. Beside it what the halves of the real pictures get of each other.
"""

from pathlib import Path

import click
import numpy as np
import torch

import eg3d
from benchmarks.common import named_runs, table, write_json
from benchmarks.learning import find_snapshots
from metrics.frechet import FeatureStatistics, frechet_distance
from metrics.random_features import RandomConvFeatures
from training.cameras import Camera, split_label
from training.dataset import Dataset, ImageFolderDataset

_BATCH = 25
Features = list[torch.Tensor]  # float32 [n, 112] of each class


def real_features(dataset: Dataset) -> Features:
    """Of all real pictures, by class."""
    classes = split_label(torch.from_numpy(dataset.all_labels()))[1]
    network, rows = RandomConvFeatures(), []
    for i in range(len(dataset)):
        rows.append(network(torch.from_numpy(dataset[i][0])[None]))
    return [torch.cat(rows)[classes[:, k] == 1] for k in range(classes.shape[1])]


@torch.no_grad()
def generated_features(model: eg3d.Model, dataset: Dataset, samples: int) -> Features:
    """Of the pictures of seeds 0 to samples - 1, once as each class, from the cameras of random
    real pictures, the same ones for all classes."""
    picks = np.random.RandomState(0).randint(len(dataset), size=samples)
    cameras = Camera.from_label(torch.from_numpy(dataset.all_labels()[picks])).to(model.device)
    network, found = RandomConvFeatures(), []
    for index in range(model.num_classes):
        rows = []
        for start in range(0, samples, _BATCH):
            part = slice(start, start + _BATCH)
            z = model.latents(range(samples)[part])
            ws = model.mapping(z, cameras[part], classes=[index])
            image = model.scenes_of(ws).render(cameras[part]).image
            rows.append(network((image * 127.5 + 128).clamp(0, 255).to(torch.uint8)).cpu())
        found.append(torch.cat(rows))
    return found


def distances(found: Features, real: Features) -> list[list[float]]:
    """Fréchet distances: a row for each class of `found`, a column for each of `real`."""
    return [[frechet_distance(_statistics(a), _statistics(b)) for b in real] for a in found]


def shares(found: Features, real: Features) -> list[float]:
    """Of each class of `found` the share whose nearest of all `real`, with features scaled to the
    same deviation, is of that class."""
    everything = torch.cat(real)
    scale = everything.std(0).clamp(min=1e-8)
    classes = torch.cat([torch.full((len(rows),), index) for index, rows in enumerate(real)])
    nearest = [torch.cdist(rows / scale, everything / scale).argmin(1) for rows in found]
    return [(classes[k] == index).double().mean().item() for index, k in enumerate(nearest)]


def rows_of(name: str, found: Features, real: Features) -> list[dict[str, object]]:
    """A row for each class."""
    measured = zip(distances(found, real), shares(found, real), strict=True)
    return [
        {
            "pictures": name,
            "class": index,
            **{f"fd to real {k}": value for k, value in enumerate(away)},
            "share nearest to it": share,
        }
        for index, (away, share) in enumerate(measured)
    ]


def compare(runs: dict[str, Path], data: str, samples: int) -> list[dict[str, object]]:
    """Rows of one half of the real pictures beside the other, and of each run's last snapshot, or
    network file, beside all. Raises ValueError where one has other classes than the data."""
    dataset = ImageFolderDataset(data, use_labels=True, use_classes=True)
    real = real_features(dataset)
    rows = rows_of("real", [some[::2] for some in real], [some[1::2] for some in real])
    for name, path in runs.items():
        model = eg3d.load(path if path.is_file() else find_snapshots(path)[-1])
        if model.num_classes != len(real):
            raise ValueError(
                f"{path}: has {model.num_classes} classes, {data} has {len(real)}; must be as many"
            )
        rows += rows_of(name, generated_features(model, dataset, samples), real)
    return rows


def _statistics(rows: torch.Tensor) -> FeatureStatistics:
    found = FeatureStatistics(rows.shape[1])
    found.append(rows)
    return found


@click.command()
@click.option(
    "--run", "runs", multiple=True, required=True, callback=named_runs, help="NAME=DIR or NAME=FILE"
)
@click.option("--data", required=True, help="The runs' dataset")
@click.option("--samples", type=click.IntRange(min=2), default=300, show_default=True)
@click.option("--outdir", help="Where classes.json goes")
def main(runs: dict[str, Path], data: str, samples: int, outdir: str | None) -> None:
    """Compares the classes that models are asked for with those of real pictures."""
    try:
        rows = compare(runs, data, samples)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(table(rows))
    if outdir:
        write_json(Path(outdir) / "classes.json", samples=samples, classes=rows)


if __name__ == "__main__":
    main()
