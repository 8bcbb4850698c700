"""The steps of a run, tried before it begins: how long they take, how many images fit into memory.

Passes forward and backward are real, on images of noise; no optimizer takes a step, and everything
is as it was when they are over.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from training.cameras import LABEL_SIZE
from training.loss import Batch
from training.phases import Phase

# Share of the memory that is to stay free: what an allocator loses between its blocks. On a CPU a
# process grew by 1.27 times what tensors take: convolutions have large workspaces there.
SPARE = 0.1
SPARE_CPU = 0.25


def noise_batch(
    size: int, z_dim: int, resolution: int, device: torch.device, c_dim: int = LABEL_SIZE
) -> Batch:
    """A micro-batch of noise, the same each time, seen by a camera in the middle of the scene; its
    labels [size, c_dim] are of no class."""
    generator = torch.Generator(device).manual_seed(0)
    settings = dict(device=device, generator=generator)
    camera = torch.zeros([size, c_dim], device=device)
    camera[:, [0, 5, 10, 15, 16, 20, 24]] = 1
    images = torch.rand([size, 3, resolution, resolution], **settings) * 2 - 1
    return Batch(images, camera, torch.randn([size, z_dim], **settings), camera)


def rehearse(phase: Phase, batch: Batch, nimg: float) -> None:
    """A phase's passes forward and backward for one micro-batch; gradients are left behind."""
    phase.module.requires_grad_(True)
    try:
        for losses in phase.losses:
            for term in losses(batch, nimg):
                (term.loss.mean() * phase.interval).backward()
    finally:
        phase.module.requires_grad_(False)


@contextmanager
def untouched(modules: Sequence[torch.nn.Module], device: torch.device) -> Iterator[None]:
    """What happens within leaves gradients, buffers and torch's random states as they were."""
    modules = list(dict.fromkeys(modules))
    parameters = [p for module in modules for p in module.parameters()]
    gradients = [(p, p.grad, p.requires_grad) for p in parameters]
    buffers = [(b, b.clone()) for module in modules for b in module.buffers()]
    for parameter in parameters:
        parameter.grad = None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for parameter, gradient, required in gradients:
            parameter.grad = gradient
            parameter.requires_grad_(required)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def timed_phases(phases: Sequence[Phase], batch: Batch, nimg: float) -> dict[str, float]:
    """Seconds that each phase takes for a micro-batch, see `probe_seconds`."""
    device = batch.real_img.device
    modules = [phase.module for phase in phases]

    def step(phase: Phase) -> None:
        rehearse(phase, batch, nimg)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with untouched(modules, device):
        return {phase.name: probe_seconds(lambda p=phase: step(p)) for phase in phases}


def probe_seconds(
    step: Callable[[], None], enough: float = 2, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of one call: the shorter of two, the first of which may have made preparations. One
    that takes `enough` seconds is not repeated."""
    shortest = math.inf
    for _ in range(2):
        start = clock()
        step()
        shortest = min(shortest, clock() - start)
        if shortest >= enough:
            break
    return shortest


def probe_speed(
    phases: Sequence[Phase], batch: Batch, nimg: float, gpus: int = 1
) -> tuple[float, dict[str, float]]:
    """(seconds per 1000 images, seconds of each phase for a micro-batch), on `gpus` devices alike.

    A lower bound: optimizers, the average of the weights, loading and exchange are left out.
    """
    seconds = timed_phases(phases, batch, nimg)
    together = sum(seconds[phase.name] / phase.interval for phase in phases)
    return 1000 * together / (len(batch.real_img) * gpus), seconds


def micro_batches(batch: int, gpus: int, group: int) -> list[int]:
    """Sizes of micro-batch that `--batch`, `--gpus` and `--mbstd-group` allow, largest first."""
    share = batch // gpus
    return [n for n in range(share, 0, -1) if share % n == 0 and n % group == 0]


def probe_batch_gpu(
    sizes: Sequence[int], attempt: Callable[[int], int], capacity: int, spare: float = SPARE
) -> int | None:
    """The first of `sizes` for which there is memory; None if for none.

    Args:
        sizes: to try, largest first.
        attempt: tries a size and returns the bytes it took at most; may raise OutOfMemoryError.
        capacity: bytes that there are.
        spare: share of them that is to stay free.
    """
    for size in sizes:
        try:
            taken = attempt(size)
        except torch.OutOfMemoryError:
            taken = math.inf
        # Out of the handler, whose traceback holds what was allocated.
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()
        if taken <= capacity * (1 - spare):
            return size
    return None


def bytes_on_gpu(phases: Sequence[Phase], batch: Batch, nimg: float) -> int:
    """Bytes that the GPU of the batch has to have for all phases, at most. Counts the optimizers'
    two values a parameter, which only their first step allocates."""
    device = batch.real_img.device
    torch.cuda.reset_peak_memory_stats(device)
    modules = list(dict.fromkeys(phase.module for phase in phases))
    with untouched(modules, device):
        for phase in phases:
            rehearse(phase, batch, nimg)
    moments = 2 * sum(p.numel() * p.element_size() for m in modules for p in m.parameters())
    return torch.cuda.max_memory_reserved(device) + moments
