"""Each format against files made by hand, and written and read again."""

import json
import math
import struct

import numpy as np
import pytest
import scipy.io
import torch
from scipy.spatial.transform import Rotation

from dataset_preprocessing.cameras import deep3dface, formats, srn
from dataset_preprocessing.cameras.formats import WRITERS, read_cameras
from dataset_preprocessing.cameras.posed import CameraError, PosedPictures
from metrics.estimators import camera_angles
from tests.dataset_preprocessing.cameras import scenes
from tests.dataset_preprocessing.cameras.scenes import expected_labels, orbit, quaternion, save

FRONTAL = [[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.7], [0, 0, 0, 1]]
WORLD = Rotation.from_rotvec([0.4, -0.7, 1.1]).as_matrix()


def written(export, views, folder):
    """Writes the files of an Export and the pictures of the views where it wants them."""
    for path, content in export.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    for view, path in zip(views, export.pictures, strict=True):
        view.name = path
    save(views, folder)


@pytest.mark.parametrize("kind", scenes.WRITERS)
def test_files_made_by_hand(kind, tmp_path):
    views = orbit(world=WORLD)
    scenes.WRITERS[kind](views, tmp_path)
    posed, gallery = read_cameras(tmp_path)
    assert np.abs(posed.labels() - expected_labels(views)).max() < 1e-9
    assert [name.split("/")[-1] for name in posed.names] == [view.name for view in views]
    assert posed.sizes.tolist() == [list(scenes.SIZE)] * 5 and not posed.distorted.any()
    assert np.array_equal(posed.points, [scenes.POINT] if kind == "colmap" else np.zeros((0, 3)))
    assert formats.detect(tmp_path) == kind and set(posed.names) <= set(gallery.names)


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "epigraf"])
def test_round_trip(kind, tmp_path):
    lens = {} if kind == "srn" else dict(focal=(140.0, 155.0))
    views = orbit(world=WORLD, **lens)
    if kind != "srn":
        views[2].focal, views[2].size, views[2].center = (99.5, 98.0), (80, 80), (40.5, 41.0)
    labels, sizes = expected_labels(views), np.array([view.size for view in views])
    posed = PosedPictures.from_labels([view.name for view in views], labels, sizes)
    written(WRITERS[kind](posed), views, tmp_path)
    found, _ = read_cameras(tmp_path, kind.removesuffix("-text"))
    assert np.abs(found.labels() - labels).max() < 1e-12
    assert np.array_equal(found.sizes, sizes)
    assert np.abs(found.intrinsics - posed.intrinsics).max() < 1e-10


# -- transforms.json -------------------------------------------------------------------------------


@pytest.fixture
def transforms(tmp_path):
    """`transforms(settings, frame)` -> label of a picture of 96 x 64 with that transforms.json."""

    def read(settings, frame=None, name="transforms.json"):
        save(orbit(1), tmp_path / "train")
        matrix = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2.7], [0, 0, 0, 1]]
        frame = dict(dict(file_path="./train/000", transform_matrix=matrix), **(frame or {}))
        (tmp_path / name).write_text(json.dumps(dict(settings, frames=[frame])))
        return read_cameras(tmp_path)[0].labels()[0]

    return read


def test_blender(transforms):
    """Without sizes, extensions and focal lengths; an angle of 90 degrees has the focal length of
    half the width."""
    label = transforms(dict(camera_angle_x=math.pi / 2), name="transforms_train.json")
    assert np.array_equal(label[:16].reshape(4, 4), FRONTAL)
    assert np.allclose(label[16:], [0.5, 0, 0.5, 0, 0.75, 0.5, 0, 0, 1])


