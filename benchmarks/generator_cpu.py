"""Seconds and memory of one full-size FFHQ-512 picture on the CPU, part by part, in float32 and,
where the CPU has it, with convolutions in bfloat16 (`gen_samples.py --bf16`).

python -m benchmarks.generator_cpu [--repeats=9] [--threads=2] [--json=out/generator_cpu.json]
"""

from collections.abc import Callable

import click
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
from torch_utils.ops.conv2d_gradfix import bfloat16_convolutions, has_bfloat16
from training.cameras import look_at
from training.triplane import TriPlaneGenerator
from training.volumetric_rendering.draws import FixedDraws

FACE_INTRINSICS = (4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1)


def face_camera() -> torch.Tensor:
    """The frontal camera label [1, 25] of FFHQ."""
    pose = look_at(torch.tensor([[0.0, 0.0, 2.7]]), (0.0, 0.0, 0.2))
    return torch.cat([pose.flatten(1), torch.tensor([FACE_INTRINSICS])], dim=1)


def parts(generator: TriPlaneGenerator, side: int) -> dict[str, Callable[[], torch.Tensor]]:
    """The three parts of a picture rendered at side x side, a picture of planes that are there, and
    a whole one, as functions without arguments."""
    c = face_camera()
    ws = generator.mapping(torch.randn(1, generator.z_dim), c)
    planes = generator.planes(ws, noise_mode="const")
    pose, lens = c[:, :16].unflatten(1, (4, 4)), c[:, 16:].unflatten(1, (3, 3))
    rays = generator.ray_sampler(pose, lens, side)
    features = torch.randn(1, 32, side, side)

    def backbone():
        return generator.planes(ws, noise_mode="const")

    def renderer():
        return generator.renderer(planes, generator.decoder, *rays, generator.rendering_kwargs)

    def superresolution():
        raw = features[:, :3].clone()
        return generator.superresolution(raw, features, ws, noise_mode="none")

    def cached():
        view = generator.render(planes, ws, c, side, FixedDraws(), noise_mode="const")
        return view["image"]

    def picture():
        view = generator.render(backbone(), ws, c, side, FixedDraws(), noise_mode="const")
        return view["image"]

    return {
        f"backbone {side}": backbone,
        f"renderer {side}": renderer,
        f"super-resolution {side}": superresolution,
        f"planes given {side}": cached,
        f"picture {side}": picture,
    }


def rounded(function: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """The function with convolutions in bfloat16."""

    def call():
        with bfloat16_convolutions():
            return function()

    return call


@torch.inference_mode()
def megabytes(side: int, bf16: bool) -> float:
    """By how much a new process grows while it makes a picture."""
    work = parts(faces_512(), side)[f"picture {side}"]
    return most_megabytes(rounded(work) if bf16 else work)


@click.command()
@click.option("--sides", default="64,128", help="Sides of the rendering.", show_default=True)
@click.option("--repeats", default=9, type=click.IntRange(min=2), show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: what torch chooses.")
@click.option("--json", "path", help="Also write all measurements to this file.")
@torch.inference_mode()
def main(sides: str, repeats: int, threads: int | None, path: str | None):
    """Measures backbone, renderer, super-resolution and whole pictures, in turns."""
    if threads:
        torch.set_num_threads(threads)
    generator, functions = faces_512(), {}
    for side in map(int, sides.split(",")):
        functions |= parts(generator, side)
    precisions = {"float32": lambda function: function}
    if has_bfloat16():
        precisions["bfloat16"] = rounded
    runs = {(n, p): change(f) for n, f in functions.items() for p, change in precisions.items()}
    seconds = timed(runs, repeats)
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    rows = [dict(part=n, convolutions=p, **quartiles(seconds[n, p])) for n, p in runs]
    click.echo(table(rows))
    whole = [(int(side), p) for side in sides.split(",") for p in precisions]
    memory = [
        dict(
            picture=side,
            convolutions=p,
            megabytes=round(in_new_process(megabytes, side, p == "bfloat16")),
        )
        for side, p in whole
    ]
    click.echo("\n" + table(memory))
    if "bfloat16" in precisions:
        for side, exact in ((s, functions[f"picture {s}"]()) for s in sides.split(",")):
            error = (rounded(functions[f"picture {side}"])() - exact).square().mean().sqrt()
            share = 100 * (error / exact.std()).item()
            click.echo(f"\nbfloat16 against float32 at {side}: {share:.2f} % of the deviation")
    if path:
        write_json(path, rows=rows, memory=memory)


if __name__ == "__main__":
    main()
