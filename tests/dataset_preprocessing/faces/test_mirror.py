"""Mirror images and their labels, and the files that name cameras."""

import json

import numpy as np
import pytest
import scipy.io
from PIL import Image

from dataset_preprocessing.cameras.deep3dface import camera_of, to_radius
from dataset_preprocessing.faces import camera_files, labels
from dataset_preprocessing.faces.camera_files import labelled_step, poses_of_results, read_cameras
from dataset_preprocessing.faces.mirror import mirror_step
from dataset_preprocessing.faces.pictures import mirror_name, pictures_in
from dataset_preprocessing.faces.steps import PreprocessingError, run_step
from tests.dataset_preprocessing.faces.heads import save
from training.dataset import ImageFolderDataset

ANGLE, TRANS = np.array([0.1, -0.35, 0.07]), np.array([0.2, -0.1, 0.5])


def noise(seed, side=16):
    return np.random.RandomState(seed).randint(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture
def crops(tmp_path):
    """Three crops; the third has no camera."""
    folder = tmp_path / "crops"
    for k in range(3):
        save(noise(k), folder / f"face.{k}.png")
    return folder


def results(folder, count=3):
    """Deep3DFaceRecon's results of as many faces."""
    folder.mkdir()
    for k in range(count):
        values = dict(angle=[ANGLE * (k + 1)], trans=[TRANS * (k + 1)])
        scipy.io.savemat(folder / f"face.{k}.mat", values)
    return folder


def test_mirrored_label_by_hand():
    pose = camera_of(ANGLE, TRANS)
    label = labels.label_of(pose)
    for row, column in [(0, 1), (0, 2), (0, 3), (1, 0), (2, 0)]:
        pose[row, column] *= -1
    assert labels.mirrored_label(label) == pytest.approx(labels.label_of(pose), abs=1e-12)


def test_published_intrinsics():
    lens = labels.label_of(np.eye(4))[16:]
    assert lens == [pytest.approx(4.2647, abs=1e-5), 0, 0.5, 0, lens[0], 0.5, 0, 0, 1]


def test_mirror_images_without_labels(crops, tmp_path):
    save(noise(7), crops / "more" / "d.png")
    report = run_step(mirror_step(crops), tmp_path / "out")
    assert len(report.made) == 8 and not (tmp_path / "out" / "dataset.json").exists()
    made = np.array(Image.open(tmp_path / "out" / "more" / "d_mirror.png"))
    assert np.array_equal(made, noise(7)[:, ::-1])
    original = (tmp_path / "out" / "face.0.png").read_bytes()
    assert original == (crops / "face.0.png").read_bytes()


def test_mirror_images_with_labels(crops, tmp_path):
    """Those that are mirror images already are made anew from the others; provenance stays."""
    pose = to_radius(camera_of(ANGLE, TRANS), "orig")
    entries = [("face.1.png", labels.label_of(pose)), ("face.0.png", labels.label_of(np.eye(4)))]
    entries.append(("face.0_mirror.png", labels.label_of(np.eye(4))))
    (crops / "dataset.json").write_bytes(labels.labels_file(entries, dict(who="me")))
    run_step(mirror_step(crops), tmp_path / "out")
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    names = [name for name, _ in content["labels"]]
    assert names == ["face.1.png", "face.0.png", "face.1_mirror.png", "face.0_mirror.png"]
    assert content["provenance"] == dict(who="me")
    data = ImageFolderDataset(tmp_path / "out", use_labels=True)  # tolerates the further entry
    flipped = ImageFolderDataset(tmp_path / "out", use_labels=True, xflip=True)
    order = sorted(names)
    image, label = data[order.index("face.1_mirror.png")]
    wanted, wanted_label = flipped[len(data) + order.index("face.1.png")]
    assert np.array_equal(image, wanted) and np.allclose(label, wanted_label, atol=1e-6)


def test_max_images(crops):
    assert list(mirror_step(crops, 1).jobs) == ["face.0.png", "face.0_mirror.png"]


@pytest.mark.parametrize("mode, turn", [("cor", 1), ("orig", 2)])
def test_other_labels_are_another_folder(mode, turn, crops, tmp_path):
    """Though the pictures are the same."""
    write = camera_files.write_cameras
    write(crops / "cameras.json", {"face.0.png": camera_of(ANGLE, TRANS)}, {})
    run_step(labelled_step(crops), tmp_path / "out")
    assert run_step(labelled_step(crops), tmp_path / "out").was_there
    write(crops / "cameras.json", {"face.0.png": camera_of(turn * ANGLE, TRANS)}, {})
    message = refusal(run_step, labelled_step(crops, mode), tmp_path / "out")
    assert "other pictures or settings" in message


def test_names():
    assert mirror_name("a/b.c.jpg") == "a/b.c_mirror.png"


def test_results_become_cameras(tmp_path):
    poses, record = poses_of_results(results(tmp_path / "results"))
    camera_files.write_cameras(tmp_path / "cameras.json", poses, record)
    content = json.loads((tmp_path / "cameras.json").read_text())
    assert list(content) == ["face.0.png", "face.1.png", "face.2.png"]
    assert np.allclose(content["face.1.png"]["pose"], camera_of(2 * ANGLE, 2 * TRANS))
    assert content["face.1.png"]["intrinsics"] == [[2985.29, 0, 512], [0, 2985.29, 512], [0, 0, 1]]
    again = read_cameras(tmp_path / "cameras.json")
    assert all(np.array_equal(again[name], poses[name]) for name in poses)
    assert record["results"] == 3 and len(record["sha256"]) == 64


@pytest.mark.parametrize("mode, pivot", [("orig", (0, 0, 0)), ("cor", (0, 0, 0.175))])
def test_labelled(crops, tmp_path, mode, pivot):
    """Cameras keep their turn and direction and get one distance; pictures without are left."""
    poses, record = poses_of_results(results(tmp_path / "results", count=2))
    camera_files.write_cameras(crops / "cameras.json", poses, record)
    run_step(labelled_step(crops, mode), tmp_path / "out")
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    found = dict(content["labels"])
    assert len(found) == 4 and len(pictures_in(tmp_path / "out")) == 4
    for name, pose in poses.items():
        label = np.array(found[name])
        place = label[[3, 7, 11]] - pivot
        assert np.linalg.norm(place) == pytest.approx(2.7)
        away = pose[:3, 3] - pivot
        assert np.allclose(place / 2.7, away / np.linalg.norm(away))
        assert np.allclose(label[:16].reshape(4, 4)[:3, :3], pose[:3, :3])
        assert found[mirror_name(name)] == pytest.approx(labels.mirrored_label(found[name]))
    assert content["provenance"] == dict(distance=mode, pose=record)


def refusal(function, *arguments):
    with pytest.raises(PreprocessingError) as error:
        function(*arguments)
    return str(error.value)


def test_all_broken_results_are_told(tmp_path):
    folder = results(tmp_path / "results")
    (folder / "b.mat").write_text("x")
    scipy.io.savemat(folder / "c.mat", dict(angle=[1, 2], trans=[1, 2, 3]))
    message = refusal(poses_of_results, folder)
    assert "b.mat: has no angle" in message and "c.mat: angle and trans must" in message
    assert "has no .mat files" in refusal(poses_of_results, tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(pose=[1, 2]), "pose must be 4 x 4 numbers"),
        (dict(intrinsics=None), "intrinsics must be 3 x 3 numbers"),
        (dict(intrinsics=[[1, 2, 3], [0, 1, 0], [0, 0, 1]]), "skew of 2"),
        (dict(pose=(-np.eye(4)).tolist()), "origin"),
        (dict(pose=np.diag([1.0, 1, -1, 1]).tolist()), "origin"),
        (dict(pose=[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 2], [0, 0, 0, 1]]), "reflection"),
    ],
)
def test_broken_cameras(crops, change, message):
    camera_files.write_cameras(crops / "cameras.json", {"face.0.png": camera_of(ANGLE, TRANS)}, {})
    content = json.loads((crops / "cameras.json").read_text())
    content["face.0.png"] |= change
    (crops / "cameras.json").write_text(json.dumps(content))
    assert message in refusal(labelled_step, crops)


