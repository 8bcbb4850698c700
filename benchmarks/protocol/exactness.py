"""B12, B13: what faster ways cost in digits, and the figures of the processor beside a GPU."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.protocol.clock import Work
from benchmarks.protocol.measuring import Case, Protocol
from benchmarks.protocol.pictures import b1, b2, picture, sides
from benchmarks.protocol.volumes import b7, cast, fresh_planes, rendered
from benchmarks.protocol.ways import KERNELS, PLAIN, Way
from benchmarks.renderer import Renderings
from torch_utils.graphs import share_off

EXACT = Way(PLAIN, "float32")
PICTURES = (
    *(Way(PLAIN, "bf16"), Way(PLAIN, "half"), Way(KERNELS, "float32"), Way(KERNELS, "tf32")),
    *(Way(KERNELS, "half"), Way(KERNELS, "half + tf32")),
)
RENDERER = (Way(KERNELS, "float32"), Way(KERNELS, "tf32"), Way(KERNELS, "float16 planes"))


def apart(found: list[Tensor], exact: list[Tensor]) -> float:
    """How far tensors are from exact ones, as per cent of the deviation of these."""
    means = [x.float().mean() for x in exact]
    shifted = [[x.float() - m for x, m in zip(xs, means, strict=True)] for xs in (found, exact)]
    return 100 * share_off(*shifted)


def b12(protocol: Protocol) -> None:
    """Differences from plain float32 on the same inputs."""
    ways = protocol.able(*PICTURES, RENDERER[-1])
    for side in sides(protocol):
        for way in ways:
            if way in PICTURES:
                prepare = partial(pictures_apart, protocol, way, side)
                protocol.measure(Case(f"picture {side}^2", way, prepare, 1, "%", None))
    side = sides(protocol)[0]
    scenes = Renderings("usual", side, 1, protocol.device)
    for way in ways:
        if way in RENDERER:
            for what in (features, gradients):
                part = f"{what.__name__} of the renderer, {side}^2"
                prepare = partial(renderings_apart, scenes, way, what)
                protocol.measure(Case(part, way, prepare, 1, "%", None))


def pictures_apart(protocol: Protocol, way: Way, side: int) -> Work:
    """Of pictures of the same latents."""
    G, _ = protocol.inputs.networks(protocol.device)
    faster, exact = (picture(G, w, side, 1, False, protocol.device) for w in (way, EXACT))

    def run(inputs: tuple[Tensor, ...]) -> float:
        found = faster.run(inputs)
        with EXACT.active():
            return apart([found], [exact.run(inputs)])

    return Work(run, exact.fresh)


def features(scenes: Renderings, planes: list[Tensor]) -> list[Tensor]:
    """What is rendered."""
    with torch.no_grad():
        return [scenes.render(planes)[0]]


def gradients(scenes: Renderings, planes: list[Tensor]) -> list[Tensor]:
    """Of planes and decoder."""
    return list(torch.autograd.grad(*rendered(scenes, planes)))


def renderings_apart(scenes: Renderings, way: Way, what: Callable) -> Work:
    """Of renderings, or gradients, of the same planes."""

    def run(planes: list[Tensor]) -> float:
        found = what(scenes, cast(planes, way))
        with EXACT.active():
            return apart(found, what(scenes, planes))

    return Work(run, partial(fresh_planes, scenes, EXACT))


def b13(protocol: Protocol) -> None:
    """B1, B2 and B7 on the processor."""
    done = {row.benchmark for row in protocol.rows if row.device == "cpu"}
    if protocol.device.type == "cpu" and {"B1", "B2", "B7"} <= done:
        protocol.leave_out("all", "this run is of a CPU: B1, B2 and B7 are its figures")
        return
    host = protocol.on(torch.device("cpu"))
    for measure in (b1, b2, b7):
        measure(host)
