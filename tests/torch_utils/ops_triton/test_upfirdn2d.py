"""The filter's kernel against the plain passes in float64, alone and joined with an epilogue."""

import pytest
import torch

from torch_utils.ops import conv2d_resample, upfirdn2d_ops
from torch_utils.ops import upfirdn2d as op
from torch_utils.ops.choice import set_ops
from torch_utils.ops.epilogue import Epilogue

ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 2e-3}

# Up, down [x, y], shape of the filter, padding, dtype, channels-last: as networks and augmentation
# filter, and with odd sizes, unlike axes, cropping.
CASES = {
    "blur": (1, 1, (4, 4), (1, 1, 1, 1), torch.float64, True),
    "blur, half": (1, 1, (4, 4), (2, 2, 2, 2), torch.float16, True),
    "up": (2, 1, (4, 4), (2, 1, 2, 1), torch.float64, True),
    "up, NCHW": (2, 1, (4, 4), (-1, 3, 4, -2), torch.float32, False),
    "down": (1, 2, (4, 4), (1, 1, 1, 1), torch.float64, False),
    "separable": (2, 1, (6,), (3, 2, 3, 2), torch.float64, True),
    "unlike axes": ([2, 1], [1, 2], (2, 3), (2, 1, 0, 3), torch.float64, False),
}


def derivatives(run, *leaves):
    """The output, its gradients, and gradients of these, for fixed weights of each."""
    leaves = [t.detach().clone().requires_grad_() for t in leaves]
    y = run(*leaves)

    def weights(t):
        return torch.arange(t.numel(), device=t.device).reshape(t.shape).cos().to(t.dtype)

    first = torch.autograd.grad((y**2 * weights(y)).sum(), leaves, create_graph=True)
    total = sum((g * weights(g)).sum().double() for g in first)
    second = torch.autograd.grad(total, leaves, allow_unused=True)
    return [t.detach() for t in (y, *first, *second) if t is not None]


@pytest.mark.parametrize("case", CASES)
def test_against_the_passes(device, assert_scaled, case):
    up, down, shape, padding, dtype, last = CASES[case]
    layout = torch.channels_last if last else torch.contiguous_format
    f = torch.randn(shape, device=device)
    x = torch.randn(1, 3, 5, 6, device=device).to(dtype).contiguous(memory_format=layout)

    def run(x):
        return op.upfirdn2d(x, f, up, down, padding, flip_filter=last, gain=1.3)

    ours = derivatives(run, x)
    assert ours[0].dtype == dtype and ours[0].is_contiguous(memory_format=layout)
    set_ops("torch")
    for actual, expected in zip(ours, derivatives(run, x.double()), strict=True):
        assert_scaled(actual, expected, ROUNDING[dtype])


def test_several_programs_along_every_axis(device, assert_scaled):
    """More columns, rows and channels than a program makes."""
    x, f = torch.randn(2, 70, 6, 19, device=device), op.setup_filter([1, 3, 3, 1], device)
    x = x.contiguous(memory_format=torch.channels_last)
    y = op.upfirdn2d(x, f, padding=1)
    assert_scaled(y, op.upfirdn2d(x.double(), f, padding=1, impl="ref"), 1e-6)


def test_which_passes_have_a_kernel(device):
    x = torch.zeros(1, 1, 4, 4, device=device)
    assert upfirdn2d_ops.fits(x, (4, 4), (2, 1), (4, 2))
    assert not upfirdn2d_ops.fits(x, (4, 4), (1, 3), (1, 1))
    assert not upfirdn2d_ops.fits(x, (4, 4), (1, 1), (1, 3))
    assert not upfirdn2d_ops.fits(x, (13, 1), (1, 1), (1, 1))
    assert op.upfirdn2d(x, torch.zeros(4, 4, device=device), up=3).shape == (1, 1, 9, 9)


@pytest.mark.parametrize("demodulated", [True, False])
def test_joined_with_an_epilogue(device, assert_scaled, monkeypatch, demodulated):
    """An up-convolution as generators have it (with scale and noise) and as resizing layers do."""
    kind = dict(dtype=torch.float64, device=device)
    x, w = torch.randn(2, 2, 3, 2, **kind), torch.randn(3, 2, 3, 3, **kind)
    x = x.contiguous(memory_format=torch.channels_last)
    f = op.setup_filter([1, 2, 4, 2], device)
    leaves = dict(bias=torch.randn(3, **kind))
    noise = None
    if demodulated:
        leaves |= dict(scale=torch.randn(2, 3, **kind) + 2, strength=torch.tensor(0.6, **kind))
        noise = torch.randn(2, 1, 6, 4, **kind)
    joined = []
    fir_epilogue = upfirdn2d_ops.fir_epilogue
    monkeypatch.setattr(
        upfirdn2d_ops, "fir_epilogue", lambda *args: joined.append(0) or fir_epilogue(*args)
    )

    def run(x, w, *parts):
        parts = Epilogue(**dict(zip(leaves, parts, strict=True)), noise=noise, act="lrelu", clamp=3)
        options = dict(up=2, padding=1, flip_weight=False, epilogue=parts)
        return conv2d_resample.conv2d_resample(x, w, f, **options)

    ours = derivatives(run, x, w, *leaves.values())
    assert joined and ours[0].is_contiguous(memory_format=torch.channels_last)
    set_ops("torch")
    joined.clear()
    for actual, expected in zip(ours, derivatives(run, x, w, *leaves.values()), strict=True):
        assert_scaled(actual, expected, 1e-12)
    assert not joined


def test_registration(device):
    x = torch.randn(1, 2, 3, 4, device=device).contiguous(memory_format=torch.channels_last)
    taps = torch.randn(4, 4, device=device)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    args = (x.clone().requires_grad_(), taps, [2, 1], [1, 2], [2, 1, 3, 0], True, 4.0)
    torch.library.opcheck(upfirdn2d_ops.upfirdn2d, args, test_utils=checks)
    parts = (None, None, None, torch.randn(2, device=device), 0.2, 1.4, 1.0)
    args = (x, taps, [2, 1, 1, 1], False, 4.0, *parts)
    torch.library.opcheck(upfirdn2d_ops.fir_epilogue, args, test_utils=checks[:2])
