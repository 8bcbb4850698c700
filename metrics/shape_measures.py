"""The shapes of many samples: are they solid, more than a plane, and different from each other?

What `training.health` follows on a few samples during a training, for so many that two models can
be compared. None of the measures knows what a good shape is: read them beside those of pictures.
"""

from functools import partial
from typing import Any

import numpy as np
import torch

from metrics.options import MetricOptions
from metrics.samples import in_order, latents, picks, real_labels, turns
from training import health

_BLOCK = 8  # latents, and cameras, that are measured together, as in training
_NAMES = {
    "opacity": health.OPACITY,
    "opaque": health.OPAQUE,
    "near": health.NEAR,
    "depth_spread": health.DEPTH_SPREAD,
    "normal_variance": health.NORMAL_VARIANCE,
    "variety": health.SAMPLES,
    "view_variety": health.VIEWS,
}


def shape_measures(options: MetricOptions, samples: int = 256) -> dict[str, float]:
    """The measures of `training.health.Health`, mean over blocks of 8 latents and the cameras of 8
    random real pictures; to be called in all processes.

    Returns opacity, opaque, near, depth_spread (in box sides), normal_variance, variety (colours of
    the identities of a block, Health/samples) and view_variety (of views of one, Health/views). Of
    the options of G only truncation counts: pictures have 32 x 32 rays, without super-resolution.
    Raises DatasetError, and ValueError unless samples are a multiple of 8.
    """
    if samples < 1 or samples % _BLOCK:
        raise ValueError(f"samples is {samples}, must be a multiple of {_BLOCK}")

    def share() -> dict[int, list[float]]:
        labels = real_labels(options)
        return {
            block.start: _measure(options, block, labels)
            for block in turns(samples, _BLOCK, options)
        }

    means = np.mean(in_order(options, share), axis=0).tolist()
    return dict(zip(_NAMES, means, strict=True))


class _Truncated:
    """G, but for its `mapping`, which truncates."""

    def __init__(self, options: MetricOptions):
        self._G = options.G
        self.mapping = partial(options.G.mapping, **options.truncation)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._G, name)


def _measure(options: MetricOptions, block: range, labels: torch.Tensor) -> list[float]:
    z = latents(block, options.G.z_dim, options.seed)
    c = labels[picks(block, len(labels), options.seed)]
    found = health.Health(z.to(options.device), c.to(options.device)).measure(_Truncated(options))
    return [found[name] for name in _NAMES.values()]
