"""The fused epilogue against the plain composition in float64, gradients and second ones too."""

import math
from dataclasses import replace

import pytest
import torch

from torch_utils.ops import bias_act, epilogue_ops
from torch_utils.ops.choice import set_ops
from torch_utils.ops.epilogue import Epilogue

# Of 16 bits, outputs and incoming gradients have been rounded, too; long sums cancel a little.
ROUNDING = {torch.float64: 1e-12, torch.float32: 4e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}

# Shape, dtype, channels-last, parts, activation: the forms that networks have, at odd sizes.
LRELU = dict(act="lrelu", clamp=1.5)
CASES = {
    "synthesis": ((3, 5, 3, 7), torch.float64, False, "scale noise strength bias", LRELU),
    "synthesis, last": ((2, 5, 4, 3), torch.float64, True, "scale noise strength bias", LRELU),
    "one noise": ((2, 3, 4, 3), torch.float64, True, "scale map strength bias", dict(act="lrelu")),
    "half": ((2, 5, 3, 4), torch.float16, True, "scale noise strength bias", LRELU),
    "bfloat16": ((2, 3, 4, 5), torch.bfloat16, False, "scale noise strength bias", LRELU),
    "discriminator": ((2, 3, 4, 3), torch.float32, True, "bias", dict(act="lrelu", gain=1.0)),
    "colours": ((2, 3, 4, 3), torch.float64, True, "bias", dict(clamp=0.7)),
    "shortcut": ((2, 3, 2, 3), torch.float64, False, "", dict(gain=0.7)),
    "relu": ((2, 3, 2, 3), torch.float64, False, "scale bias", dict(act="relu")),
    "noise alone": ((1, 2, 3, 3), torch.float64, True, "noise strength", dict(act="lrelu")),
    "many channels": ((1, 130, 1, 2), torch.float32, True, "scale bias", LRELU),
    "many pixels": ((1, 1, 97, 101), torch.float32, False, "scale noise strength bias", LRELU),
}


def parts_of(names, shape, dtype, device):
    n, c, h, w = shape
    made = dict(
        scale=torch.randn(n, c) + 2,
        noise=torch.randn(n, 1, h, w),
        map=torch.randn(h, w),
        strength=torch.tensor(0.6),
        bias=torch.randn(c),
    )
    wide = torch.promote_types(dtype, torch.float32)
    parts = {k: v.to(device, wide) for k, v in made.items() if k in names.split()}
    if "map" in parts:
        parts["noise"] = parts.pop("map")
    return parts


def derivatives(run, leaves):
    """The output, its gradients and second gradients, for fixed weights of each."""
    leaves = {k: v.detach().clone().requires_grad_() for k, v in leaves.items()}
    y = run(**leaves)

    def weights(t):
        return torch.arange(t.numel(), device=t.device).reshape(t.shape).cos().to(t.dtype)

    first = torch.autograd.grad(
        ((y + 0.5) ** 2 * weights(y)).sum(), [*leaves.values()], create_graph=True
    )
    total = sum((g * weights(g)).sum().double() for g in first)
    second = torch.autograd.grad(total, [*leaves.values()], allow_unused=True)
    return [y, *first, *(g for g in second if g is not None)]


@pytest.mark.parametrize("case", CASES)
def test_against_the_composition(device, assert_scaled, case):
    shape, dtype, last, names, act = CASES[case]
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout)
    parts = parts_of(names, shape, dtype, device)
    noise = dict(noise=parts.pop("noise", None))

    def fused(x, **leaves):
        done = Epilogue(**leaves, **noise, **act)
        assert done.fused(x, *shape[2:])
        y = done(x)
        assert y.dtype == dtype and y.is_contiguous(memory_format=layout)
        return y

    def twin(x, **leaves):
        exact = {k: None if v is None else v.double() for k, v in noise.items()}
        return Epilogue(**leaves, **exact, **act).plain(x * 1)

    ours = derivatives(fused, dict(x=x, **parts))
    twins = derivatives(twin, {k: v.double() for k, v in dict(x=x, **parts).items()})
    assert len(ours) == len(twins)
    for actual, expected in zip(ours, twins, strict=True):
        assert_scaled(actual.detach(), expected.detach(), ROUNDING[dtype])


