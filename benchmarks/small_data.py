"""Runs on a small dataset side by side: distance to held-out pictures, overfitting, augmentation.

python -m benchmarks.small_data --run=ada=runs/00000-demo-chairs --run=none=runs/00001-demo-chairs \
    --data=chairs.zip --held-out=more_chairs.zip --outdir=out
"""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

import eg3d
from benchmarks.common import named_runs, table, write_json
from benchmarks.learning import find_snapshots
from eg3d.loading import load_network
from metrics.frechet import FeatureStatistics, frechet_distance
from metrics.random_features import RandomConvFeatures
from torch_utils.ops import upfirdn2d
from training.cameras import Camera
from training.dataset import Dataset, ImageFolderDataset
from training.dual_discriminator import filtered_resizing

_BATCH = 50
_OF_D = 8


class Judge:
    """Measures snapshots against pictures that no run has seen, more than a run trains with.

    Args:
        training_set: the runs' dataset.
        held_out: the other pictures. Fakes are conditioned on and rendered from cameras of theirs.
        samples: fakes of a snapshot; their latents are those of the seeds 0 to samples - 1.
    """

    def __init__(self, training_set: Dataset, held_out: Dataset, samples: int = 1000):
        self.samples = samples
        self._trained, self._held_out = _all_of(training_set), _all_of(held_out)
        picks = np.random.RandomState(0).randint(len(held_out), size=samples)
        self._labels = self._held_out[1][picks]
        self._features = RandomConvFeatures()
        self._real = self._statistics(self._held_out[0])
        self.name = self._features.name

    def training_set(self) -> float:
        """Distance of the training set, so of a model that repeats it."""
        return frechet_distance(self._statistics(self._trained[0]), self._real)

    @torch.no_grad()
    def measure(self, snapshot: Path) -> dict[str, float | None]:
        """'kimg', 'distance' of G_ema's pictures, and 'r_v' of D: how far its logits of held-out
        pictures lie from those of the training set towards those of fakes, 0 to 1 (Karras et al.
        2020, StyleGAN2-ADA, equation 1); 1 where D knows the training set by heart, None where
        fakes have the larger logits."""
        model = eg3d.load(snapshot)
        D = load_network(snapshot, "D")
        side = model.generator.neural_rendering_resolution
        views = list(self._fakes(model))
        pictures = torch.cat([(v.image * 127.5 + 128).clamp(0, 255).to(torch.uint8) for v in views])
        raw = torch.cat([view.raw for view in views])
        fake = _mean_logit(D, torch.cat([view.image for view in views]), raw, self._labels)
        trained, held_out = (
            _logit_of_real(D, *pair, side) for pair in (self._trained, self._held_out)
        )
        return {
            "kimg": int(snapshot.stem.rpartition("-")[2]),
            "distance": frechet_distance(self._statistics(pictures), self._real),
            "r_v": (trained - held_out) / (trained - fake) if trained > fake else None,
        }

    def _statistics(self, pictures: Tensor) -> FeatureStatistics:
        return self._features.statistics(pictures.split(_BATCH))

    def _fakes(self, model: eg3d.Model) -> Iterator[eg3d.Rendering]:
        z = model.latents(range(self.samples)).split(_BATCH)
        for latents, labels in zip(z, self._labels.split(_BATCH), strict=True):
            camera = Camera.from_label(labels.to(model.device))
            yield model.scenes_of(model.mapping(latents, camera)).render(camera).to("cpu")


