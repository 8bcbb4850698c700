"""The ways with gradients in a fixed order against PyTorch's own operators."""

import pytest
import torch
import torch.nn.functional as F

from torch_utils.ops import resampling


@pytest.fixture
def images():
    return torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)


def same(found, expected, *inputs):
    """Values, gradients of a curved function, and their gradients."""
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(_gradients(y, inputs) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


def _gradients(y, inputs):
    first = torch.autograd.grad(y.sin().sum(), inputs, create_graph=True)
    return *first, *torch.autograd.grad(sum(g.cos().sum() for g in first), inputs)


@pytest.mark.parametrize("align_corners", [False, True])
def test_sampling(images, align_corners):
    """Inside, across the edges, far outside."""
    grid = (torch.rand(2, 4, 6, 2, dtype=torch.float64) * 3 - 1.5).requires_grad_()
    found = resampling.gathered(images, grid, align_corners)
    expected = F.grid_sample(images, grid, align_corners=align_corners)
    same(found, expected, images, grid)
    assert (expected == 0).any()


@pytest.mark.parametrize("size", [(3, 4), (9, 16), (5, 7), (2, 20)])
@pytest.mark.parametrize("how", [(False, False), (True, False), (False, True)])
def test_resizing(images, size, how):
    antialias, align_corners = how
    found = resampling.multiplied(images, *size, *how)
    expected = F.interpolate(images, size, None, "bilinear", align_corners, antialias=antialias)
    same(found, expected, images)


@pytest.mark.parametrize("borders", [(0, 0, 0, 0), (1, 2, 3, 4), (6, 6, 4, 4), (0, 3, 2, 0)])
def test_mirrored_borders(images, borders):
    found = resampling.reflected(images, borders)
    assert torch.equal(found, F.pad(images, borders, mode="reflect"))
    same(found, F.pad(images, borders, mode="reflect"), images)


def test_elsewhere_they_are_pytorchs_own(images, monkeypatch):
    for name in ("gathered", "multiplied", "reflected"):
        monkeypatch.delattr(resampling, name)
    grid = torch.zeros(2, 1, 1, 2, dtype=torch.float64)
    assert torch.equal(
        resampling.grid_sample(images, grid), F.grid_sample(images, grid, align_corners=False)
    )
    assert resampling.resize(images, 3, 4, True).shape == (2, 3, 3, 4)
    assert resampling.mirrored(images, (1, 1, 1, 1)).shape == (2, 3, 7, 9)
    monkeypatch.setattr(resampling, "_fixed_order", lambda images: True)
    with pytest.raises(NameError, match="gathered"):
        resampling.grid_sample(images, grid)


@pytest.mark.gpu
def test_a_gpu_repeats_its_sums():
    """Many points on few pixels, twice, to the bit."""
    torch.use_deterministic_algorithms(True)
    try:
        images = torch.randn(2, 8, 16, 16, device="cuda", requires_grad=True)
        grid = torch.rand(2, 1, 50000, 2, device="cuda") * 2 - 1
        dy = torch.randn(2, 8, 1, 50000, device="cuda")
        gradients = [
            torch.autograd.grad(resampling.grid_sample(images, grid), images, dy)[0]
            for _ in range(3)
        ]
        assert all(torch.equal(g, gradients[0]) for g in gradients)
        small = resampling.resize(images, 7, 7, True)
        first, second = (
            torch.autograd.grad(small.square().sum(), images, retain_graph=True)[0]
            for _ in range(2)
        )
        assert torch.equal(first, second)
    finally:
        torch.use_deterministic_algorithms(False)
