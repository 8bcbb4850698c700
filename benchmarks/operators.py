"""Milliseconds of each operator with kernels and without, on the device that is there.

python -m benchmarks.operators [--repeats=20] [--small] [--json=out/operators.json]

Without a GPU only the plain versions run. Random numbers, the sizes of FFHQ-512 at a batch of 4
(`--small`: a sixteenth of it). `difference` is the largest between kernel and twin, relative to the
largest value, of outputs and gradients.
"""

import click
import torch

from benchmarks.common import machine, quartiles, table, write_json
from eg3d.operator_trials import difference, timing, trials
from torch_utils.ops.choice import why_not_triton


@click.command()
@click.option("--repeats", default=20, type=click.IntRange(min=2), show_default=True)
@click.option("--small", is_flag=True, help="Sizes for which a CPU takes little time.")
@click.option("--json", "path", help="Also write the measurements to this file.")
def main(repeats: int, small: bool, path: str | None):
    """Times forward passes, and forward passes with their gradients."""
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if has_gpu else "cpu")
    problem = why_not_triton()
    ways = ("torch",) if problem or not has_gpu else ("torch", "triton")
    about = machine() | dict(device=torch.cuda.get_device_name() if has_gpu else "cpu")
    rows, measured = [], []
    for trial in trials(device, small):
        seconds = {way: timing(trial, way, repeats) for way in ways}
        row: dict[str, object] = {"operator": trial.words}
        for index, what in enumerate(("forward", "with gradient")):
            for way, found in seconds.items():
                row[f"{what}, {way}"] = found.medians[index] * 1e3
            if len(ways) == 2:
                plain, kernel = (seconds[way].medians[index] for way in ways)
                row[f"{what}, times"] = plain / kernel
        if len(ways) == 2:
            row["difference"] = f"{difference(trial):.1e}"
        rows.append(row)
        for way, found in seconds.items():
            passes = dict(forward=quartiles(found.forward), both=quartiles(found.both))
            measured.append(dict(operator=trial.words, way=way, **passes))
    click.echo(", ".join(f"{key} {value}" for key, value in about.items()))
    if problem:
        click.echo(f"plain operators only: Triton {problem}")
    click.echo(table(rows))
    if path:
        write_json(path, device=about["device"], milliseconds=rows, seconds=measured)


if __name__ == "__main__":
    main()
