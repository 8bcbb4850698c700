"""Distributions of cameras: named ones by definition, fitted ones by what they are fitted to."""

import math

import numpy as np
import pytest
import torch

from metrics.errors import MetricError
from metrics.pose_distribution import NAMED, fit, pose_distribution
from training.cameras import Camera, check_label, look_at


def test_faces_as_defined():
    labels = NAMED["ffhq"].sample(range(3000))
    camera = Camera.from_label(labels.double())
    origins = camera.cam2world[:, :3, 3]
    assert all(check_label(label) is None for label in labels[:20].numpy())
    assert origins.norm(dim=1).sub(2.7).abs().max() < 1e-5
    # h and v by their definition, from positions in the published coordinates.
    x, y, z = (origins / 2.7).unbind(1)
    h, v = math.pi - torch.atan2(z, x), math.pi * (1 - torch.cos(torch.arccos(y))) / 2
    for angle, mean, spread in ((h, 1.57, 0.35), (v, 1.52, 0.25)):
        assert abs(float(angle.mean()) - mean) < 0.03 and abs(float(angle.std()) - spread) < 0.02
    target = torch.tensor([0, 0, 0.2], dtype=torch.float64)
    expected = look_at(origins, target)
    assert torch.allclose(camera.cam2world, expected, atol=1e-5)
    focal = float(camera.intrinsics[0, 0, 0])
    assert focal == pytest.approx(4.2634, abs=1e-3)


def test_cars_go_all_around():
    labels = NAMED["shapenet"].sample(range(4000))
    camera = Camera.from_label(labels)
    origins = camera.cam2world[:, :3, 3] / 1.2
    assert origins.norm(dim=1).sub(1).abs().max() < 1e-5
    # uniform on the sphere: no mean, a third of the square in each direction
    assert origins.mean(0).abs().max() < 0.03
    assert (origins**2).mean(0).sub(1 / 3).abs().max() < 0.03
    assert (-camera.cam2world[:, 2, 1] > -1e-6).all()  # z is up in every picture


@pytest.mark.parametrize("name", ["ffhq", "shapenet"])
def test_fit_finds_what_labels_were_drawn_from(name):
    true = NAMED[name]
    found = fit(true.sample(range(5000)))
    assert found.kind == true.kind and found.up == true.up
    assert found.radius == pytest.approx(true.radius, abs=1e-5)
    assert found.pivot == pytest.approx(true.pivot, abs=1e-4)
    assert found.lens == pytest.approx(true.lens, abs=1e-4)
    if name == "ffhq":
        assert found.h == pytest.approx(true.h, abs=0.02)
        assert found.v == pytest.approx(true.v, abs=0.02)
    else:
        assert found.h[1] == math.pi and found.v == pytest.approx(true.v, abs=0.01)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_any_axis_may_be_up(axis, sign):
    """Cameras on a ring above the horizon: those that are drawn from the fit lie there too."""
    up = torch.zeros(3)
    up[axis] = sign
    side, other = torch.zeros(3), torch.zeros(3)
    side[(axis + 1) % 3] = other[(axis + 2) % 3] = 1
    angle = torch.linspace(-1, 1, 200)[:, None]
    origins = angle.cos() * side + angle.sin() * other + 0.3 * up
    lens = torch.tensor([[1.5, 0, 0.5], [0, 1.5, 0.5], [0, 0, 1]]).expand(200, 3, 3)
    labels = Camera(look_at(origins, (0, 0, 0), up.tolist()), lens).label()
    found = fit(labels)
    assert found.up == tuple(up.tolist()) and found.kind == "gaussian"
    drawn = Camera.from_label(found.sample(range(300))).cam2world[:, :3, 3]
    height, ahead = drawn @ up, drawn @ side
    assert height.sub(0.3).abs().max() < 0.02 and ahead.mean() > 0.6
    assert abs(float((drawn @ other).mean())) < 0.05


def test_parallel_cameras_can_be_fitted():
    pose = torch.diag(torch.tensor([1.0, -1, -1, 1]))
    pose[2, 3] = 2.7
    lens = torch.tensor([[4.0, 0, 0.5], [0, 4.0, 0.5], [0, 0, 1]])
    labels = Camera(pose.expand(3, 4, 4), lens.expand(3, 3, 3)).label()
    found = fit(labels)
    assert np.isfinite(found.pivot).all() and found.h[1] == found.v[1] == 0
    assert torch.allclose(found.sample(range(2)), labels[:2], atol=1e-5)


def test_names():
    labels = NAMED["ffhq"].sample(range(50))
    assert pose_distribution("afhq", labels).name == "afhq"
    assert pose_distribution("fitted", labels).name == "fitted"
    with pytest.raises(MetricError, match="'dogs'; there are fitted, ffhq, afhq, shapenet"):
        pose_distribution("dogs", labels)


def test_numbers_depend_on_seed_and_picture_alone():
    source = NAMED["afhq"]
    assert torch.equal(source.sample(range(90, 110), 4), source.sample(range(200), 4)[90:110])
    assert not torch.equal(source.sample(range(5), 4), source.sample(range(5), 5))
