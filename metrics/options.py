"""What metrics are told, and that they leave no trace."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass
class MetricOptions:
    """What a metric looks at.

    Args:
        G: the generator, in any mode, on the device.
        G_kwargs: further arguments of `G`, such as truncation_psi.
        dataset_kwargs: of the real pictures, with their class_name.
        num_gpus, rank: processes that compute together, and which one this is.
        device: where to compute; by default where G is.
        memory: keeps what later calls need again, such as the statistics of the real pictures;
            pass the same one to profit.
        seed: of latents, cameras and noise.
        networks: foreign networks by role, see `metrics.detectors.load_network`.
        cameras: where the cameras of metrics come from that do not take those of the data set, see
            `metrics.pose_distribution.pose_distribution`.
        batch: pictures that a detector sees at once.
        batch_gen: pictures generated at once, by default 32 on a GPU and 8 on a CPU. Their noise is
            drawn together, so that another number gives other noise.
        workers: processes that decode the real pictures, 0: this one does.
        cache: keep statistics of the real pictures on disk.
        verbose: show the progress.
    """

    G: torch.nn.Module
    G_kwargs: Mapping[str, Any] = field(default_factory=dict)
    dataset_kwargs: Mapping[str, Any] = field(default_factory=dict)
    num_gpus: int = 1
    rank: int = 0
    device: torch.device | str | None = None
    memory: dict = field(default_factory=dict)
    seed: int = 0
    networks: Mapping[str, str] = field(default_factory=dict)
    cameras: str = "fitted"
    batch: int = 64
    batch_gen: int | None = None
    workers: int = 0
    cache: bool = True
    verbose: bool = False

    def __post_init__(self):
        self.device = torch.device(self.device or next(self.G.parameters()).device)
        if self.batch_gen is None:
            self.batch_gen = 32 if self.device.type == "cuda" else 8
        self.batch_gen = min(self.batch_gen, self.batch)

    @property
    def truncation(self) -> dict[str, Any]:
        """The part of `G_kwargs` that `G.mapping` takes."""
        names = ("truncation_psi", "truncation_cutoff")
        return {name: self.G_kwargs[name] for name in names if name in self.G_kwargs}


@contextmanager
def unnoticed(options: MetricOptions) -> Iterator[None]:
    """G in evaluation mode, no gradients, exact arithmetic; afterwards G's mode, the arithmetic and
    all random states are what they were."""
    modes = {module: module.training for module in options.G.modules()}
    states = random.getstate(), np.random.get_state()
    gpus = [options.device] if options.device.type == "cuda" else []
    options.G.eval()
    with torch.random.fork_rng(gpus), torch.no_grad(), _exact_arithmetic():
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            random.setstate(states[0])
            np.random.set_state(states[1])


@contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """On a GPU: float32 products in full, and the same algorithm of a convolution every time, so
    that a training and a command give the same digits."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    exact = [
        (products, "allow_tf32", False),
        (convolutions, "allow_tf32", False),
        (convolutions, "benchmark", False),
        (convolutions, "deterministic", True),
    ]
    before = [(where, name, getattr(where, name)) for where, name, _ in exact]
    try:
        for where, name, value in exact:
            setattr(where, name, value)
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
