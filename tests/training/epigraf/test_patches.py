"""Which patches are drawn: recorded numbers, distributions, and the groups they are shared in."""

import pytest
import torch

from tests.recorded_draws import recorded_draws
from training.epigraf.patches import PatchSampler

LATE = 10**8  # images, all schedules are over


@pytest.mark.parametrize("kind", ["beta", "uniform", "discrete_uniform"])
def test_recorded_sampling(kind, conformance, assert_scaled, monkeypatch):
    arrays = conformance("epigraf/patch_sampling")
    sampler = PatchSampler(distribution=kind, grouping="contiguous")
    for k, kimg in enumerate(arrays["kimg"].tolist()):
        beta, least = arrays[f"{kind}/beta_and_min_scale"][k].tolist()
        assert sampler.least_scale(kimg * 1000) == pytest.approx(least)
        if kind == "beta":
            assert sampler.beta(kimg * 1000) == pytest.approx(beta)
        with recorded_draws(monkeypatch):
            view = sampler.sample(24, kimg * 1000, 64)
        assert view.resolution == 64
        assert_scaled(view.scales, arrays[f"{kind}/scales"][k])
        assert_scaled(view.offsets, arrays[f"{kind}/offsets"][k])


def test_strided_groups_are_those_of_the_minibatch_std():
    """Sample i is compared with i + N / 4, i + 2 N / 4, ... by `MinibatchStdLayer`: a picture that
    encodes its patch must not vary within a group."""
    from training.discriminator import MinibatchStdLayer

    for grouping, same in (("strided", True), ("contiguous", False)):
        view = PatchSampler(grouping=grouping).sample(16, LATE, 8)
        coded = torch.cat([view.scales, view.offsets], dim=1)
        assert len({tuple(row) for row in coded.tolist()}) == 4
        std = MinibatchStdLayer(4)(coded[:, :, None, None])[:, -1]
        assert (std.max() < 2e-4) == same


def test_both_groupings_have_the_same_patches():
    found = []
    for grouping in ("strided", "contiguous"):
        torch.manual_seed(3)
        view = PatchSampler(grouping=grouping).sample(12, LATE, 8)
        found.append(torch.cat([view.scales, view.offsets], dim=1))
    strided, contiguous = found
    for i in range(12):
        assert torch.equal(strided[i], contiguous[4 * (i % 3)])


@pytest.mark.parametrize("count, size, different", [(3, 4, 1), (8, None, 1), (6, 1, 6), (8, 2, 4)])
def test_size_of_groups(count, size, different):
    view = PatchSampler(group_size=size).sample(count, LATE, 8)
    assert view.offsets.shape == (count, 2)
    assert len({tuple(row) for row in view.offsets.tolist()}) == different


@pytest.mark.parametrize("kind", ["beta", "uniform", "discrete_uniform"])
@pytest.mark.parametrize("nimg", [0, 10**6, LATE])
def test_patches_lie_inside_everywhere(kind, nimg):
    sampler = PatchSampler(distribution=kind, min_scale=0.25, group_size=1)
    view = sampler.sample(2000, nimg, 64)
    assert view.scales.min() >= sampler.least_scale(nimg) - 1e-6 and view.scales.max() <= 1
    assert torch.equal(view.scales[:, 0], view.scales[:, 1])
    room = 1 - view.scales
    assert (view.offsets >= 0).all() and (view.offsets <= room).all()
    used = (view.offsets / room)[room[:, 0] > 0.01]
    if len(used) > 1000:
        assert (used.mean(0) - 0.5).abs().max() < 0.05


@pytest.mark.parametrize(
    "beta, mean", [(0.001, 0.999), (0.08, 0.935), (0.2, 0.854), (0.4, 0.750), (0.8, 0.611)]
)
def test_mean_scale_of_beta(beta, mean):
    """1 / 8 + 7 / 8 / (1 + beta)."""
    sampler = PatchSampler(beta_start=beta, beta_end=beta)
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    assert sampler.scales_from_draws(u, 0).mean().item() == pytest.approx(mean, abs=6e-4)


def test_any_alpha_against_its_density():
    """Shares of a histogram for Beta(2, 3): the integral of 12 x (1 - x)^2."""
    sampler = PatchSampler(
        alpha=2.0, beta_start=3.0, beta_end=3.0, min_scale=0.2, max_scale=0.8, group_size=1
    )
    x = ((sampler.sample(40000, 0, 8).scales[:, 0] - 0.2) / 0.6).double()

    def below(t):
        return 12 * (t**2 / 2 - 2 * t**3 / 3 + t**4 / 4)

    for k in range(10):
        low, high = k / 10, (k + 1) / 10
        share = ((x >= low) & (x < high)).double().mean().item()
        assert share == pytest.approx(below(high) - below(low), abs=0.01)


def test_discrete_scales_appear_when_they_are_allowed():
    sampler = PatchSampler(distribution="discrete_uniform", group_size=1)
    u = torch.tensor([0.0, 0.49, 0.5, 0.99], dtype=torch.float64)
    assert sampler.scales_from_draws(u, 0).tolist() == [1, 1, 1, 1]
    assert sampler.scales_from_draws(u, LATE).tolist() == [0.25, 0.25, 1, 1]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(distribution="normal"), "distribution is 'normal'; must be one of beta, uniform"),
        (dict(grouping="none"), "grouping is 'none'; must be one of strided, contiguous"),
        (dict(min_scale=0.5, max_scale=0.4), "min_scale, max_scale are 0.5, 0.4"),
        (dict(beta_end=0), "alpha, beta_start, beta_end are 1.0, 0.001, 0; must be above 0"),
        (dict(group_size=0), "group_size is 0; must be 1 or more"),
        (dict(distribution="discrete_uniform", max_scale=0.9), "max_scale is 0.9"),
    ],
)
def test_refused_settings(wrong, message):
    with pytest.raises(ValueError, match=message):
        PatchSampler(**wrong)


def test_refused_sizes():
    PatchSampler(min_scale=0.125).check_size(64, 512)
    with pytest.raises(ValueError, match="min_scale is 0.125; must be at least 0.25"):
        PatchSampler(min_scale=0.125).check_size(64, 256)
    with pytest.raises(ValueError, match="a batch of 6 does not divide into groups of 4"):
        PatchSampler().sample(6, 0, 8)
