"""Compositing: from samples along rays to one feature vector, depth and opacity a ray."""

import torch
import torch.nn.functional as F

from .options import CHOICES, RenderingOptions, read_option


class MipRayMarcher2(torch.nn.Module):
    """Quadrature with values at the middle of segments (Max 1995; mip-NeRF). Has no parameters."""

    def run_forward(
        self,
        colors: torch.Tensor,
        densities: torch.Tensor,
        depths: torch.Tensor,
        rendering_options: dict | RenderingOptions,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """colors [N, M, S, K], raw densities [N, M, S, 1], ascending depths [N, M, S, 1].

        -> features [N, M, K] (2 F - 1), depth [N, M, 1], segment weights [N, M, S - 1, 1]. Reads
        the options clamp_mode (required), density_bias, white_back and empty_depth.
        """
        mode = read_option(rendering_options, "clamp_mode")
        bias = read_option(rendering_options, "density_bias", -1.0)
        depths = depths.squeeze(-1)
        weights = segment_weights(densities.squeeze(-1), depths, mode, bias)
        features = weighted_sum(sample_weights(weights), colors)
        total = weights.sum(-1, keepdim=True)
        features = finish_features(
            features, total, read_option(rendering_options, "white_back", False)
        )
        depth = expected_depth(
            weights, total, depths, read_option(rendering_options, "empty_depth", "batch")
        )
        return features, depth, weights.unsqueeze(-1)

    def forward(
        self,
        colors: torch.Tensor,
        densities: torch.Tensor,
        depths: torch.Tensor,
        rendering_options: dict | RenderingOptions,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same as `run_forward`."""
        return self.run_forward(colors, densities, depths, rendering_options)


class _LightLeft(torch.autograd.Function):
    """Product of all earlier elements along the last dimension, [..., S] -> [..., S].

    torch.cumprod's derivative looks for zeros on the host, which waits for the device. Elements
    here are at least 1e-10, so the derivative may divide by them.
    """

    @staticmethod
    def forward(ctx, passed):
        before = F.pad(passed[..., :-1], (1, 0), value=1.0).cumprod(-1)
        ctx.save_for_backward(passed, before)
        return before

    @staticmethod
    def backward(ctx, grad):
        passed, before = ctx.saved_tensors
        share = grad * before
        later = share.flip(-1).cumsum(-1).flip(-1) - share
        return later / passed


def activate(raw: torch.Tensor, clamp_mode: str = "softplus", bias: float = -1.0) -> torch.Tensor:
    """Densities [...], never negative, of raw ones: softplus or relu of raw + bias."""
    if clamp_mode not in CHOICES["clamp_mode"]:
        raise ValueError(
            f"rendering option clamp_mode is {clamp_mode!r}; "
            f"possible: {', '.join(map(repr, CHOICES['clamp_mode']))}"
        )
    return (F.softplus if clamp_mode == "softplus" else F.relu)(raw + bias)


def segment_weights(
    densities: torch.Tensor,
    depths: torch.Tensor,
    clamp_mode: str = "softplus",
    bias: float = -1.0,
) -> torch.Tensor:
    """Share of the light that each segment between samples sends to the camera.

    raw densities [..., S], ascending depths [..., S] -> weights [..., S - 1]. The density of a
    segment is that of the mean of its ends; EG3D equation of section 3.
    """
    density = activate((densities[..., :-1] + densities[..., 1:]) / 2, clamp_mode, bias)
    return absorption(density, depths[..., 1:] - depths[..., :-1])[0]


def closed_weights(
    densities: torch.Tensor,
    depths: torch.Tensor,
    last_delta: float,
    clamp_mode: str = "softplus",
    bias: float = -1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of the light that each sample sends to the camera, and the light before it.

    raw densities [..., S], ascending depths [..., S] -> both [..., S]. A sample stands for the way
    to the next, the last one for `last_delta` (NeRF: Mildenhall et al. 2020, equation 3).
    """
    lengths = F.pad(depths[..., 1:] - depths[..., :-1], (0, 1), value=last_delta)
    return absorption(activate(densities, clamp_mode, bias), lengths)


def absorption(density: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Densities of pieces of rays [..., L] and their lengths -> weights and the light before them.

    1e-10 of the light passes every piece so that a later one keeps a gradient.
    """
    absorbed = 1 - torch.exp(-density * lengths)
    light = _LightLeft.apply((1 - absorbed) + 1e-10)
    return absorbed * light, light


def sample_weights(weights: torch.Tensor) -> torch.Tensor:
    """Weights of segments [..., S - 1] -> of samples [..., S]: half a segment's weight to each end.

    sum_i w_i (c_i + c_{i+1}) / 2 = sum_s v_s c_s, so colours need neither averaging nor sorting.
    """
    padded = F.pad(weights, (1, 1))
    return (padded[..., :-1] + padded[..., 1:]) / 2


def weighted_sum(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """weights [..., S], values [..., S, K] -> [..., K]."""
    return (weights.unsqueeze(-2) @ values).squeeze(-2)


def finish_features(features: torch.Tensor, total: torch.Tensor, white_back: bool) -> torch.Tensor:
    """Composited features F [..., K] -> 2 F - 1, with white light behind them if `white_back`."""
    if white_back:
        features = features + 1 - total
    return features * 2 - 1


def expected_depth(
    weights: torch.Tensor, total: torch.Tensor, depths: torch.Tensor, empty_depth: str = "batch"
) -> torch.Tensor:
    """Mean depth [..., 1] of the absorbed light: weights [..., S - 1], their sum [..., 1].

    Within the range of depths [..., S]. A ray that absorbs nothing gets the largest depth of the
    whole 'batch', or of its 'ray', and no gradient.
    """
    middles = (depths[..., :-1] + depths[..., 1:]) / 2
    return mean_depth((weights * middles).sum(-1, keepdim=True), total, depths, empty_depth)


def mean_depth(
    weighted: torch.Tensor, total: torch.Tensor, depths: torch.Tensor, empty_depth: str = "batch"
) -> torch.Tensor:
    """As `expected_depth`, from the sum of weight times depth and the sum of weights, [..., 1]."""
    dims = {"dim": -1, "keepdim": True} if empty_depth == "ray" else {}
    nearest, farthest = torch.amin(depths, **dims), torch.amax(depths, **dims)
    absorbing = total.abs() > 0
    depth = weighted / torch.where(absorbing, total, 1.0)
    return torch.where(absorbing, depth.clamp(nearest, farthest), farthest)
