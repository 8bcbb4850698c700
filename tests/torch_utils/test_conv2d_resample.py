"""conv2d_resample against loops, recorded numbers and numerical gradients."""

import itertools

import numpy as np
import pytest
import torch

from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.upfirdn2d import setup_filter

RECORDED = [
    dict(w="w3", up=1, down=1, padding=1, flip_weight=True),
    dict(w="w3", up=2, down=1, padding=1, flip_weight=False),
    dict(w="w3", up=1, down=2, padding=1, flip_weight=True),
    dict(w="w1", up=2, down=1, padding=0, flip_weight=True),
    dict(w="w1", up=1, down=2, padding=0, flip_weight=True),
    dict(w="w3", up=2, down=2, padding=[1, 2, 0, 1], flip_weight=False),
    dict(w="wg", up=2, down=1, padding=1, flip_weight=False, groups=2),
    dict(w="w3", up=1, down=1, padding=[1, 1, 2, 0], flip_weight=False),
]


def correlate(x, w):
    """'Valid' correlation of x [H, W] with w [kh, kw]."""
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape)
    return (windows * w).sum((2, 3))


def slow_conv2d_resample(x, w, f, up, down, padding, groups, flip_weight, flip_filter):
    """Insert zeros, pad, filter, convolve, filter, decimate: one channel at a time, in float64."""
    x, w = x.double().numpy(), w.double().numpy()
    f = np.ones([1, 1]) if f is None else f.double().numpy()
    fh, fw = f.shape
    px0, px1, py0, py1 = padding
    if up > 1:
        px0, px1 = px0 + (fw + up - 1) // 2, px1 + (fw - up) // 2
        py0, py1 = py0 + (fh + up - 1) // 2, py1 + (fh - up) // 2
    if down > 1:
        px0, px1 = px0 + (fw - down + 1) // 2, px1 + (fw - down) // 2
        py0, py1 = py0 + (fh - down + 1) // 2, py1 + (fh - down) // 2
    f = f if flip_filter else f[::-1, ::-1]
    w = w if flip_weight else w[:, :, ::-1, ::-1]

    def prepare(image):
        h, width = image.shape
        big = np.zeros([h * up, width * up])
        big[::up, ::up] = image
        big = np.pad(big, [(max(py0, 0), max(py1, 0)), (max(px0, 0), max(px1, 0))])
        rows = slice(max(-py0, 0), big.shape[0] - max(-py1, 0))
        cols = slice(max(-px0, 0), big.shape[1] - max(-px1, 0))
        return correlate(big[rows, cols], f) * up**2 if up > 1 else big[rows, cols]

    out_channels, group_inputs = w.shape[:2]
    batch = []
    for sample in x:
        channels = []
        for o in range(out_channels):
            first = o // (out_channels // groups) * group_inputs
            y = sum(correlate(prepare(sample[first + i]), w[o, i]) for i in range(group_inputs))
            channels.append(correlate(y, f)[::down, ::down] if down > 1 else y)
        batch.append(channels)
    return torch.from_numpy(np.array(batch))


@pytest.mark.parametrize("case", range(len(RECORDED)))
def test_recorded(conformance, assert_scaled, case):
    arrays = conformance("conv2d_resample")
    options = dict(RECORDED[case])
    w = arrays[options.pop("w")]
    assert_scaled(conv2d_resample(arrays["x"], w, arrays["f"], **options), arrays[f"y{case}"], 1e-6)


def test_known_values():
    a = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    b = torch.arange(16.0).reshape(1, 1, 4, 4)
    w = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    two = torch.full([1, 1, 1, 1], 2.0)
    f = setup_filter([1, 3, 3, 1])

    def run(x, w, *args, **kwargs):
        return conv2d_resample(x, w, *args, **kwargs)[0, 0].tolist()

    assert run(a, w, padding=1) == [[77, 67], [47, 37]]
    assert run(a, w, padding=1, flip_weight=False) == [[23, 33], [53, 63]]
    assert run(a, w, f, up=2, padding=1, flip_weight=False) == [
        [17.0625, 29.6875, 37.25, 33.9375],
        [36, 60.625, 73.4375, 64.6875],
        [56.25, 90.625, 105.3125, 89.4375],
        [63.9375, 99.4375, 111.875, 92.0625],
    ]
    flipped = run(a, w, f, up=2, padding=1)
    assert flipped[0] == [37.9375, 59.0625, 66.5, 51.0625]
    assert flipped[3] == [51.0625, 71.8125, 74.375, 52.9375]
    assert run(b, w, f, down=2, padding=1) == [[183.921875, 206.46875], [264.359375, 268.53125]]
    up = [[18, 30, 42, 36], [36, 56, 72, 60], [60, 88, 104, 84], [54, 78, 90, 72]]
    assert run(a, two, f, up=2) == [[v / 16 for v in row] for row in up]
    assert run(b, two, f, down=2) == [[350 / 64, 504 / 64], [966 / 64, 1120 / 64]]


KERNELS = [(1, 1), (3, 3), (2, 3)]
RATES = [(1, 1), (2, 1), (1, 2), (2, 2), (3, 1)]
PADS = [(1, 1, 1, 1), (0, 0, 0, 0), (1, 2, 0, 3), (-1, 2, 1, -1)]


@pytest.mark.parametrize("rates", RATES, ids=str)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("taps", [None, [1, 3, 3, 1], [[1, 2, 3], [5, 1, 2]]], ids=str)
def test_against_loop(taps, kernel, rates, assert_scaled):
    x = torch.randn(1, 4, 6, 7, dtype=torch.float64)
    w = torch.randn(2, 2, *kernel, dtype=torch.float64)
    f = None if taps is None else setup_filter(taps)
    for padding, flip_weight, flip_filter in itertools.product(PADS, [True, False], [True, False]):
        args = (x, w, f, *rates, padding, 2, flip_weight, flip_filter)
        assert_scaled(conv2d_resample(*args), slow_conv2d_resample(*args), 1e-12)


@pytest.mark.parametrize("rates", RATES, ids=str)
@pytest.mark.parametrize("kernel", [1, 3])
def test_gradients(kernel, rates):
    f = setup_filter([1, 3, 3, 1])
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)

    def run(x, w):
        return conv2d_resample(
            x, w, f, up=rates[0], down=rates[1], padding=kernel // 2, groups=2, flip_weight=False
        )

    assert torch.autograd.gradcheck(run, (x, w))
    assert torch.autograd.gradgradcheck(run, (x, w))


@pytest.mark.parametrize("rates", [(1, 1), (2, 1), (1, 2)], ids=str)
def test_channels_last_is_kept(rates):
    f = setup_filter([1, 3, 3, 1])
    x, w = torch.randn(2, 6, 8, 8), torch.randn(5, 6, 3, 3)
    y = conv2d_resample(x, w, f, *rates, padding=1)
    last = conv2d_resample(x.to(memory_format=torch.channels_last), w, f, *rates, padding=1)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.contiguous(), y, rtol=1e-5, atol=1e-5)


def test_bad_arguments():
    x, w = torch.zeros(1, 4, 5, 5), torch.zeros(2, 4, 3, 3)
    with pytest.raises(ValueError, match="agree"):
        conv2d_resample(x, w.double())
    with pytest.raises(ValueError, match="4-D"):
        conv2d_resample(x[0], w)
    with pytest.raises(ValueError, match="groups"):
        conv2d_resample(x, w, groups=2)
    with pytest.raises(ValueError, match="from 1"):
        conv2d_resample(x, w, up=0)
