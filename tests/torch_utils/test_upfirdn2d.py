"""upfirdn2d and its helpers against loops, recorded numbers and numerical gradients."""

import itertools

import numpy as np
import pytest
import torch

from torch_utils.ops import upfirdn2d as op

A = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
B = torch.arange(16.0).reshape(1, 1, 4, 4)

RECORDED = [
    dict(f="1331", up=1, down=1, padding=0, flip_filter=False, gain=1),
    dict(f="1331", up=2, down=1, padding=[2, 1, 2, 1], flip_filter=False, gain=4),
    dict(f="1331", up=1, down=2, padding=[1, 1, 1, 1], flip_filter=True, gain=1),
    dict(f="3x5", up=[2, 3], down=[3, 1], padding=[4, 3, 2, 5], flip_filter=False, gain=0.7),
    dict(f="3x5", up=1, down=[1, 2], padding=[-1, 2, 3, -1], flip_filter=True, gain=1.5),
    dict(f=None, up=3, down=2, padding=1, flip_filter=False, gain=2),
]


def slow_upfirdn2d(x, f, up, down, padding, flip_filter=False, gain=1.0):
    """The definition, a pixel at a time, in float64; up, down [x, y], padding [x0, x1, y0, y1]."""
    x = np.asarray(x, dtype=np.float64)
    f = np.ones([1, 1]) if f is None else np.asarray(f, dtype=np.float64)
    f = np.outer(f, f) if f.ndim == 1 else f
    f = f if flip_filter else f[::-1, ::-1]
    n, c, h, w = x.shape
    (ux, uy), (dx, dy), (px0, px1, py0, py1) = up, down, padding

    def padded(i, j, row, col):
        row, col = row - py0, col - px0
        inside = 0 <= row < h * uy and 0 <= col < w * ux
        return x[i, j, row // uy, col // ux] if inside and row % uy == col % ux == 0 else 0.0

    height = (h * uy + py0 + py1 - f.shape[0]) // dy + 1
    width = (w * ux + px0 + px1 - f.shape[1]) // dx + 1
    y = np.zeros([n, c, height, width])
    for i, j, row, col in np.ndindex(*y.shape):
        for a, b in np.ndindex(*f.shape):
            y[i, j, row, col] += gain * f[a, b] * padded(i, j, row * dy + a, col * dx + b)
    return torch.from_numpy(y)


@pytest.mark.parametrize("case", range(len(RECORDED)))
def test_recorded(conformance, assert_scaled, case):
    arrays = conformance("upfirdn2d")
    options = dict(RECORDED[case])
    name = options.pop("f")
    f = None if name is None else arrays[f"filter_{name}"]
    assert_scaled(op.upfirdn2d(arrays["x"], f, **options), arrays[f"y{case}"], 1e-6)


@pytest.mark.parametrize("name", ["filter2d", "upsample2d", "downsample2d"])
def test_recorded_helpers(conformance, assert_scaled, name):
    arrays = conformance("upfirdn2d")
    assert_scaled(getattr(op, name)(arrays["x8"], arrays["filter_1331"]), arrays[name], 1e-6)


def test_setup_filter_matches_recorded(conformance):
    torch.testing.assert_close(
        op.setup_filter([1, 3, 3, 1]), conformance("upfirdn2d")["filter_1331"], rtol=0, atol=0
    )


def test_known_values():
    f = op.setup_filter([1, 3, 3, 1])
    up = [[9, 15, 21, 18], [18, 28, 36, 30], [30, 44, 52, 42], [27, 39, 45, 36]]
    assert (op.upsample2d(A, f) * 16).tolist() == [[up]]
    assert (op.downsample2d(B, f) * 64).tolist() == [[[[175, 252], [483, 560]]]]
    g = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert op.upfirdn2d(A, g, padding=1).tolist() == [[[[1, 4, 4], [6, 20, 16], [9, 24, 16]]]]
    flipped = op.upfirdn2d(A, g, padding=1, flip_filter=True)
    assert flipped.tolist() == [[[[4, 11, 6], [14, 30, 14], [6, 11, 4]]]]
    assert op.filter2d(A, g).tolist() == [[[[1, 4], [6, 20]]]]


SHAPES = [None, [5], [1], [4, 4], [2, 3], [1, 1]]
RATES = [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 2)), ((3, 1), (1, 2)), ((2, 3), (3, 2))]
PADS = [(3, 3, 3, 3), (4, 2, 1, 5), (-1, 6, 5, -2), (9, 8, 7, 10)]


