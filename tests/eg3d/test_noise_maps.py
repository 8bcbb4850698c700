"""Noise maps out of and into models; what is white, against sums over neighbours."""

import pytest
import torch

import eg3d
from eg3d.noise_maps import autocorrelation, noise_maps, normalize, with_noise


def test_out_of_one_model_and_into_another(generator, new_generator):
    """A copy gets them, as the tensors they are, and nothing else changes."""
    maps = noise_maps(eg3d.Model.of(generator))
    assert sorted(len(values) for values in maps.values()) == [4, 8, 8, 16, 16]
    other = eg3d.Model.of(new_generator(seed=1).requires_grad_(True))
    before = {name: value.clone() for name, value in other.generator.state_dict().items()}
    found = with_noise(other, maps).generator
    assert all(torch.equal(v, before[n]) for n, v in other.generator.state_dict().items())
    assert not any(p.requires_grad for p in found.parameters())
    for name, value in found.state_dict().items():
        assert torch.equal(value, maps.get(name, before[name])), name
    buffers = dict(found.named_buffers())
    assert all(buffers[name] is values for name, values in maps.items())


def test_autocorrelation_by_hand():
    def level(n):
        size = len(n)
        right = sum(n[y][x] * n[y][x - 1] for y in range(size) for x in range(size))
        down = sum(n[y][x] * n[y - 1][x] for y in range(size) for x in range(size))
        return (right / size**2) ** 2 + (down / size**2) ** 2

    small, large = torch.randn(4, 4), torch.randn(16, 16)
    half = [
        [large[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].sum() / 2 for x in range(8)] for y in range(8)
    ]
    expected = level(small.tolist()) + level(large.tolist()) + level(half)
    assert autocorrelation([small, large]).item() == pytest.approx(float(expected), rel=1e-4)
    assert autocorrelation([torch.ones(8, 8)]).item() == pytest.approx(2)


def test_normalized():
    maps = [torch.randn(4, 4) * 3 + 2, torch.rand(16, 16)]
    expected = [(values - values.mean()) / values.std(correction=0) for values in maps]
    normalize(maps)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(maps, expected, strict=True))
