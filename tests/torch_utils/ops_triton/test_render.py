"""Kernels of the volume renderer against plain twins in float64, values and gradients."""

import pytest
import torch

from torch_utils.ops import render_ops, triplane_ops
from torch_utils.ops.render_ops import Rule
from torch_utils.ops.triplane_ops import How

LEGACY, ORTHOGONAL = (0, 1, 0, 2), (0, 1, 0, 2, 2, 1)
TWO_SETS = (0, 1, 1, 2, 2, 0) * 2  # the second of another size
OTHER = dict(activation="lrelu", colouring="linear")
CHANNELS, HIDDEN, COLOURS = 16, 32, 16
SCALE = 2 / 1.6  # of a box that is 1.6 wide
MIDPOINT = Rule()


def how(axes, precision="float32", **kind):
    """Planes of 5 columns and 6 rows; of more than three, the others have 7 and 3."""
    count = len(axes) // 2
    sizes = (5, 6) * min(count, 3) + (7, 3) * max(count - 3, 0)
    return How(axes, sizes, SCALE, precision, **kind)


def make_field(axes, n=2):
    """Planes [n, T, C] and the two layers of a decoder, all with gradients."""
    sizes = how(axes).sizes
    texels = sum(w * h for w, h in zip(sizes[::2], sizes[1::2], strict=True))
    planes = torch.randn(n, texels, CHANNELS)
    layers = [(HIDDEN, CHANNELS), (HIDDEN,), (1 + COLOURS, HIDDEN), (1 + COLOURS,)]
    inputs = [planes, *(torch.randn(shape) / 2 for shape in layers)]
    empty = torch.nn.functional.softplus(inputs[2]) @ inputs[3][0]
    inputs[4][0] = 2 - empty  # dense enough that 1 - exp(-x) has digits in float32
    return [x.requires_grad_() for x in inputs]


def make_rays(rays, samples, n=2):
    """Origins in front of the box, directions through it and past it, ascending depths."""
    origins = torch.randn(n, rays, 3) * 0.2 + torch.tensor([0, 0, 1.5])
    directions = torch.randn(n, rays, 3) * 0.2 + torch.tensor([0, 0, -1.0])
    directions[:, 0, 0] = 5  # misses the box
    depths = torch.sort(torch.rand(n, rays, samples) * 2.5 + 0.2)[0]
    return [origins.requires_grad_(), directions.requires_grad_()], depths


def doubled(inputs):
    return [x.detach().cpu().double().requires_grad_(x.requires_grad) for x in inputs]


def moved(inputs, device):
    return [x.detach().to(device).requires_grad_(x.requires_grad) for x in inputs]


def assert_close(actual, expected, tol=2e-6):
    """Largest error relative to the largest expected value, for each pair."""
    for number, (a, b) in enumerate(zip(actual, expected, strict=True)):
        error = (a.detach().cpu().double() - b).abs().max() / b.abs().max().clamp(min=1e-30)
        assert a.shape == b.shape and error <= tol, f"number {number}: {error:.2g}, not {tol:g}"


def test_query(device):
    """Points inside, on the faces and outside of the box; a last tile that is not full."""
    inputs = make_field(ORTHOGONAL)
    points = torch.rand(2, 19, 3) * 1.6 - 0.8
    points[:, 0] = torch.tensor([0.8, -0.8, 0.8])
    points[:, 1] = torch.tensor([0.1, 0.8, 0.3])
    points[:, 2] = torch.tensor([3.0, 1e6, -1e30])
    inputs.append(points.requires_grad_())
    here, there = moved(inputs, device), doubled(inputs)
    actual = triplane_ops.decode(*here, *how(ORTHOGONAL), True)
    expected = triplane_ops.decode_plain(*there, how(ORTHOGONAL))
    assert_close(actual, expected)
    empty = triplane_ops.decode_plain(*there[:5], there[5] * 0 + 9, how(ORTHOGONAL))
    assert_close([actual[0][:, 2], actual[1][:, 2]], [empty[0][:, 2], empty[1][:, 2]])

    grads = [torch.randn_like(x) for x in expected]
    expected = torch.autograd.grad(expected, there, grads)
    actual = torch.autograd.grad(actual, here, [g.float().to(device) for g in grads])
    assert expected[5][:, 2].abs().max() == 0
    assert_close(actual, expected)


