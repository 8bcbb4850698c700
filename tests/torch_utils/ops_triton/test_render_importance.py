"""Importance sampling, one ray a program, against the plain functions in float64."""

import pytest
import torch

from torch_utils.ops import render_ops
from torch_utils.ops.render_ops import Rule
from training.volumetric_rendering.depths import importance_depths
from training.volumetric_rendering.ray_marcher import closed_weights, segment_weights


@pytest.mark.parametrize("centered", [False, True], ids=["reference", "centered"])
@pytest.mark.parametrize("coarse, fine", [(5, 3), (8, 9), (4, 1)])
def test_depths(device, coarse, fine, centered):
    """Random rays, one that absorbs nothing, one that is opaque at once, one that goes backwards
    (as limits of rays do when none of a batch meets the box)."""
    depths = torch.sort(torch.rand(5, coarse) * 2 + 0.5)[0]
    depths[3] = depths[3].flip(0)
    sigma = torch.randn(5, coarse) * 5
    sigma[1], sigma[2] = -1e4, 1e4
    uniform = torch.rand(5, fine)
    uniform[:, 0] = 0
    found = render_ops.importance_depths(
        depths.to(device), sigma.to(device), uniform.to(device), centered, True, *Rule()
    )
    weights = segment_weights(sigma.double(), depths.double())
    bins = "centered" if centered else "reference"
    expected = importance_depths(depths.double(), weights, uniform.double(), bins)
    expected = torch.cat([depths.double(), expected], dim=1).sort(1)[0]
    torch.testing.assert_close(found.cpu().double(), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "rule, smoothing",
    [
        (Rule("classic", "softplus", 0.0, 1e10), False),
        (Rule("classic", "relu", 0.5, 0.3), True),
        (Rule("midpoint", "softplus", 0.5), False),
        (Rule("midpoint", "relu", -0.5), True),
    ],
)
@pytest.mark.parametrize("coarse, fine", [(7, 9), (4, 3)])
def test_depths_of_other_rules(device, coarse, fine, rule, smoothing):
    depths = torch.sort(torch.rand(3, coarse) * 2 + 0.5)[0]
    sigma, uniform = torch.randn(3, coarse) * 3, torch.rand(3, fine)
    found = render_ops.importance_depths(
        depths.to(device), sigma.to(device), uniform.to(device), False, smoothing, *rule
    )
    depths, sigma = depths.double(), sigma.double()
    if rule.name == "classic":
        weights = closed_weights(sigma, depths, rule.last_delta, rule.clamp, rule.bias)[0]
    else:
        weights = segment_weights(sigma, depths, rule.clamp, rule.bias)
    expected = importance_depths(depths, weights, uniform.double(), smoothing=smoothing)
    expected = torch.cat([depths, expected], dim=1).sort(1)[0]
    torch.testing.assert_close(found.cpu().double(), expected, atol=2e-5, rtol=0)
    other = importance_depths(depths, weights, uniform.double(), smoothing=not smoothing)
    assert (other - expected[:, :fine]).abs().max() > 1e-3


def test_one_row_of_quantiles_for_all_rays(device):
    depths, sigma = torch.linspace(1, 2, 6).repeat(3, 1), torch.randn(3, 6)
    uniform = ((torch.arange(4) + 0.5) / 4).expand(3, 4)
    inputs = [x.to(device) for x in (depths, sigma, uniform)]
    inputs[2] = inputs[2][:1].expand(3, 4)
    found = render_ops.importance_depths(*inputs, False, True, *Rule())
    again = render_ops.importance_depths(*inputs[:2], inputs[2].contiguous(), False, True, *Rule())
    assert inputs[2].stride(0) == 0 and torch.equal(found, again)
