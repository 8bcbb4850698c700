"""Seconds and memory for the density of a full-size FFHQ-512 scene on a grid: from tables, which is
what `Scene.volume` does, and by looking up every point.

python -m benchmarks.density_grid [--sides=64,128,256] [--repeats=5] [--threads=2] [--json=FILE]
"""

from functools import partial

import click
import numpy as np
import torch

from benchmarks.common import (
    faces_512,
    in_new_process,
    machine,
    most_megabytes,
    quartiles,
    table,
    timed,
    write_json,
)
from eg3d.scene import Scene
from eg3d.volume import density_volume

WAYS = {"tables": False, "points": True}


def scene_of_noise(seed: int = 0) -> Scene:
    """A scene of the full-size generator. Planes of noise take as long as those of a face."""
    generator = faces_512(seed)
    planes = torch.randn(1, 3, 32, 256, 256, generator=torch.Generator().manual_seed(seed))
    return Scene(planes, torch.zeros(1, 14, 512), generator)


def peak_megabytes(side: int, plain: bool) -> float:
    """By how much this process, which should be a new one, grows while it evaluates a volume."""
    field = scene_of_noise().field
    return most_megabytes(lambda: density_volume(field, side, border=0, plain=plain))


def compare(scene: Scene, side: int, repeats: int) -> list[dict]:
    """One row for each way: seconds, most memory, and the largest difference from the other way as
    a share of the spread of the densities."""
    density = {}

    def evaluate(way: str, plain: bool):
        density[way] = density_volume(scene.field, side, border=0, plain=plain).density

    functions = {way: partial(evaluate, way, plain) for way, plain in WAYS.items()}
    seconds = timed(functions, repeats, warmup=0)
    difference = np.abs(density["tables"] - density["points"]).max() / np.ptp(density["points"])
    return [
        dict(
            side=side,
            way=way,
            **quartiles(seconds[way]),
            megabytes=round(in_new_process(peak_megabytes, side, plain)),
            difference=f"{difference:.1e}",
        )
        for way, plain in WAYS.items()
    ]


@click.command()
@click.option("--sides", default="64,128,256", help="Points a side.", show_default=True)
@click.option("--repeats", default=5, type=click.IntRange(min=2), show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: what torch chooses.")
@click.option("--json", "path", help="Also write all measurements to this file.")
@torch.inference_mode()
def main(sides: str, repeats: int, threads: int | None, path: str | None):
    """Measures both ways in turns, planes given: what the backbone takes is not in it."""
    if threads:
        torch.set_num_threads(threads)
    scene = scene_of_noise()
    rows = [row for side in sides.split(",") for row in compare(scene, int(side), repeats)]
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(table(rows))
    if path:
        write_json(path, rows=rows)


if __name__ == "__main__":
    main()
