"""Recomputed activations: the same bits as without, from the same random numbers, and less kept."""

import pytest
import torch

from tests.tiny import tiny_generator
from training import recomputation
from training.volumetric_rendering.draws import RandomDraws

CAMERA = [1.0, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2, 0, 0.5, 0, 4.2, 0.5, 0, 0, 1]
CHOICES = list(recomputation.CHOICES)


def gradients(G, choice, private=False, side=16):
    """Pictures, gradients of every parameter and of z, and a random number drawn afterwards."""
    torch.manual_seed(3)
    z = torch.randn(2, G.z_dim, requires_grad=True)
    c = torch.tensor([CAMERA, CAMERA])
    draws = RandomDraws(torch.Generator().manual_seed(5)) if private else None
    parts = recomputation.parts_of(choice)
    pictures = G(z, c, neural_rendering_resolution=side, draws=draws, recompute=parts)
    torch.rand(7)  # What comes between forward and backward is not to matter.
    sum(
        (p * torch.linspace(-1, 1, p.numel()).view_as(p)).sum() for p in pictures.values()
    ).backward()
    found = dict(pictures, z=z.grad, afterwards=torch.rand(3))
    found |= {name: p.grad for name, p in G.named_parameters()}
    G.zero_grad(set_to_none=True)
    return found


@pytest.fixture
def G():
    return tiny_generator().train().requires_grad_(True)


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("noise", ["none", "random"])
@pytest.mark.parametrize("choice", CHOICES[1:])
def test_the_same_bits(G, choice, noise, private):
    # At 16 x 16 rays the first block of the super-resolution adds to the raw picture in place.
    G.rendering_kwargs |= dict(superresolution_noise_mode=noise, density_noise=0.1)
    expected, actual = gradients(G, "none", private), gradients(G, choice, private)
    assert all(g is not None for name, g in expected.items() if "noise_strength" not in name)
    for name, value in expected.items():
        assert torch.equal(value, actual[name]) if value is not None else actual[name] is None, name
    assert not torch.equal(gradients(G, choice, private, side=12)["image"], expected["image"])


def counted(monkeypatch, module):
    calls = []
    forward = module.forward
    monkeypatch.setattr(module, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    return calls


@pytest.mark.parametrize(
    "choice, renderer, sr", [("none", 1, 1), ("renderer", 2, 1), ("renderer+sr", 2, 2)]
)
def test_what_runs_twice(G, monkeypatch, choice, renderer, sr):
    rendered, resolved = (counted(monkeypatch, m) for m in (G.renderer, G.superresolution.block1))
    gradients(G, choice)
    assert (len(rendered), len(resolved)) == (renderer, sr)
    with torch.no_grad():
        G(torch.randn(1, 8), torch.tensor([CAMERA]), recompute=recomputation.parts_of(choice))
    assert (len(rendered), len(resolved)) == (renderer + 1, sr + 1)


def test_a_second_backward_pass(G):
    c = torch.tensor([CAMERA])
    z = torch.randn(1, 8)
    image = G(z, c, recompute=recomputation.parts_of("renderer+sr"))["image"].sum()
    first, second = (
        torch.autograd.grad(image, list(G.decoder.parameters()), retain_graph=True)
        for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_unknown_choice():
    with pytest.raises(ValueError, match="none, renderer, renderer[+]sr, not 'sr'"):
        recomputation.parts_of("sr")
