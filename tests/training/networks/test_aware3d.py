"""How layers see three planes: means and attention by loops, layers by recorded numbers."""

import pytest
import torch

from tests.recorded_draws import recorded_draws
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.epilogue import Epilogue
from torch_utils.ops.upfirdn2d import setup_filter
from training.layers import modulated_conv2d
from training.plane_exchange import aware3d, aware3d_attention, aware3d_conv2d
from training.synthesis import SynthesisBlock, SynthesisLayer, ToRGBLayer

AXES = ("yx", "zy", "xz")  # of the planes xy, yz and zx: height, width
ROLL_OUTS = ("b", "a", "s", "w")


def line(planes, plane, point, axis):
    """All points of a plane that have what `point` has on the axes other than `axis`: [C, H]."""
    index = [slice(None) if a == axis else point[a] for a in AXES[plane]]
    return planes[plane][:, index[0], index[1]]


def by_points(x, found_of, order):
    """[3 N, C, H, H] -> [3 N, 3 C, H, H], a point of a plane at a time.

    found_of(query [C], line [C, H]) is what a point learns of another plane; order(plane) says in
    which order it has the planes.
    """
    n, channels, side, _ = x.shape
    out = torch.empty(n, 3 * channels, side, side, dtype=x.dtype)
    for i in range(n):
        plane, planes = i % 3, x[i - i % 3 : i - i % 3 + 3]
        for h in range(side):
            for w in range(side):
                own = planes[plane][:, h, w]
                point = dict(zip(AXES[plane], (h, w), strict=True))
                (missing,) = set("xyz") - set(point)
                others = {
                    p: own if p == plane else found_of(own, line(planes, p, point, missing))
                    for p in range(3)
                }
                out[i, :, h, w] = torch.cat([others[p] for p in order(plane)])
    return out


def test_means(assert_scaled):
    x = torch.randn(6, 4, 5, 5, dtype=torch.float64)
    expected = by_points(x, lambda own, line: line.mean(dim=1), lambda plane: (0, 1, 2))
    assert_scaled(aware3d(x), expected, tol=1e-15)


def test_means_are_exact():
    """Bit for bit the means that are broadcast along the axis that is missing."""
    x = torch.randn(6, 4, 7, 7)
    xy, yz, zx = x.unflatten(0, (2, 3)).unbind(1)  # [y, x], [z, y], [x, z]
    over_z, over_x, over_y = {}, {}, {}
    over_z["y"], over_z["x"] = yz.mean(2), zx.mean(3)
    over_x["y"], over_x["z"] = xy.mean(3), zx.mean(2)
    over_y["x"], over_y["z"] = xy.mean(2), yz.mean(3)

    def down(values):
        return values[..., :, None].expand(-1, -1, 7, 7)

    def across(values):
        return values[..., None, :].expand(-1, -1, 7, 7)

    planes = [
        [xy, down(over_z["y"]), across(over_z["x"])],
        [across(over_x["y"]), yz, down(over_x["z"])],
        [down(over_y["x"]), across(over_y["z"]), zx],
    ]
    expected = torch.stack([torch.cat(slots, dim=1) for slots in planes], dim=1).flatten(0, 1)
    assert torch.equal(aware3d(x), expected)


def test_attention(assert_scaled):
    x = torch.randn(6, 4, 5, 5, dtype=torch.float64)

    def found(own, line):
        return line @ (own @ line).softmax(dim=0)

    expected = by_points(x, found, lambda plane: [(plane + i) % 3 for i in range(3)])
    assert_scaled(aware3d_attention(x), expected, tol=1e-14)


def test_recorded_exchange(conformance, assert_scaled):
    recorded = conformance("mimic3d/aware3d")
    assert torch.equal(aware3d(recorded["x"]), recorded["mean"])
    assert_scaled(aware3d_attention(recorded["x"]), recorded["attention"], tol=1e-6)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("roll_out", ROLL_OUTS)
def test_recorded_layer(conformance, state_of, assert_scaled, monkeypatch, roll_out, up):
    recorded = conformance("mimic3d/aware3d")
    layer = SynthesisLayer(6, 8, 16, 8 * up, up=up, roll_out=roll_out)
    name = f"layer_{roll_out}_up{up}"
    layer.load_state_dict(state_of(recorded, f"state_{name}/"))
    x = recorded["xw" if roll_out == "w" else "xl"]
    assert_scaled(layer(x, recorded["wl"], noise_mode="const"), recorded[name], tol=1e-6)
    if roll_out == "b":
        with recorded_draws(monkeypatch):
            y = layer(x, recorded["wl"], noise_mode="random")
        assert_scaled(y, recorded[f"{name}_random"], tol=1e-6)


