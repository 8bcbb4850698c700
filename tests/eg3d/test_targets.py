"""Pictures and cameras of files: what is taken, what is done to it, what is refused."""

import json

import numpy as np
import PIL.Image
import pytest
import torch

import eg3d
from eg3d import pictures
from eg3d.errors import InputError
from eg3d.targets import read_camera, read_picture


@pytest.fixture
def labels(generator):
    model = eg3d.Model.of(generator)
    return eg3d.views.orbit(model, 4).label()


def pixels(side=16):
    return np.random.RandomState(0).randint(0, 256, (side, side, 3), dtype=np.uint8)


def saved(path, array, mode="RGB", **how):
    PIL.Image.fromarray(array).convert(mode).save(path, **how)
    return path


def test_picture_there_and_back(tmp_path):
    """What `pictures.to_uint8` makes of the tensor is the file's content, for all 256 values."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)[:, :, None].repeat(3, 2)
    for array in (pixels(), ramp):
        tensor, notes = read_picture(saved(tmp_path / "x.png", array), 16, white=True)
        assert tensor.shape == (1, 3, 16, 16) and tensor.dtype == torch.float32 and not notes
        assert np.array_equal(pictures.to_uint8(tensor)[0], array)


@pytest.mark.parametrize("name, mode", [("x.jpg", "RGB"), ("x.webp", "RGB"), ("x.gif", "P")])
def test_formats(tmp_path, name, mode):
    flat = np.full((16, 16, 3), (204, 102, 51), dtype=np.uint8)
    tensor, _ = read_picture(saved(tmp_path / name, flat, mode), 16, white=True)
    expected = torch.tensor([204, 102, 51]) / 127.5 - 1
    assert torch.allclose(tensor, expected.view(1, 3, 1, 1).expand(1, 3, 16, 16), atol=0.05)


def test_grey_and_turned(tmp_path):
    grey, _ = read_picture(saved(tmp_path / "x.png", pixels(), "L"), 16, white=True)
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2])
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    upright, _ = read_picture(saved(tmp_path / "x.png", pixels(), exif=exif), 16, white=True)
    assert np.array_equal(pictures.to_uint8(upright)[0], np.rot90(pixels(), -1))


def test_resized_with_a_note(tmp_path):
    flat = np.full((40, 40, 3), 77, dtype=np.uint8)
    tensor, notes = read_picture(saved(tmp_path / "x.png", flat), 16, white=True)
    assert tensor.shape == (1, 3, 16, 16) and (pictures.to_uint8(tensor) == 77).all()
    assert len(notes) == 1 and "from 40 to 16" in notes[0]


@pytest.mark.parametrize("white, ground", [(True, 255), (False, 0)])
def test_transparent_gets_the_background(tmp_path, white, ground):
    array = np.concatenate([pixels(), np.zeros((16, 16, 1), np.uint8)], axis=2)
    array[:8, :, 3] = 255
    array[8, :, 3] = 51  # a fifth
    tensor, notes = read_picture(saved(tmp_path / "x.png", array, "RGBA"), 16, white)
    found = pictures.to_uint8(tensor)[0]
    assert np.array_equal(found[:8], array[:8, :, :3]) and (found[9:] == ground).all()
    assert np.abs(found[8] - (0.2 * array[8, :, :3] + 0.8 * ground)).max() <= 1
    assert len(notes) == 1 and ("white" if white else "black") in notes[0]


def test_refused_pictures(tmp_path):
    saved(tmp_path / "wide.png", pixels()[:8])
    PIL.Image.fromarray(np.zeros((16, 16), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "text.png").write_text("hello")
    whole = saved(tmp_path / "whole.png", pixels()).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    words = {
        "wide.png": "16x8; must be square",
        "deep.png": "8 bits",
        "text.png": "cannot be read as a picture",
        "cut.png": "cannot be read as a picture",
        "none.png": "No such file",
        ".": "cannot be read as a picture",
    }
    for name, expected in words.items():
        with pytest.raises(InputError, match=expected) as error:
            read_picture(tmp_path / name, 16, white=True)
        assert str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)


def test_camera_of_numbers_and_files(tmp_path, labels):
    label = labels[1].tolist()
    path = tmp_path / "camera.json"
    for content in (label, [label]):
        path.write_text(json.dumps(content))
        assert torch.equal(read_camera(str(path), "x.png").label()[0], labels[1])
    for text in (" ".join(map(str, label)), ", ".join(map(str, label))):
        assert torch.equal(read_camera(text, "x.png").label()[0], labels[1])


def test_camera_of_a_data_set(tmp_path, labels, monkeypatch):
    """The longest file name that ends the picture's path, also where that is relative."""
    names = ["img0.png", "00000/img0.png", "00001/img0.png", "00000/img1.png"]
    entries = [[name, label.tolist()] for name, label in zip(names, labels, strict=True)]
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": entries}))
    monkeypatch.chdir(tmp_path)
    found = {
        tmp_path / "00001" / "img0.png": 2,
        "00000/img1.png": 3,
        "elsewhere/img0.png": 0,
        "img0.png": 0,
    }
    for picture, index in found.items():
        assert torch.equal(read_camera(str(path), picture).label()[0], labels[index])
    with pytest.raises(InputError, match=r"no entry for img1.png among its 4"):
        read_camera(str(path), "img1.png")


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ('{"labels": null}', "must hold one label of 25 numbers or"),
        ('{"labels": [["x.png", 3]]}', "must be 25 numbers|has shape"),
        ('{"labels": [["x.png", "front"]]}', "25 numbers"),
        ("[1, 2, 3]", "25"),
        (json.dumps([0] * 25), "last row"),
    ],
)
def test_refused_camera_files(tmp_path, content, words):
    path = tmp_path / "camera.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=words) as error:
        read_camera(str(path), "x.png")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_refused_cameras(tmp_path, labels):
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps(labels.tolist()))
    with pytest.raises(InputError, match="has 4 cameras"):
        read_camera(str(path), "x.png")
    for text in ("1,2,3", "nan " * 25, ""):
        with pytest.raises(InputError, match="^camera .*(25 numbers|not finite)"):
            read_camera(text, "x.png")
