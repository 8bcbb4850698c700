"""Camera paths against analytic ones, and interpolation of poses against its axioms."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import eg3d
from eg3d import trajectories, views
from eg3d.errors import InputError
from training.cameras import Camera


@pytest.fixture
def model(generator):
    return eg3d.Model.of(generator)


@pytest.fixture
def centred(new_generator):
    """A model whose cameras look at the origin, which has seen all sides, but not the poles."""
    seen = dict(camera_azimuth_degrees=[-180, 180], camera_elevation_degrees=[-20, 60])
    return eg3d.Model.of(new_generator(avg_camera_pivot=[0, 0, 0], **seen))


def centres(camera):
    return camera.cam2world[:, :3, 3]


def rolled(poses):
    """Cameras [N] with random rotations around, in a random place, with random lenses."""
    random = np.random.RandomState(poses)
    pose = np.tile(np.eye(4), (poses, 1, 1))
    turns = Rotation.from_rotvec(random.uniform(-1, 1, (poses, 3)).cumsum(axis=0))
    pose[:, :3, :3] = turns.as_matrix()
    pose[:, :3, 3] = random.randn(poses, 3)
    lens = np.tile(np.eye(3), (poses, 1, 1))
    lens[:, 0, 0] = lens[:, 1, 1] = random.uniform(1, 5, poses)
    lens[:, 0, 2] = random.uniform(0.4, 0.6, poses)
    return Camera(torch.from_numpy(pose), torch.from_numpy(lens))


def write(path, content):
    path.write_text(json.dumps(content))
    return path


# -- Named paths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("up", [None, "z"])
@pytest.mark.parametrize("name", trajectories.NAMES)
def test_named_paths_are_closed_upright_and_look_at_the_pivot(centred, name, up):
    camera = trajectories.named(centred, name, 48, up=up)
    assert len(camera) == 48 and torch.equal(camera.intrinsics[7], centred.intrinsics)
    for pose in camera.cam2world:
        towards = -pose[:3, 3] / pose[:3, 3].norm()
        assert torch.allclose(pose[:3, 2], towards, atol=1e-5)
        assert abs(pose["xyz".index(up or "y"), 0]) < 1e-6  # the picture's rows are level
    steps = (centres(camera) - centres(camera).roll(1, 0)).norm(dim=1)
    inside = (centres(camera)[1:-1] - centres(camera)[:-2]).norm(dim=1)
    assert steps[0] <= inside.max() * 1.05  # from the last to the first


def test_known_paths(model):
    for name, expected in (("orbit", views.orbit(model, 5)), ("sway", views.sway(model, 5))):
        assert torch.equal(trajectories.named(model, name, 5).label(), expected.label())
    raised = trajectories.named(model, "orbit", 5, elevation=30)
    assert torch.equal(raised.label(), views.orbit(model, 5, 30).label())
    still = trajectories.named(model, "front", 3).label()
    assert torch.equal(still, views.front(model).label().expand(3, -1))


def test_default_is_the_orbit_only_for_models_that_saw_all_sides(model, centred):
    assert trajectories.default_name(model) == "sway"
    assert trajectories.default_name(centred) == "orbit"


def test_spiral(centred):
    x, y, z = centres(trajectories.spiral(centred, 360, turns=3)).double().T.numpy()
    assert np.allclose(np.sqrt(x * x + y * y + z * z), 2.7, atol=1e-5)
    elevation = np.degrees(np.arcsin(y / 2.7))
    assert elevation[0] == pytest.approx(-20, abs=1e-3) and elevation.argmin() == 0
    assert elevation[180] == pytest.approx(60, abs=1e-3) and elevation.argmax() == 180
    azimuth = np.degrees(np.unwrap(np.arctan2(x, z)))
    assert np.allclose(azimuth, 3 * np.arange(360), atol=1e-2)


def test_dolly(model):
    camera = trajectories.dolly(model, 8, nearest=0.5)
    front, pivot = views.front(model), torch.tensor([0, 0, 0.2])
    distance = (centres(camera) - pivot).norm(dim=1)
    assert distance[0] == pytest.approx(2.5) and distance[4] == pytest.approx(1.25)
    assert torch.allclose(distance[1:4], distance[5:].flip(0)) and distance.argmin() == 4
    assert torch.equal(camera.cam2world[:, :3, :3], front.cam2world[:, :3, :3].expand(8, 3, 3))


def test_bad_names(model):
    with pytest.raises(InputError, match="'loop': must be one of orbit, sway"):
        trajectories.named(model, "loop", 3)
    with pytest.raises(InputError, match="elevation has no effect on the path 'dolly'"):
        trajectories.named(model, "dolly", 3, elevation=10)


# -- Interpolation of poses ------------------------------------------------------------------------


def test_two_cameras_of_an_orbit_have_the_orbit_between_them(centred):
    orbit = views.orbit(centred, 12)
    keys = Camera(orbit.cam2world[[1, 4]], orbit.intrinsics[[1, 4]])
    assert torch.allclose(trajectories.between(keys, 4).label(), orbit[1:5].label(), atol=1e-5)


def test_path_goes_through_the_keys_and_its_poses_are_rigid():
    keys = rolled(5)
    path = trajectories.between(keys, 4 * 6 + 1, pivot=(0.1, 0.2, 0.3))
    assert path.cam2world.dtype == torch.float64
    assert torch.allclose(path[::6].label(), keys.label(), atol=1e-6)
    rotation = path.cam2world[:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).double().expand(25, 3, 3), atol=1e-9)
    for t in range(25):
        before, share = divmod(t, 6)
        after = min(before + 1, 4)
        mixed = keys.intrinsics[before] * (1 - share / 6) + keys.intrinsics[after] * (share / 6)
        assert torch.allclose(path.intrinsics[t], mixed)


def test_cameras_that_look_at_a_point_keep_looking_at_it():
    point = torch.tensor([0.3, -0.2, 0.5])
    keys = rolled(6)
    pose = keys.cam2world.clone()
    pose[:, :3, 3] = point - pose[:, :3, 2] * torch.linspace(1, 2, 6).double()[:, None]
    path = trajectories.between(Camera(pose, keys.intrinsics), 61, point.tolist())
    away = point - centres(path)
    distance = (away * path.cam2world[:, :3, 2]).sum(dim=1)
    assert torch.allclose(away, distance[:, None] * path.cam2world[:, :3, 2], atol=1e-6)
    assert (distance.diff() > 0).all() and distance[0] == pytest.approx(1, abs=1e-6)


def test_moving_the_world_moves_the_path():
    keys, pivot = rolled(4), torch.tensor([0.2, 0.1, -0.3]).double()
    world = rolled(9).cam2world[8]
    moved = Camera(world @ keys.cam2world, keys.intrinsics)
    pivot_moved = world[:3, :3] @ pivot + world[:3, 3]
    path = trajectories.between(keys, 20, pivot.tolist())
    found = trajectories.between(moved, 20, pivot_moved.tolist())
    assert torch.allclose(found.cam2world, world @ path.cam2world, atol=1e-5)


def test_backwards():
    keys = rolled(5)
    back = Camera(keys.cam2world.flip(0), keys.intrinsics.flip(0))
    there, again = trajectories.between(keys, 17), trajectories.between(back, 17)
    # Cubic in rotation vectors from the earlier key on: 1 % between keys that are 60 degrees apart.
    assert torch.allclose(there.label(), again.label().flip(0), atol=0.02)


def test_turning_has_no_jerks():
    """From frame to frame the angular velocity changes little; linear turns break at keys."""
    keys = rolled(5)
    turns = Rotation.from_matrix(trajectories.between(keys, 401).cam2world[:, :3, :3].numpy())
    velocity = (turns[1:] * turns[:-1].inv()).as_rotvec()
    change = np.linalg.norm(np.diff(velocity, axis=0), axis=1).max()
    at_keys = Rotation.from_matrix(keys.cam2world[:, :3, :3].numpy())
    linear = np.diff((at_keys[1:] * at_keys[:-1].inv()).as_rotvec() / 100, axis=0)
    assert change < 0.2 * np.linalg.norm(linear, axis=1).max()


def test_one_key_stands_still():
    key = rolled(1)
    label = trajectories.between(key, 3).label()
    assert torch.allclose(label, key.label().expand(3, -1), atol=1e-9)


def test_opposite_neighbours_are_ambiguous(model):
    half = views.orbit(model, 2)
    with pytest.raises(InputError, match="cameras 0 and 1 face opposite ways"):
        trajectories.between(half, 5)


# -- Files -----------------------------------------------------------------------------------------


def test_file_of_labels(model, tmp_path):
    keys = views.orbit(model, 5, elevation=20)[:4]
    path = write(tmp_path / "keys.json", keys.label().tolist())
    found = trajectories.from_file(model, path, 10)
    expected = trajectories.between(keys, 10, (0, 0, 0.2))
    assert torch.allclose(found.label(), expected.label(), atol=1e-6)


@pytest.mark.parametrize("up", [None, "z"])
def test_file_of_angles_is_an_orbit(centred, tmp_path, up):
    keys = [{"azimuth": angle, "elevation": 25} for angle in (0, 180, 360)]
    found = trajectories.from_file(centred, write(tmp_path / "keys.json", keys), 9, up)
    expected = views.orbit(centred, 8, 25, up).label()
    assert torch.allclose(found[:8].label(), expected, atol=1e-5)
    assert torch.allclose(found[8].label(), expected[:1], atol=1e-5)


def test_keys_left_out_are_those_of_the_model(model, tmp_path):
    keys = [{}, {"radius": 1.7, "fov": 40}]
    found = trajectories.from_file(model, write(tmp_path / "keys.json", keys), 5)
    assert torch.allclose(found[0].label(), model.camera.label(), atol=1e-6)
    assert torch.allclose(centres(found)[:, 2], torch.linspace(2.7, 1.7, 5))
    last = 1 / (math.tan(math.radians(20)) * 1.414)
    expected = torch.linspace(model.intrinsics[0, 0].item(), last, 5)
    assert torch.allclose(found.intrinsics[:, 1, 1], expected, atol=1e-4)


def test_angles_do_not_overshoot(model, tmp_path):
    keys = [{"elevation": e, "azimuth": i} for i, e in enumerate((0, 85, 85, 0, -85))]
    camera = trajectories.from_file(model, write(tmp_path / "keys.json", keys), 41)
    elevation = torch.rad2deg(torch.arcsin(centres(camera)[:, 1] / 2.7))
    assert elevation.max() <= 85.01 and elevation.min() >= -85.01
    assert camera.label().isfinite().all()


@pytest.mark.parametrize(
    "content, words",
    [
        ([{"azimut": 3}], "camera 0: must be an object with any of azimuth, elevation"),
        ([{}, [1.0] * 25], "camera 1: must be an object"),
        ([{"fov": "wide"}], "camera 0: fov is 'wide', must be a finite number"),
        ([{"azimuth": True}], "camera 0: azimuth is True"),
        ([{"azimuth": math.inf}], "camera 0: azimuth is inf"),
        ([{}, {"elevation": 90}], "camera 1: elevation is 90, must be between -90 and 90"),
        ([{"radius": 0}], "camera 0: radius is 0, must be above 0"),
        ([{"fov": 180}], "camera 0: fov is 180, must be between 0 and 180"),
        ([], "must hold a list of camera labels"),
        ({"azimuth": 3}, "must hold a list"),
        ([[1.0] * 25], "camera 0"),
    ],
)
def test_wrong_file_is_one_line(model, tmp_path, content, words):
    with pytest.raises(InputError, match=words) as error:
        trajectories.from_file(model, write(tmp_path / "keys.json", content), 3)
    assert "keys.json" in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_none(model, tmp_path):
    (tmp_path / "text.json").write_text("left, right")
    for name in ("text.json", "missing.json"):
        with pytest.raises(InputError, match=name):
            trajectories.from_file(model, tmp_path / name, 3)


def test_file_of_labels_has_its_own_up_and_may_be_ambiguous(model, tmp_path):
    path = write(tmp_path / "keys.json", views.orbit(model, 2).label().tolist())
    with pytest.raises(InputError, match="keys.json: camera labels say themselves what is up"):
        trajectories.from_file(model, path, 3, up="z")
    with pytest.raises(InputError, match="keys.json: cameras 0 and 1 face opposite"):
        trajectories.from_file(model, path, 3)
