"""fma, grid_sample_gradfix, conv2d_gradfix and custom_ops."""

import pytest
import torch

from torch_utils import custom_ops
from torch_utils.ops import conv2d_gradfix, grid_sample_gradfix
from torch_utils.ops.fma import fma


def double(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 3, 4, 5)] * 3,
        [(2, 3, 4, 5), (2, 3, 1, 1), (2, 1, 4, 5)],
        [(2, 3, 4, 5), (3, 1, 1), (5,)],
        [(3, 1), (1, 4), ()],
    ],
    ids=str,
)
def test_fma(shapes):
    a, b, c = (double(*shape) for shape in shapes)
    torch.testing.assert_close(fma(a, b, c), a * b + c)
    assert torch.autograd.gradcheck(fma, (a, b, c))
    assert torch.autograd.gradgradcheck(fma, (a, b, c))


def test_fma_keeps_channels_last():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    y = fma(x, torch.randn(2, 3, 1, 1), torch.randn(2, 1, 4, 5))
    assert y.is_contiguous(memory_format=torch.channels_last)


def bilinear(image, x, y):
    """One sample of image [C, H, W] at x, y in -1..1 (outer pixel edges), zeros outside."""
    _, h, w = image.shape
    col, row = (x + 1) * w / 2 - 0.5, (y + 1) * h / 2 - 0.5
    total = torch.zeros_like(image[:, 0, 0])
    for r in range(h):
        for c in range(w):
            weight = max(0.0, 1 - abs(r - row)) * max(0.0, 1 - abs(c - col))
            total = total + weight * image[:, r, c]
    return total


def test_grid_sample():
    image = double(2, 3, 4, 5)
    grid = (torch.rand(2, 3, 2, 2, dtype=torch.float64) * 2.6 - 1.3).requires_grad_()
    y = grid_sample_gradfix.grid_sample(image, grid)
    for n, i, j in torch.cartesian_prod(*map(torch.arange, [2, 3, 2])).tolist():
        torch.testing.assert_close(y[n, :, i, j], bilinear(image[n], *grid[n, i, j].tolist()))
    assert torch.autograd.gradcheck(grid_sample_gradfix.grid_sample, (image, grid))
    assert torch.autograd.gradgradcheck(grid_sample_gradfix.grid_sample, (image, grid))


def test_conv2d():
    x, w, b = double(1, 4, 5, 6), double(2, 2, 3, 2), double(2)

    def run(x, w, b):
        return conv2d_gradfix.conv2d(
            x, w, b, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2
        )

    torch.testing.assert_close(run(x, w, b), torch.nn.functional.conv2d(
        x, w, b, (2, 1), (1, 2), (1, 2), 2
    ))  # fmt: skip
    assert torch.autograd.gradcheck(run, (x, w, b))
    assert torch.autograd.gradgradcheck(run, (x, w, b))


def test_conv_transpose2d_is_the_adjoint():
    x, w = double(1, 4, 7, 6), double(2, 2, 3, 3)
    y = conv2d_gradfix.conv2d(x, w, stride=2, padding=1, groups=2)
    dy = torch.randn_like(y).requires_grad_()
    (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)

    def adjoint(dy, w):
        return conv2d_gradfix.conv_transpose2d(
            dy, w, stride=2, padding=1, output_padding=(0, 1), groups=2
        )

    torch.testing.assert_close(adjoint(dy, w), dx)
    assert torch.autograd.gradgradcheck(adjoint, (dy, w))


def test_no_weight_gradients_is_scoped_and_changes_no_result():
    x, w = double(1, 2, 4, 4), double(2, 2, 3, 3)

    def penalty():
        y = conv2d_gradfix.conv2d(x, w).square().sum()
        with conv2d_gradfix.no_weight_gradients():
            assert conv2d_gradfix.weight_gradients_disabled
            (dx,) = torch.autograd.grad(y, x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), w)[0]

    assert not conv2d_gradfix.weight_gradients_disabled
    with_switch = penalty()
    y = torch.nn.functional.conv2d(x, w).square().sum()
    (dx,) = torch.autograd.grad(y, x, create_graph=True)
    torch.testing.assert_close(with_switch, torch.autograd.grad(dx.square().sum(), w)[0])
    with pytest.raises(KeyError), conv2d_gradfix.no_weight_gradients():
        raise KeyError
    assert not conv2d_gradfix.weight_gradients_disabled
    with conv2d_gradfix.no_weight_gradients(disable=False):
        assert not conv2d_gradfix.weight_gradients_disabled


def test_no_plugins():
    assert custom_ops.verbosity == "brief"
    with pytest.raises(RuntimeError, match="bias_act_plugin"):
        custom_ops.get_plugin("bias_act_plugin", ["x.cpp"], headers=["x.h"], source_dir=".")


@pytest.mark.parametrize(
    "name, shape", [("conv2d", (4, 3, 3, 3)), ("conv_transpose2d", (3, 4, 3, 3))]
)
def test_convolutions_in_bfloat16(name, shape):
    """As a convolution of rounded operands in double precision, rounded; in the block alone."""
    convolve = getattr(conv2d_gradfix, name)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    w, bias = torch.randn(shape, requires_grad=True), torch.randn(4)
    exact = convolve(x, w, bias)
    with conv2d_gradfix.bfloat16_convolutions():
        y = convolve(x, w, bias)
        rounded = (t.detach().bfloat16().double().requires_grad_() for t in (x, w, bias))
        ours = convolve(*(expected := list(rounded)))
    assert ours.dtype == torch.float64 and y.dtype == torch.float32
    torch.testing.assert_close(y.double(), ours, rtol=2**-7, atol=2**-7)
    assert 1e-4 < (y - exact).abs().max() < 0.2
    assert torch.equal(convolve(x, w, bias), exact)

    slope = torch.randn_like(y)
    found = torch.autograd.grad(y, (x, w), slope)
    wanted = torch.autograd.grad(ours, expected[:2], slope.bfloat16().double())
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2**-6, atol=0.1)


def test_filters_stay_in_float32():
    x, w = torch.randn(1, 4, 8, 8), torch.randn(4, 1, 3, 3)
    with conv2d_gradfix.bfloat16_convolutions():
        y = conv2d_gradfix.conv2d(x, w, groups=4)
    assert torch.equal(y, conv2d_gradfix.conv2d(x, w, groups=4))
