"""Layers of networks with kernels and without: the same values and gradients."""

import pytest
import torch

from torch_utils.ops.choice import set_ops
from training.discriminator import DiscriminatorBlock
from training.superresolution import SynthesisBlockNoUp
from training.synthesis import SynthesisBlock


def both_ways(run):
    """What `run` returns with kernels and without, the random numbers being the same."""
    answers = []
    for choice in ("triton", "torch"):
        set_ops(choice)
        torch.manual_seed(1)
        answers.append(run())
    return zip(*answers, strict=True)


@pytest.mark.parametrize("kind", [SynthesisBlock, SynthesisBlockNoUp])
def test_synthesis_block(device, assert_scaled, kind):
    """Values and first gradients of training, for latents and every parameter."""
    block = kind(2, 3, 4, 8 if kind is SynthesisBlock else 4, 3, is_last=True, conv_clamp=1.0)
    block = block.to(device)
    for layer in (block.conv0, block.conv1):
        layer.noise_strength.data.fill_(0.5)
    x, img = torch.randn(2, 2, 4, 4, device=device), torch.randn(2, 3, 4, 4, device=device)
    ws = torch.randn(2, 3, 4, device=device, requires_grad=True)

    def run():
        y, rgb = block(x, img.clone(), ws, fused_modconv=False)
        leaves = [ws, *block.parameters()]
        return [y, rgb, *torch.autograd.grad((y**2).sum() + (rgb**3).sum(), leaves)]

    for actual, expected in both_ways(run):
        assert_scaled(actual.detach(), expected.detach(), 1e-5)


def test_discriminator_block_with_r1(device, assert_scaled):
    """Second gradients: the penalty on the gradient in the picture, for every parameter."""
    block = DiscriminatorBlock(0, 3, 4, resolution=8, img_channels=3, first_layer_idx=0)
    block = block.to(device)
    for name, parameter in block.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    img = torch.randn(1, 3, 8, 8, device=device, requires_grad=True)

    def run():
        y, _ = block(None, img)
        (slope,) = torch.autograd.grad((y**2).sum(), img, create_graph=True)
        penalty = slope.square().sum()
        leaves = list(block.parameters())
        return [y, penalty, *torch.autograd.grad(penalty, leaves)]

    for actual, expected in both_ways(run):
        assert_scaled(actual.detach(), expected.detach(), 1e-5)
