"""Adaptive discriminator augmentation (Karras et al. 2020, StyleGAN2-ADA, section 3.2)."""

import torch

from torch_utils import training_stats
from training import schedules


class AdaptiveStrength:
    """Moves an augmentation pipe's `p` so that D is as sure of real images as wanted.

    Args:
        pipe: with a buffer `p`.
        target: the mean sign of D's logits for real images that is wanted.
        batch_size: images of an iteration.
        interval: iterations between adjustments.
        ada_kimg: thousand images in which p moves by 1.
    """

    def __init__(
        self,
        pipe: torch.nn.Module,
        target: float,
        batch_size: int,
        interval: int,
        ada_kimg: float,
    ):
        self.pipe = pipe
        self.target = target
        self.speed = (batch_size, interval, ada_kimg)
        self.interval = interval
        self.collector = training_stats.Collector("Loss/signs/real")

    def after(self, batch_idx: int) -> None:
        """Adjusts p if it is time, `batch_idx` iterations having been taken."""
        if batch_idx % self.interval == 0:
            self.collector.update()
            sign = self.collector.mean("Loss/signs/real")
            self.pipe.p.fill_(schedules.ada_p(self.pipe.p.item(), sign, self.target, *self.speed))

    def state_dict(self) -> dict:
        """What was collected; p is in the pipe's."""
        return self.collector.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Goes on from there."""
        self.collector.load_state_dict(state)