@pytest.mark.parametrize("rates", RATES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_loop(shape, rates, assert_scaled):
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    f = None if shape is None else torch.randn(shape)
    (up, down) = rates
    for padding, flip in itertools.product(PADS, [False, True]):
        y = op.upfirdn2d(x, f, up, down, padding, flip, gain=1.3)
        expected = slow_upfirdn2d(x, f, up, down, padding, flip, gain=1.3)
        assert_scaled(y, expected, 1e-12)


@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5])
def test_helpers_keep_images_aligned(taps, assert_scaled):
    """Padding rules of the three helpers, by the loop; sizes follow from them."""
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    f = torch.randn(taps, taps + 1)
    before, after = taps // 2, (taps - 1) // 2
    wide = ((taps + 1) // 2, taps // 2)
    expected = slow_upfirdn2d(x, f, (1, 1), (1, 1), (*wide, before, after))
    assert_scaled(op.filter2d(x, f), expected, 1e-12)
    assert op.filter2d(x, f).shape == x.shape
    pads = ((taps + 2) // 2, (taps - 1) // 2, (taps + 1) // 2, (taps - 2) // 2)
    expected = slow_upfirdn2d(x, f, (2, 2), (1, 1), pads, gain=4)
    assert_scaled(op.upsample2d(x, f), expected, 1e-12)
    pads = (taps // 2, (taps - 1) // 2, (taps - 1) // 2, (taps - 2) // 2)
    expected = slow_upfirdn2d(x, f, (1, 1), (2, 2), pads)
    assert_scaled(op.downsample2d(x, f), expected, 1e-12)


@pytest.mark.parametrize("rates", RATES, ids=str)
@pytest.mark.parametrize("shape", [[4, 4], [3]], ids=str)
def test_gradients(shape, rates):
    f = torch.randn(shape)
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)

    def run(x):
        return op.upfirdn2d(x, f, *rates, padding=(3, 2, 1, 4), gain=1.5)

    assert torch.autograd.gradcheck(run, x)
    assert torch.autograd.gradgradcheck(run, x)


def test_gradient_is_the_op_with_rates_swapped(assert_scaled):
    f = op.setup_filter([1, 2, 3, 4])
    x = torch.randn(2, 3, 8, 7, dtype=torch.float64, requires_grad=True)
    y = op.upfirdn2d(x, f, up=2, down=3, padding=(2, 1, 4, 3), gain=0.5)
    dy = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, dy)
    pads = []
    for p0, size, out in [(2, 7, y.shape[3]), (4, 8, y.shape[2])]:
        pads += [4 - p0 - 1, size * 2 - out * 3 + p0 - 2 + 1]
    swapped = op.upfirdn2d(dy, f, up=3, down=2, padding=pads, flip_filter=True, gain=0.5)
    assert_scaled(dx, swapped, 1e-12)


@pytest.mark.parametrize("channels", [2, 5, 12])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_memory_format_is_kept(channels, layout):
    f = op.setup_filter([1, 3, 3, 1])
    x = torch.randn(2, channels, 6, 8)
    given = x.contiguous(memory_format=layout)
    for run in (op.filter2d, op.upsample2d, op.downsample2d):
        y = run(given, f)
        assert y.is_contiguous(memory_format=layout)
        torch.testing.assert_close(y.contiguous(), run(x, f).contiguous())
    y = op.upfirdn2d(given, f, up=2, down=2, padding=3)
    assert y.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    f = op.setup_filter([1, 3, 3, 1])
    x = torch.randn(1, 3, 6, 6).to(dtype)
    y = op.upsample2d(x, f)
    assert y.dtype == dtype
    tolerance = 4 * torch.finfo(dtype).eps if dtype != torch.float64 else 1e-6
    reference = op.upsample2d(x.float(), f)
    assert (y.double() - reference.double()).abs().max() <= tolerance * reference.abs().max()


def test_setup_filter():
    ref = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
    assert torch.equal(op.setup_filter([1, 3, 3, 1]), ref)
    assert op.setup_filter(None).tolist() == [[1.0]]
    assert op.setup_filter(5).tolist() == [[1.0]]
    assert op.setup_filter(list(range(1, 13))).shape == (12,)
    assert op.setup_filter(list(range(1, 8))).shape == (7, 7)
    assert op.setup_filter([1, 1], separable=True).tolist() == [0.5, 0.5]
    assert op.setup_filter([1, 1], separable=True, gain=4).tolist() == [1.0, 1.0]
    assert op.setup_filter([[1, 1]], gain=4).tolist() == [[2.0, 2.0]]
    assert op.setup_filter([[1, 2], [3, 4]], normalize=False, flip_filter=True).tolist() == [
        [4, 3],
        [2, 1],
    ]


def test_setup_filter_leaves_its_argument_alone():
    for given in (torch.tensor([[1.0, 2.0]]), np.array([[1.0, 2.0]], dtype=np.float32)):
        op.setup_filter(given)
        assert given.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "bad",
    [
        dict(up=0),
        dict(down=[1, 2, 3]),
        dict(padding=[1, 2, 3]),
        dict(padding=0.5),
        dict(impl="fast"),
        dict(padding=-2),
    ],
    ids=str,
)
def test_bad_arguments(bad):
    with pytest.raises(ValueError):
        op.upfirdn2d(torch.zeros(1, 1, 3, 3), op.setup_filter([1, 1]), **bad)


def test_bad_filters():
    x = torch.zeros(1, 1, 3, 3)
    with pytest.raises(ValueError, match="grad"):
        op.upfirdn2d(x, torch.ones(2, 2, requires_grad=True))
    with pytest.raises(ValueError, match="filter"):
        op.upfirdn2d(x, torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match="smaller"):
        op.upfirdn2d(x, torch.ones(4, 4))
    with pytest.raises(ValueError, match="dimensions"):
        op.setup_filter([])
    with pytest.raises(ValueError, match="separable"):
        op.setup_filter([[1.0]], separable=True)
    with pytest.raises(ValueError, match="floating"):
        op.upfirdn2d(torch.zeros(3, 3), None)


def test_private_helpers():
    assert op._parse_scaling(2) == (2, 2) and op._parse_scaling([2, 3]) == (2, 3)
    assert op._parse_padding(2) == (2, 2, 2, 2) and op._parse_padding([2, 3]) == (2, 2, 3, 3)
    assert op._parse_padding([1, 2, 3, 4]) == (1, 2, 3, 4)
    assert op._get_filter_size(None) == (1, 1)
    assert op._get_filter_size(torch.ones(3)) == (3, 3)
    assert op._get_filter_size(torch.ones(3, 5)) == (5, 3)