def test_cameras_without_pictures(crops, tmp_path):
    names = ["1.png", "2.png", "face.0.png"]
    camera_files.write_cameras(
        crops / "cameras.json", {name: camera_of(ANGLE, TRANS) for name in names}, {}
    )
    message = refusal(run_step, labelled_step(crops), tmp_path / "out")
    assert "2 problems" in message and f"1.png: no such file in {crops}" in message
    report = run_step(labelled_step(crops), tmp_path / "out", on_error="skip")
    assert list(report.left_out) == names[:2] and len(report.made) == 2
    assert len(json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"]) == 2
    (crops / "cameras.json").unlink()
    assert "cameras.json: no such file" in refusal(labelled_step, crops)
    (crops / "cameras.json").write_text("[]")
    assert "must be" in refusal(labelled_step, crops)


def test_mirror_images_of_one_name(crops, tmp_path):
    save(noise(3), crops / "face.0.jpg")
    message = refusal(run_step, mirror_step(crops), tmp_path / "out")
    assert "face.0.png: its mirror image would have the name of another one" in message


def test_pictures_of_one_name(crops):
    save(noise(1), crops / "face.0.jpg")
    assert "face.0.jpg" in refusal(pictures_in, crops)
    assert "no such folder" in refusal(pictures_in, crops / "nowhere")


@pytest.mark.parametrize(
    "content", ["x", "[]", '{"labels": 3}', '{"labels": [["face.0.png", [1]]]}']
)
def test_broken_labels(crops, content):
    (crops / "dataset.json").write_text(content)
    assert "dataset.json: " in refusal(mirror_step, crops)
