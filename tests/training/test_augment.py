"""Augmentation: recorded outputs, what each operation means, gates, derivatives, files."""

import math
import pickle

import pytest
import torch

from training.augment import AUGMENT_PRESETS, AugmentPipe
from training.augment_ops import cut_out

QUANTILES = (0.1, 0.37, 0.5, 0.83)
TURNED = 0.03  # How closely a resampled turned picture is the turned one; half a pixel is more.


def erfinv(x):
    return torch.erfinv(torch.tensor(x)).item()


def pictures(count=2, channels=3, size=32):
    """Smooth enough to be resampled, without any symmetry."""
    x = torch.randn([count, channels, size, size])
    return torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1) * 2


def smooth_pictures(count=2):
    """Slow enough for the resampling filter, whose taps are not quite symmetric."""
    x = torch.randn([count, 3, 4, 4])
    return torch.nn.functional.interpolate(x, size=(32, 32), mode="bicubic", align_corners=False)


@pytest.mark.parametrize("q", QUANTILES)
@pytest.mark.parametrize(
    "source, recorded, extra",
    [
        ("x", "y_bgc", {}),
        ("x", "y_bgcfc", dict(imgfilter=1, cutout=1)),
        ("x6", "y6_bgc", {}),
    ],
)
def test_outputs_are_the_recorded_ones(conformance, source, recorded, extra, q):
    arrays = conformance("augment")
    y = AugmentPipe(**AUGMENT_PRESETS["bgc"], **extra)(arrays[source], debug_percentile=q)
    expected = arrays[f"{recorded}_{q}"]
    error = (y - expected).abs().max() / expected.abs().max().clamp(min=1)
    assert y.shape == expected.shape and error <= 1e-5


# -- What each operation means -------------------------------------------------------------------


def test_xflip_mirrors_columns(assert_scaled):
    x, pipe = smooth_pictures(), AugmentPipe(xflip=1)
    assert_scaled(pipe(x, 0.75), x.flip(3), TURNED)
    assert_scaled(pipe(x, 0.25), x)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotate90_turns_by_quarters(assert_scaled, turns):
    x = smooth_pictures()
    assert_scaled(AugmentPipe(rotate90=1)(x, turns / 4 + 0.1), x.rot90(turns, (2, 3)), TURNED)


def test_rotate_by_a_quarter_is_rotate90(assert_scaled):
    x = smooth_pictures()
    assert_scaled(AugmentPipe(rotate=1, rotate_max=0.5)(x, 1.0), x.rot90(1, (2, 3)), TURNED)


def test_xint_moves_by_whole_pixels_and_mirrors_the_border(assert_scaled):
    x = pictures()
    y = AugmentPipe(xint=1)(x, 0.8)  # 0.6 * 0.125 * 32 = 2.4: two pixels to the right and down.
    mirrored = torch.nn.functional.pad(x, [2, 0, 2, 0], mode="reflect")
    assert_scaled(y, mirrored[:, :, :32, :32])


def test_xfrac_moves_by_its_deviation(assert_scaled):
    x = pictures(size=32)
    std = 3 / 32 / erfinv(0.5)
    mirrored = torch.nn.functional.pad(x, [3, 0, 3, 0], mode="reflect")
    assert_scaled(AugmentPipe(xfrac=1, xfrac_std=std)(x, 0.75), mirrored[:, :, :32, :32])


def blob_widths(image):
    """Deviations in x and y of a bright blob on black."""
    mass = image.sum(dim=0).double()
    place = torch.arange(len(mass)).double() - (len(mass) - 1) / 2
    moments = [(mass.sum(dim) * place**2).sum() / mass.sum() for dim in (0, 1)]
    return torch.stack(moments).sqrt()


@pytest.mark.parametrize("name, factors", [("scale", (1.25, 1.25)), ("aniso", (1.25, 0.8))])
def test_zoom_and_stretch_change_sizes(assert_scaled, name, factors):
    bell = torch.exp(-(((torch.arange(48) - 23.5) / 4) ** 2))
    x = (bell[:, None] * bell).expand(1, 3, -1, -1)
    std = math.log2(1.25) / erfinv(0.5)
    y = AugmentPipe(**{name: 1, f"{name}_std": std})(x, 0.75)
    assert_scaled(blob_widths(y[0]) / blob_widths(x[0]), factors, 0.02)


