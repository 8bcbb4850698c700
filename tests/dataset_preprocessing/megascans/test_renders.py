"""Renders of Blender: from pictures and matrices to a dataset."""

import json
import math
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from dataset_preprocessing.megascans.__main__ import main
from dataset_preprocessing.megascans.renders import label_renders, read_pose
from training.dataset import ImageFolderDataset
from training.orbit_angles import angles_from_label, label_from_angles

NAMES = ["fern/a1/000.png", "fern/a1/001.png", "aloe/b/000.png"]
YAWS, TILTS, DISTANCE = (0.0, 0.7, -2.0), (1.2, 0.4, 1.5), 3.0


def blender(yaw, tilt):
    """The matrix of a camera that Blender turns by (tilt, 0, yaw) and moves back: Rz Rx."""
    c, s = math.cos(yaw), math.sin(yaw)
    a, b = math.cos(tilt), math.sin(tilt)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, a, -b], [0, b, a]]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, turn @ [0, 0, DISTANCE]
    return matrix


@pytest.fixture
def renders(tmp_path):
    """Three pictures, 20 x 16, transparent on the left; one matrix is text."""
    folder = tmp_path / "renders"
    for number, (name, yaw, tilt) in enumerate(zip(NAMES, YAWS, TILTS, strict=True)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((16, 20, 4), np.uint8)
        pixels[:, 10:] = [50 * number, 200, 90, 255]
        Image.fromarray(pixels).save(path)
        if number == 1:
            path.with_suffix(".txt").write_text(
                "\n".join(" ".join(map(repr, row)) for row in blender(yaw, tilt).tolist())
            )
        else:
            np.save(path.with_suffix(".npy"), blender(yaw, tilt))
    return folder


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_dataset(renders, tmp_path):
    dest = tmp_path / "plants.zip"
    done = run(f"--source={renders}", f"--dest={dest}", "--resolution=16")
    assert done.exit_code == 0 and "3 pictures" in done.output, done.output
    data = ImageFolderDataset(dest, resolution=16, use_labels=True)
    order = [2, 0, 1]  # by name
    angles = torch.tensor([[-YAWS[k], TILTS[k]] for k in order])
    expected = label_from_angles(angles, DISTANCE, 30.0)
    expected[:, [16, 20]] *= 20 / 16  # of 20 columns 16 are left
    assert np.allclose(data.all_labels(), expected.numpy(), atol=1e-6)
    for item, number in enumerate(order):
        picture = data[item][0]
        assert (picture[:, :, :7] == 255).all()  # 2 columns are cut off on each side
        assert (picture[:, :, 9:] == np.array([50 * number, 200, 90])[:, None, None]).all()
    with zipfile.ZipFile(dest) as archive:
        content = json.loads(archive.read("dataset.json"))
    assert [number for _, number in content["classes"]] == [0, 1, 1]
    assert content["provenance"] == dict(classes=["aloe", "fern"])


def test_camera_sees_what_blender_saw(renders):
    """A point of Blender's world, projected by its rules and by ours."""
    point = np.array([0.3, -0.2, 0.4])
    for name, yaw, tilt in zip(NAMES, YAWS, TILTS, strict=True):
        right, up, back = (np.linalg.inv(blender(yaw, tilt)) @ [*point, 1])[:3]
        x, y, z, _ = np.linalg.inv(read_pose(renders / name)) @ [point[0], point[2], -point[1], 1]
        assert (x, y, z) == pytest.approx((right, -up, -back))


def test_options(renders, tmp_path):
    label_renders(renders, fov=60, radius=1.5)
    labels = np.array([v for _, v in json.loads((renders / "dataset.json").read_text())["labels"]])
    assert labels[:, 16] == pytest.approx(0.5 / math.tan(math.radians(30)))
    assert np.linalg.norm(labels[:, [3, 7, 11]], axis=1).mean() == pytest.approx(1.5)
    found = angles_from_label(torch.from_numpy(labels))[:, 1]
    assert found.numpy() == pytest.approx([TILTS[2], TILTS[0], TILTS[1]])
    done = run(f"--source={renders}", f"--dest={tmp_path / 'c'}", "--max-images=1")
    assert "c: 1 pictures" in done.output
    assert ImageFolderDataset(tmp_path / "c").resolution == 256


def test_all_problems_are_told(renders, tmp_path):
    (renders / NAMES[0]).with_suffix(".npy").unlink()
    (renders / NAMES[1]).with_suffix(".txt").write_text("1 2 x")
    np.save((renders / NAMES[2]).with_suffix(".npy"), 2 * np.eye(4))
    Image.new("RGB", (4, 4)).save(renders / "stray.png")
    done = run(f"--source={renders}", f"--dest={tmp_path / 'c.zip'}")
    assert done.exit_code == 1 and not (tmp_path / "c.zip").exists()
    for line in (
        "4 problems",
        "fern/a1/000.png: has no camera, 000.npy or 000.txt",
        "fern/a1/001.txt: must be 4 x 4 numbers",
        "aloe/b/000.npy: last row of the camera pose is",
        "stray.png: must be CLASS/OBJECT/NAME",
    ):
        assert line in done.output
    assert not (renders / "dataset.json").exists()


def test_refused(renders, tmp_path):
    (tmp_path / "c.zip").touch()
    assert "is there already" in run(f"--source={renders}", f"--dest={tmp_path / 'c.zip'}").output
    line = run(f"--source={tmp_path / 'nothing'}", f"--dest={tmp_path / 'd.zip'}")
    assert line.exit_code == 1 and "must be a folder of CLASS/OBJECT/NAME.png" in line.output
    np.save((renders / NAMES[0]).with_suffix(".npy"), np.array([{"a": 1}]), allow_pickle=True)
    line = run(f"--source={renders}", f"--dest={tmp_path / 'd.zip'}")
    assert "fern/a1/000.npy: must be 4 x 4 numbers" in line.output
