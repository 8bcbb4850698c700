"""Views of a model: positions, ranges, files."""

import json
import math

import pytest
import torch

import eg3d
from eg3d import views
from eg3d.cameras import LookAtPoseSampler
from eg3d.errors import InputError


@pytest.fixture
def model(generator):
    return eg3d.Model.of(generator)


def centres(camera):
    return camera.cam2world[:, :3, 3]


def as_z_up(vectors):
    """The y-up world seen as a z-up one, axis by axis: x <- z, y <- x, z <- y."""
    return torch.stack([vectors[..., 2], vectors[..., 0], vectors[..., 1]], dim=-1)


def test_published_views(model):
    camera = views.published(model)
    for index, (yaw, pitch) in enumerate([(0.4, -0.2), (0, -0.2), (-0.4, -0.2)]):
        expected = LookAtPoseSampler.sample(
            math.pi / 2 + yaw, math.pi / 2 + pitch, torch.tensor([0, 0, 0.2]), radius=2.7
        )
        assert torch.allclose(camera.cam2world[index], expected[0], atol=1e-6)
    assert torch.equal(camera.intrinsics[2], model.intrinsics)
    assert torch.allclose(views.front(model).label(), model.camera.label(), atol=1e-6)


def test_names(model):
    assert torch.equal(views.named(model, "published").label(), views.published(model).label())
    assert torch.equal(views.named(model, "front").label(), views.front(model).label())
    assert torch.equal(views.named(model, "orbit:7").label(), views.orbit(model, 7).label())
    for wrong in ("", "back", "orbit", "orbit:", "orbit:0", "orbit:-1", "orbit:1.5", "front:2"):
        with pytest.raises(InputError, match="must be published, front, or orbit:N"):
            views.named(model, wrong)


@pytest.mark.parametrize("up", ["y", "z"])
def test_orbit_height(model, new_generator, up):
    axis = "xyz".index(up)
    assert centres(views.orbit(model, 4, up=up))[:, axis].abs().max() < 1e-6
    raised = centres(views.orbit(model, 4, elevation=30, up=up))
    assert torch.allclose(raised[:, axis], torch.full((4,), 2.7 * 0.5))
    known = eg3d.Model.of(new_generator(camera_elevation_degrees=[10, 50]))
    assert torch.equal(centres(views.orbit(known, 4, up=up)), raised)
    with pytest.raises(InputError, match="elevation"):
        views.orbit(model, 4, elevation=90)


def test_up_axis(new_generator):
    model = eg3d.Model.of(new_generator(avg_camera_pivot=[0, 0, 0]))
    for make in (views.published, views.front, lambda m, up: views.sway(m, 4, up)):
        upright, lying = make(model, "y"), make(model, "z")
        assert torch.allclose(as_z_up(centres(upright)), centres(lying), atol=1e-5)
        axes = [as_z_up(upright.cam2world[:, :3, i]) for i in range(3)]
        for i, expected in enumerate(axes):
            assert torch.allclose(lying.cam2world[:, :3, i], expected, atol=1e-5)
    assert torch.equal(views.front(model).label(), views.front(model, "y").label())


def test_random_views(model, new_generator):
    wide = dict(camera_azimuth_degrees=[-180, 180], camera_elevation_degrees=[5, 60])
    wide["avg_camera_pivot"] = [0, 0, 0]
    cars = eg3d.Model.of(new_generator(**wide))
    seeds = list(range(600))
    camera = views.random_views(cars, seeds)
    assert torch.equal(camera[5].label(), views.random_views(cars, [5]).label())
    unit = centres(camera) / 2.7
    assert torch.allclose(unit.norm(dim=1), torch.ones(600), atol=1e-5)
    low, high = (math.sin(math.radians(angle)) for angle in (5, 60))
    height = unit[:, 1]
    assert low < height.min() < low + 0.02 and high - 0.02 < height.max() < high
    assert abs(height.mean() - (low + high) / 2) < 0.04  # even in area, not in angle
    assert (unit[:, 2] < 0).float().mean() == pytest.approx(0.5, abs=0.08)

    narrow = centres(views.random_views(model, seeds))
    azimuth = torch.rad2deg(torch.atan2(narrow[:, 0], narrow[:, 2]))
    assert -30 < azimuth.min() < -28 and 28 < azimuth.max() < 30
    up = centres(views.random_views(cars, seeds[:9], up="z"))
    assert torch.allclose(up, as_z_up(centres(camera)[:9]), atol=1e-6)


def test_cameras_from_a_file(tmp_path, model):
    path = tmp_path / "cameras.json"
    labels = views.published(model).label()
    path.write_text(json.dumps(labels.tolist()))
    assert torch.equal(views.from_file(path).label(), labels)
    path.write_text(json.dumps(labels[1].tolist()))
    assert torch.equal(views.from_file(path).label(), labels[1:2])


def test_cameras_are_written_for_reading(tmp_path, model):
    path = tmp_path / "cameras.json"
    for camera in (views.random_views(model, range(3)), views.front(model)):
        views.to_file(path, camera)
        assert torch.equal(views.from_file(path).label(), camera.label())
        assert json.loads(path.read_text()) == camera.label().tolist()


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("[]", "list of camera labels"),
        ('{"labels": []}', "list of camera labels"),
        ("[[1, 2]]", "camera 0: "),
        ('[["a"]]', "camera 0: "),
        ("[7]", "camera 0: "),
        (json.dumps([[0.0] * 25]), "camera 0: last row"),
        (
            json.dumps([[float("inf")] * 25]),
            "camera 0: camera label has a value that is not finite",
        ),
    ],
)
def test_bad_camera_files_are_named(tmp_path, text, words):
    path = tmp_path / "cameras.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as caught:
        views.from_file(path)
    assert str(path) in str(caught.value) and words in str(caught.value)
