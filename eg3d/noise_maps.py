"""The backbone's constant noise as something that can be fitted to a picture: taken out of a model,
put into one, and held to look like noise (Karras et al. 2020, appendix D)."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F

from eg3d.model import Model

_COARSEST = 8  # side of the smallest copy of a map that is held to be white

NoiseMaps = Mapping[str, torch.Tensor]


def noise_maps(model: Model) -> dict[str, torch.Tensor]:
    """Copies of the backbone's noise maps [R, R], by their names in the generator."""
    return {
        name: values.clone()
        for name, values in model.generator.named_buffers()
        if name.startswith("backbone.") and name.endswith(".noise_const")
    }


def with_noise(model: Model, maps: NoiseMaps) -> Model:
    """A copy of the model that has these very tensors as noise maps, and wants no gradients of its
    own."""
    generator = copy.deepcopy(model.generator).requires_grad_(False)
    for name, values in maps.items():
        layer, _, buffer = name.rpartition(".")
        setattr(generator.get_submodule(layer), buffer, values)
    return replace(model, generator=generator)


def autocorrelation(maps: Iterable[torch.Tensor]) -> torch.Tensor:
    """How far noise maps [R, R] are from white: the sum of the squared mean products of horizontal
    and of vertical neighbours, of each map and of its halved copies down to 8 x 8."""
    terms = []
    for values in maps:
        level = values[None, None]
        while True:
            terms += [(level * level.roll(1, axis)).mean().square() for axis in (2, 3)]
            if level.shape[2] <= _COARSEST:
                break
            level = F.avg_pool2d(level, 2) * 2  # keeps the variance of white noise
    return torch.stack(terms).sum()


@torch.no_grad()
def normalize(maps: Iterable[torch.Tensor]) -> None:
    """Shifts and scales each map to mean 0 and variance 1, in place."""
    for values in maps:
        values.sub_(values.mean()).div_(values.square().mean().sqrt())
