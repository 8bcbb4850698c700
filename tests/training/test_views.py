"""Views: rays and crops against recorded numbers, loops and each other."""

import pytest
import torch

from tests.recorded_draws import recorded_draws
from training.cameras import Camera, look_at
from training.views import FullView, PatchView, WindowView, random_windows
from training.volumetric_rendering.ray_sampler import RaySampler

SCALES = torch.tensor([[1.0, 1.0], [0.5, 0.25], [0.3, 0.6]], dtype=torch.float64)
OFFSETS = torch.tensor([[0.0, 0.0], [0.5, 0.1], [0.25, 0.4]], dtype=torch.float64)
CORNERS = torch.tensor([[0, 0], [3, 1], [8, 5]])


@pytest.fixture
def camera():
    """Three different cameras, off-centre and with skew, float64."""
    origin = torch.tensor([[1.0, 0.5, 2.0], [-2.0, 0.1, 1.0], [0.3, -1.0, -2.0]]).double()
    lens = torch.tensor([[1.2, 0.1, 0.45], [0.0, 1.3, 0.55], [0.0, 0.0, 1.0]]).double()
    return Camera(look_at(origin, [0.1, 0.0, 0.2]), lens.expand(3, 3, 3))


def places(view, camera):
    """Where in the picture a view's rays belong, x and y [N, r, r]: projected by the camera."""
    origins, directions = view.rays(camera)
    rotation, centre = camera.cam2world[:, :3, :3], camera.cam2world[:, None, :3, 3]
    points = origins + 1.7 * directions
    x, y, w = ((points - centre) @ rotation @ camera.intrinsics.mT).unbind(-1)
    side = (view.resolution, view.resolution)
    return (x / w).unflatten(1, side), (y / w).unflatten(1, side)


def picture(x, y):
    """Colours at places x, y, bilinear in them, so that interpolation is exact."""
    return torch.stack([1 + 2 * x - y, 3 * x * y], dim=-3)


def whole_picture(resolution, pixel_grid):
    """`picture` on all pixels of a grid, [3, 2, R, R] float64, by the definition of the grid."""
    steps = torch.arange(resolution, dtype=torch.float64)
    centres = pixel_grid == "centres"
    steps = (steps + 0.5) / resolution if centres else steps / (resolution - 1)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return picture(x, y).expand(3, -1, -1, -1)


@pytest.mark.parametrize(
    "view, size, pixel_grid",
    [
        (FullView(6), 6, "centres"),
        (FullView(6, "corners"), 6, "corners"),
        (PatchView(SCALES, OFFSETS, 5), 9, "corners"),
        (WindowView(CORNERS, 4, 12), 12, "centres"),
    ],
    ids=["full", "full-corners", "patch", "window"],
)
def test_rays_and_crop_show_the_same_places(view, size, pixel_grid, camera):
    """Rendering a picture that depends on the place alone equals cutting it."""
    rendered = picture(*places(view, camera))
    crop = view.crop(whole_picture(size, pixel_grid))
    torch.testing.assert_close(crop, rendered, rtol=0, atol=1e-12)


def test_full_view_at_centres_is_the_published_ray_sampler(camera):
    for ours, theirs in zip(
        FullView(7).rays(camera), RaySampler()(camera.cam2world, camera.intrinsics, 7), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_crop_of_the_full_view_is_the_picture_itself():
    images = torch.rand(2, 3, 6, 6)
    assert FullView(6).crop(images) is images


def test_patch_lies_where_scale_and_offset_say(camera):
    """The offset is the share of the picture left of and below the patch."""
    x, y = places(PatchView(SCALES, OFFSETS, 5), camera)
    for n in range(3):
        (width, height), (left, below) = SCALES[n].tolist(), OFFSETS[n].tolist()
        for row in range(5):
            for column in range(5):
                assert x[n, row, column] == pytest.approx(left + width * column / 4)
                assert 1 - y[n, row, column] == pytest.approx(below + height * (1 - row / 4))


def test_patch_of_everything_is_the_full_view(camera):
    everything = PatchView(torch.ones(3, 2), torch.zeros(3, 2), 8)
    for patch, full in zip(
        everything.rays(camera), FullView(8, "corners").rays(camera), strict=True
    ):
        torch.testing.assert_close(patch, full, rtol=0, atol=1e-6)
    images = torch.rand(3, 2, 8, 8)
    torch.testing.assert_close(everything.crop(images), images, rtol=0, atol=1e-5)


def test_window_is_a_slice(camera):
    images = torch.rand(3, 2, 12, 12)
    directions = FullView(12).rays(camera)[1].unflatten(1, (12, 12))
    view = WindowView(CORNERS, 4, 12)
    crop, rays = view.crop(images), view.rays(camera)[1].unflatten(1, (4, 4))
    for n, (top, left) in enumerate(CORNERS.tolist()):
        rows, columns = slice(top, top + 4), slice(left, left + 4)
        assert torch.equal(crop[n], images[n, :, rows, columns])
        torch.testing.assert_close(rays[n], directions[n, rows, columns], rtol=0, atol=1e-14)


def test_random_windows_cover_all_places():
    corners = random_windows(400, 4, 6, "cpu")
    found = {tuple(corner) for corner in corners.tolist()}
    assert found == {(top, left) for top in range(3) for left in range(3)}
    assert random_windows(2, 6, 6).tolist() == [[0, 0], [0, 0]]


def test_recorded_windows(conformance, assert_scaled, monkeypatch):
    arrays = conformance("mimic3d/rays")
    camera = Camera(arrays["cam2world"], arrays["intrinsics"])
    with recorded_draws(monkeypatch):
        window, odd = random_windows(3, 8, 32), random_windows(3, 6, int(6 / 0.4))
    assert torch.equal(window, arrays["window"]) and torch.equal(odd, arrays["window_odd"])
    origins, directions = WindowView(window, 8, 32).rays(camera)
    assert_scaled(origins, arrays["origins"])
    assert_scaled(directions, arrays["directions"])
    assert_scaled(WindowView(odd, 6, 15).rays(camera)[1], arrays["directions_odd"])
    assert_scaled(FullView(32).rays(camera)[1], arrays["directions_full"])


def test_recorded_patches(conformance, assert_scaled):
    arrays = conformance("epigraf/rays_patches")
    view = PatchView(arrays["scales"], arrays["offsets"], 8)
    coordinates = (2 * view.points() - 1).unflatten(1, (8, 8))
    assert_scaled(coordinates, arrays["coords"])
    assert_scaled(view.crop(arrays["image"]), arrays["patches"])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: FullView(4, "middle"), "pixel_grid is 'middle'; must be one of centres, corners"),
        (lambda: PatchView(torch.ones(2, 2), torch.ones(3, 2), 4), r"\(2, 2\).*\(3, 2\).*\[N, 2\]"),
        (lambda: WindowView(torch.zeros(2, 3), 4, 8), r"corners of shape \(2, 3\).*\[N, 2\]"),
        (lambda: WindowView(torch.zeros(2, 2), 9, 8), "window of 9 pixels in a picture of 8"),
        (lambda: FullView(4).crop(torch.ones(1, 3, 8, 8)), "4 x 4 pixels was given 8 x 8"),
        (
            lambda: WindowView(torch.zeros(1, 2), 2, 4).crop(torch.ones(1, 3, 4, 6)),
            "4 x 4 pixels was given 4 x 6",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
