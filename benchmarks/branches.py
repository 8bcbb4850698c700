"""Time and memory of one picture of 512 pixels by both branches of Mimic3D, and by EG3D, part by
part: full size, random weights, no gradients.

python -m benchmarks.branches [--repeats=1] [--chunk=16384] [--json=out/branches.json]
"""

from collections.abc import Callable

import click
import torch

from benchmarks.common import faces_512, machine, table, timed, write_json
from benchmarks.generator_cpu import face_camera
from eg3d.model import Model
from torch_utils.memory_count import LiveBytes
from training.cameras import Camera
from training.mimic3d.generator import DualTriPlaneGenerator
from training.presets import PRESETS
from training.triplane import TriPlaneGenerator
from training.views import FullView
from training.volumetric_rendering.draws import FixedDraws

MB = 1e6
BRANCHES = ("2d", "3d")


def both_branches_512(seed: int = 0) -> DualTriPlaneGenerator:
    """Mimic3D's generator of FFHQ-512 at full size with random weights, for inference."""
    torch.manual_seed(seed)
    generator = DualTriPlaneGenerator(
        z_dim=512,
        c_dim=25,
        w_dim=512,
        img_resolution=512,
        img_channels=3,
        sr_num_fp16_res=4,
        mapping_kwargs=dict(num_layers=2),
        rendering_kwargs=dict(
            superresolution_module="training.superresolution.SuperresolutionHybrid8XDC",
            superresolution_noise_mode="none",
            sr_antialias=True,
            c_gen_conditioning_zero=False,
            c_scale=1,
            clamp_mode="softplus",
            disparity_space_sampling=False,
            **PRESETS["ffhq"].rendering,
        ),
        num_fp16_res=0,
        conv_clamp=None,
        fused_modconv_default="inference_only",
    )
    return generator.eval().requires_grad_(False)


def parts(generator: TriPlaneGenerator, name: str, chunk: int) -> dict[str, Callable[[], object]]:
    """The parts of a picture of what a generator shows, and the whole of it, as functions.

    chunk: rays that are rendered at a time.
    """
    c = face_camera()
    ws = generator.mapping(torch.randn(1, generator.z_dim), c)
    planes = generator.planes(ws, noise_mode="const")
    side = generator.usual_side()
    rays = FullView(side).rays(Camera.from_label(c))
    features = torch.randn(1, 32, side, side)

    def backbone():
        return generator.planes(ws, noise_mode="const")

    def renderer():
        return generator.march(planes, *rays, None, FixedDraws(), chunk)

    def superresolution():
        return generator.superresolution(features[:, :3].clone(), features, ws, noise_mode="none")

    def picture():
        own = dict(draws=FixedDraws(), chunk=chunk, noise_mode="const")
        return generator.render(backbone(), ws, c, **own)["image"]

    functions = {"planes": backbone, "renderer": renderer}
    if side < generator.img_resolution:
        functions["super-resolution"] = superresolution
    functions["picture"] = picture
    return {f"{name}, {side}: {part}": function for part, function in functions.items()}


def megabytes(function: Callable[[], object]) -> int:
    """MB of tensors that a call makes and has at once, at most."""
    with LiveBytes() as live:
        function()
    return round(live.peak / MB)


def measure(
    eg3d: TriPlaneGenerator, mimic3d: DualTriPlaneGenerator, chunk: int, repeats: int
) -> list[dict]:
    """Rows of MB and of the shortest seconds of the parts of both branches and of EG3D."""
    functions = parts(eg3d, "EG3D", chunk)
    for branch in BRANCHES:
        shown = Model.of(mimic3d).showing(branch=branch).generator
        functions |= parts(shown, f"Mimic3D {branch}", chunk)
    memory = {name: megabytes(function) for name, function in functions.items()}
    # Those calls were the warm-up.
    seconds = timed(functions, repeats, warmup=0)
    return [dict(part=n, MB=memory[n], seconds=min(seconds[n])) for n in functions]


@click.command()
@click.option("--repeats", default=1, type=click.IntRange(min=1), show_default=True)
@click.option("--chunk", default=2**14, type=click.IntRange(min=1), show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: what torch chooses.")
@click.option("--json", "path", help="Also write all measurements to this file.")
@torch.no_grad()
def main(repeats: int, chunk: int, threads: int | None, path: str | None) -> None:
    """Measures planes, renderer, super-resolution and whole pictures, in turns, on the CPU."""
    if threads:
        torch.set_num_threads(threads)
    rows = measure(faces_512(), both_branches_512(), chunk, repeats)
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(f"seconds of one picture, MB of tensors at once\n\n{table(rows)}")
    if path:
        write_json(path, chunk=chunk, rows=rows)


if __name__ == "__main__":
    main()
