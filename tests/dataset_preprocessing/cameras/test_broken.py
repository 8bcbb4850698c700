"""Whatever is broken ends in one line that names it, and nothing is written."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from tests.dataset_preprocessing.cameras import scenes
from tests.dataset_preprocessing.cameras.scenes import expected_labels, orbit


def in_json(file, change):
    """A change of the content of a JSON file, or of what it returns in its place."""

    def apply(folder):
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return apply


def in_text(file, old, new):
    def apply(folder):
        content = (folder / file).read_text()
        assert old in content
        (folder / file).write_text(content.replace(old, new, 1))

    return apply


def first_frame(**values):
    return in_json("transforms.json", lambda content: content["frames"][0].update(values))


def without(key):
    return in_json("transforms.json", lambda content: content["frames"][0].pop(key))


def picture(pixels, **options):
    return lambda folder: Image.new("RGB", pixels).save(folder / "images" / "001.png", **options)


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found


NAN = [[float("nan"), 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
LEFT = [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
SCALED = [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]]
BROKEN = [
    (
        "transforms",
        in_text(
            "transforms.json",
            "]",
            "",
        ),
        "transforms.json: not a JSON file",
    ),
    ("transforms", in_json("transforms.json", lambda c: c.pop("frames")), 'no list "frames"'),
    ("transforms", in_json("transforms.json", lambda c: c["frames"].clear()), "has no cameras"),
    ("transforms", without("file_path"), "frame 0 has no file_path"),
    ("transforms", without("fl_x"), "frame 0 has no focal length; must be fl_x or"),
    ("transforms", without("transform_matrix"), "transform_matrix must be 4 x 4 numbers"),
    ("transforms", first_frame(transform_matrix=[[1]]), "transform_matrix must be 4 x 4 numbers"),
    ("transforms", first_frame(transform_matrix=NAN), "images/000.png: camera label has a value"),
    ("transforms", first_frame(transform_matrix=LEFT), "000.png: rotation of the camera pose is a"),
    ("transforms", first_frame(transform_matrix=SCALED), "is not orthonormal"),
    ("transforms", first_frame(fl_x="wide"), "frame 0: fl_x is 'wide', must be a number"),
    ("transforms", first_frame(fl_x=-5), "focal lengths of the camera are -0.05"),
    ("transforms", first_frame(w=0), "000.png: its camera is 0 x 64 pixels"),
    (
        "transforms",
        first_frame(w=64),
        "has 96 x 64 pixels, its camera 64 x 64: must be of the same",
    ),
    ("transforms", first_frame(k2=-0.01), "its lens is distorted (1 of 3 pictures); undistort"),
    ("transforms", first_frame(camera_model="OPENCV_FISHEYE"), "is OPENCV_FISHEYE, must be one of"),
    ("transforms", first_frame(is_fisheye=True), "is a fisheye, must be one of"),
    ("transforms", first_frame(file_path="images/9.png"), "has no picture images/9.png"),
    ("transforms", first_frame(file_path="images/001"), "has 2 cameras of images/001.png"),
    ("transforms", lambda f: Image.new("L", (9, 9)).save(f / "images/000.gif"), None),
    ("transforms", picture((64, 96)), "images/001.png has 64 x 96 pixels"),
    ("transforms", picture((96, 64), exif=exif(6)), "001.png: its EXIF entry says to turn it"),
    ("transforms", lambda f: (f / "images/001.png").write_bytes(b"no"), "cannot be opened"),
    ("colmap", in_text("sparse/0/cameras.txt", "PINHOLE", "FOV"), "camera 1 is of model FOV"),
    ("colmap", in_text("sparse/0/cameras.txt", " 30.0", ""), "line 2 is no camera: 1 PINHOLE"),
    ("colmap", in_text("sparse/0/images.txt", "1 000.png", "8 000.png"), "camera 8, which is not"),
    ("colmap", in_text("sparse/0/images.txt", " -1", ""), "line 3 must have the points in 000.png"),
    ("colmap", in_text("sparse/0/images.txt", "\n2 ", "\n2 nan "), "images.txt: line 4 is no"),
    ("colmap", in_text("sparse/0/points3D.txt", "0.15", "x"), "line 1 is no point"),
    ("srn", in_text("intrinsics.txt", "150.0 ", "150.0\n"), "must be 3 numbers"),
    ("srn", in_text("intrinsics.txt", "64 96", ""), "has '1.', must be 2 numbers"),
    ("srn", lambda f: (f / "intrinsics.txt").write_text(""), "must have focal length"),
    ("srn", in_text("pose/001.txt", " ", " nan "), "pose/001.txt: has"),
    ("srn", lambda f: (f / "rgb/001.png").unlink(), "has no picture rgb/001"),
    ("srn", lambda f: shutil.rmtree(f / "rgb"), "no pictures in it"),
    ("labels", in_text("dataset.json", "[[", "["), "dataset.json: must be"),
    ("labels", in_json("dataset.json", lambda c: c["labels"].pop()), "label of 002.png is None"),
    ("labels", in_json("dataset.json", lambda c: c.update(labels=None)), "has no cameras in a"),
    (
        "labels",
        in_json("dataset.json", lambda c: [entry.__setitem__(1, 0) for entry in c["labels"]]),
        "labels are classes, must be cameras",
    ),
]


@pytest.mark.parametrize(
    "kind, change, words", BROKEN, ids=lambda value: value[:40] if isinstance(value, str) else ""
)
def test_broken(kind, change, words, scene, run, refused):
    source = scene(kind)
    change(source)
    if words is None:  # something that is no fault
        assert run(source)[0] is not None
    else:
        assert words in refused(source)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_binary_cut_short_anywhere(name, scene, run, refused):
    source, _ = run(scene("labels"), "--export=colmap")
    file = source / "sparse" / "0" / f"{name}.bin"
    content = file.read_bytes()
    for end in {0, 7, len(content) // 2, len(content) - 1}:
        file.write_bytes(content[:end])
        assert refused(source).endswith(f"{name}.bin: is cut short, or no file of COLMAP")
    file.write_bytes(content + b"0")
    assert "goes on after its last" in refused(source)


def test_binary_of_another_model(scene, run, refused):
    source, _ = run(scene("labels"), "--export=colmap")
    file = source / "sparse" / "0" / "cameras.bin"
    content = bytearray(file.read_bytes())
    content[12] = 5
    file.write_bytes(bytes(content))
    assert "cameras.bin: camera 1 is of model number 5; must be one of SIMPLE" in refused(source)


def test_broken_faces(refused, tmp_path):
    scenes.save(orbit(1), tmp_path)
    file = tmp_path / "000.mat"
    file.write_bytes(b"no such thing")
    assert f"{file}: has no angle and trans" in refused(tmp_path)
    scipy.io.savemat(file, dict(angle=np.zeros((1, 3))))
    assert f"{file}: has no angle and trans" in refused(tmp_path)
    scipy.io.savemat(file, dict(angle=np.zeros((1, 3)), trans=np.full((1, 3), np.nan)))
    assert f"{file}: angle and trans must be 3 numbers each" in refused(tmp_path)
    scipy.io.savemat(file, dict(angle=np.zeros((1, 3)), trans=np.zeros((1, 3))))
    assert "000.png has 96 x 64 pixels, its camera 700 x 700" in refused(tmp_path)


def test_other_mistakes(scene, refused, tmp_path):
    assert "no such file or folder" in refused(tmp_path / "nowhere")
    assert "has no cameras of transforms, colmap" in refused(tmp_path)
    source = scene("labels")
    assert "has no cameras of format srn" in refused(source, "--format=srn")
    assert "--mode=cor: is for deep3dface, not labels" in refused(source, "--mode=cor")
    assert "a dataset has its pictures beside" in refused(source, f"--images={tmp_path}")
    (source / "000.jpg").write_bytes((source / "000.png").read_bytes())
    frames = [dict(file_path="000", fl_x=1, transform_matrix=np.eye(4).tolist())]
    (source / "t.json").write_text(json.dumps(dict(frames=frames)))
    assert "000 may be 000.jpg or 000.png" in refused(source / "t.json")


def test_a_zip_cannot_reach_outside(refused, tmp_path):
    path = tmp_path / "evil.zip"
    views = orbit(1, size=(8, 8))
    scenes.save(views, tmp_path)
    labels = [["../000.png", expected_labels(views)[0].tolist()]]
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "000.png", "../000.png")
        archive.writestr("dataset.json", json.dumps(dict(labels=labels)))
    assert "a file called '../000.png'; names must stay inside" in refused(path)
