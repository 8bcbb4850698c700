"""Whether training with Triton's kernels and with their plain twins is the same.

python -m benchmarks.parity --data=cars.zip [--seeds=0,1,2] [--iterations=10]
    [--warmup=0] [--ways=torch,perturbed,triton] [--full] [--json=out/parity.json]
    [--figure=out/parity.png]

Trains the same networks by the same pictures, latents and cameras in several ways. `torch`: the
plain twins, with which the others are compared. `perturbed`: the twins once more, but all weights
are changed at first by as much as rounding changes a number: how fast the curves part from there
says what to expect of any other order of summation. `triton`: the kernels, whose launches are
counted.

Adam's first steps have nearly one length for every weight, whatever its gradient: where that is all
rounding, so is the sign of the step, and curves part within two iterations. After `--warmup`
iterations by the twins, which all ways share, they stay together for longer. A gradient still
jumps where a ReLU changes its side, which some changes of rounding do and others do not: therefore
`perturbed` is tried with several.

Without a GPU kernels run in Triton's interpreter, which takes 40 seconds for an iteration of the
smallest networks. With one, `--full` trains the demo preset as it is.
"""

import itertools
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
import torch

from benchmarks.common import machine, table, write_json
from benchmarks.parity_runs import WAYS, Judge, Run, Trainings
from torch_utils.ops.choice import why_not_triton
from training.dataset import ImageFolderDataset

ROUNDING = {"cpu": 1e-7, "cuda": 5e-4}  # relative; on a GPU some blocks are in half precision
FIRST = {"cpu": 1e-4, "cuda": 2e-2}  # largest difference in the first iteration
EARLY, SLACK = 3, 3  # so many iterations may differ by this times what `perturbed` differs by
KERNELS = ("epilogue", "upfirdn2d", "triplane", "render", "render_importance")  # *_triton.py


def difference(run: Run, reference: Run) -> list[float]:
    """Of each iteration the largest relative difference of a loss or a norm; infinite where one of
    the two runs has a number that the other lacks or that is not finite."""
    return [
        max((_relative(ours.get(k), theirs.get(k)) for k in {*ours, *theirs}), default=math.inf)
        for ours, theirs in zip(run.values, reference.values, strict=True)
    ]


def _relative(a: float | None, b: float | None) -> float:
    if a is None or b is None or not math.isfinite(a + b):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b)) if a != b else 0.0


def curves(runs: Sequence[Run]) -> dict[str, list[float]]:
    """Of each way but `torch` the `difference` by iteration, the largest of all seeds."""
    references = {run.seed: run for run in runs if run.way == "torch"}
    found: dict[str, list[list[float]]] = {}
    for run in runs:
        if run.way != "torch":
            found.setdefault(run.way, []).append(difference(run, references[run.seed]))
    return {way: [max(each) for each in zip(*rows, strict=True)] for way, rows in found.items()}


def noise(runs: Sequence[Run]) -> float:
    """How far two means of the last distance lie apart by chance: twice the standard error of their
    difference, from the spread of the seeds of `torch`; NaN for one seed."""
    last = [run.distances[-1][1] for run in runs if run.way == "torch"]
    return 2 * statistics.stdev(last) * math.sqrt(2 / len(last)) if len(last) > 1 else math.nan


def mean_distance(runs: Sequence[Run], way: str) -> float:
    """Of the last pictures, over the seeds."""
    return statistics.mean(run.distances[-1][1] for run in runs if run.way == way)


def problems(runs: Sequence[Run], device: str) -> list[str]:
    """What speaks against the ways being the same, a line each."""
    found, apart = [], curves(runs)
    for run in runs:
        launched = {name.partition(".")[0].removesuffix("_triton") for name in run.launches}
        wrong = {*KERNELS} - launched if run.way == "triton" else launched
        if wrong:
            word = "no" if run.way == "triton" else "there were"
            names = ", ".join(sorted(wrong))
            found.append(f"{run.way}, seed {run.seed}: {word} launches of kernels of {names}")
    rounding = apart.get("perturbed", [])
    for k, of_kernels in enumerate(apart.get("triton", [])[:EARLY]):
        allowed = max([FIRST[device], *(SLACK * x for x in rounding[k : k + 1])])
        if not of_kernels <= allowed:
            found.append(
                f"iteration {k + 1}: kernels and twins differ by {of_kernels:.1e}; "
                f"rounding allows {allowed:.1e}"
            )
    if "triton" in apart:
        shift, allowed = mean_distance(runs, "triton") - mean_distance(runs, "torch"), noise(runs)
        if abs(shift) > allowed:
            found.append(f"distance at the end differs by {shift:.3g}; seeds by {allowed:.3g}")
    return found


