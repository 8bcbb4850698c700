"""bias_act against recorded numbers, scalar formulas and numerical gradients; filtered_lrelu."""

import math

import pytest
import torch

from torch_utils.ops import bias_act as op
from torch_utils.ops import upfirdn2d
from torch_utils.ops.filtered_lrelu import filtered_lrelu

ACTS = ["linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"]
OPTIONS = [dict(), dict(alpha=0.1, gain=1.7, clamp=0.8)]
RECORDED = [(act, options) for act in ACTS for options in OPTIONS]

LAMBDA, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
FORMULAS = {
    "linear": lambda u, a: u,
    "relu": lambda u, a: max(u, 0),
    "lrelu": lambda u, a: u if u > 0 else a * u,
    "tanh": lambda u, a: math.tanh(u),
    "sigmoid": lambda u, a: 1 / (1 + math.exp(-u)),
    "elu": lambda u, a: u if u >= 0 else math.exp(u) - 1,
    "selu": lambda u, a: LAMBDA * (u if u >= 0 else SELU_ALPHA * (math.exp(u) - 1)),
    "softplus": lambda u, a: math.log1p(math.exp(u)),
    "swish": lambda u, a: u / (1 + math.exp(-u)),
}


@pytest.mark.parametrize("case", range(len(RECORDED)))
def test_recorded(conformance, case):
    """Output, gradient and second gradients, in float64."""
    arrays = {k: v.double() for k, v in conformance("bias_act").items()}
    act, options = RECORDED[case]
    x, dy = arrays["x"].requires_grad_(), arrays["dy"].requires_grad_()
    y = op.bias_act(x, arrays["b"], act=act, **options)
    (dx,) = torch.autograd.grad((y * dy).sum(), x, create_graph=True)
    d_dy, d2x = torch.autograd.grad(
        (dx * arrays["v"]).sum(), [dy, x], allow_unused=True, materialize_grads=True
    )
    for name, value in dict(y=y, dx=dx, d_dy=d_dy, d2x=d2x).items():
        torch.testing.assert_close(value, arrays[f"{name}{case}"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    "options",
    [dict(), dict(gain=-0.7), dict(alpha=-0.3), dict(alpha=0.5, gain=3.0, clamp=1.1), dict(gain=1)],
    ids=str,
)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_formulas(act, options, dim):
    x = torch.randn(3, 4, 2, dtype=torch.float64)
    b = torch.randn(x.shape[dim], dtype=torch.float64)
    alpha = options.get("alpha", 0.2 if act == "lrelu" else 0)
    gain = options.get("gain", math.sqrt(2) if act in ("relu", "lrelu", "swish") else 1)
    clamp = options.get("clamp", math.inf)
    for bias in (None, b):
        y = op.bias_act(x, bias, dim=dim, act=act, **options)
        for index in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
            u = x[tuple(index)].item() + (0 if bias is None else b[index[dim]].item())
            expected = min(max(gain * FORMULAS[act](u, alpha), -clamp), clamp)
            assert y[tuple(index)].item() == pytest.approx(expected, rel=1e-11, abs=1e-13)


def test_known_values():
    x = torch.tensor([[-1.5, -0.25, 0, 0.5, 2]])

    def check(expected, columns=slice(None), **options):
        y = op.bias_act(x, **options)[0, columns]
        torch.testing.assert_close(y, torch.tensor(expected), rtol=0, atol=1e-6)

    check([-0.424264, -0.070711, 0, 0.707107, 2.828427], act="lrelu")
    check([-0.386983, -0.154794, 0, 0.440145, 2.491270], act="swish")
    first = {"elu": -0.776870, "selu": -1.365814, "softplus": 0.201413}
    for act, value in {**first, "sigmoid": 0.182426, "tanh": -0.905148}.items():
        check([value], slice(1), act=act)
    clamped = [-0.395980, -0.042426, 0.141421, 0.848528, 1]
    check(clamped, b=torch.full([5], 0.1), act="lrelu", clamp=1)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients(act, options):
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, dtype=torch.float64, requires_grad=True)

    def run(x, b):
        return op.bias_act(x, b, act=act, **options)

    assert torch.autograd.gradcheck(run, (x, b))
    assert torch.autograd.gradgradcheck(run, (x, b))
    assert torch.autograd.gradcheck(lambda x: run(x, None), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("act", ACTS)
def test_half_is_rounded_once(dtype, act):
    x, b = torch.randn(4, 8, 5).to(dtype), torch.randn(8).to(dtype)
    y = op.bias_act(x, b, act=act, clamp=2)
    assert y.dtype == dtype
    exact = op.bias_act(x.double(), b.double(), act=act, clamp=2)
    # One rounding of a float32 result; a tie may fall either way.
    spacing = torch.finfo(dtype).eps * exact.abs().clamp(min=torch.finfo(dtype).tiny)
    assert ((y.double() - exact).abs() <= 0.5001 * spacing + 1e-7).all()


def test_table():
    assert list(op.activation_funcs) == ACTS
    assert [spec.cuda_idx for spec in op.activation_funcs.values()] == list(range(1, 10))
    refs = {act: spec.ref for act, spec in op.activation_funcs.items()}
    assert refs == {act: {"linear": "", "swish": "x"}.get(act, "y") for act in ACTS}
    curved = [act for act, spec in op.activation_funcs.items() if spec.has_2nd_grad]
    assert curved == ACTS[3:]
    assert op.activation_funcs["lrelu"].def_alpha == 0.2
    assert op.activation_funcs["lrelu"].def_gain == math.sqrt(2)


@pytest.mark.parametrize("act", ACTS)
def test_nan_stays_nan(act):
    y = op.bias_act(torch.tensor([[math.nan, 1e30, -1e30]]), act=act, clamp=3)
    assert y[0, 0].isnan() and not y[0, 1:].isnan().any() and y[0, 1:].abs().max() <= 3


@pytest.mark.parametrize("act", ACTS)
def test_arguments_are_not_written_to(act):
    x, b = torch.randn(2, 3), torch.randn(3)
    for bias, gain in [(None, 1), (None, 2), (b, 1), (b, 2)]:
        before = x.clone(), b.clone()
        op.bias_act(x, bias, act=act, gain=gain)
        assert torch.equal(x, before[0]) and torch.equal(b, before[1])


@pytest.mark.parametrize(
    "bad",
    [
        dict(act="gelu"),
        dict(clamp=-1),
        dict(impl="fast"),
        dict(b=torch.zeros(4)),
        dict(b=torch.zeros(3, dtype=torch.float64)),
        dict(b=torch.zeros(3), dim=2),
    ],
    ids=str,
)
def test_bad_arguments(bad):
    with pytest.raises(ValueError):
        op.bias_act(torch.zeros(2, 3), **bad)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("options", [dict(), dict(alpha=-0.3), dict(gain=-0.7, clamp=0.5)], ids=str)
def test_in_place(act, options):
    """Permission to overwrite the input changes neither values nor gradients of any order."""
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, dtype=torch.float64, requires_grad=True)
    v = torch.randn(2, 3, 4, dtype=torch.float64)
    answers = []
    for inplace in (False, True):
        y = op.bias_act(x * 1, b, act=act, inplace=inplace, **options)
        first = torch.autograd.grad((y * v).sum() + (y**3).sum(), [x, b], create_graph=True)
        second = torch.autograd.grad((first[0] ** 2).sum(), [x, b], allow_unused=True)
        with torch.no_grad():
            plain = op.bias_act(x * 1, b, act=act, inplace=inplace, **options)
        answers.append([y, plain, *first, *second])
    for separate, shared in zip(*answers, strict=True):
        torch.testing.assert_close(shared, separate, rtol=1e-12, atol=1e-12)