def test_matrix_as_fully_connected_layers_have(device, assert_scaled):
    x, b = torch.randn(5, 3, device=device), torch.randn(3, device=device)
    assert epilogue_ops.fits(x, 0.2, 1.0)

    def run(x, b):
        return bias_act.bias_act(x, b, act="lrelu", clamp=1.0)

    ours = derivatives(run, dict(x=x, b=b))
    set_ops("torch")
    for actual, expected in zip(ours, derivatives(run, dict(x=x, b=b)), strict=True):
        assert_scaled(actual.detach(), expected.detach(), 1e-6)


def test_clamped_values_have_no_gradient_in_half_precision(device):
    """181.02, the clamp of residual blocks, is 181 in half precision."""
    clamp = 256 * math.sqrt(0.5)
    x = torch.tensor([[[[1e3, -1e4, 3.0, 180.9]]]], device=device).half().requires_grad_()
    y = Epilogue(act="lrelu", gain=1.0, clamp=clamp)(x)
    y.sum().backward()
    assert y[0, 0, 0].tolist() == [181, -181, 3, x[0, 0, 0, 3].item()]
    assert x.grad[0, 0, 0].tolist() == [0, 0, 1, 1]


def test_nan_stays_nan(device):
    x = torch.tensor([[[[math.nan, 9.0]]]], device=device)
    y = Epilogue(act="lrelu", clamp=2.0)(x)
    assert y[0, 0, 0, 0].isnan() and y[0, 0, 0, 1] == 2


def test_what_has_no_kernel_runs_plainly(device):
    """Other activations, signs that do not tell the mask, other axes, noise that is optimised."""
    x = torch.randn(2, 3, 4, 4, device=device)
    assert epilogue_ops.fits(x, 0.2, 1.0)
    assert not epilogue_ops.fits(x, None, 1.0) and epilogue_ops.slope_of("swish", 0) is None
    assert not epilogue_ops.fits(x, -0.1, 1.0) and not epilogue_ops.fits(x, 0.2, -1.0)
    assert not epilogue_ops.fits(x[0], 0.2, 1.0) and not epilogue_ops.fits(x[:0], 0.2, 1.0)
    noise = torch.randn(4, 4, device=device)
    done = Epilogue(noise=noise, strength=torch.tensor(0.5, device=device), act="lrelu")
    assert done.fused(x, 4, 4) and not done.fused(x, 4, 5)
    for shape in [(3, 1, 4, 4), (1, 3, 4, 4), (1, 4), (4,)]:
        assert not replace(done, noise=torch.zeros(shape)).fused(x, 4, 4)
    noise.requires_grad_()
    assert not done.fused(x, 4, 4)
    done(x.clone()).sum().backward()
    assert noise.grad.abs().min() > 0
    for act in ("swish", "tanh"):
        torch.testing.assert_close(
            bias_act.bias_act(x, act=act), bias_act.bias_act(x, act=act, impl="ref")
        )
    along = bias_act.bias_act(x, torch.ones(4, device=device), dim=3, act="lrelu")
    torch.testing.assert_close(along, torch.nn.functional.leaky_relu(x + 1, 0.2) * math.sqrt(2))


def test_registration(device):
    """Schema, shapes without values, and autograd, as `torch.library` checks them."""
    x = torch.randn(2, 3, 2, 3, device=device).contiguous(memory_format=torch.channels_last)
    parts = [torch.randn(2, 3, device=device), torch.randn(2, 3, device=device)]
    parts += [torch.tensor(0.5, device=device), torch.randn(3, device=device)]
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    leaves = [x.clone().requires_grad_(), *parts]
    torch.library.opcheck(epilogue_ops.epilogue, (*leaves, 0.2, 1.4, 1.0), test_utils=checks[:2])
    for given in [(x, x, *parts[:2], True), (None, None, None, None, False)]:
        args = (x, *given, 0.2 if given[0] is not None else 1.0, 1.4, None)
        torch.library.opcheck(epilogue_ops.epilogue_backward, args, test_utils=checks)
