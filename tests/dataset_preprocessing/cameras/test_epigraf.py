"""Datasets of EpiGRAF against files made by hand, and written and read again."""

import json
import math
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_preprocessing.conversion.convert import ConversionError, convert
from dataset_preprocessing.conversion.sources import open_source
from training.cameras import Camera
from training.dataset import ImageFolderDataset
from training.label_file import parse_classes
from training.orbit_angles import label_from_angles

ANGLES = [[0.3, 1.2, 0.0], [-0.4, 1.8, 0.0], [2.6, 0.5, 0.0]]
NAMES = ["00000/a.png", "00000/b.png", "00001/c.png"]


def labels_in(folder):
    entries = json.loads((folder / "dataset.json").read_text())["labels"]
    return np.array([label for _, label in sorted(entries)])


@pytest.fixture
def epigraf(tmp_path):
    """`epigraf(angles by file, further entries)` -> folder of three grey pictures with those."""

    def make(angles=None, **more):
        folder = tmp_path / "cats_256"
        for number, name in enumerate(NAMES):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (40 * number,) * 3).save(folder / name)
        angles = dict(zip(NAMES, ANGLES, strict=True)) if angles is None else angles
        (folder / "dataset.json").write_text(json.dumps(dict(camera_angles=angles, **more)))
        return folder

    return make


def test_cameras_are_those_of_the_angles(epigraf, run):
    dest, done = run(epigraf(), "--fov=12")
    assert "3 pictures with cameras of epigraf" in done.output
    found = labels_in(dest)
    for label, (yaw, pitch, _) in zip(found, ANGLES, strict=True):
        place = [-math.sin(pitch) * math.sin(yaw), math.cos(pitch), math.sin(pitch) * math.cos(yaw)]
        assert np.allclose(label[[3, 7, 11]], place)
        assert np.allclose(label[[2, 6, 10]], -np.array(place))  # looks at the origin
        assert label[4] == pytest.approx(0, abs=1e-12)  # and is level
        assert label[16] == label[20] == pytest.approx(0.5 / math.tan(math.radians(6)))
    assert len(ImageFolderDataset(dest, use_labels=True)) == 3


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.removesuffix(".png"),
        lambda name: f"cats_256/{name}",
        lambda name: name.removesuffix(".png").replace("/", "\\"),
    ],
)
def test_names_of_files(rename, epigraf, run):
    angles = dict(zip(map(rename, NAMES), ANGLES, strict=True), other=[9, 9, 9])
    plain = labels_in(run(epigraf(), "--fov=12")[0])
    assert np.array_equal(labels_in(run(epigraf(angles), "--fov=12")[0]), plain)


def test_pictures_in_a_folder_that_the_file_leaves_out(epigraf, run):
    folder = epigraf()
    plain = labels_in(run(folder, "--fov=12")[0])
    (folder / "images").mkdir()
    for part in ("00000", "00001"):
        (folder / part).rename(folder / "images" / part)
    assert np.array_equal(labels_in(run(folder, "--fov=12")[0]), plain)


def test_zip_and_file_are_the_folder(epigraf, run, tmp_path):
    folder = epigraf()
    plain = labels_in(run(folder, "--fov=12")[0])
    with zipfile.ZipFile(tmp_path / "cats.zip", "w") as archive:
        for path in [*NAMES, "dataset.json"]:
            archive.write(folder / path, path)
    for source in (tmp_path / "cats.zip", folder / "dataset.json"):
        assert np.array_equal(labels_in(run(source, "--fov=12")[0]), plain)


def test_options(epigraf, run):
    folder = epigraf()
    plain = labels_in(run(folder, "--fov=12")[0])
    mirrored = labels_in(run(folder, "--fov=12", "--negate-yaw")[0])
    camera = Camera.from_label(torch.from_numpy(plain))
    assert np.allclose(mirrored, camera.mirror().label().numpy())
    far = labels_in(run(folder, "--fov=12", "--radius=2.7")[0])
    assert np.allclose(far[:, [3, 7, 11]], 2.7 * plain[:, [3, 7, 11]])


def test_there_and_back(epigraf, run):
    labelled, _ = run(epigraf(), "--fov=30", "--radius=2.7")
    dest, _ = run(labelled, "--export=epigraf")
    content = json.loads((dest / "dataset.json").read_text())
    found = [content["camera_angles"][name] for name in NAMES]
    assert np.allclose(found, ANGLES, atol=1e-9)
    assert content["provenance"] == pytest.approx(dict(fov=30, radius=2.7))
    again, _ = run(dest, "--fov=30", "--radius=2.7")
    assert np.allclose(labels_in(again), labels_in(labelled), atol=1e-9)
    assert (again / NAMES[1]).read_bytes() == (labelled / NAMES[1]).read_bytes()


