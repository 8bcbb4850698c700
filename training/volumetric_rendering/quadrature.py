"""How samples along rays become pictures: the two ray marchers' rules, as values of one shape.

A rule gives the coarse weights that importance sampling follows, the sums of the final pass, and
the results that these make. The renderer takes either and asks nothing else.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .options import RenderingOptions
from .ray_marcher import (
    closed_weights,
    finish_features,
    mean_depth,
    sample_weights,
    segment_weights,
)


class Rendered(NamedTuple):
    """What rays [N, M] show.

    features: [N, M, K]. depth, opacity: [N, M, 1], distance along the ray and the share of light
    that is absorbed. transmittance: [N, M, 1], the light that is left for a background; of the
    classic marcher that before the last sample.
    """

    features: Tensor
    depth: Tensor
    opacity: Tensor
    transmittance: Tensor


class Sums(NamedTuple):
    """Along rays of S samples: what each sample's colour counts, [..., S]; the sums of weights and
    of weight times depth, and the light that is left, [..., 1]."""

    shares: Tensor
    total: Tensor
    distance: Tensor
    left: Tensor


@dataclass(frozen=True)
class Midpoint:
    """Segments between samples, with values in their middle (Max 1995; mip-NeRF)."""

    options: RenderingOptions

    def weights(self, densities: Tensor, depths: Tensor) -> Tensor:
        """Raw densities, ascending depths [..., S] -> weights of the segments [..., S - 1]."""
        options = self.options
        return segment_weights(densities, depths, options.clamp_mode, options.density_bias)

    def sums(self, densities: Tensor, depths: Tensor) -> Sums:
        """Raw densities, ascending depths [..., S] -> sums."""
        weights = self.weights(densities, depths)
        middles = (depths[..., :-1] + depths[..., 1:]) / 2
        total = weights.sum(-1, keepdim=True)
        distance = (weights * middles).sum(-1, keepdim=True)
        return Sums(sample_weights(weights), total, distance, 1 - total)

    def finish(self, features: Tensor, sums: Sums, depths: Tensor) -> Rendered:
        """The sum of share times colour [..., K], the sums, depths [..., S] -> features 2 F - 1,
        and the depth as a mean over the absorbed light."""
        features = finish_features(features, sums.total, self.options.white_back)
        depth = mean_depth(sums.distance, sums.total, depths, self.options.empty_depth)
        return Rendered(features, depth, sums.total, sums.left)


@dataclass(frozen=True)
class Classic:
    """Samples that stand for the way to the next (NeRF: Mildenhall et al. 2020, equation 3)."""

    options: RenderingOptions

    def weights(self, densities: Tensor, depths: Tensor) -> Tensor:
        """Raw densities, ascending depths [..., S] -> weights of the samples [..., S]."""
        return self._march(densities, depths)[0]

    def sums(self, densities: Tensor, depths: Tensor) -> Sums:
        """Raw densities, ascending depths [..., S] -> sums; the total without `last_back`."""
        weights, light = self._march(densities, depths)
        total = weights.sum(-1, keepdim=True)
        if self.options.last_back:
            kept, last = weights.tensor_split([-1], dim=-1)
            weights = torch.cat([kept, last + 1 - total], dim=-1)
        return Sums(weights, total, (weights * depths).sum(-1, keepdim=True), light[..., -1:])

    def finish(self, features: Tensor, sums: Sums, depths: Tensor) -> Rendered:
        """The sum of share times colour [..., K], and the sums -> features and the sum as depth;
        with `empty_depth` 'ray' light that nothing absorbs comes from the last sample."""
        if self.options.white_back:
            seen, rest = features.tensor_split([3], dim=-1)
            features = torch.cat([seen + 1 - sums.total, rest], dim=-1)
        distance = sums.distance
        if self.options.empty_depth == "ray":
            distance = distance + (1 - sums.total) * depths[..., -1:]
        return Rendered(features, distance, sums.total, sums.left)

    def _march(self, densities, depths):
        o = self.options
        return closed_weights(densities, depths, o.last_delta, o.clamp_mode, o.density_bias)


Quadrature = Midpoint | Classic


def quadrature(options: RenderingOptions) -> Quadrature:
    """The rule of `options.ray_marcher`."""
    return {"midpoint": Midpoint, "classic": Classic}[options.ray_marcher](options)
