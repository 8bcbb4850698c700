"""What a run will need: memory before it begins, time by its first steps.

Memory is counted, not tried: unless they are small, the phases run on fake tensors, which know
their sizes and have no values. So it costs seconds at any size, and cannot run out of memory.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dnnlib.util import format_time
from torch_utils import misc
from torch_utils.memory_count import LiveBytes, fake_copies
from training import setup
from training.config import OptionError, TrainingConfig
from training.phases import Phase, make_phases
from training.rehearsal import (
    SPARE,
    SPARE_CPU,
    bytes_on_gpu,
    micro_batches,
    noise_batch,
    probe_batch_gpu,
    probe_speed,
    rehearse,
    untouched,
)

GB = 1e9
SMALL = 2**17  # pixels of a micro-batch that a CPU core trains on in less than a second


@dataclass(frozen=True)
class Estimate:
    """Counted before a run begins; sizes in bytes, on one device.

    Attributes:
        parameters: numbers of trained values by network.
        state: weights, their average, gradients, and the two values a parameter of Adam.
        activations: by phase, what its passes have allocated at once, at most.
        batch_gpu: images of the micro-batch that was counted.
        other_sizes: smaller micro-batches that the options allow, largest first.
        capacity: what the device has for this process.
        spare: share of it that is to stay free.
    """

    parameters: dict[str, int]
    state: int
    activations: dict[str, int]
    batch_gpu: int
    other_sizes: tuple[int, ...]
    capacity: int
    spare: float = SPARE

    @property
    def peak(self) -> int:
        """Bytes that are needed at once, at most."""
        return self.state + max(self.activations.values())

    @property
    def fits(self) -> bool:
        """Whether there is memory for that, and some to spare."""
        return self.peak <= self.capacity * (1 - self.spare)

    def lines(self, config: TrainingConfig, nimg: float = 0, seconds_per_kimg: float = 0) -> list:
        """What to print, a warning last if memory is short; without `seconds_per_kimg` no times."""
        counts = ", ".join(f"{name} {n / 1e6:.2f} M" for name, n in self.parameters.items())
        phase, most = max(self.activations.items(), key=lambda item: item[1])
        images = f"{self.batch_gpu} images in {phase}"
        lines = [
            f"Parameters:   {counts}",
            f"Memory:       {self.peak / GB:.2f} of {self.capacity / GB:.2f} GB (counted)",
            f"              {self.state / GB:.2f} GB state, {most / GB:.2f} GB for {images}",
        ]
        if seconds_per_kimg:
            rest = max(config.total_kimg - nimg / 1000, 0)
            hours = format_time(rest * seconds_per_kimg)
            lines.append(f"Speed:        {seconds_per_kimg:.1f} s/kimg at first, or slower")
            lines.append(f"To the end:   {hours} for {rest:g} kimg")
        return lines if self.fits else [*lines, f"Warning: {self.advice(config)}"]

    def advice(self, config: TrainingConfig) -> str:
        """What to change so that memory suffices."""
        # Activations grow with the number of images.
        per_image = max(self.activations.values()) / self.batch_gpu
        room = self.capacity * (1 - self.spare) - self.state
        fitting = [n for n in self.other_sizes if n * per_image <= room]
        ways = [f"--batch-gpu={fitting[0]}"] if fitting else []
        if config.loss_kwargs.get("recompute", "none") != "renderer+sr":
            ways.append("--recompute=renderer+sr")
        ways = ways or ["a smaller --neural_rendering_resolution_final or smaller pictures"]
        return f"memory may not suffice for --batch-gpu={self.batch_gpu}: use {' or '.join(ways)}"


def estimate(
    config: TrainingConfig,
    networks: Mapping[str, torch.nn.Module],
    capacity: int | None = None,
) -> Estimate:
    """Counts the memory of a run with these networks, at the largest rendering of its schedule.

    Changes nothing: no random numbers are drawn, no buffer is written. Augmentation is left out; it
    takes some copies of the pictures.

    Args:
        networks: those that are trained, by name: G, D, ...
        capacity: bytes that there are, default those of the networks' device.
    """
    G = networks["G"]
    device = next(G.parameters()).device
    sizes = {name: sum(_bytes(p) for p in n.parameters()) for name, n in networks.items()}
    buffers = sum(_bytes(b) for n in (G, *networks.values()) for b in n.buffers())
    allowed = micro_batches(config.batch_size, config.num_gpus, _group(config))
    return Estimate(
        parameters={n: sum(p.numel() for p in net.parameters()) for n, net in networks.items()},
        state=4 * sum(sizes.values()) + sizes["G"] + buffers,
        activations=count_activations(config, networks, config.batch_gpu),
        batch_gpu=config.batch_gpu,
        other_sizes=tuple(n for n in allowed if n < config.batch_gpu),
        capacity=available_memory(device, config.num_gpus) if capacity is None else capacity,
        spare=_spare(device),
    )


def announce(
    config: TrainingConfig, phases: Sequence[Phase], nimg: float = 0, gpus: int = 1
) -> list[str]:
    """Lines to print before training goes on after `nimg` images: parameters, memory, speed and the
    time to the end, which the first steps are tried for. Nothing of the run changes.

    Raises OutOfMemoryError where those steps do; the run's own would.
    """
    networks = {phase.network: phase.module for phase in phases}
    G = networks["G"]
    device = next(G.parameters()).device
    batch = noise_batch(config.batch_gpu, G.z_dim, G.img_resolution, device, G.c_dim)
    try:
        counted = estimate(config, networks)
    except RuntimeError as error:  # An operator of which fake tensors know nothing.
        reason = str(error).strip().splitlines()[0]
        return [f"Memory:       not counted ({reason})"]
    if not counted.fits and batch.real_img.device.type == "cpu":
        return counted.lines(config)  # Where memory is short, the system ends the process.
    speed, _ = probe_speed(phases, batch, nimg, gpus)
    return counted.lines(config, nimg, speed)


def count_activations(
    config: TrainingConfig,
    networks: Mapping[str, torch.nn.Module],
    size: int,
    fake: bool | None = None,
) -> dict[str, int]:
    """Bytes that each phase has allocated at once, at most, for a micro-batch of `size` images.

    fake: run on fake tensors, by default wherever running on real ones could take longer than
    preparing fake ones does.
    """
    G = networks["G"]
    if fake is None:
        fake = size * G.img_resolution**2 > SMALL or next(G.parameters()).device.type != "cpu"
    if not fake:
        with untouched(list(networks.values()), torch.device("cpu")):
            return _count(config, networks, size)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    copies = dict(zip(networks, fake_copies(mode, list(networks.values())), strict=True))
    with misc.own_constants(), mode:
        return _count(config, copies, size)


def _count(config: TrainingConfig, networks, size: int) -> dict[str, int]:
    counts, G = {}, networks["G"]
    with LiveBytes() as live:
        loss, phases = _loss_and_phases(config, networks)
        # Gradients are part of the state: here already, so that they are not counted again.
        for parameter in (p for network in networks.values() for p in network.parameters()):
            parameter.grad = torch.zeros_like(parameter)
        nimg = largest_moment(loss, config)
        device = next(G.parameters()).device
        before = live.now
        batch = noise_batch(size, G.z_dim, G.img_resolution, device, G.c_dim)
        for phase in phases:
            live.restart()
            rehearse(phase, batch, nimg)
            counts[phase.name] = live.peak - before
    return counts


def largest_moment(loss, config: TrainingConfig) -> float:
    """The number of images after which rendering is largest."""
    moments = (0, config.total_kimg * 1000)
    return max(moments, key=lambda nimg: loss.at(nimg).rendering_resolution)


def available_memory(device: torch.device, processes: int = 1) -> int:
    """Bytes that this process can have on a device, what it has already included; main memory is
    shared among the `processes`."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    return (psutil.virtual_memory().available + psutil.Process().memory_info().rss) // processes


