"""Compositing: from samples along rays to one feature vector, depth and opacity a ray."""

import torch
import torch.nn.functional as F

from .options import RenderingOptions, read_option


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
        the options clamp_mode (required), white_back and empty_depth.
        """
        mode = read_option(rendering_options, "clamp_mode")
        if mode != "softplus":
            raise ValueError(f"rendering option clamp_mode is {mode!r}; possible: 'softplus'")
        depths = depths.squeeze(-1)
        weights = segment_weights(densities.squeeze(-1), depths)
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


def segment_weights(densities: torch.Tensor, depths: torch.Tensor) -> torch.Tensor:
    """Share of the light that each segment between samples sends to the camera.

    raw densities [..., S], ascending depths [..., S] -> weights [..., S - 1]. The density of a
    segment is softplus(mean of its ends - 1); EG3D equation of section 3, with 1e-10 of the light
    passing every segment so that a later one keeps a gradient.
    """
    density = F.softplus((densities[..., :-1] + densities[..., 1:]) / 2 - 1)
    absorbed = 1 - torch.exp(-density * (depths[..., 1:] - depths[..., :-1]))
    return absorbed * _LightLeft.apply((1 - absorbed) + 1e-10)


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
