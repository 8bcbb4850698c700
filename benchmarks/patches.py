"""What training on patches saves: memory and speed of EpiGRAF's steps, on patches of 64 pixels and
on whole pictures. Memory at the published size is counted on fake tensors; speed is that of a
smaller model.

python -m benchmarks.patches [--sides=128,256,512] [--device=cpu] [--json=out/patches.json]
"""

from dataclasses import dataclass

import click
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.common import machine, table, write_json
from torch_utils import misc
from torch_utils.memory_count import LiveBytes, fake_copies
from training.epigraf.discriminator import PatchDiscriminator
from training.epigraf.generator import EpigrafGenerator
from training.epigraf.loss import EpigrafLoss
from training.epigraf.method import PRESETS
from training.estimate import available_memory
from training.loss import Batch
from training.phases import Phase
from training.rehearsal import noise_batch, rehearse, timed_phases

MB = 1e6
R1_INTERVAL = 16
_SHARE = 0.6  # of free memory that a step that is timed may take by its count


@dataclass(frozen=True)
class Size:
    """Widths of the networks, side of the planes, samples along a ray, coarse and again fine."""

    channel_base: int
    channel_max: int
    planes: int
    samples: int

    def __str__(self) -> str:
        return f"{self.channel_base}/{self.channel_max}"


PUBLISHED = Size(32768, 512, 512, 48)
SMALL = Size(1024, 64, 64, 10)


def networks(size: Size, picture: int, seen: int) -> tuple[EpigrafGenerator, PatchDiscriminator]:
    """G for pictures of `picture` pixels and D for `seen` of them at once, in training mode, with
    random weights."""
    torch.manual_seed(0)
    rendering = dict(
        PRESETS["ffhq"].rendering,
        image_resolution=picture,
        last_delta=1e10,
        depth_resolution=size.samples,
        depth_resolution_importance=size.samples,
    )
    G = EpigrafGenerator(
        z_dim=512,
        c_dim=25,
        w_dim=512,
        img_resolution=picture,
        img_channels=3,
        mapping_kwargs=dict(num_layers=2),
        rendering_kwargs=rendering,
        plane_resolution=size.planes,
        channel_base=size.channel_base,
        channel_max=size.channel_max,
    )
    D = PatchDiscriminator(
        c_dim=0,
        img_resolution=seen,
        num_additional_start_blocks=(picture // seen).bit_length() - 1,
        channel_base=size.channel_base // 2,
        channel_max=size.channel_max,
        num_fp16_res=0,
        head_kwargs=dict(camera_cond=True),
    )
    return G.train().requires_grad_(False), D.train().requires_grad_(False)


def phases(G: EpigrafGenerator, D: PatchDiscriminator) -> list[Phase]:
    """Main terms of G and D, and R1, of a D that sees patches, or whole pictures if it is as large
    as these."""
    whole = D.img_resolution == G.img_resolution
    patches = None if whole else dict(min_scale=D.img_resolution / G.img_resolution)
    loss = EpigrafLoss(G, D, patch_resolution=D.img_resolution, patches=patches, r1_gamma=0.1)
    return [
        Phase("Gmain", G, None, (loss.generator,), 1),
        Phase("Dmain", D, None, (loss.discriminator,), 1),
        Phase("Dreg", D, None, (loss.r1,), R1_INTERVAL),
    ]


def counted(G: EpigrafGenerator, D: PatchDiscriminator, batch: int) -> dict[str, int]:
    """Bytes that each phase has allocated at once, at most, besides weights and gradients."""
    mode, peaks = FakeTensorMode(allow_non_fake_inputs=True), {}
    G, D = fake_copies(mode, [G, D])
    with misc.own_constants(), mode, LiveBytes() as live:
        for parameter in (*G.parameters(), *D.parameters()):
            parameter.grad = torch.zeros_like(parameter)
        before = live.now
        images = _images(G, batch)
        for phase in phases(G, D):
            live.restart()
            rehearse(phase, images, nimg=0)
            peaks[phase.name] = live.peak - before
    return peaks


def images_per_second(G: EpigrafGenerator, D: PatchDiscriminator, batch: int) -> float:
    """Images that an iteration's passes take a second; R1 counts by its share of iterations."""
    steps = phases(G, D)
    seconds = timed_phases(steps, _images(G, batch), nimg=0)
    return batch / sum(seconds[step.name] / step.interval for step in steps)


def _images(G: EpigrafGenerator, batch: int) -> Batch:
    return noise_batch(batch, G.z_dim, G.img_resolution, next(G.parameters()).device)


def memory_row(size: Size, picture: int, seen: int, batch: int) -> dict[str, object]:
    """A row of the table of memory, MB an image."""
    peaks = counted(*networks(size, picture, seen), batch)
    values = {name: round(peak / MB / batch) for name, peak in peaks.items()}
    return {"picture": picture, "rendered": seen, "widths": str(size), **values}


def speed_row(
    size: Size, picture: int, seen: int, batch: int, device: torch.device
) -> dict[str, object]:
    """A row of the table of speed: images a second, None where memory would not suffice."""
    G, D = networks(size, picture, seen)
    peak = max(counted(G, D, batch).values())
    fits = peak < _SHARE * available_memory(device)
    speed = images_per_second(G.to(device), D.to(device), batch) if fits else None
    return {
        "picture": picture,
        "rendered": seen,
        "device": device.type,
        "widths": str(size),
        "MB an image": round(peak / MB / batch),
        "images/s": speed,
    }


def cases(sides: list[int], patch: int) -> list[tuple[int, int]]:
    """(side of the picture, side of what is rendered): each as patches, and whole."""
    return [(side, seen) for side in sides for seen in sorted({min(patch, side), side})]


def _sides(context, parameter, value: str) -> list[int]:
    sides = [int(side) if side.isdecimal() else 0 for side in value.split(",")]
    if any(side < 16 or side & (side - 1) for side in sides):
        raise click.BadParameter(f"'{value}' must be powers of two from 16 on, such as 128,256")
    return sides


@click.command()
@click.option("--sides", default="128,256,512", callback=_sides, show_default=True)
@click.option("--patch", default="64", callback=_sides, help="Side of a patch.", show_default=True)
@click.option("--batch", default=2, type=click.IntRange(min=1), help="Counted.", show_default=True)
@click.option("--timed-batch", default=2, type=click.IntRange(min=1), show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: what torch chooses.")
@click.option("--json", "path", help="Also write the measurements to this file.")
def main(sides, patch, batch, timed_batch, device, threads, path) -> None:
    """Counts the memory of a step at the published size, and times steps of a smaller model."""
    if threads:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("--device=cuda: there is no CUDA device; use --device=cpu")
    pairs = cases(sides, patch[0])
    memory = [memory_row(PUBLISHED, *pair, batch) for pair in pairs]
    speed = [speed_row(SMALL, *pair, timed_batch, torch.device(device)) for pair in pairs]
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(f"MB an image, counted at {PUBLISHED}\n\n{table(memory)}\n\n{table(speed)}")
    if path:
        write_json(path, memory=memory, speed=speed)


if __name__ == "__main__":
    main()
