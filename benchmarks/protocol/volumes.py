"""B3, B7, B8: the volume renderer alone, densities on grids, videos."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count

import torch
from torch import Tensor

from benchmarks.protocol.clock import Effort, Work
from benchmarks.protocol.measuring import Case, Protocol
from benchmarks.protocol.pictures import scene
from benchmarks.protocol.ways import GRAPH, KERNELS, PLAIN, Way, refuse
from benchmarks.renderer import Renderings
from benchmarks.video import frames_once
from eg3d.generate import Style
from eg3d.model import Model
from eg3d.recorded import RecordedRenderings
from eg3d.scene import Scene
from eg3d.video import write_video
from eg3d.volume import density_volume

RENDERERS = (
    Way(PLAIN, "float32"),
    Way(PLAIN, "tf32"),
    Way(KERNELS, "float32"),
    Way(KERNELS, "tf32"),
    Way(KERNELS, "float16 planes"),
)
# Milliseconds of an H200 in 16 bits, batch 1, by side: the least that is possible, and the aim.
_FORWARD = {64: (0.06, 0.10), 128: (0.22, 0.35)}
_BACKWARD = 3  # times the forward pass: the aim
_SAMPLES = 96  # a ray
_CPU_SIDES = (64, 128)


def fresh_planes(scenes: Renderings, way: Way) -> list[Tensor]:
    """Noise of the type that the way takes."""
    return cast([torch.randn_like(planes) for planes in scenes.planes], way)


def cast(planes: list[Tensor], way: Way) -> list[Tensor]:
    """Planes in the type that the way takes."""
    dtype = torch.float16 if way.precision == "float16 planes" else torch.float32
    return [part.to(dtype) for part in planes]


def rendered(scenes: Renderings, planes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The mean squares of what is rendered, and what gets gradients: planes and decoder."""
    planes = [part.detach().requires_grad_() for part in planes]
    loss = sum(x.square().mean() for x in scenes.render(planes))
    return loss, [*planes, *scenes.decoder.parameters()]


def forward(scenes: Renderings, way: Way) -> Work:
    """Rendering without gradients."""
    return Work(torch.no_grad()(scenes.render), partial(fresh_planes, scenes, way))


def backward(scenes: Renderings, way: Way) -> Work:
    """Gradients alone: what they are of is there before."""
    return Work(
        lambda inputs: torch.autograd.grad(*inputs),
        lambda: rendered(scenes, fresh_planes(scenes, way)),
    )


def b3(protocol: Protocol) -> None:
    """The renderer, forward and backward, from 64 to 512 rays a side."""
    ways = protocol.able(*RENDERERS)
    full = (64, 128, 256, 512) if protocol.on_gpu else _CPU_SIDES
    if protocol.full and not protocol.on_gpu:
        protocol.leave_out("256^2 and 512^2 rays", "minutes and up to 30 GB on a CPU")
    for side in full if protocol.full else (8,):
        scenes = Renderings("usual", side, 1, protocol.device)
        w1, _, w2, _ = scenes.decoder.two_layers()
        flop = 2 * (w1.numel() + w2.numel()) * _SAMPLES * side**2
        for way in ways:
            aims = _FORWARD.get(side) if way.precision == "float16 planes" else None
            floor, target = aims or (None, None)
            case = Case(
                *(f"forward {side}^2", way, partial(forward, scenes, way), 1),
                flop=flop,
                floor=floor,
                target=target,
            )
            row = protocol.measure(case)
            target = None if row.median is None else _BACKWARD * row.median
            prepare = partial(backward, scenes, way)
            protocol.measure(
                Case(f"backward {side}^2", way, prepare, 1, flop=2 * flop, target=target)
            )


def b7(protocol: Protocol) -> None:
    """Densities on a grid, from tables, and by looking up every point."""
    G, _ = protocol.inputs.networks(protocol.device)
    full = (256, 512) if protocol.on_gpu else (256,)
    if protocol.full and not protocol.on_gpu:
        protocol.leave_out("512^3", "left to GPUs")
    aims = {512: (0.007, 0.1)} if protocol.on_gpu else {256: (None, 2.0)}

    def volume(side: int, plain: bool) -> Work:
        def run(scenes: Scene):
            return density_volume(scenes.field, side, border=0, plain=plain).density

        return Work(torch.no_grad()(run), lambda: Scene(*scene(G, 1), G))

    kernels = protocol.able(Way(KERNELS, "float32"))
    for side in full if protocol.full else (8,):
        floor, target = aims.get(side, (None, None))
        tables = Case(f"{side}^3 from tables", Way(), partial(volume, side, False), 1, "s", float)
        # PyTorch's own operators make tables and add them up: there are no kernels for that.
        protocol.measure(replace(tables, floor=floor, target=target))
        for way in (Way(), *kernels):
            points = partial(volume, side, True)
            effort = None if protocol.on_gpu else Effort(warmups=0, repeats=2, seconds=10)
            case = Case(f"{side}^3 point by point", way, points, 1, "s", float, effort=effort)
            protocol.measure(case)


def film(protocol: Protocol, way: Way, frames: int, side: int, seeds: Iterator[int]) -> Work:
    """An orbit around a seed as `gen_videos.py` makes it, mp4 included."""
    G, _ = protocol.inputs.networks(protocol.device)
    model, path = Model.of(G), protocol.inputs.folder / "orbit.mp4"
    repeat = RecordedRenderings(say=refuse) if way.implementation == GRAPH else None
    style = Style(resolution=side, samples=2.0, repeat=repeat)

    def run(seed: int) -> None:
        write_video(path, frames_once(model, style, frames, seed))

    return Work(torch.inference_mode()(run), lambda: next(seeds))


def b8(protocol: Protocol) -> None:
    """Frames a second of a video, twice the samples of a picture."""
    ways = protocol.able(
        *(Way(PLAIN, "float32"), Way(PLAIN, "half"), Way(KERNELS, "half")),
        *(Way(KERNELS, "half + tf32"), Way(GRAPH, "half + tf32")),
    )
    frames, side = (60, 64) if protocol.on_gpu else (2, 64)
    frames, side = (frames, side) if protocol.full else (1, 8)
    effort = Effort(1, 3, 10) if protocol.on_gpu else Effort(0, 3, 10)
    for way in ways:
        prepare = partial(film, protocol, way, frames, side, count())
        protocol.measure(
            Case(
                *(f"video of {frames} frames, {side}^2", way, prepare, 1, "frames/s"),
                figure=lambda seconds: frames / seconds,
                effort=effort,
            )
        )
