"""Several sets of planes in one field, axes by name, texels' centres on the faces of the box."""

import pytest
import torch

from training.volumetric_rendering.draws import RandomDraws
from training.volumetric_rendering.options import RenderingOptions
from training.volumetric_rendering.planes import generate_planes
from training.volumetric_rendering.renderer import (
    ImportanceRenderer,
    TriPlaneField,
    project_onto_planes,
    sample_from_planes,
)

NAMES = ["net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"]


def test_recorded_sets(conformance, state_of, make_decoder, assert_scaled):
    """Cyclic axes: positions, features of one set, of oblong planes and of two sets, decoded."""
    recorded = conformance("mimic3d/planes")
    axes, points = generate_planes("cyclic"), recorded["points"]
    assert_scaled(project_onto_planes(axes, points), recorded["project"])

    def features(planes, box_warp=1.0):
        return sample_from_planes(axes, planes, points, box_warp=box_warp)

    pc, pr = recorded["pc"], recorded["pr"]
    assert_scaled(features(pc), recorded["features_single"])
    assert_scaled(features(recorded["po"], 1.2), recorded["features_oblong"])
    assert_scaled(features([pc, pr]), recorded["features_list"])
    state = state_of(recorded)
    for averages in (False, True):
        weights = [state[next(key for key in state if key.endswith(name))] for name in NAMES]
        decoder = make_decoder(*weights, averages_planes=averages)
        answer = TriPlaneField([pc, pr], decoder, axes, 1)(points, None)
        assert_scaled(answer["sigma"], recorded["sigma"])
        assert_scaled(answer["rgb"], recorded["rgb"])


@pytest.mark.parametrize("name", ["legacy", "orthogonal", "cyclic", "xy_xz_yz"])
def test_axes_by_name(name):
    """The coordinates along columns and rows are told by letters."""
    letters = dict(
        legacy=("xy", "xz", "zx"),
        orthogonal=("xy", "xz", "zy"),
        cyclic=("xy", "yz", "zx"),
        xy_xz_yz=("xy", "xz", "yz"),
    )[name]
    points = torch.rand(1, 4, 3)
    found = project_onto_planes(generate_planes(name), points)
    for plane, pair in enumerate(letters):
        assert torch.equal(found[plane], points[0][:, ["xyz".index(axis) for axis in pair]])


def test_unknown_axes_are_told_all_names():
    with pytest.raises(ValueError, match="'legacy', 'orthogonal', 'cyclic', 'xy_xz_yz'"):
        ImportanceRenderer("eg3d")


@pytest.mark.parametrize("averages", [False, True])
def test_aligned_corners_are_another_scale(averages, small_decoder):
    """The field's scale has the numbers of the look-up's own argument, with two sides of planes."""
    double = {"dtype": torch.float64}
    sets = [torch.randn(2, 3, 3, side, side, **double) for side in (6, 11)]
    points = torch.rand(2, 40, 3, **double) * 1.4 - 0.7
    decoder, axes = small_decoder(averages, **double), generate_planes("xy_xz_yz")
    found = TriPlaneField(sets, decoder, axes, 1, align_corners=True)(points, None)
    features = sample_from_planes(axes, sets, points, box_warp=1, align_corners=True)
    expected = decoder(features, None)
    for name in ("rgb", "sigma"):
        torch.testing.assert_close(found[name], expected[name])
    edges = TriPlaneField(sets, decoder, axes, 1)(points, None)
    assert (edges["sigma"] - found["sigma"]).abs().max() > 1e-2


def test_aligned_corners_of_a_face(small_decoder):
    """A corner of the box shows the corner texel, whole."""
    planes = torch.randn(1, 3, 3, 5, 5)
    corner = torch.tensor([[[-0.5, -0.5, -0.5]]])
    features = sample_from_planes(
        generate_planes("cyclic"), planes, corner, box_warp=1, align_corners=True
    )
    assert torch.equal(features[0, :, 0], planes[0, :, :, 0, 0])
    with pytest.raises(ValueError, match="square planes, not 4 rows of 5"):
        TriPlaneField(planes[..., :4, :], small_decoder(), generate_planes(), 1, align_corners=True)


@pytest.mark.parametrize("axes", ["legacy", "cyclic"])
def test_rendering_of_sets_has_gradients_of_both(axes, small_decoder, parallel_rays):
    """A set of zeros changes nothing; the sum of two sets of one size is one set."""
    options = RenderingOptions(6, 4, 0.8, 2.2, 1, False, "softplus")
    generator = torch.Generator()
    rays, decoder = parallel_rays(1, 5), small_decoder()

    def render(planes):
        return ImportanceRenderer(axes)(
            planes, decoder, *rays, options, RandomDraws(generator.manual_seed(1))
        )

    one, two = (torch.randn(1, 3, 3, 6, 6).requires_grad_() for _ in range(2))
    whole = (one + two).detach().requires_grad_()
    expected, found = render(whole), render([one, two])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    found[0].sum().backward()
    expected[0].sum().backward()
    for g in (one.grad, two.grad):
        torch.testing.assert_close(g, whole.grad, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        alone, extended = render(one), render([one, torch.zeros(1, 3, 3, 9, 9)])
    assert torch.equal(alone[0], extended[0])


def test_decoder_that_needs_points():
    """They come in units of half the box; who does not ask is not given them."""
    points = torch.rand(2, 7, 3) * 3 - 1.5

    def decode(features, directions, points):
        return {"rgb": points, "sigma": points.sum(-1, keepdim=True)}

    decode.needs_points = True
    answer = TriPlaneField(torch.randn(2, 3, 4, 5, 5), decode, generate_planes(), 3)(points, None)
    torch.testing.assert_close(answer["rgb"], points / 1.5)
    decode.needs_points = False
    with pytest.raises(TypeError, match="points"):
        TriPlaneField(torch.randn(2, 3, 4, 5, 5), decode, generate_planes(), 3)(points, None)
