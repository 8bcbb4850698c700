"""Which latents and cameras the pictures of a metric have: a function of the seed and a number.

Picture number i is the same picture whatever the batches are, however many processes take turns,
and however many pictures a metric asks for: 2,000 pictures are the first 2,000 of 50,000.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import torch

import dnnlib
from metrics.errors import MetricError
from metrics.options import MetricOptions
from metrics.processes import in_all_processes
from training.cameras import LABEL_SIZE
from training.dataset import Dataset

_BLOCK = 64  # pictures whose numbers are drawn together

Result = TypeVar("Result")


def latents(indices: range, z_dim: int, seed: int = 0) -> torch.Tensor:
    """z [n, z_dim] float32, on the CPU, of the pictures with some successive numbers."""
    rows = draw(indices, (seed, 0), lambda random, count: random.randn(count, z_dim))
    return torch.from_numpy(rows.astype(np.float32))


def picks(indices: range, choices: int, seed: int = 0) -> np.ndarray:
    """One of `choices` for each of the pictures, int64 [n], uniformly and independently."""
    return draw(indices, (seed, 1), lambda random, count: random.randint(choices, size=count))


def turns(count: int, batch: int, options: MetricOptions) -> Iterator[range]:
    """This process's share of `count` pictures, in batches: processes take turns."""
    for start in range(options.rank * batch, count, options.num_gpus * batch):
        yield range(start, min(start + batch, count))


def in_order(options: MetricOptions, share: Callable[[], Mapping[int, Result]]) -> list[Result]:
    """What `share()` gives by number in each process, of all processes, sorted by number; so that
    what is made of it does not depend on how many they are."""
    found: dict[int, Result] = {}
    for part in in_all_processes(share, options.num_gpus):
        found |= part
    return [found[number] for number in sorted(found)]


def open_reals(options: MetricOptions) -> Dataset:
    """All real pictures, unmirrored, with their labels. Raises DatasetError."""
    choice = dict(max_size=None, xflip=False, use_labels=True)
    return dnnlib.util.construct_class_by_name(**dict(options.dataset_kwargs, **choice))


def real_labels(options: MetricOptions) -> torch.Tensor:
    """The labels [N, c_dim] of all real pictures, cameras and classes, as G takes them; float32, on
    the CPU. Raises DatasetError, MetricError."""
    dataset = open_reals(options)
    try:
        labels = torch.from_numpy(dataset.all_labels())
    finally:
        dataset.close()
    if labels.shape[1] != options.G.c_dim:
        here, there = (size - LABEL_SIZE for size in (labels.shape[1], options.G.c_dim))
        raise MetricError(
            f"{dataset.name}: its dataset.json has {here} classes, the network was trained with "
            f'{there}; must be as many ("num_classes" may say so)'
        )
    return labels


def draw(
    indices: range,
    seed: tuple[int, ...],
    make: Callable[[np.random.RandomState, int], np.ndarray],
) -> np.ndarray:
    """Rows `indices` of an endless sequence, of which make(random, count) gives `count` rows.

    From NumPy's frozen RandomState: the same numbers with every version.
    """
    first, last = indices.start // _BLOCK, max(indices.stop - 1, indices.start) // _BLOCK
    rows = [make(np.random.RandomState([*seed, k]), _BLOCK) for k in range(first, last + 1)]
    start = indices.start - first * _BLOCK
    return np.concatenate(rows)[start : start + len(indices)]