def report(runs: Sequence[Run]) -> str:
    """Distances, differences by iteration and launches as Markdown tables."""
    apart = curves(runs)
    rows = [
        {
            "way": run.way,
            "seed": run.seed,
            "launches": sum(run.launches.values()),
            "seconds": round(run.seconds),
            **{f"distance, {images} images": value for images, value in run.distances},
        }
        for run in runs
    ]
    steps = len(runs[0].values)
    shown = sorted({0, 1, 2, *(round(2**k) for k in range(2, 20)), steps - 1} & set(range(steps)))
    differences = [
        {"iteration": k + 1, **{way: f"{line[k]:.1e}" for way, line in apart.items()}}
        for k in shown
    ]
    kernels = {name: n for run in runs for name, n in run.launches.items()}
    launches = [{"kernel": name, "launches of a run": n} for name, n in sorted(kernels.items())]
    return "\n\n".join(table(rows) for rows in (rows, differences, launches) if rows)


def draw(runs: Sequence[Run], path: Path) -> bool:
    """Draws differences and distances; False where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(10, 4), layout="constrained")
    apart, learned = figure.subplots(1, 2)
    for way, line in curves(runs).items():
        apart.semilogy(range(1, len(line) + 1), line, label=way)
    apart.set(xlabel="iteration", ylabel="relative difference from torch")
    for run in runs:
        style = dict(zip(WAYS, ("-", ":", "--"), strict=True))[run.way]
        learned.plot(*zip(*run.distances, strict=True), style, color=f"C{run.seed % 10}")
    learned.set(xlabel="images", ylabel="Fréchet distance; torch -, perturbed :, triton --")
    apart.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return True


def _seeds(context, parameter, text: str) -> list[int]:
    try:
        seeds = [int(word) for word in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len({*seeds}) < len(seeds):
        raise click.BadParameter(f"{text!r} must be different whole numbers, such as 0,1,2")
    return seeds


def _ways(context, parameter, text: str) -> list[str]:
    ways = text.split(",")
    if "torch" not in ways or not {*ways} <= {*WAYS} or len({*ways}) < len(ways):
        raise click.BadParameter(f"{text!r} must be torch and others of {','.join(WAYS)}")
    return [way for way in WAYS if way in ways]


@click.command()
@click.option("--data", required=True, help="Dataset: cars of dataset_preprocessing.procedural")
@click.option("--seeds", callback=_seeds, default="0,1,2", show_default=True)
@click.option("--ways", callback=_ways, default=",".join(WAYS), show_default=True)
@click.option("--full", is_flag=True, help="The demo preset as it is; needs a GPU for kernels")
@click.option(
    "--iterations", type=click.IntRange(min=1), help="[default: 10; those of the preset if --full]"
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Iterations by the twins before the ways part",
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    help="Changes of the weights that are tried for perturbed  [default: 8; 1 if --full]",
)
@click.option("--samples", type=click.IntRange(min=2), default=256, show_default=True)
@click.option("--points", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--json", "path", help="Also write all numbers to this file, after every run")
@click.option("--figure", help="Also draw them")
def main(data, seeds, ways, full, warmup, iterations, draws, samples, points, path, figure) -> None:
    """Trains with plain operators and with kernels, and compares. Exit status 1: not the same."""
    has_gpu = torch.cuda.is_available()
    if "triton" in ways:
        if not has_gpu:
            os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
        if full and not has_gpu:
            raise click.UsageError("--full with kernels needs a GPU; leave out --full or triton")
        if problem := why_not_triton():
            raise click.ClickException(f"--ways=triton: {problem}")
    device, runs = "cuda" if has_gpu else "cpu", []
    try:
        judge = Judge(ImageFolderDataset(data, use_labels=True), samples)
        steps = iterations or (None if full else 10)
        trainings = Trainings(data, full, warmup, steps, judge, points, ROUNDING[device])
        for seed, way in itertools.product(seeds, ways):
            for number in range((draws or (1 if full else 8)) if way == "perturbed" else 1):
                run = trainings.run(way, seed, number)
                runs.append(run)
                click.echo(f"{run.way}, seed {run.seed}: {run.seconds:.0f} seconds", err=True)
                if path:
                    write_json(path, runs=[asdict(run) for run in runs])
    except (OSError, ValueError, ArithmeticError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(f"\n{report(runs)}\n")
    if figure and not draw(runs, Path(figure)):
        click.echo("no figure: matplotlib is missing (pip install 'eg3d-open[docs]')")
    found = problems(runs, device)
    for line in found:
        click.echo(line, err=True)
    if found:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