def test_in_place_overwrites():
    x, b = torch.randn(2, 3, 4), torch.randn(3)
    y = op.bias_act(x, b, act="lrelu", clamp=0.5, inplace=True)
    assert y.data_ptr() == x.data_ptr() and torch.equal(x, y)


def test_filtered_lrelu_is_the_composition():
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, dtype=torch.float64)
    fu, fd = upfirdn2d.setup_filter([1, 2, 1]), upfirdn2d.setup_filter([1, 3, 3, 1])
    options = dict(up=2, down=3, padding=[3, 4, 2, 5], gain=1.2, slope=0.3, clamp=0.9)
    y = filtered_lrelu(x, fu, fd, b, **options)
    assert y.shape[2:] == ((7 * 2 + 7 - 2 - 3 + 2) // 3, (6 * 2 + 7 - 2 - 3 + 2) // 3)
    u = upfirdn2d.upfirdn2d(x + b[:, None, None], fu, up=2, padding=[3, 4, 2, 5], gain=4)
    u = (torch.where(u > 0, u, 0.3 * u) * 1.2).clamp(-0.9, 0.9)
    torch.testing.assert_close(y, upfirdn2d.upfirdn2d(u, fd, down=3))
    assert torch.autograd.gradcheck(lambda x: filtered_lrelu(x, fu, fd, b, **options), x)
