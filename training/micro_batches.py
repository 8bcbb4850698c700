"""Micro-batches and the random numbers that go with each of them.

Every random number of training is a function of the seed, the iteration, the phase and the number
of the micro-batch in its iteration. So it does not matter which process computes a micro-batch, and
a run that goes on from a checkpoint needs no memory of the numbers drawn before.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.loss import Batch


class Reals(NamedTuple):
    """The real images [N, C, R, R] in [-1, 1] and their labels [N, L] of one micro-batch."""

    number: int  # among the micro-batches of the iteration, all processes counted
    images: Tensor
    labels: Tensor


def split_reals(images: Tensor, labels: Tensor, size: int, rank: int) -> list[Reals]:
    """A process's uint8 images [n, C, R, R] and labels [n, L] as micro-batches of `size`; process
    `rank` has the ones with the numbers from rank * n / size on."""
    images = images.to(torch.float32) / 127.5 - 1
    parts = list(zip(images.split(size), labels.split(size), strict=True))
    first = rank * len(parts)
    return [Reals(first + k, *part) for k, part in enumerate(parts)]


def running_sum(weights: np.ndarray | None) -> Tensor | None:
    """What `draw_batches` draws cameras from, made once: float64 [n] weights added up."""
    return None if weights is None else torch.from_numpy(np.cumsum(weights))


def draw_batches(
    reals: Sequence[Reals],
    cameras: Tensor,
    z_dim: int,
    seed: Sequence[int],
    ends: Tensor | None = None,
) -> Iterator[Batch]:
    """What a phase sees: the real images, latents, and cameras of randomly chosen real images.

    Sets the random state before it yields each micro-batch, for the loss to go on from.

    Args:
        cameras: the labels of the whole data set [n, L], on the device.
        seed: whole numbers; the number of the micro-batch is added to them.
        ends: `running_sum` of how often each camera is drawn beside the others; None: alike.
    """
    for number, images, labels in reals:
        seed_everything(*seed, number)
        count, device = len(images), images.device
        z = torch.randn([count, z_dim], device=device)
        if ends is None:
            picks = torch.randint(len(cameras), [count], device=device)
        else:
            marks = torch.rand([count], dtype=ends.dtype) * ends[-1]
            picks = torch.searchsorted(ends, marks, right=True).clamp(max=len(ends) - 1).to(device)
        yield Batch(images, labels, z, cameras[picks])


def seed_everything(*seed: int) -> None:
    """Seeds torch, on all devices, with a hash of some whole numbers from 0 on.

    Training draws from nothing else: neither from Python's random numbers nor from NumPy's.
    """
    number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)
    torch.default_generator.manual_seed(number)  # torch.manual_seed takes five times as long
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(number)
