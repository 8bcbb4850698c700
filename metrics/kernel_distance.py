"""The kernel Inception distance of two sets of features.

Bińkowski et al. 2018, "Demystifying MMD GANs", section 4: the unbiased squared maximum mean
discrepancy for the kernel k(a, b) = (a b / F + 1)^3.
"""

import numpy as np
import torch
from torch import Tensor


def kernel_distance(
    real: Tensor, fake: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> float:
    """Mean over random subsets of the unbiased estimate; it can be negative.

    Args:
        real, fake: features [n, F] of any float type; compared in float64 on their device.
        subsets: pairs of subsets that are drawn, each without replacement.
        subset_size: at most so many rows in each; fewer where a set is smaller.
        seed: of the subsets.

    Raises ValueError for sets of fewer than two rows, or of other numbers of features.
    """
    if real.ndim != 2 or real.shape[1:] != fake.shape[1:]:
        shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise ValueError(f"features have shapes {shapes}; must be [n, F] and [m, F]")
    size = min(len(real), len(fake), subset_size)
    if size < 2:
        raise ValueError(f"kernel distance of {len(real)} and {len(fake)} rows: needs two of each")
    random = np.random.RandomState(seed)
    total = 0.0
    for _ in range(subsets):
        x = fake[_choose(random, len(fake), size)].double()
        y = real[_choose(random, len(real), size)].double()
        within = _off_diagonal(_kernel(x, x)) + _off_diagonal(_kernel(y, y))
        total += float(within / (size - 1) - 2 * _kernel(x, y).sum() / size)
    return total / subsets / size


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _off_diagonal(kernel: Tensor) -> Tensor:
    return kernel.sum() - kernel.diagonal().sum()


def _choose(random: np.random.RandomState, count: int, size: int) -> Tensor:
    return torch.from_numpy(random.choice(count, size, replace=False))
