"""Seconds for one full-size FFHQ-512 picture on the CPU, part by part.

python -m benchmarks.generator_cpu [--repeats=9] [--threads=2] [--json=out/generator_cpu.json]
"""

import click
import torch

from benchmarks.common import faces_512, machine, quartiles, table, timed, write_json
from training.cameras import look_at
from training.triplane import TriPlaneGenerator

FACE_INTRINSICS = (4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1)


def face_camera() -> torch.Tensor:
    """The frontal camera label [1, 25] of FFHQ."""
    pose = look_at(torch.tensor([[0.0, 0.0, 2.7]]), (0.0, 0.0, 0.2))
    return torch.cat([pose.flatten(1), torch.tensor([FACE_INTRINSICS])], dim=1)


def parts(generator: TriPlaneGenerator, side: int) -> dict:
    """The three parts of a picture rendered at side x side, as functions without arguments."""
    c = face_camera()
    ws = generator.mapping(torch.randn(1, generator.z_dim), c)
    planes = generator.planes(ws, noise_mode="const")
    pose, lens = c[:, :16].unflatten(1, (4, 4)), c[:, 16:].unflatten(1, (3, 3))
    rays = generator.ray_sampler(pose, lens, side)
    features = torch.randn(1, 32, side, side)

    def backbone():
        generator.planes(ws, noise_mode="const")

    def renderer():
        generator.renderer(planes, generator.decoder, *rays, generator.rendering_kwargs)

    def superresolution():
        raw = features[:, :3].clone()
        generator.superresolution(raw, features, ws, noise_mode="none")

    def picture():
        generator.synthesis(ws, c, neural_rendering_resolution=side, noise_mode="const")

    functions = (backbone, renderer, superresolution, picture)
    return {f"{function.__name__} {side}": function for function in functions}


@click.command()
@click.option("--sides", default="64,128", help="Sides of the rendering.", show_default=True)
@click.option("--repeats", default=9, type=click.IntRange(min=2), show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: what torch chooses.")
@click.option("--json", "path", help="Also write all measurements to this file.")
@torch.inference_mode()
def main(sides: str, repeats: int, threads: int | None, path: str | None):
    """Measures backbone, renderer, super-resolution and the whole picture, in turns."""
    if threads:
        torch.set_num_threads(threads)
    generator = faces_512()
    functions = {}
    for side in sides.split(","):
        functions |= parts(generator, int(side))
    seconds = timed(functions, repeats)
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(table([dict(part=name, **quartiles(s)) for name, s in seconds.items()]))
    if path:
        write_json(path, seconds=seconds)


if __name__ == "__main__":
    main()