@pytest.mark.parametrize("axes, kind", [(TWO_SETS, {}), (LEGACY, OTHER)], ids=["sets", "linear"])
def test_query_of_other_fields(device, axes, kind):
    inputs = [*make_field(axes, n=1), (torch.rand(1, 18, 3) * 2 - 1).requires_grad_()]
    here, there = moved(inputs, device), doubled(inputs)
    actual = triplane_ops.decode(*here, *how(axes, **kind), True)
    expected = triplane_ops.decode_plain(*there, how(axes, **kind))
    assert_close(actual, expected)
    usual = triplane_ops.decode_plain(*there, how(axes))
    assert not kind or (usual[0] - expected[0]).abs().max() > 0.1
    grads = [torch.randn_like(x) for x in expected]
    expected = torch.autograd.grad(expected, there, grads)
    actual = torch.autograd.grad(actual, here, [g.float().to(device) for g in grads])
    assert_close(actual, expected, 1e-5)


def test_query_of_densities_alone(device):
    """The short way has the same densities, and both kinds of query the same gradients of them."""
    inputs = [*make_field(LEGACY, n=1), torch.rand(1, 17, 3) - 0.5]
    here, there = moved(inputs, device), doubled(inputs)
    _, expected = triplane_ops.decode_plain(*there, how(LEGACY))
    expected_grads = torch.autograd.grad(expected.square().sum(), there[:5])
    for want_rgb in (True, False):
        rgb, sigma = triplane_ops.decode(*here, *how(LEGACY), want_rgb)
        assert rgb.shape == (1, 17 if want_rgb else 0, COLOURS)
        assert_close([sigma], [expected])
        assert_close(torch.autograd.grad(sigma.square().sum(), here[:5]), expected_grads)


@pytest.mark.parametrize("axes, rays, samples", [(LEGACY, 5, 4), (ORTHOGONAL, 17, 2)])
def test_composite(device, axes, rays, samples):
    """Also of rays that absorb nothing and of an opaque one."""
    pencil, depths = make_rays(rays, samples)
    inputs = [*make_field(axes), *pencil]
    here, there = moved(inputs, device), doubled(inputs)
    actual = render_ops.composite(*here, depths.to(device), *how(axes), *MIDPOINT)
    expected = render_ops.composite_plain(*there, depths.double(), how(axes), MIDPOINT)
    assert_close(actual, expected)
    grads = [torch.randn_like(x) for x in expected]
    expected = torch.autograd.grad(expected, there, grads)
    actual = torch.autograd.grad(actual, here, [g.float().to(device) for g in grads])
    assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize(
    "axes, kind, rule, samples",
    [
        (ORTHOGONAL, OTHER, Rule("classic", "softplus", 0.0, 0.3), 3),
        (LEGACY, OTHER, Rule("classic", "softplus", -0.5, 1e10), 4),
        (LEGACY, {}, Rule("classic", "relu", 0.5, 0.3), 1),
        (LEGACY, {"activation": "lrelu"}, Rule("midpoint", "relu", 0.2), 3),
        (TWO_SETS, {}, MIDPOINT, 3),
    ],
    ids=["classic", "closed", "relu", "midpoint of relu", "sets"],
)
def test_composite_of_other_fields_and_rules(device, axes, kind, rule, samples):
    """Values and gradients, that of the light that is left among them."""
    pencil, depths = make_rays(5, samples, n=1)
    field = make_field(axes, n=1)
    with torch.no_grad():  # densities around 0.5, or even the last sample would see no light
        field[4][0] -= 1.5
    inputs = [*field, *pencil]
    here, there = moved(inputs, device), doubled(inputs)
    kind = how(axes, **kind)
    actual = render_ops.composite(*here, depths.to(device), *kind, *rule)
    expected = render_ops.composite_plain(*there, depths.double(), kind, rule)
    assert_close(actual, expected)
    other = render_ops.composite_plain(*there, depths.double(), kind, Rule("midpoint", "relu", 9.0))
    assert (other[0] - expected[0]).abs().max() > 0.05
    grads = [torch.randn_like(x) for x in expected]
    expected = torch.autograd.grad(expected, there, grads)
    actual = torch.autograd.grad(actual, here, [g.float().to(device) for g in grads])
    assert_close(actual, expected, 2e-5)


