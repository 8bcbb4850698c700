"""Shared by the tests of the renderer: a decoder without the generator's classes, simple rays."""

import pytest
import torch
import torch.nn.functional as F


class _Decoder:
    """Two layers as plain matrices, learning rate multiplier 1."""

    def __init__(self, weight1, bias1, weight2, bias2, averages_planes):
        self.parameters = [weight1, bias1, weight2, bias2]
        self.averages_planes = averages_planes

    def __call__(self, features, directions):
        weight1, bias1, weight2, bias2 = self.parameters
        hidden = features.mean(1) @ weight1.T / weight1.shape[1] ** 0.5 + bias1
        out = F.softplus(hidden) @ weight2.T / weight2.shape[1] ** 0.5 + bias2
        return {"rgb": torch.sigmoid(out[..., 1:]) * 1.002 - 0.001, "sigma": out[..., :1]}


@pytest.fixture
def make_decoder():
    """`make_decoder(weight1, bias1, weight2, bias2, averages_planes=False)` -> a decoder."""

    def make(weight1, bias1, weight2, bias2, averages_planes=False):
        return _Decoder(weight1, bias1, weight2, bias2, averages_planes)

    return make


@pytest.fixture
def small_decoder(make_decoder):
    """`small_decoder(averages_planes=True, **kind)`: 3 features, 2 colours, random weights."""

    def make(averages_planes=True, **kind):
        shapes = [(5, 3), (5,), (3, 5), (3,)]
        weights = [torch.randn(shape, **kind) for shape in shapes]
        return make_decoder(*weights, averages_planes=averages_planes)

    return make


@pytest.fixture
def parallel_rays():
    """`parallel_rays(n, m, **kind)`: origins at z = 1.5, directions about -z, each [n, m, 3]."""

    def make(n, m, **kind):
        origins = torch.rand(n, m, 3, **kind) * 0.8 - 0.4
        origins[..., 2] = 1.5
        directions = torch.randn(n, m, 3, **kind) * 0.1
        directions[..., 2] = -1
        return origins, F.normalize(directions, dim=-1)

    return make