@pytest.mark.parametrize("roll_out", ROLL_OUTS)
def test_recorded_colours(conformance, state_of, assert_scaled, roll_out):
    recorded = conformance("mimic3d/aware3d")
    layer = ToRGBLayer(6, 4, 16, roll_out=roll_out)
    layer.load_state_dict(state_of(recorded, f"state_torgb_{roll_out}/"))
    x = recorded["xw" if roll_out == "w" else "xl"]
    assert_scaled(layer(x, recorded["wl"]), recorded[f"torgb_{roll_out}"], tol=1e-6)


@pytest.mark.parametrize("side", [4, 5, 8, 12])
@pytest.mark.parametrize("up, kernel", [(1, 3), (2, 3), (1, 1), (1, 5), (2, 5)])
def test_convolution_of_strips_is_that_of_means(assert_scaled, side, up, kernel):
    """Values and gradients; kernels of 5 reach too far for strips and go the plain way."""

    def leaf(*shape):
        return torch.randn(shape, dtype=torch.float64, requires_grad=True)

    inputs = leaf(6, 2, side, side), leaf(4, 6, kernel, kernel), leaf(6, 6)
    options = dict(up=up, padding=kernel // 2, flip_weight=up == 1)
    options.update(resample_filter=setup_filter([1, 3, 3, 1]), demodulate=kernel == 3)
    epilogue = Epilogue(
        noise=leaf(side * up, side * up), strength=leaf(), bias=leaf(4), act="lrelu"
    )
    fast = aware3d_conv2d(*inputs, **options, epilogue=epilogue)
    plain = modulated_conv2d(aware3d(inputs[0]), *inputs[1:], **options, epilogue=epilogue)
    assert_scaled(fast, plain, tol=1e-13)
    toward = torch.randn_like(fast)
    leaves = [*inputs, epilogue.noise, epilogue.strength, epilogue.bias]
    gradients = zip(*(torch.autograd.grad(y, leaves, toward) for y in (fast, plain)), strict=True)
    for one, other in gradients:
        assert_scaled(one, other, tol=1e-12)


def test_means_are_not_made_in_full(monkeypatch):
    """No convolution sees three times the channels; half precision goes the plain way."""
    sizes = []

    def spy(x, *args, **kwargs):
        sizes.append((x.shape[1], *x.shape[2:]))
        return conv2d_resample(x, *args, **kwargs)

    for module in ("plane_exchange", "layers"):
        monkeypatch.setattr(f"training.{module}.conv2d_resample", spy)
    x, weight, styles = torch.randn(3, 2, 16, 16), torch.randn(4, 6, 3, 3), torch.randn(3, 6)
    y = aware3d_conv2d(x, weight, styles, padding=1)
    assert sizes == [(6, 16, 16), (6, 16, 4), (6, 4, 16)]
    half = aware3d_conv2d(x.half(), 1000 * weight, 1000 * styles, padding=1)
    assert sizes[3:] == [(6, 16, 16)] and half.dtype == torch.float16
    torch.testing.assert_close(half.float(), y, rtol=0.02, atol=0.02)


def test_planes_that_keep_apart_are_samples(assert_scaled):
    """'s' with one style for all planes is the plain layer on a batch of three."""
    plain, apart = SynthesisLayer(4, 5, 6, 8), SynthesisLayer(4, 5, 6, 8, roll_out="s")
    state = plain.state_dict()
    for name in ("affine.weight", "affine.bias"):
        state[name] = state[name].repeat(3, *[1] * (state[name].ndim - 1))
    apart.load_state_dict(state)
    x, w = torch.randn(6, 4, 8, 8), torch.randn(2, 6)
    expected = plain(x, w.repeat_interleave(3, dim=0), noise_mode="const")
    assert_scaled(apart(x, w, noise_mode="const"), expected, tol=1e-6)


def test_gradients():
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(aware3d, x)
    assert torch.autograd.gradcheck(aware3d_attention, x)


def test_unknown_roll_out():
    with pytest.raises(ValueError, match=r"roll_out must be one of .*'s', 'w'\), not 'x'"):
        SynthesisBlock(4, 4, 8, 8, 3, is_last=True, roll_out="x")


@pytest.mark.gpu
@pytest.mark.parametrize("roll_out", ["b", "a", "s"])
def test_on_a_gpu(assert_scaled, roll_out):
    block = SynthesisBlock(8, 8, 16, 32, 8, is_last=True, conv_clamp=None, roll_out=roll_out)
    x, ws = torch.randn(6, 8, 16, 16), torch.randn(2, 3, 16)
    _, expected = block(x, None, ws, noise_mode="const")
    with torch.backends.cudnn.flags(allow_tf32=False):
        _, found = block.cuda()(x.cuda(), None, ws.cuda(), noise_mode="const")
    assert_scaled(found.cpu().detach(), expected.detach())
