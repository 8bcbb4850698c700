"""Files that anybody may have written: whatever is in them, an error in lines or a result."""

import json
import random

import numpy as np
import pytest

from dataset_preprocessing.afhq.cats import hosted_labels, labels_of_rotations
from dataset_preprocessing.faces.camera_files import INTRINSICS, read_cameras
from dataset_preprocessing.faces.labels import label_of, read_labels
from dataset_preprocessing.faces.steps import PreprocessingError
from dataset_preprocessing.faces.values import leads_out, numbers, parse_object
from dataset_preprocessing.ffhq.listing import read_listing
from dataset_preprocessing.ffhq.pictures import read_parameters
from dataset_preprocessing.ffhq.rebalance import read_table

POSE = np.diag([1.0, -1, -1, 1])
POSE[2, 3] = 2.7
FILE = dict(file_url="http://u", file_path="a/b.png", file_size=3, file_md5="x", pixel_md5="y")
FILE |= dict(pixel_size=[4, 4], face_landmarks=np.zeros((68, 2)).tolist())
CROP = dict(lm=np.zeros((5, 2)).tolist(), lm3d_std=np.zeros((5, 3)).tolist(), rescale_factor=300)
LABELS = dict(labels=[["a.png", label_of(POSE)], ["b.png", label_of(POSE)]])
READERS = {
    "listing": (
        {"0": dict(in_the_wild=FILE), "1": dict(in_the_wild=FILE)},
        lambda path: read_listing(path, ["wilds"]),
    ),
    "parameters": ({"a.png": dict(CROP, center_crop_size=7, output_size=5)}, read_parameters),
    "labels": (LABELS, lambda path: read_labels(path.read_bytes(), path)),
    "hosted": (LABELS, hosted_labels),
    "cameras": ({"a.png": dict(pose=POSE.tolist(), intrinsics=INTRINSICS)}, read_cameras),
    "rotations": ({"a": np.eye(3).tolist()}, labels_of_rotations),
    "table": ({"0": 1, "1": 2}, lambda path: read_table(path, 2)),
}
ODD = [None, True, -1, 0, 1e400, float("nan"), -1e308, 10**400, 2**70, "", "x", "../x", "/x", "nan"]
ODD += [[], {}, [1, 2], [[1, 2]], {"a": 1}, [[None]], [["x"] * 4] * 4, "\ud800", "1e999"]


def spoiled(value, draw):
    """A value with something odd somewhere in it."""
    if draw.random() < 0.25 or not isinstance(value, (dict, list)) or not value:
        return draw.choice(ODD)
    copy = type(value)(value)
    place = draw.choice(list(copy)) if isinstance(copy, dict) else draw.randrange(len(copy))
    what = draw.random()
    if what < 0.15:
        del copy[place]
    elif what < 0.25 and isinstance(copy, dict):
        copy[str(draw.choice(ODD))] = copy.pop(place)
    elif what < 0.25:
        copy.append(draw.choice(ODD))
    else:
        copy[place] = spoiled(copy[place], draw)
    return copy


@pytest.mark.parametrize("kind", READERS)
def test_spoiled_files(kind, tmp_path):
    """100 of each kind: read, or refused in lines that name the file; nothing else is raised."""
    whole, read = READERS[kind]
    path, refused = tmp_path / "f.json", 0
    path.write_text(json.dumps(whole))
    read(path)
    for seed in range(100):
        draw = random.Random(seed)
        content = json.dumps(spoiled(whole, draw)).encode()
        if seed % 10 == 0:
            content = content[: draw.randrange(len(content))] + b"\xff" * (seed % 20)
        path.write_bytes(content)
        try:
            read(path)
        except PreprocessingError as error:
            refused += 1
            assert "f.json" in str(error) and len(str(error)) < 5000
    assert refused > 50


def test_parse_object():
    assert parse_object(b'{"a": 1}', "x", "a form") == dict(a=1)
    for content in (b"", b"[1]", b"{}", b"3", b"\xff", b"[" * 100_000):
        with pytest.raises(PreprocessingError, match="^x: must be JSON, a form$"):
            parse_object(content, "x", "a form")


def test_numbers():
    assert numbers("it", [[1, 2.5]], 1, 2).tolist() == [[1, 2.5]]
    for values in ([1, 2], [[1]], [[1, None]], [[1, float("inf")]], [[1, 10**400]], "x", {}):
        with pytest.raises(ValueError, match="^it must be 1 x 2 numbers$"):
            numbers("it", values, 1, 2)


def test_leads_out():
    inside = ["a", "a/b.png", "a..b/c", ".a"]
    outside = ["/a", "..", "../a", "a/../../b", "\\a", "a\\..\\b", "C:\\a", "", "."]
    assert [leads_out(name) for name in [*inside, *outside]] == [False] * 4 + [True] * 9
