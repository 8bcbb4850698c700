"""How a model learns the procedural cars: distance to the real pictures and depth, by snapshot.

python -m benchmarks.learning --run-dir=runs/00000-demo-cars --data=cars.zip
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import torch

import eg3d
from benchmarks.common import table, write_json
from dataset_preprocessing import procedural
from metrics.frechet import FeatureStatistics, frechet_distance
from metrics.random_features import RandomConvFeatures
from metrics.true_geometry import compare_depths
from training.cameras import Camera
from training.dataset import Dataset, ImageFolderDataset

OPAQUE = 0.5  # opacity above which a pixel shows the car
_BATCH = 50
_SPLITS = 8


class Judge:
    """Measures snapshots with the same latents, cameras and real pictures.

    Args:
        dataset: the pictures that the model learns, of the procedural dataset.
        samples: fake pictures of a snapshot; conditioned on and rendered from real cameras.
        depth_maps: how many of them are compared with depth maps of other cars, seen by the same
            cameras; the maps also give the range of true depths.
        seed: chooses cameras, halves of the real pictures and the cars of the depth maps; latents
            are those of the seeds 0 to samples - 1.
    """

    def __init__(self, dataset: Dataset, samples: int = 1000, depth_maps: int = 300, seed: int = 0):
        self.samples = samples
        self.depth_maps = min(depth_maps, samples)
        self.seed = seed
        random = np.random.RandomState(seed)
        picks = random.randint(len(dataset), size=samples)
        self.labels = torch.from_numpy(np.stack([dataset.get_label(i) for i in picks]))
        self._features = RandomConvFeatures()
        pictures = np.stack([dataset[i][0] for i in range(len(dataset))])
        self._pictures = torch.from_numpy(pictures).split(_BATCH)
        self._real_features = torch.cat([self._features(batch) for batch in self._pictures])
        self._real = _statistics(self._real_features)
        self._true_depths: dict[int, np.ndarray] = {}

    def references(self, side: int) -> dict[str, float | str]:
        """What to compare the numbers of `measure` with; depth maps have `side` pixels.

        Distances: between halves of the real pictures (the floor), of the real pictures without
        colours, and of a model that shows their mean and nothing else. Depth: its true range, and
        what other true cars, and the mean depth everywhere, would get.
        """
        random = np.random.RandomState(self.seed)
        floors = []
        for _ in range(_SPLITS):
            halves = torch.from_numpy(random.permutation(len(self._real_features))).chunk(2)
            floors.append(frechet_distance(*(_statistics(self._real_features[h]) for h in halves)))
        mean = sum(batch.sum(0) for batch in self._pictures) / len(self._real_features)
        grey = (batch.float().mean(1, keepdim=True).to(torch.uint8) for batch in self._pictures)
        true = self.true_depths(side)
        other = _true_depths(self.labels[: self.depth_maps], side, self.seed + 1)
        flat = np.where(np.isfinite(true), true[np.isfinite(true)].mean(), np.inf)
        return {
            "features": self._features.name,
            "distance of real halves": float(np.mean(floors)),
            "distance of grey pictures": self._distance(grey),
            "distance of mean picture": self._distance([mean.to(torch.uint8).unsqueeze(0)]),
            **{f"true depth {k}": v for k, v in zip(("from", "to"), _range(true), strict=True)},
            **{f"{k}, other cars": v for k, v in compare_depths(other, true).items()},
            **{f"{k}, flat": v for k, v in compare_depths(flat, true).items()},
        }

    def true_depths(self, side: int) -> np.ndarray:
        """Depth maps [depth_maps, side, side] of random cars at the first fakes' cameras; inf on
        the background."""
        if side not in self._true_depths:
            labels = self.labels[: self.depth_maps]
            self._true_depths[side] = _true_depths(labels, side, self.seed)
        return self._true_depths[side]

    def measure(self, snapshot: str | Path) -> dict[str, float | str | None]:
        """A row of the curve: distance to all real pictures, and of depth where the car is opaque:
        share of pixels, share of them inside the range of true depths, mean absolute error and
        correlation as of `compare_depths`; None where nothing is opaque."""
        model = eg3d.load(snapshot)
        pictures, depths = [], []
        for view in self._fakes(model):
            pictures.append((view.image * 127.5 + 128).clamp(0, 255).to(torch.uint8))
            depth = torch.where(view.opacity > OPAQUE, view.depth, torch.inf)
            depths.append(depth[:, 0].cpu().numpy())
        depth = np.concatenate(depths)
        opaque = np.isfinite(depth)
        true = self.true_depths(depth.shape[-1])
        low, high = _range(true)
        inside = (low <= depth) & (depth <= high)
        return {
            "snapshot": Path(snapshot).name,
            "kimg": int(Path(snapshot).stem.rpartition("-")[2]),
            "distance": self._distance(pictures),
            "opaque": float(opaque.mean()),
            "inside": float(inside[opaque].mean()) if opaque.any() else None,
            **compare_depths(depth[: len(true)], true),
        }

    def _distance(self, batches: Iterable[torch.Tensor]) -> float:
        """Distance of batches of pictures to all real ones."""
        return frechet_distance(self._features.statistics(batches), self._real)

    @torch.no_grad()
    def _fakes(self, model: eg3d.Model) -> Iterator[eg3d.Rendering]:
        z = model.latents(range(self.samples)).split(_BATCH)
        for batch, labels in zip(z, self.labels.split(_BATCH), strict=True):
            camera = Camera.from_label(labels.to(model.device))
            yield model.scenes_of(model.mapping(batch, camera)).render(camera)


def find_snapshots(run_dir: str | Path) -> list[Path]:
    """The snapshots of a run, oldest first. Raises FileNotFoundError where there are none."""
    found = sorted(Path(run_dir).glob("network-snapshot-*.pkl"))
    if not found:
        raise FileNotFoundError(f"{run_dir}: no network-snapshot-*.pkl; must be a run of train.py")
    return found


def learning_curve(judge: Judge, snapshots: Sequence[Path]) -> tuple[list[dict], dict]:
    """A row of `Judge.measure` for each snapshot, and what to compare the rows with."""
    rows = [judge.measure(snapshot) for snapshot in snapshots]
    last = eg3d.load(snapshots[-1])
    return rows, judge.references(last.generator.neural_rendering_resolution)


def report(rows: list[dict], references: dict) -> str:
    """The results of `learning_curve` as two Markdown tables."""
    values = [{"reference": name, "value": value} for name, value in references.items()]
    return f"{table(rows)}\n\n{table(values)}"


def draw_curve(rows: list[dict], references: dict, path: Path) -> bool:
    """Draws distance by kimg on a logarithmic scale; False where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogy([r["kimg"] for r in rows], [r["distance"] for r in rows], "o-", label="G_ema")
    for name, style in (("mean picture", "--"), ("grey pictures", "-."), ("real halves", ":")):
        axes.axhline(references[f"distance of {name}"], ls=style, color="grey", label=name)
    axes.set(xlabel="kimg", ylabel=f"Fréchet distance, {references['features']}")
    axes.legend()
    figure.savefig(path, dpi=120)
    return True


