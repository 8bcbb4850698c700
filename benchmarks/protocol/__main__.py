"""The benchmark protocol: speed, memory and digits of everything, as one table.

python -m benchmarks.protocol [--device=cuda|cpu] [--only=B1,B3] [--minutes=9] [--threads=N]
    [--data=ZIP] [--quick] [--json=out/protocol.json]

B1 pictures, B2 modules, B3 the volume renderer, B4 phases of training, B5 the whole loop, B6 memory
of training, B7 shapes, B8 videos, B9 passes of FID, B10 the loader, B11 the first picture of a new
process, B12 differences from float32, B13 figures of the processor.

Networks are FFHQ-512's with random weights, on a CPU the demo's where they are trained. Inputs are
new each time, results are checked to be finite. A GPU has 5 warm-ups and the median of 20 by its
own clock, a CPU 1 and 5; fewer where a row would take too long, see the column `repeats`. `TFLOP/s`
are of products and convolutions, `GB/s` of the operators' tensors; `floor` and `target` are an
H200's and in the unit of the row, `plain` is the same figure without kernels. Rows come in the
order of their worth; what is not begun after `--minutes` is left out, and a row that fails says
why.
"""

import math
import sys
import tempfile
import time
from pathlib import Path

import click
import torch

from benchmarks.common import machine, table, write_json
from benchmarks.protocol.exactness import b12, b13
from benchmarks.protocol.inputs import Inputs
from benchmarks.protocol.measuring import Protocol, in_one_line
from benchmarks.protocol.pictures import b1, b2
from benchmarks.protocol.surroundings import b9, b10, b11
from benchmarks.protocol.training_steps import b4, b5, b6
from benchmarks.protocol.volumes import b3, b7, b8
from torch_utils.ops.choice import triton_problem
from training.dataset import ImageFolderDataset

# The most valuable first.
BENCHMARKS = dict(B1=b1, B3=b3, B4=b4, B5=b5, B6=b6, B2=b2, B12=b12, B7=b7, B8=b8, B11=b11)
BENCHMARKS |= dict(B9=b9, B10=b10, B13=b13)


def about(device: torch.device) -> dict[str, object]:
    """What the figures depend on besides `machine()`."""
    found: dict[str, object] = dict(device=device.type)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = properties.name
        found["gpu_gb"] = round(properties.total_memory / 1e9)
        found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
        found["triton"] = triton_problem() or sys.modules["triton"].__version__
    return found


def run(protocol: Protocol, names: list[str], path: str | None) -> None:
    """Measures, and writes the file after each benchmark: a run may be cut off."""
    for name in names:
        protocol.benchmark = name
        try:
            BENCHMARKS[name](protocol)
        except Exception as error:  # the others go on
            protocol.leave_out("all that is left", in_one_line(error))
        if path:
            rows = [row.cells() for row in protocol.rows]
            write_json(path, about=about(protocol.device), quick=protocol.quick, rows=rows)


def _chosen(context, parameter, value: str | None) -> list[str]:
    names = list(BENCHMARKS) if value is None else value.upper().replace(" ", "").split(",")
    for name in names:
        if name not in BENCHMARKS:
            raise click.BadParameter(f"'{name}' must be one of B1 to B{len(BENCHMARKS)}")
    return [name for name in BENCHMARKS if name in names]


@click.command()
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="Default: a GPU if there is one")
@click.option("--only", callback=_chosen, help="Such as B1,B3.  [default: all]")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="After which no row is begun.  [default: 9 on a GPU, no limit on a CPU]",
)
@click.option("--quick", is_flag=True, help="Tiny networks, everything once: whether it runs.")
@click.option("--threads", type=click.IntRange(min=1), help="Default: what torch chooses.")
@click.option("--data", help="Data set of B4, B5, B6, B9, B10.  [default: toy cars are made]")
@click.option("--json", "path", help="Also write the rows to this file.")
def main(device, only, minutes, quick, threads, data, path) -> None:
    """Measures, prints rows as they come, and a table of all of them at the end."""
    if device == "cuda" and not torch.cuda.is_available():
        raise click.BadParameter("there is no CUDA device; use cpu", param_hint="--device")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(device, 0 if device == "cuda" else None)
    if threads:
        torch.set_num_threads(threads)
    _check(data, path)
    if minutes is None:
        minutes = 9 if device.type == "cuda" else math.inf
    deadline = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder:
        inputs = Inputs(Path(folder), data, quick)
        protocol = Protocol(device, quick, inputs, _print, deadline)
        run(protocol, only, path)
    facts = machine() | about(device)
    click.echo("\n" + ", ".join(f"{key} {value}" for key, value in facts.items()))
    cells = [row.cells() for row in protocol.rows]
    click.echo(table([{k: "" if v is None else v for k, v in row.items()} for row in cells]))


def _check(data: str | None, path: str | None) -> None:
    """What is wrong with files shows now, not minutes later."""
    try:
        if data:
            ImageFolderDataset(data, use_labels=True).close()
        if path:
            write_json(path, rows=[])
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