def choose_batch_gpu(
    config: TrainingConfig, networks: Mapping[str, torch.nn.Module], capacity: int | None = None
) -> int:
    """The largest micro-batch that there is memory for: tried on a GPU, counted elsewhere, where
    the system would end the process. Raises OptionError if none fits."""
    device = next(networks["G"].parameters()).device
    capacity = available_memory(device, config.num_gpus) if capacity is None else capacity
    sizes = micro_batches(config.batch_size, config.num_gpus, _group(config))
    found = probe_batch_gpu(sizes, _attempt(config, networks), capacity, _spare(device))
    if found is None:
        smallest = f"--batch-gpu={min(sizes)}" if sizes else "any micro-batch"
        raise OptionError(
            f"--batch-gpu=auto: {capacity / GB:.1f} GB do not suffice for {smallest}: use "
            "--recompute=renderer+sr, a smaller --mbstd-group or a smaller rendering"
        )
    return found


def auto_batch_gpu(config: TrainingConfig, training_set) -> int:
    """`choose_batch_gpu` before a run begins, with networks of its own on the current device."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    networks = setup.build_networks(config, training_set, device)
    trained = {name: networks[name] for name in config.optimizers}
    return choose_batch_gpu(config, trained)


def _attempt(config, networks) -> Callable[[int], int]:
    G = networks["G"]
    device = next(G.parameters()).device
    if device.type != "cuda":
        # One count serves all sizes: activations grow with the number of images.
        group = _group(config)
        counted = estimate(replace(config, batch_gpu=group), networks, capacity=0)
        per_image = max(counted.activations.values()) / group
        return lambda size: counted.state + int(size * per_image)
    loss, phases = _loss_and_phases(config, networks)
    nimg = largest_moment(loss, config)

    def try_on_gpu(size: int) -> int:
        batch = noise_batch(size, G.z_dim, G.img_resolution, device, G.c_dim)
        return bytes_on_gpu(phases, batch, nimg)

    return try_on_gpu


def _loss_and_phases(config, networks) -> tuple[object, list[Phase]]:
    loss = setup.make_loss(config, networks)
    return loss, make_phases(loss.trained(), config.optimizers, config.reg_intervals)


def _spare(device: torch.device) -> float:
    return SPARE_CPU if device.type == "cpu" else SPARE


def _group(config: TrainingConfig) -> int:
    return config.D_kwargs["epilogue_kwargs"].get("mbstd_group_size") or 1


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
