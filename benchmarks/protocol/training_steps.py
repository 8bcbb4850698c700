"""B4, B5, B6: phases of training, the whole loop, and the memory that they take."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch

from benchmarks.iteration import config_of
from benchmarks.protocol.clock import ONCE, Effort, Work
from benchmarks.protocol.loop import Loop
from benchmarks.protocol.measuring import Case, Protocol
from benchmarks.protocol.ways import GRAPH, KERNELS, PLAIN, PRECISIONS, Way

WAYS = (
    *(Way(PLAIN, "half"), Way(KERNELS, "half")),
    *(Way(KERNELS, "half + tf32"), Way(GRAPH, "half + tf32")),
)
_PHASES = ("Gmain", "Greg", "Dmain", "Dreg")
_CYCLE = 16  # iterations, after which all phases have had their turns
_FIRST = 5  # steps of each phase, after which kernels are chosen and graphs recorded
# s/kimg of an H200 at batch 32, by the side of the rendering: the least possible, and the aim.
_SPEED = {64: (3.8, 7.0), 128: (5.7, 11.0)}
_FLOP = 2.286e12  # of an average iteration, an image, at 64 x 64 rays
_MOST_GB = 40.0  # of training at batch 32: the aim


def arguments(protocol: Protocol, batch: int, side: int, way: Way) -> list[str]:
    """Options of `train.py`: FFHQ-512 on a GPU, else the demo."""
    sizes = [f"--batch={batch}", f"--neural_rendering_resolution_initial={side}"]
    if protocol.quick:
        small = ["--mbstd-group=2", "--cbase=64", "--cmax=8"]
        return ["--cfg=demo", *sizes, *small, f"--data={protocol.inputs.cars(32)}"]
    if not protocol.on_gpu:
        return ["--cfg=demo", *sizes, f"--data={protocol.inputs.cars(64)}"]
    half = [] if PRECISIONS[way.precision].half else ["--sr_num_fp16_res=0", "--d_num_fp16_res=0"]
    faces = ["--cfg=ffhq", "--gpus=1", "--gamma=1", f"--data={protocol.inputs.cars(512)}"]
    return [*faces, *sizes, *half]


def opened(protocol: Protocol, batch: int, side: int, way: Way) -> Loop:
    """A loop of its own."""
    return Loop(config_of(arguments(protocol, batch, side, way)), protocol.device, way)


@contextmanager
def autotuned() -> Iterator[None]:
    """Within: cuDNN tries its algorithms, as in training."""
    convolutions = torch.backends.cudnn
    before, convolutions.benchmark = convolutions.benchmark, True
    try:
        yield
    finally:
        convolutions.benchmark = before


def ready(protocol: Protocol, batch: int, side: int, way: Way) -> Loop:
    """A loop that has taken its first steps."""
    loop = opened(protocol, batch, side, way)
    loop.step_all(_FIRST if protocol.has_gpu else 1)
    return loop


def able(protocol: Protocol) -> list[Way]:
    """The ways to train that the device has."""
    return protocol.able(*(() if protocol.on_gpu else (Way(PLAIN, "float32"),)), *WAYS)


def sizes(protocol: Protocol) -> list[tuple[int, int]]:
    """Pairs of batch and side of the rendering."""
    if protocol.quick:
        return [(4, 8)]
    return [(32, 64), (4, 64), (32, 128)] if protocol.on_gpu else [(8, 16)]


def cases(protocol: Protocol) -> Iterator[tuple[int, int, Way]]:
    """Batch, side and way of whole iterations: all ways at first, then the two fastest."""
    ways = able(protocol)
    for batch, side in sizes(protocol):
        for way in ways:
            yield batch, side, way
        ways = ways[-2:]


def what(protocol: Protocol, side: int) -> str:
    """What is trained, in words."""
    return f"{'ffhq' if protocol.on_gpu else 'demo'} {side}^2"


def b4(protocol: Protocol) -> None:
    """A step of each phase: passes forward and backward, gradients and optimizer."""
    ways = able(protocol)
    for batch, side in sizes(protocol)[:2]:
        for way in ways:
            with autotuned():
                _phases(protocol, batch, side, way)


def _phases(protocol: Protocol, batch: int, side: int, way: Way) -> None:
    loop = cache(partial(opened, protocol, batch, side, way))  # made when the first step is taken

    def prepare(number: int) -> Work:
        return Work(partial(loop().step, number), loop().reals)

    for number, phase in enumerate(_PHASES):
        part = f"{phase}, {what(protocol, side)}"
        protocol.measure(Case(part, way, partial(prepare, number), batch))


def b5(protocol: Protocol) -> None:
    """The whole loop, without reports and files."""
    for batch, side, way in cases(protocol):
        with autotuned():
            _whole_loop(protocol, batch, side, way)


def _whole_loop(protocol: Protocol, batch: int, side: int, way: Way) -> None:
    loop = cache(partial(ready, protocol, batch, side, way))
    iterations = _CYCLE if protocol.full else 2
    images = batch * iterations
    floor, target = _SPEED.get(side, (None, None)) if batch == 32 else (None, None)
    case = Case(
        f"whole loop, {what(protocol, side)}",
        way,
        lambda: Work(lambda _: loop().iterate(iterations), loop().guard.report),
        batch,
        "s/kimg",
        lambda seconds: 1000 * seconds / images,
        flop=_FLOP * images if protocol.on_gpu and side == 64 else None,
        floor=floor,
        target=target,
        effort=Effort(warmups=0, repeats=3, seconds=10 if protocol.on_gpu else 20),
    )
    row = protocol.measure(case)
    if row.figures:
        rates = [1000 / figure for figure in row.figures]
        protocol.record(case.part, way, batch, "images/s", rates)
    counted = Case(
        f"an iteration, {what(protocol, side)}",
        way,
        lambda: Work(lambda _: loop().launches()),
        batch,
        "launches" if protocol.has_gpu else "operators",
        figure=None,
        effort=ONCE,
    )
    protocol.measure(counted)


def b6(protocol: Protocol) -> None:
    """The most memory of a phase."""
    unit, amount = ("GB", 1e9) if protocol.has_gpu else ("MB", 1e6)
    note = "with weights and optimizers" if protocol.has_gpu else "tensors made in a step, counted"
    for batch, side, way in cases(protocol):
        case = Case(
            f"training, {what(protocol, side)}",
            way,
            partial(_memory, protocol, batch, side, way, amount),
            batch,
            unit,
            figure=None,
            target=_MOST_GB if batch == 32 else None,
            effort=ONCE,
            note=note,
        )
        with autotuned():
            protocol.measure(case)


def _memory(protocol: Protocol, batch: int, side: int, way: Way, amount: float) -> Work:
    loop = ready(protocol, batch, side, way)
    return Work(lambda _: loop.peak() / amount)
