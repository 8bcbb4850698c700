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
        networks: foreign networks by role, each a path, a web address or a name: 'inception',
            'vgg16', 'face_embedder', 'depth_estimator', 'pose_estimator'.
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

    def __post_init__(self):
        self.device = torch.device(self.device or next(self.G.parameters()).device)


@contextmanager
def unnoticed(options: MetricOptions) -> Iterator[None]:
    """G in evaluation mode; afterwards its mode and all random states are what they were."""
    modes = {module: module.training for module in options.G.modules()}
    states = random.getstate(), np.random.get_state()
    gpus = [options.device] if options.device.type == "cuda" else []
    options.G.eval()
    with torch.random.fork_rng(gpus):
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            random.setstate(states[0])
            np.random.set_state(states[1])
