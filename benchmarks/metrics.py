"""How fast metrics are computed: pictures a second of each part, seconds of the final numbers.

python -m benchmarks.metrics --network=RUN [--data=cars.zip] [--detector=PATH|URL|NAME]
    [--pictures=256] [--batch=64] [--batch-gen=N] [--workers=3] [--device=cuda]
    [--json=out/metrics.json]

The final numbers are those of 2,048 normal features of 10,000 pictures a set.
"""

import time
from collections.abc import Callable

import click
import numpy as np
import torch

import dnnlib
from benchmarks.common import machine, table, write_json
from eg3d.measuring import open_subject
from metrics.collecting import Reals, Want, collect, detector_of, reals_kwargs
from metrics.errors import MetricError
from metrics.fakes import Fakes, generate
from metrics.frechet import FeatureStatistics, frechet_distance
from metrics.kernel_distance import kernel_distance
from metrics.options import MetricOptions, unnoticed
from metrics.precision_recall import precision_recall

ROWS, SIZE = 10_000, 2048  # of the features of the final numbers


def measure_passes(options: MetricOptions, pictures: int) -> list[dict[str, float | str]]:
    """Pictures a second: generating, the detector alone, decoding, and both passes as metrics make
    them."""
    want = Want(Fakes(), "inception", pictures)
    reals = Want(Reals(), "inception", pictures)
    dataset = dnnlib.util.construct_class_by_name(**reals_kwargs(options, Reals()))
    count = min(pictures, len(dataset))
    with unnoticed(options):
        detector = detector_of(options, "inception")
        images = generate(options, Fakes(), range(options.batch))
        detector.features(images)  # The first call of a network takes longer.
        parts = {
            "generator": (pictures, lambda: _in_batches(options, pictures)),
            "detector": (options.batch, lambda: detector.features(images)),
            "decoding": (count, lambda: [dataset[i] for i in range(count)]),
            "generated pictures, whole pass": (pictures, lambda: collect(options, [want])),
            "real pictures, whole pass": (count, lambda: collect(options, [reals])),
        }
        rows = []
        for name, (number, work) in parts.items():
            seconds = _seconds(work, options.device)
            rows.append({"part": name, "images/s": number / seconds, "seconds": seconds})
    dataset.close()
    return rows


def measure_formulas(device: torch.device) -> list[dict[str, float | str]]:
    """Seconds of what comes after the passes."""
    random = np.random.RandomState(0)
    real, fake = (
        torch.from_numpy(random.randn(ROWS, SIZE).astype(np.float32)).to(device) for _ in range(2)
    )
    sets = [FeatureStatistics(SIZE), FeatureStatistics(SIZE)]

    def moments() -> None:
        for statistics, rows in zip(sets, (real, fake), strict=True):
            for part in rows.split(64):
                statistics.append(part)

    parts = {
        "sums of both sets": moments,
        "FID": lambda: frechet_distance(*sets),
        "KID": lambda: kernel_distance(real, fake),
        "precision and recall": lambda: precision_recall(real, fake),
    }
    return [{"part": name, "seconds": _seconds(work, device)} for name, work in parts.items()]


def _in_batches(options: MetricOptions, pictures: int) -> None:
    for start in range(0, pictures, options.batch):
        generate(options, Fakes(), range(start, min(start + options.batch, pictures)))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


@click.command()
@click.option("--network", required=True, help="Snapshot or run of train.py")
@click.option("--data", help="Real pictures  [default: the training's]")
@click.option("--detector", default="randconv112", show_default=True, help="As of calc_metrics.py")
@click.option("--pictures", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--batch-gen", type=click.IntRange(min=1), help="Default: 32 on a GPU, 8 on a CPU")
@click.option("--workers", type=click.IntRange(min=0), default=3, show_default=True)
@click.option("--device", help="Default: a GPU if there is one")
@click.option("--json", "path", help="Also write all measurements to this file")
def main(network, data, detector, pictures, batch, batch_gen, workers, device, path) -> None:
    """Pictures a second of the passes of metrics, and seconds of their formulas."""
    try:
        subject = open_subject(network, data, device=device)
        options = MetricOptions(
            subject.generator,
            dataset_kwargs=subject.dataset_kwargs,
            networks=dict(inception=detector),
            batch=batch,
            batch_gen=batch_gen,
            workers=workers,
            cache=False,
        )
        rows = measure_passes(options, pictures)
    except (OSError, ValueError, MetricError) as error:
        raise click.ClickException(str(error)) from None
    formulas = measure_formulas(options.device)
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(f"\n{table(rows)}\n\n{ROWS} rows of {SIZE} features\n\n{table(formulas)}")
    if path:
        write_json(path, passes=rows, formulas=formulas)


if __name__ == "__main__":
    main()