def test_classes_go_along(epigraf, run, tmp_path):
    classes = dict(zip(NAMES, (4, 0, 198), strict=True))
    labelled, _ = run(epigraf(labels=classes), "--fov=30")
    dest, _ = run(labelled, "--export=epigraf")
    assert json.loads((dest / "dataset.json").read_text())["labels"] == classes
    convert(labelled, tmp_path / "c", max_images=2)
    content = json.loads((tmp_path / "c" / "dataset.json").read_text())
    entries = content["classes"]
    assert content["num_classes"] == 199  # also of the part that lacks the last one
    assert entries == [["00000/img00000000.png", 4], ["00000/img00000001.png", 0]]
    source = open_source(labelled)
    source.limit(2)
    assert source.classes == [4, 0]
    names = [name for name, _ in entries]
    assert parse_classes(dict(classes=entries), names[::-1], "it").tolist() == [0, 4]
    with pytest.raises(ConversionError, match="shards have no place for the classes"):
        convert(labelled, tmp_path / "d", shard_size=2)


@pytest.mark.parametrize(
    "labels, message",
    [
        ({NAMES[0]: 1}, "has no class among its labels for 00000/b.png (2 of 3 pictures"),
        ({name: [0.5, 1] for name in NAMES}, "label of 00000/a.png is [0.5, 1], must be a class"),
        ({name: -1 for name in NAMES}, "label of 00000/a.png is -1, must be a class"),
    ],
)
def test_broken_classes(labels, message, epigraf, refused):
    assert message in refused(epigraf(labels=labels), "--fov=12")


def test_classes_of_a_dataset_are_checked(epigraf, run, refused):
    labelled, _ = run(epigraf(labels=dict.fromkeys(NAMES, 1)), "--fov=12")
    content = json.loads((labelled / "dataset.json").read_text())
    for value, message in ((1.5, "class of 00001/c.png is 1.5, must be a whole"), (-2, "is -2")):
        content["classes"][-1][1] = value
        (labelled / "dataset.json").write_text(json.dumps(content))
        assert message in refused(labelled)


def _changed(change):
    labels = label_from_angles(torch.tensor(ANGLES, dtype=torch.float64), 1.0, 12.0)
    change(labels[1])
    return labels.tolist()


def _roll(label):
    pose = label[:16].view(4, 4)
    turn = torch.tensor([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], dtype=torch.float64)
    pose[:3, :3] = pose[:3, :3] @ turn


@pytest.mark.parametrize(
    "change",
    [_roll, lambda label: label[16:21].mul_(1.1), lambda label: label[3:12:4].mul_(1.2)],
    ids=["roll", "lens", "distance"],
)
def test_cameras_that_epigraf_has_not(change, epigraf, run, refused):
    folder = epigraf()
    entries = list(zip(NAMES, _changed(change), strict=True))
    (folder / "dataset.json").write_text(json.dumps(dict(labels=entries)))
    line = refused(folder, "--export=epigraf")
    assert line.startswith("00000/b.png: its camera does not look at the origin upright")
    dest, _ = run(folder, "--export=epigraf", "--approximate")
    angles = json.loads((dest / "dataset.json").read_text())["camera_angles"]
    assert np.allclose([angles[name] for name in NAMES], ANGLES, atol=1e-9)


@pytest.mark.parametrize(
    "angles, message",
    [
        ({NAMES[0]: ANGLES[0]}, "has no camera_angles for 00000/b.png (2 of 3 pictures"),
        ({"x": ANGLES[0]}, "has no camera_angles for 00000/a.png (3 of 3 pictures"),
        ({name: [0, 0, 0] for name in NAMES}, "are 0; it has no poses"),
        ({name: [0, 1] for name in NAMES}, "00000/a.png must be yaw, pitch and roll, 3 numbers"),
        ({name: [0, "1", 0] for name in NAMES}, "must be 3 numbers in radians"),
        ({name: [0, float("nan"), 0] for name in NAMES}, "must be 3 numbers in radians"),
        ({name: [3.2, 1, 0] for name in NAMES}, "yaw must be in [-pi, pi], pitch in [0, pi]"),
        ({name: [0, -0.1, 0] for name in NAMES}, "yaw must be in [-pi, pi], pitch in [0, pi]"),
    ],
)
def test_broken_angles(angles, message, epigraf, refused):
    assert message in refused(epigraf(angles), "--fov=12")


def test_settings_of_other_formats(epigraf, scene, refused):
    assert "--fov=DEGREES does, 12 for FFHQ and Cats" in refused(epigraf())
    other = scene("srn")
    assert "--fov=12.0: is for epigraf, not srn" in refused(other, "--fov=12")
    assert "--negate-yaw: is for epigraf, not srn" in refused(other, "--negate-yaw")
    assert "is for --export=epigraf" in refused(other, "--approximate")
