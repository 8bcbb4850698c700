"""What metrics are told, and that they leave no trace."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from training.random_state import random_state, set_random_state


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
    """

    G: torch.nn.Module
    G_kwargs: Mapping[str, Any] = field(default_factory=dict)
    dataset_kwargs: Mapping[str, Any] = field(default_factory=dict)
    num_gpus: int = 1
    rank: int = 0
    device: torch.device | str | None = None
    memory: dict = field(default_factory=dict)

    def __post_init__(self):
        self.device = torch.device(self.device or next(self.G.parameters()).device)


@contextmanager
def unnoticed(options: MetricOptions) -> Iterator[None]:
    """G in evaluation mode; afterwards its mode and all random states are what they were."""
    modes = {module: module.training for module in options.G.modules()}
    state = random_state(options.device)
    options.G.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        set_random_state(state, options.device)
