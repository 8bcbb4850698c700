"""Fréchet distance of a generator's pictures to the real ones, in random convolution features."""

import json
from collections.abc import Iterator

import numpy as np
import torch

import dnnlib
from metrics.frechet import FeatureStatistics, frechet_distance
from metrics.options import MetricOptions
from metrics.processes import in_all_processes
from metrics.random_features import RandomConvFeatures
from training.dataset import Dataset
from training.volumetric_rendering.draws import FixedDraws

MOST_REALS = 10_000  # of a larger dataset as many are read, at random
_REAL_BATCH = 64
_FAKE_BATCH = 8  # small, since it comes on top of the memory of a training
_SEED = 0

_features = RandomConvFeatures()


def distance_to_real_pictures(options: MetricOptions, num_fakes: int) -> float:
    """Fréchet distance of `num_fakes` pictures to all real ones, or 10,000 of them.

    Each picture is rendered from, and conditioned on, the camera of a random real one. Latents,
    cameras and noise are the same every time. Processes take turns at whole batches, so that their
    number changes only the rounding of sums.
    """
    key = _features.name, json.dumps(dict(options.dataset_kwargs), sort_keys=True)
    if key not in options.memory:
        parts = in_all_processes(lambda: _measure_reals(options), options.num_gpus)
        _, labels = parts[0]
        options.memory[key] = _total([statistics for statistics, _ in parts]), labels
    reals, labels = options.memory[key]

    def measure_fakes() -> FeatureStatistics:
        return _features.statistics(_fake_pictures(options, labels, num_fakes))

    fakes = _total(in_all_processes(measure_fakes, options.num_gpus))
    return frechet_distance(fakes, reals)


def _total(parts: list[FeatureStatistics]) -> FeatureStatistics:
    total = FeatureStatistics(_features.size)
    for part in parts:
        total.merge(part)
    return total


def _turns(count: int, batch: int, options: MetricOptions) -> Iterator[slice]:
    """This process's share of `count` pictures, in batches."""
    for start in range(options.rank * batch, count, options.num_gpus * batch):
        yield slice(start, min(start + batch, count))


def _measure_reals(options: MetricOptions) -> tuple[FeatureStatistics, np.ndarray]:
    """Statistics of this process's share of the real pictures, and the labels [N, 25] of all."""
    choice = dict(max_size=MOST_REALS, xflip=False, random_seed=_SEED, use_labels=True)
    dataset = dnnlib.util.construct_class_by_name(**dict(options.dataset_kwargs, **choice))
    statistics = _features.statistics(
        _real_pictures(dataset, part).to(options.device)
        for part in _turns(len(dataset), _REAL_BATCH, options)
    )
    labels = np.stack([dataset.get_label(i) for i in range(len(dataset))])
    dataset.close()
    return statistics, labels


def _real_pictures(dataset: Dataset, part: slice) -> torch.Tensor:
    return torch.from_numpy(np.stack([dataset[i][0] for i in range(part.start, part.stop)]))


@torch.no_grad()
def _fake_pictures(
    options: MetricOptions, labels: np.ndarray, count: int
) -> Iterator[torch.Tensor]:
    """This process's share of the generated pictures, uint8 [n, 3, R, R]."""
    G, device = options.G, options.device
    z = torch.randn([count, G.z_dim], generator=torch.Generator().manual_seed(_SEED))
    picks = np.random.RandomState(_SEED).randint(len(labels), size=count)
    c = torch.from_numpy(labels[picks])
    for part in _turns(count, _FAKE_BATCH, options):
        torch.manual_seed(part.start)  # of noise that super-resolution may draw
        arguments = dict(noise_mode="const", draws=FixedDraws()) | dict(options.G_kwargs)
        image = G(z[part].to(device), c[part].to(device), **arguments)["image"]
        yield (image * 127.5 + 128).clamp(0, 255).to(torch.uint8)