@pytest.mark.parametrize(
    "settings, frame, lens",
    [
        (dict(fl_x=48, w=96, h=64), {}, [0.5, 0.75, 0.5, 0.5]),
        (dict(fl_x=48, fl_y=32, cx=24, cy=48), {}, [0.5, 0.5, 0.25, 0.75]),
        (dict(fl_x=48, w=96, h=64), dict(fl_x=96, cx=24), [1, 1.5, 0.25, 0.5]),
        (dict(fl_x=96, w=192, h=128, cx=48), {}, [0.5, 0.75, 0.25, 0.5]),
        (dict(camera_angle_x=math.pi / 2, camera_angle_y=math.pi / 2), {}, [0.5, 0.5, 0.5, 0.5]),
        (dict(x_fov=90.0, y_fov=90.0), {}, [0.5, 0.5, 0.5, 0.5]),
        (dict(fl_x=48, camera_angle_x=1.0), {}, [0.5, 0.75, 0.5, 0.5]),
        (dict(fl_x=48, k1=0, p2=0.0, camera_model="OPENCV"), {}, [0.5, 0.75, 0.5, 0.5]),
    ],
    ids=str,
)
def test_lens_of_transforms(transforms, settings, frame, lens):
    assert np.allclose(transforms(settings, frame)[[16, 20, 18, 21]], lens, atol=1e-12)


def test_rows_of_three(transforms):
    label = transforms(dict(fl_x=48), dict(transform_matrix=np.eye(4)[:3].tolist()))
    assert np.array_equal(label[:16].reshape(4, 4), np.diag([1, -1, -1, 1]))


@pytest.mark.parametrize("path", ["train/000.png", ".\\train\\000.png", "./x/../train/000"])
def test_paths(transforms, path):
    assert transforms(dict(fl_x=48), dict(file_path=path))[16] == 0.5


@pytest.mark.parametrize("key", ["k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2"])
def test_distortion_of_transforms(transforms, key):
    with pytest.raises(CameraError, match="000.png: its lens is distorted"):
        transforms({"fl_x": 48, key: 1e-3})


def test_order_is_that_of_names(tmp_path):
    views = orbit(3)
    scenes.write_transforms(views[::-1], tmp_path)
    posed, _ = read_cameras(tmp_path)
    assert posed.names == [f"images/{view.name}" for view in views]
    assert np.allclose(posed.labels(), expected_labels(views))


def test_splits_are_one_scene(tmp_path):
    views = orbit(3)
    save(views, tmp_path)
    for view, split in zip(views, ("train", "val", "test"), strict=True):
        matrix = (view.pose() @ np.diag([1, -1, -1, 1])).tolist()
        frames = [dict(file_path=view.name, transform_matrix=matrix)]
        content = dict(fl_x=150, cx=50, cy=30, frames=frames)
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps(content))
    assert np.allclose(read_cameras(tmp_path)[0].labels(), expected_labels(views))
    assert len(read_cameras(tmp_path / "transforms_val.json")[0]) == 1


# -- COLMAP ----------------------------------------------------------------------------------------

LENSES = {  # model: number, parameters, focal lengths and centre, whether distorted
    "SIMPLE_PINHOLE": (0, [90, 50, 30], [90, 90, 50, 30], False),
    "PINHOLE": (1, [90, 80, 50, 30], [90, 80, 50, 30], False),
    "SIMPLE_RADIAL": (2, [90, 50, 30, 0.1], [90, 90, 50, 30], True),
    "RADIAL": (3, [90, 50, 30, 0, 0.1], [90, 90, 50, 30], True),
    "OPENCV": (4, [90, 80, 50, 30, 0, 0, 0, 0], [90, 80, 50, 30], False),
    "FULL_OPENCV": (6, [90, 80, 50, 30, 0, 0, 0, 0, 0, 0, 0, 0.1], [90, 80, 50, 30], True),
}