def _statistics(features: torch.Tensor) -> FeatureStatistics:
    statistics = FeatureStatistics(features.shape[1])
    statistics.append(features)
    return statistics


def _true_depths(labels: torch.Tensor, side: int, seed: int) -> np.ndarray:
    cars = (procedural.sample_car(np.random.default_rng([seed, i])) for i in range(len(labels)))
    views = zip(cars, labels.numpy(), strict=True)
    return np.stack([procedural.render_car(car, c, side, samples=1).depth for car, c in views])


def _range(depths: np.ndarray) -> tuple[float, float]:
    seen = depths[np.isfinite(depths)]
    return float(seen.min()), float(seen.max())


@click.command()
@click.option("--run-dir", required=True, help="Run of train.py, with its snapshots")
@click.option("--data", required=True, help="The run's dataset, made by the procedural package")
@click.option("--samples", type=click.IntRange(min=2), default=1000, show_default=True)
@click.option("--depth-maps", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--outdir", help="Where learning.json and learning.png go  [default: the run]")
def main(run_dir, data, samples, depth_maps, seed, outdir) -> None:
    """Distance to the real pictures and depth of each snapshot of a run on procedural cars."""
    try:
        snapshots = find_snapshots(run_dir)
        judge = Judge(ImageFolderDataset(data, use_labels=True), samples, depth_maps, seed)
        rows, references = learning_curve(judge, snapshots)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(report(rows, references))
    outdir = Path(outdir or run_dir)
    write_json(outdir / "learning.json", samples=samples, references=references, snapshots=rows)
    click.echo(f"\nwrote {outdir / 'learning.json'}")
    if draw_curve(rows, references, outdir / "learning.png"):
        click.echo(f"wrote {outdir / 'learning.png'}")
    else:
        click.echo("no picture of the curve: matplotlib is missing (pip install 'eg3d-open[docs]')")


if __name__ == "__main__":
    main()