@pytest.mark.parametrize("bias", [-1e4, 60.0], ids=["empty", "opaque"])
def test_composite_at_the_extremes(device, bias):
    pencil, depths = make_rays(3, 4, n=1)
    planes, w1, b1, w2, b2 = make_field(LEGACY, n=1)
    with torch.no_grad():
        b2[0] = bias
    here = moved([planes, w1, b1, w2, b2, *pencil], device)
    there = doubled([planes, w1, b1, w2, b2, *pencil])
    actual = render_ops.composite(*here, depths.to(device), *how(LEGACY), *MIDPOINT)
    expected = render_ops.composite_plain(*there, depths.double(), how(LEGACY), MIDPOINT)
    assert (actual[1] == 0).all() if bias < 0 else (actual[1] > 0.99).all()
    assert_close(actual[:3], expected[:3])
    assert (actual[3].cpu() - expected[3]).abs().max() < 1e-6  # of all light that comes in
    total = [x.sum() for x in (actual[0] + actual[1].unsqueeze(-1) * 2, expected[0])]
    found = torch.autograd.grad(total[0], here, allow_unused=True)
    assert all(g.isfinite().all() for g in found)
    if bias < 0:
        assert all((g == 0).all() for g in found)


def test_only_what_is_asked_for_has_a_gradient(device):
    """Rays alone, as in the search for a camera, and layers alone."""
    pencil, depths = make_rays(3, 3, n=1)
    inputs = [*make_field(LEGACY, n=1), *pencil]
    expected = render_ops.composite_plain(*doubled(inputs), depths.double(), how(LEGACY), MIDPOINT)
    for some in ([5, 6], [1, 3], [6]):
        here, there = moved(inputs, device), doubled(inputs)
        for number in set(range(7)) - set(some):
            here[number].requires_grad_(False)
        actual = render_ops.composite(*here, depths.to(device), *how(LEGACY), *MIDPOINT)
        expected = render_ops.composite_plain(*there, depths.double(), how(LEGACY), MIDPOINT)
        actual = torch.autograd.grad(actual[0].sum(), [here[i] for i in some])
        expected = torch.autograd.grad(expected[0].sum(), [there[i] for i in some])
        assert_close(actual, expected, 1e-5)


def test_densities_of_rays_are_those_of_their_points(device):
    pencil, depths = make_rays(5, 3)
    field = moved(make_field(LEGACY), device)
    origins, directions, depths = (x.detach().to(device) for x in (*pencil, depths))
    points = origins.unsqueeze(2) + depths.unsqueeze(-1) * directions.unsqueeze(2)
    with torch.no_grad():
        sigma = render_ops.ray_densities(*field, origins, directions, depths, *how(LEGACY))
        _, expected = triplane_ops.decode(*field, points.flatten(1, 2), *how(LEGACY), True)
    torch.testing.assert_close(sigma.flatten(1), expected, atol=2e-6, rtol=2e-6)


def test_sixteen_bits(device):
    """Errors are those of 16 bits, not more, and gradients keep the range of 32."""
    pencil, depths = make_rays(5, 4, n=1)
    inputs = [*make_field(LEGACY, n=1), *pencil]
    here, there = moved(inputs, device), doubled(inputs)
    actual = render_ops.composite(*here, depths.to(device), *how(LEGACY, "float16"), *MIDPOINT)
    expected = render_ops.composite_plain(*there, depths.double(), how(LEGACY), MIDPOINT)
    assert 1e-6 < (actual[0].detach().cpu() - expected[0]).abs().max() < 5e-3
    tiny = 1e-9  # less than 16 bits can tell from zero
    actual = torch.autograd.grad(actual[0].sum() * tiny, here[:5])
    expected = torch.autograd.grad(expected[0].sum() * tiny, there[:5])
    assert_close(actual, expected, 1e-2)


def test_gradients_of_gradients_go_the_plain_way(device):
    inputs = [*make_field(LEGACY, n=1), torch.rand(1, 3, 3) - 0.5]
    here, there = moved(inputs, device), doubled(inputs)
    results = []
    for tensors, (rgb, sigma) in (
        (here, triplane_ops.decode(*here, *how(LEGACY), True)),
        (there, triplane_ops.decode_plain(*there, how(LEGACY))),
    ):
        loss = rgb.square().sum() + sigma.square().sum()
        (slope,) = torch.autograd.grad(loss, tensors[1], create_graph=True)
        results.append(torch.autograd.grad(slope.square().sum(), tensors[:5]))
    assert_close(*results, 1e-5)