def write_binary(folder, view, model):
    """A model of one picture with two points, one of them seen from it, byte by byte."""
    number, parameters, _, _ = LENSES[model]
    turn = np.stack([view.right, -view.up, view.forward])
    count = len(parameters)
    camera = struct.pack(f"<QIiQQ{count}d", 1, 3, number, *view.size, *parameters)
    image = struct.pack("<QI7dI", 1, 9, *quaternion(turn), *(-turn @ view.eye), 3)
    image += view.name.encode() + b"\0" + struct.pack("<QddQddq", 2, 1, 2, 5, 3, 4, -1)
    points = struct.pack("<Q", 2)
    for number, seen in ((5, [9, 0]), (6, [])):
        place = struct.pack("<Q3d3Bd", number, number, 2, 3, 10, 20, 30, 0.5)
        points += place + struct.pack(f"<Q{len(seen)}I", len(seen) // 2, *seen)
    for name, content in (("cameras", camera), ("images", image), ("points3D", points)):
        (folder / f"{name}.bin").write_bytes(content)


@pytest.mark.parametrize("model", LENSES)
def test_lens_of_colmap(model, tmp_path):
    """Binary, in the folder itself; the text is what it means."""
    (view,) = orbit(1, seed=3, world=WORLD)
    view.name = "sub folder/a b.png"
    save([view], tmp_path / "images")
    write_binary(tmp_path, view, model)
    _, parameters, lens, distorted = LENSES[model]
    for suffix in (".bin", ".txt"):
        posed, _ = read_cameras(tmp_path, "colmap", ignore_distortion=True)
        assert posed.intrinsics[0][[0, 1, 0, 1], [0, 1, 2, 2]].tolist() == lens
        assert posed.distorted.tolist() == [distorted]
        assert np.abs(posed.cam2world[0] - view.pose()).max() < 1e-12
        assert posed.points.tolist() == [[5, 2, 3], [6, 2, 3]], suffix
        if distorted:
            with pytest.raises(CameraError, match="its lens is distorted"):
                read_cameras(tmp_path, "colmap")
        for file in tmp_path.glob("*.bin"):
            file.unlink()
        turn = np.stack([view.right, -view.up, view.forward])
        pose = " ".join(map(str, map(float, [*quaternion(turn), *(-turn @ view.eye)])))
        words = " ".join(map(str, parameters))
        (tmp_path / "cameras.txt").write_text(f"#\n3 {model} 96 64 {words}\n")
        (tmp_path / "images.txt").write_text(f"#\n\n9 {pose} 3 {view.name}\n1 2 5 3 4 -1\n")
        (tmp_path / "points3D.txt").write_text("5 5 2 3 10 20 30 0.5 9 0\n6 6 2 3 10 20 30 0.5\n")


def test_pictures_of_a_model_alone(tmp_path):
    scenes.write_colmap(orbit(2), tmp_path)
    assert len(read_cameras(tmp_path / "sparse" / "0")[0]) == 2


def test_binary_goes_before_text(tmp_path):
    views = orbit(2)
    scenes.write_colmap(views, tmp_path)
    write_binary(tmp_path / "sparse" / "0", views[1], "PINHOLE")
    assert read_cameras(tmp_path)[0].names == ["001.png"]


# -- SRN -------------------------------------------------------------------------------------------


def test_objects_of_another_size(tmp_path):
    """ShapeNet's cars: intrinsics of 512 x 512, pictures of 128 x 128, a folder for each car."""
    lens = dict(size=(128, 128), focal=(131.25, 131.25), center=(64.0, 64.0))
    cars = {name: orbit(2, seed, **lens) for seed, name in enumerate("ba")}
    for name, views in cars.items():
        scenes.write_srn(views, tmp_path / name)
        head = "525.000000 256.000000 256.000000 0.\n0. 0. 0.\n1.\n512 512\n"
        (tmp_path / name / "intrinsics.txt").write_text(head)
    posed, _ = read_cameras(tmp_path)
    assert posed.names == ["a/rgb/000.png", "a/rgb/001.png", "b/rgb/000.png", "b/rgb/001.png"]
    assert np.allclose(posed.labels(), expected_labels(cars["a"] + cars["b"]), atol=1e-12)
    assert posed.labels()[0, 16] == 525 / 512


@pytest.mark.parametrize("change", ["focal", "center", "size", "squares"])
def test_srn_has_one_lens(change):
    views = orbit(3)
    if change == "squares":
        views = orbit(3, focal=(150.0, 151.0))
    else:
        old = getattr(views[1], change)
        setattr(views[1], change, (old[0] + 1, old[1] + 1))
    sizes = np.array([view.size for view in views])
    posed = PosedPictures.from_labels([v.name for v in views], expected_labels(views), sizes)
    with pytest.raises(CameraError, match="has one for all pictures"):
        srn.write(posed)


@pytest.mark.parametrize("kind", ["transforms", "colmap", "srn"])
def test_skew_is_refused(kind):
    views = orbit(1)
    labels = expected_labels(views)
    labels[0, 17] = 0.01
    posed = PosedPictures.from_labels(["a.png"], labels, np.array([views[0].size]))
    assert posed.intrinsics[0, 0, 1] == 0.96
    with pytest.raises(CameraError, match=r"^a.png: its pixels have a skew of 0.96"):
        WRITERS[kind](posed)


# -- Deep3DFaceRecon -------------------------------------------------------------------------------

ANGLE, TRANS = np.array([0.1, -0.35, 0.07]), np.array([0.2, -0.1, 0.5])


def test_face_is_seen_where_the_estimator_sees_it():
    """Deng et al.: the vertex v is at Rz Ry Rx v + trans before a camera at z = 10; EG3D's world is
    0.27 v + (0, 0.006, 0.161)."""
    x, y, z = ANGLE
    about_x = [[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]]
    about_y = [[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]]
    about_z = [[math.cos(z), -math.sin(z), 0], [math.sin(z), math.cos(z), 0], [0, 0, 1]]
    vertex = np.array([0.3, 0.2, 0.6])
    placed = np.array(about_z) @ np.array(about_y) @ np.array(about_x) @ vertex + TRANS
    right, up = placed[:2] / (10 - placed[2])
    pose = deep3dface.camera_of(ANGLE, TRANS)
    seen = pose[:3, :3].T @ (0.27 * vertex + [0, 0.006, 0.161] - pose[:3, 3])
    assert np.allclose(seen[:2] / seen[2], [right, -up], atol=1e-12)


def test_coefficients_round_trip():
    pose = deep3dface.camera_of(ANGLE, TRANS)
    angle, trans = deep3dface.coefficients_of(pose)
    assert np.allclose(angle, ANGLE, atol=1e-12) and np.allclose(trans, TRANS, atol=1e-12)
    label = torch.from_numpy(np.concatenate([pose.ravel(), np.eye(3).ravel()]))[None]
    assert np.allclose(camera_angles(label)[0], ANGLE, atol=1e-12)


@pytest.mark.parametrize("mode, center", [(None, [0, 0, 0]), ("cor", [0, 0, 0.175])])
def test_faces(mode, center, tmp_path):
    views = orbit(2, size=(64, 64))
    save(views, tmp_path)
    for k in range(2):
        values = dict(angle=ANGLE[None] * k, trans=TRANS[None], id=np.zeros((1, 80)))
        scipy.io.savemat(tmp_path / f"00{k}.mat", values)
    posed, _ = read_cameras(tmp_path, mode=mode)
    assert posed.names == ["000.png", "001.png"]
    labels = posed.labels()
    assert np.allclose(labels[:, 16:], [4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1], atol=1e-6)
    raw = deep3dface.camera_of(ANGLE, TRANS)
    assert np.array_equal(posed.cam2world[0][:3, :3], np.diag([1, -1, -1]))
    assert np.allclose(posed.cam2world[1][:3, :3], raw[:3, :3])
    away, before = (pose[:3, 3] - center for pose in (posed.cam2world[1], raw))
    assert math.isclose(np.linalg.norm(away), 2.7)
    assert np.allclose(np.cross(away, before), 0, atol=1e-12) and away @ before > 0
