"""From the files of another program to training: points on their pixels, bytes of pictures."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dataset_preprocessing.cameras.formats import WRITERS, convert_cameras
from dataset_preprocessing.conversion.convert import Recipe, convert
from dataset_preprocessing.procedural import make_dataset
from tests.dataset_preprocessing.cameras import scenes
from tests.dataset_preprocessing.cameras.scenes import POINT, orbit
from training.cameras import Camera
from training.dataset import ImageFolderDataset

WORLD = Rotation.from_rotvec([2.0, -0.7, 1.1]).as_matrix()


def project(label, point):
    """Where a point is in the picture of a label, which spans [0, 1]."""
    camera = Camera.from_label(torch.from_numpy(label)[None].double())
    seen = camera.cam2world[0].inverse() @ torch.tensor([*point, 1.0], dtype=torch.float64)
    place = camera.intrinsics[0] @ seen[:3]
    return (place[:2] / place[2]).numpy()


def centroid(picture):
    """Of the brightness of a picture [C, H, W], in pixels from the corner."""
    weight = picture[0].astype(np.float64)
    weight[weight < 10] = 0
    rows, columns = np.indices(weight.shape) + 0.5
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("kind", scenes.WRITERS)
def test_point_lands_on_its_pixel(kind, align, tmp_path):
    """Pictures of 96 x 64 with a dot and a principal point off the middle, imported, cropped to a
    square and halved: the label of each says where its dot is."""
    scenes.WRITERS[kind](orbit(5, world=WORLD), tmp_path / "scene")
    options = dict(auto_orient=True, recenter=True, radius=2.7) if align else {}
    report = convert_cameras(tmp_path / "scene", tmp_path / "labelled", **options)
    convert(tmp_path / "labelled", tmp_path / "out.zip", Recipe("center-crop", (32, 32)))
    data = ImageFolderDataset(tmp_path / "out.zip", use_labels=True)
    point = report.similarity.points(POINT)
    assert len(data) == 5 and np.allclose(point, POINT) != align
    found = [(centroid(picture), 32 * project(label, point)) for picture, label in data]
    dots, expected = (np.array(side) for side in zip(*found, strict=True))
    assert np.abs(dots - expected).max() < 0.05
    assert np.ptp(dots, axis=0).min() > 1  # the dot is somewhere else in each


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    """One car from eight sides."""
    path = tmp_path_factory.mktemp("cars") / "cars.zip"
    make_dataset(path, num_images=8, views_per_car=8, resolution=32)
    return path


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "labels"])
def test_procedural_scene_comes_back(kind, cars, tmp_path):
    convert_cameras(cars, tmp_path / "scene", export=kind)
    # Its files leave out the lens and the distance.
    known = dict(fov=2 * math.degrees(math.atan(0.5 / 1.6)), radius=2.0)
    settings = known if kind == "epigraf" else {}
    convert_cameras(tmp_path / "scene", tmp_path / "labelled.zip", **settings)
    for source, dest in ((cars, "first.zip"), (tmp_path / "labelled.zip", "second.zip")):
        convert(source, tmp_path / dest)
    first, second = (
        ImageFolderDataset(tmp_path / name, use_labels=True) for name in ("first.zip", "second.zip")
    )
    assert len(first) == len(second) == 8
    for k in range(8):
        assert np.array_equal(first[k][0], second[k][0])
        assert np.abs(first[k][1] - second[k][1]).max() < 1e-6
    assert np.abs(np.diff(first.all_labels(), axis=0)).max(1).min() > 0.1
    assert all(not np.array_equal(first[k][0], first[k + 1][0]) for k in range(7))
