"""Kernels on a GPU, at the sizes of networks."""

import pytest
import torch

from eg3d.operator_trials import difference, trials
from tests.tiny import tiny_discriminator
from torch_utils.ops.choice import using_ops
from torch_utils.ops.epilogue import Epilogue

pytestmark = pytest.mark.gpu

NAMES = [t.name.split(",")[0] for t in trials(torch.device("cpu"), small=True)]


@pytest.mark.parametrize("name", NAMES)
def test_operators_at_full_size(name):
    (trial,) = (t for t in trials(torch.device("cuda"), small=False) if t.name.startswith(name))
    assert difference(trial) <= trial.tolerance


def test_discriminator_in_half_precision(assert_scaled):
    """R1's gradients, which go through the second derivatives of every kernel."""
    torch.manual_seed(0)
    D = tiny_discriminator().cuda().requires_grad_(True)
    side = D.img_resolution
    image = torch.randn(4, 3, side, side, device="cuda", requires_grad=True)
    raw = torch.randn(4, 3, side // 2, side // 2, device="cuda", requires_grad=True)
    c = torch.randn(4, D.c_dim, device="cuda")
    answers = []
    for choice in ("triton", "torch"):
        with using_ops(choice):
            logits = D(dict(image=image, image_raw=raw), c)
            slopes = torch.autograd.grad(logits.sum(), [image, raw], create_graph=True)
            penalty = sum(s.square().sum() for s in slopes)
            answers.append(
                [logits, *torch.autograd.grad(penalty, [*D.parameters()], allow_unused=True)]
            )
    for actual, expected in zip(*answers, strict=True):
        assert (actual is None) == (expected is None)
        if actual is not None:
            assert_scaled(actual.detach(), expected.detach(), 2e-2)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
def test_the_same_bits_each_time(layout):
    """Sums are made in a fixed order, so --deterministic needs nothing else."""
    x = torch.randn(4, 96, 128, 128, device="cuda").half().contiguous(memory_format=layout)
    noise = torch.randn(4, 1, 128, 128, device="cuda")
    found = []
    for _ in range(2):
        leaves = [torch.ones(4, 96), torch.tensor(0.3), torch.zeros(96)]
        leaves = [t.cuda().requires_grad_() for t in leaves]
        scale, strength, bias = leaves
        with using_ops("triton"):
            y = Epilogue(scale, noise, strength, bias, act="lrelu", clamp=2)(x)
        found.append(torch.autograd.grad(y.float().sin().sum(), leaves))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_inside_a_cuda_graph():
    x = (
        torch.randn(2, 64, 32, 32, device="cuda")
        .half()
        .contiguous(memory_format=torch.channels_last)
    )
    bias = torch.randn(64, device="cuda")
    done = Epilogue(bias=bias, act="lrelu", clamp=2)
    with using_ops("triton"), torch.no_grad():
        done(x)  # compiles
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = done(x)
        x.copy_(torch.randn_like(x))
        graph.replay()
        assert torch.equal(y, done(x))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU at most")
def test_on_another_device_than_the_current_one():
    x = torch.randn(1, 8, 4, 4, device="cuda:1")
    with using_ops("triton"):
        y = Epilogue(act="lrelu")(x.clone())
    torch.testing.assert_close(y, torch.nn.functional.leaky_relu(x, 0.2) * 2**0.5)
    assert torch.cuda.current_device() == 0