def test_colours_change_as_named(assert_scaled):
    x = pictures()
    mean = x.mean(dim=1, keepdim=True)
    q, draw = 0.75, erfinv(0.5)
    assert_scaled(AugmentPipe(brightness=1)(x, q), x + 0.2 * draw)
    assert_scaled(AugmentPipe(contrast=1)(x, q), x * 2 ** (0.5 * draw))
    assert_scaled(AugmentPipe(lumaflip=1)(x, q), x - 2 * mean)
    assert_scaled(AugmentPipe(lumaflip=1)(x, 0.25), x)
    assert_scaled(AugmentPipe(saturation=1)(x, q), mean + (x - mean) * 2**draw)
    # A third of the way round the grey axis, red becomes green.
    assert_scaled(AugmentPipe(hue=1)(x, 5 / 6), x.roll(1, dims=1))
    assert_scaled(AugmentPipe(hue=1, hue_max=0.5)(x, 1 / 6), AugmentPipe(hue=1)(x, 1 / 3))


def test_colour_operations_apply_in_their_order(assert_scaled):
    x, draw = pictures(), erfinv(0.5)
    y = AugmentPipe(brightness=1, contrast=1)(x, 0.75)
    assert_scaled(y, (x + 0.2 * draw) * 2 ** (0.5 * draw))


def test_geometric_operations_apply_in_their_order(assert_scaled):
    x = smooth_pictures()
    flipped = torch.nn.functional.pad(x.flip(3), [2, 0, 2, 0], mode="reflect")
    assert_scaled(AugmentPipe(xflip=1, xint=1)(x, 0.75), flipped[:, :, :32, :32], TURNED)


def test_filter_bank_splits_frequencies_into_octaves():
    bank = AugmentPipe().Hz_fbank
    impulse = torch.zeros(43)
    impulse[21] = 1
    assert torch.allclose(bank.sum(dim=0), impulse, atol=1e-6)
    assert torch.allclose(bank, bank.flip(1), atol=1e-7)
    response = torch.fft.rfft(bank, n=256).abs()
    # Each band passes the middle of its octave and little of those two octaves away.
    assert response[0, 0] == pytest.approx(1, abs=1e-5) and response[1:, 0].max() < 1e-5
    for band, frequency in [(1, 24), (2, 48), (3, 96)]:
        assert response[:, frequency].argmax() == band and response[band, frequency] > 0.6
        assert response[band, frequency // 8] < 0.1


def test_imgfilter_keeps_the_expected_power(assert_scaled):
    flat = torch.full([1, 3, 24, 24], 0.5)
    t = 2 ** erfinv(0.5)
    high = AugmentPipe(imgfilter=1, imgfilter_bands=[0, 0, 0, 1])(flat, 0.75)
    assert_scaled(high, flat / ((12 + t * t) / 13))  # Once in x, once in y.
    low = AugmentPipe(imgfilter=1, imgfilter_bands=[1, 0, 0, 0])(flat, 0.75)
    assert_scaled(low, flat * t * t / ((10 * t * t + 3) / 13))
    mild = AugmentPipe(imgfilter=1, imgfilter_bands=[1, 0, 0, 0], imgfilter_std=0.5)(flat, 0.75)
    assert_scaled(mild, flat * t / ((10 * t + 3) / 13))


def test_noise_has_its_deviation():
    x = torch.zeros(2, 3, 64, 64)
    noise = AugmentPipe(noise=1)(x, 0.5)
    assert noise.std().item() == pytest.approx(0.1 * erfinv(0.5), rel=0.03)
    assert AugmentPipe(noise=1, noise_std=0.3)(x, 0.5).std() > 2 * noise.std()


def test_cutout_blackens_a_square():
    x = torch.ones(1, 3, 16, 16)
    y = AugmentPipe(cutout=1)(x, 0.25)
    assert (y[:, :, :8, :8] == 0).all() and y.sum() == 3 * (256 - 64)
    assert AugmentPipe(cutout=1, cutout_size=0.25)(x, 0.25).sum() == 3 * (256 - 16)


def test_cutout_lies_at_its_centre():
    size, centre = torch.tensor([[0.5], [0.0]]), torch.tensor([[0.5, 0.25], [0.5, 0.5]])
    y = cut_out(torch.ones(2, 1, 8, 16), size, centre)
    expected = torch.ones(2, 1, 8, 16)
    expected[0, :, 0:4, 4:12] = 0
    assert torch.equal(y, expected)


# -- Gates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation, share",
    [
        ("xflip", 1 / 4),  # Chosen for a half, mirrored in half of these.
        ("rotate90", 3 / 8),
        ("xint", 1 / 2 - 1 / 50),  # One shift of 5 x 5 is none.
        ("scale", 1 / 2),
        ("rotate", 1 / 2),
        ("aniso", 1 / 2),
        ("xfrac", 1 / 2),
        ("brightness", 1 / 2),
        ("contrast", 1 / 2),
        ("lumaflip", 1 / 4),
        ("hue", 1 / 2),
        ("saturation", 1 / 2),
        ("imgfilter", 15 / 16),  # Each of four bands for itself.
        ("noise", 1 / 2),
        ("cutout", 1 / 2),
    ],
)
def test_p_is_the_share_of_pictures_that_change(operation, share):
    x = pictures(1, size=24 if operation == "imgfilter" else 16).expand(600, -1, -1, -1)
    pipe = AugmentPipe(**{operation: 1})
    pipe.p.fill_(0.5)
    changed = ((pipe(x) - x).abs().amax(dim=(1, 2, 3)) > 3e-5).float().mean().item()
    assert changed == pytest.approx(share, abs=0.07)
    pipe.p.zero_()
    assert (pipe(x[:8]) - x[:8]).abs().max() < 3e-5


