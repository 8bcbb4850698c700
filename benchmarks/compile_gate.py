"""Registers, spills, shared memory and widths of memory accesses of all Triton kernels, for GPUs
that need not be there.

python -m benchmarks.compile_gate [--arch=80,90,100] [--only=WORDS] [--json=out/compile.json]
"""

import os
import sys
import time
from dataclasses import asdict

os.environ.pop("TRITON_INTERPRET", None)  # kernels are to be compiled, whatever tests run in

import click

from benchmarks.common import machine, table, write_json
from torch_utils.ops.choice import triton_problem
from torch_utils.ops.compile_gate import ARCHITECTURES, all_cases, compile_case


@click.command()
@click.option("--arch", default=",".join(map(str, ARCHITECTURES)), show_default=True)
@click.option("--only", default="", help="Cases whose name contains this.")
@click.option("--json", "path", help="Also write the counts to this file.")
def main(arch: str, only: str, path: str | None):
    """Compiles every kernel in its shipped configurations; exit status 1 where one spills."""
    problem = triton_problem()
    if problem is not None:
        raise click.ClickException(f"needs Triton: {problem}")
    cases = [case for case in all_cases() if only in case.name]
    if not cases:
        raise click.ClickException(f"--only={only}: no kernel has that in its name")
    rows = []
    for case in cases:
        for architecture in map(int, arch.split(",")):
            start = time.perf_counter()
            usage = asdict(compile_case(case, architecture))
            row = {"kernel": case.name, "sm": architecture, "warps": case.num_warps, **usage}
            rows.append(row | {"seconds": time.perf_counter() - start})
    click.echo(f"triton {sys.modules['triton'].__version__}, {machine()['cpu']}")
    click.echo(table(rows))
    if path:
        write_json(path, triton=sys.modules["triton"].__version__, rows=rows)
    spilling = [f"{row['kernel']} (sm_{row['sm']})" for row in rows if row["spills"]]
    if spilling:
        raise click.ClickException(f"spills: {', '.join(spilling)}")


if __name__ == "__main__":
    main()
