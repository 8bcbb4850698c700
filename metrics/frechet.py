"""The Fréchet distance between two sets of features, from means and covariances kept as sums.

Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6.
"""

from collections.abc import Mapping

import numpy as np
import torch

Features = np.ndarray | torch.Tensor


class FeatureStatistics:
    """Mean and covariance of features [n, size] that arrive in batches; sums are float64 and stay
    on the device of the features."""

    def __init__(self, size: int):
        if size < 1:
            raise ValueError(f"number of features is {size}, must be at least 1")
        self.count = 0
        self._sum = torch.zeros(size, dtype=torch.float64)
        self._products = torch.zeros(size, size, dtype=torch.float64)

    @property
    def size(self) -> int:
        """Number of features."""
        return len(self._sum)

    def append(self, features: Features) -> None:
        """Adds a batch [n, size] of any float type and device. Raises ValueError."""
        rows = torch.as_tensor(features).detach().double()
        if rows.ndim != 2 or rows.shape[1] != self.size:
            raise ValueError(f"features have shape {tuple(rows.shape)}, must be [n, {self.size}]")
        if not rows.isfinite().all():
            raise ValueError("features have a value that is not finite")
        self.count += len(rows)
        self._sum = self._sum.to(rows.device) + rows.sum(0)
        self._products = self._products.to(rows.device) + rows.T @ rows

    def merge(self, other: "FeatureStatistics") -> None:
        """Adds all that `other` has seen, as if it had been appended here. Raises ValueError."""
        if other.size != self.size:
            raise ValueError(f"statistics of {other.size} features, must be of {self.size}")
        self.count += other.count
        self._sum = self._sum + other._sum.to(self._sum.device)
        self._products = self._products + other._products.to(self._products.device)

    @property
    def mean(self) -> np.ndarray:
        """Mean [size]. Raises ValueError while there are no features."""
        return self._sum.cpu().numpy() / self._number()

    @property
    def cov(self) -> np.ndarray:
        """Covariance [size, size] as published scores use it, E[x x^T] - mean mean^T: divided by
        n, not n - 1. Raises ValueError while there are no features."""
        mean = self.mean
        return self._products.cpu().numpy() / self._number() - np.outer(mean, mean)

    def state(self) -> dict[str, np.ndarray]:
        """Number, sum and sum of products, to be saved."""
        sums = dict(sum=self._sum, products=self._products)
        arrays = {name: tensor.cpu().numpy() for name, tensor in sums.items()}
        return dict(arrays, count=np.array(self.count))

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> "FeatureStatistics":
        """Statistics with the sums that `state` returned. Raises ValueError for anything else."""
        if missing := {"sum", "products", "count"} - set(state):
            raise ValueError(f"saved statistics lack {', '.join(sorted(missing))}")
        sums, products, count = (np.asarray(state[key]) for key in ("sum", "products", "count"))
        if sums.ndim != 1 or products.shape != 2 * sums.shape:
            shapes = f"{sums.shape} and {products.shape}"
            raise ValueError(f"saved sum and products have shapes {shapes}, must be [n] and [n, n]")
        if any(x.dtype != np.float64 or not np.isfinite(x).all() for x in (sums, products)):
            raise ValueError("saved sum and products must be finite float64")
        if count.shape != () or count.dtype.kind not in "iu" or count < 0:
            raise ValueError(f"saved count is {count}, must be an integer from 0")
        found = cls(len(sums))
        found.count = int(count)
        found._sum, found._products = torch.tensor(sums), torch.tensor(products)
        return found

    def _number(self) -> int:
        if self.count == 0:
            raise ValueError("statistics of no features: append some first")
        return self.count


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), in squared feature units.

    Not negative but for rounding, which is that of the square roots of eigenvalues: about 1e-8 of
    the scale of the covariances where these lack rank. Raises ValueError.
    """
    if a.size != b.size:
        raise ValueError(f"statistics of {a.size} and of {b.size} features cannot be compared")
    shift = a.mean - b.mean
    spread = np.trace(a.cov) + np.trace(b.cov) - 2 * _trace_of_root(a.cov, b.cov)
    return float(shift @ shift + spread)


def _trace_of_root(a: np.ndarray, b: np.ndarray) -> float:
    """tr((a b)^(1/2)) of two covariances.

    a b has the eigenvalues of the symmetric a^(1/2) b a^(1/2), which are real, cheaper and more
    exact; those that rounding makes negative count as 0.
    """
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return float(np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(min=0)).sum())