def test_weights_multiply_p():
    x = pictures(1, size=8).expand(600, -1, -1, -1)
    pipe = AugmentPipe(brightness=0.5)
    pipe.p.fill_(0.5)
    changed = (pipe(x) != x).flatten(1).any(1).float().mean().item()
    assert changed == pytest.approx(1 / 4, abs=0.06)


def test_nothing_happens_at_p_0_and_without_operations():
    x = pictures(4)
    pipe = AugmentPipe(**AUGMENT_PRESETS["bgcfnc"])
    pipe.p.zero_()
    assert (pipe(x) - x).abs().max() < 3e-5
    assert torch.equal(AugmentPipe()(x), x)


def test_strength_beyond_1_still_works():
    pipe = AugmentPipe(**AUGMENT_PRESETS["bgc"])
    pipe.p.fill_(1.5)
    assert torch.isfinite(pipe(pictures())).all()


def test_every_picture_has_draws_of_its_own_and_pairs_share_them(assert_scaled):
    one = pictures(1)
    pair = torch.cat([one, one], dim=1).expand(5, -1, -1, -1)
    y = AugmentPipe(**AUGMENT_PRESETS["bgc"])(pair)
    assert_scaled(y[:, 3:], y[:, :3])
    assert all((y[i] - y[j]).abs().max() > 0.1 for i in range(5) for j in range(i))


def test_percentiles_leave_gates_out(assert_scaled):
    x, pipe = smooth_pictures(), AugmentPipe(xflip=0.1)
    pipe.p.fill_(0.1)
    assert_scaled(pipe(x, 0.75), x.flip(3), TURNED)


# -- Channels, types, derivatives ----------------------------------------------------------------


def test_six_channels_are_two_pictures(assert_scaled):
    x, pipe = pictures(channels=6), AugmentPipe(**AUGMENT_PRESETS["bgc"])
    assert_scaled(pipe(x, 0.3), torch.cat([pipe(x[:, :3], 0.3), pipe(x[:, 3:], 0.3)], dim=1))


def test_one_channel_is_the_average_of_grey(assert_scaled):
    x, pipe = pictures(channels=1), AugmentPipe(**AUGMENT_PRESETS["bgc"])
    in_colour = pipe(x.expand(-1, 3, -1, -1), 0.6)  # Hue and saturation leave grey alone.
    assert_scaled(pipe(x, 0.6), in_colour.mean(dim=1, keepdim=True))


def test_other_channels_have_no_colour():
    for channels in (2, 4, 9):
        with pytest.raises(ValueError, match=f"needs 1, 3 or 6 channels.*not {channels}"):
            AugmentPipe(**AUGMENT_PRESETS["color"])(pictures(channels=channels))
    assert AugmentPipe(**AUGMENT_PRESETS["bg"])(pictures(channels=4)).shape == (2, 4, 32, 32)


def test_pictures_need_not_be_square():
    x = pictures()[:, :, :20]
    for preset in ("bgc", "color"):
        assert AugmentPipe(**AUGMENT_PRESETS[preset])(x).shape == x.shape
    pipe = AugmentPipe(xfrac=1)
    assert (pipe(x.transpose(2, 3), 0.7).transpose(2, 3) - pipe(x, 0.7)).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_computes_in_float32_and_keeps_the_type(dtype):
    x, pipe = pictures().to(dtype), AugmentPipe(**AUGMENT_PRESETS["bgcfnc"])
    torch.manual_seed(5)
    y = pipe(x)
    torch.manual_seed(5)
    assert y.dtype == dtype and torch.equal(y, pipe(x.float()).to(dtype))