def _all_of(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Pictures uint8 [N, 3, R, R] and labels [N, 25] of a dataset."""
    pictures = np.stack([dataset[i][0] for i in range(len(dataset))])
    labels = np.stack([dataset.get_label(i) for i in range(len(dataset))])
    return torch.from_numpy(pictures), torch.from_numpy(labels)


def _logit_of_real(D: torch.nn.Module, pictures: Tensor, labels: Tensor, side: int) -> float:
    image = pictures.float() / 127.5 - 1
    raw = filtered_resizing(image, side, upfirdn2d.setup_filter([1, 3, 3, 1]))
    return _mean_logit(D, image, raw, labels)


def _mean_logit(D: torch.nn.Module, image: Tensor, raw: Tensor, labels: Tensor) -> float:
    """In batches as small as those of training: D compares the pictures of a batch."""
    whole = len(image) // _OF_D * _OF_D or len(image)
    batches = zip(*(t[:whole].split(_OF_D) for t in (image, raw, labels)), strict=True)
    logits = [D({"image": i, "image_raw": r}, c) for i, r, c in batches]
    return float(torch.cat(logits).mean())


def augmentation(run_dir: Path) -> list[dict]:
    """For every tick of a run its end in 'kimg', the augmentation's strength 'p' at that time, and
    the tick's mean sign 'r_t' of D's logits of real pictures, by which ADA steers."""
    with open(run_dir / "training_stats.jsonl") as file:
        ticks = [json.loads(line) for line in file]
    names = {
        "kimg": "Progress/kimg",
        "p": "Progress/augment",
        "r_t": "Loss/signs/real",
    }
    return [
        {short: tick[long]["mean"] for short, long in names.items()}
        for tick in ticks
        if tick["Progress/tick"]["mean"] > 0  # the first tick is a single iteration
    ]


def report(curves: dict[str, list[dict]], ticks: dict[str, list[dict]]) -> str:
    """Distance and r_v, and r_t and p, of all runs by kimg: two Markdown tables."""
    return "\n\n".join(
        _side_by_side(runs, values)
        for runs, values in ((curves, ("distance", "r_v")), (ticks, ("r_t", "p")))
    )


def _side_by_side(runs: dict[str, list[dict]], values: tuple[str, ...]) -> str:
    rows = {}
    for name, run in runs.items():
        for point in run:
            rows.setdefault(round(point["kimg"]), {}).update(
                {(value, name): point[value] for value in values}
            )
    columns = [(value, name) for value in values for name in runs]
    return table(
        [
            {"kimg": kimg} | {f"{v}, {name}": rows[kimg].get((v, name)) for v, name in columns}
            for kimg in sorted(rows)
        ]
    )


def draw(
    curves: dict[str, list[dict]], ticks: dict[str, list[dict]], level: float, path: Path
) -> bool:
    """Draws distance, r_t and p by kimg; `level` is the training set's own distance. False where
    matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(8, 5), layout="constrained")
    panels = {
        "distance": "Fréchet distance to held-out pictures",
        "r_v": "r_v: held-out pictures look fake to D",
        "r_t": "r_t: mean sign of real logits",
        "p": "p of augmentation",
    }
    for axes, (value, title) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for name in curves:
            run = curves[name] if value in ("distance", "r_v") else ticks[name]
            known = [point for point in run if point[value] is not None]
            axes.plot([q["kimg"] for q in known], [q[value] for q in known], ".-", label=name)
        axes.set(xlabel="kimg", title=title)
        if value == "distance":
            axes.set_yscale("log")
            axes.axhline(level, ls=":", color="grey", label="training set")
            figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=80)
    return True


@click.command()
@click.option("--run", "runs", multiple=True, required=True, callback=named_runs, help="NAME=DIR")
@click.option("--data", required=True, help="The runs' dataset")
@click.option("--held-out", required=True, help="Another dataset of the same kind, not trained on")
@click.option("--samples", type=click.IntRange(min=2), default=1000, show_default=True)
@click.option("--outdir", required=True, help="Where small_data.json and small_data.png go")
def main(runs, data, held_out, samples, outdir) -> None:
    """Compares runs that were trained with the same small dataset."""
    try:
        datasets = (ImageFolderDataset(path, use_labels=True) for path in (data, held_out))
        judge = Judge(*datasets, samples)
        level = judge.training_set()
        curves = {
            name: [judge.measure(snapshot) for snapshot in find_snapshots(path)]
            for name, path in runs.items()
        }
        ticks = {name: augmentation(path) for name, path in runs.items()}
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{report(curves, ticks)}\n\ntraining set: {level:.3g} ({judge.name})")
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    results = dict(samples=samples, training_set=level, curves=curves, ticks=ticks)
    write_json(outdir / "small_data.json", **results)
    if not draw(curves, ticks, level, outdir / "small_data.png"):
        click.echo("no picture: matplotlib is missing (pip install 'eg3d-open[docs]')")


if __name__ == "__main__":
    main()