@pytest.mark.parametrize(
    "preset, shape, q", [("bgc", (3, 10, 10), 0.37), ("bgcf", (1, 24, 24), 0.8)]
)
def test_derivatives_are_those_of_the_matrix(assert_scaled, preset, shape, q):
    """At fixed draws y = A x + b. The gradient of a squared gradient, as in R1, from A alone."""
    pipe = AugmentPipe(**AUGMENT_PRESETS[preset])
    size = math.prod(shape)
    offset = pipe(torch.zeros(1, *shape), q)
    A = (pipe(torch.eye(size).reshape(size, *shape), q) - offset).reshape(size, size).T.double()
    x = torch.randn(1, *shape, requires_grad=True)

    y = pipe(x, q)
    (g,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(g.square().sum(), x)

    v = A @ x.detach().flatten().double() + offset.flatten().double()
    expected = A.T @ (3 * v**2)
    assert_scaled(y.detach().flatten(), v)
    assert_scaled(g.detach().flatten(), expected, 2e-5)
    assert_scaled(second.flatten(), 2 * A.T @ (6 * v * (A @ expected)), 5e-5)


# -- Construction and files ----------------------------------------------------------------------


def test_presets_build_on_each_other():
    assert AUGMENT_PRESETS["b"] == AUGMENT_PRESETS["blit"]
    parts = [set(AUGMENT_PRESETS[name]) for name in ("blit", "geom", "color")]
    assert [len(part) for part in parts] == [3, 4, 5]
    assert set(AUGMENT_PRESETS["bg"]) == parts[0] | parts[1]
    assert set(AUGMENT_PRESETS["bgc"]) == set.union(*parts)
    grown = [set(AUGMENT_PRESETS[name]) for name in ("bgc", "bgcf", "bgcfn", "bgcfnc")]
    added = [b - a for a, b in zip(grown, grown[1:], strict=False)]
    assert added == [{"imgfilter"}, {"noise"}, {"cutout"}]
    assert all(set(preset.values()) == {1} for preset in AUGMENT_PRESETS.values())


def test_arguments_and_buffers_are_those_of_published_files():
    pipe = AugmentPipe(xflip=1, imgfilter_bands=(1, 0, 1, 0))
    assert pipe.imgfilter_bands == [1, 0, 1, 0] and type(pipe.xflip) is float
    assert (pipe.xint_max, pipe.scale_std, pipe.rotate_max, pipe.aniso_std) == (0.125, 0.2, 1, 0.2)
    assert (pipe.xfrac_std, pipe.brightness_std, pipe.contrast_std) == (0.125, 0.2, 0.5)
    assert (pipe.hue_max, pipe.saturation_std, pipe.imgfilter_std) == (1, 1, 1)
    assert (pipe.noise_std, pipe.cutout_size) == (0.1, 0.5)
    shapes = {name: list(buffer.shape) for name, buffer in pipe.state_dict().items()}
    assert shapes == {"p": [], "Hz_geom": [12], "Hz_fbank": [4, 43]}
    assert pipe.p == 1 and list(pipe.parameters()) == []


def test_pickling_keeps_everything():
    pipe = AugmentPipe(**AUGMENT_PRESETS["bgcfnc"], hue_max=0.3)
    pipe.p.fill_(0.7)
    twin = pickle.loads(pickle.dumps(pipe))
    assert type(twin) is AugmentPipe and twin.hue_max == 0.3
    assert twin.init_kwargs == dict(AUGMENT_PRESETS["bgcfnc"], hue_max=0.3)
    x = pictures()
    torch.manual_seed(9)
    y = pipe(x)
    torch.manual_seed(9)
    assert torch.equal(twin(x), y)
    fresh = AugmentPipe()
    fresh.load_state_dict(pipe.state_dict())
    assert fresh.p == pipe.p


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(xflip=-1), "xflip must not be negative, got -1"),
        (dict(imgfilter_bands=[1, 1, -1, 1]), "imgfilter_bands must not be negative"),
        (dict(imgfilter_bands=[1, 1, 1]), "imgfilter_bands has 4 numbers"),
    ],
)
def test_wrong_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AugmentPipe(**kwargs)


def test_wrong_pictures_are_refused():
    pipe = AugmentPipe(**AUGMENT_PRESETS["bgcf"])
    with pytest.raises(ValueError, match="imgfilter needs more than 21 pixels a side, not 16 x 16"):
        pipe(pictures(size=16))
    with pytest.raises(ValueError, match=r"floating \[N, C, H, W\], got torch.uint8"):
        pipe(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"got torch.float32 \[3, 32, 32\]"):
        pipe(torch.zeros(3, 32, 32))
    with pytest.raises(ValueError, match="debug_percentile must be from 0 to 1, got 50"):
        pipe(pictures(), 50)
