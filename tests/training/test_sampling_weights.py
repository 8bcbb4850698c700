"""Rare poses drawn more often: angles, weights, the order they lead to."""

import json
import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from training.cameras import Camera, look_at
from training.dataset import DatasetError, ImageFolderDataset
from training.index_order import iteration_indices
from training.label_file import parse_weights
from training.micro_batches import Reals, draw_batches, running_sum
from training.pose_angles import pose_angles
from training.sampling_weights import sampling_weights, yaw_weights


def labels_at(yaws, pitches=None, roll=0.0, world=None):
    """Labels of cameras around the origin of a y-up world, by trigonometry, in degrees."""
    yaws = np.radians(np.asarray(yaws, dtype=float))
    pitches = np.radians(np.zeros(len(yaws)) if pitches is None else np.asarray(pitches))
    flat = np.cos(pitches)
    eyes = np.stack([flat * np.sin(yaws), np.sin(pitches), flat * np.cos(yaws)], axis=1)
    pose = look_at(torch.from_numpy(2 * eyes), (0, 0, 0)).numpy()
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", roll, degrees=True).as_matrix()
    moved = np.eye(4)
    moved[:3, :3] = np.eye(3) if world is None else world
    lens = torch.tensor([[[1.5, 0, 0.5], [0, 1.5, 0.5], [0, 0, 1.0]]]).double()
    pose = torch.from_numpy(moved @ pose @ turn)
    return Camera(pose, lens.expand(len(pose), 3, 3)).label().numpy()


@pytest.mark.parametrize("roll", [0, 20, -35])
@pytest.mark.parametrize("up", [(0, 1, 0), (0, 0, 1), (1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_angles_are_those_that_cameras_were_made_of(roll, up):
    yaws, pitches = np.array([-170, -45, 0, 10, 90, 179]), np.array([0, 30, -20, 60, 5, -5])
    up = np.array(up)
    front = np.roll(up, 1)
    world = np.stack([np.cross(up, front), up, front], axis=1)
    found = pose_angles(labels_at(yaws, pitches, roll, world))
    assert found.up == tuple(up)
    np.testing.assert_allclose(found.yaw, yaws, atol=1e-6)
    np.testing.assert_allclose(found.pitch, pitches, atol=1e-6)
    np.testing.assert_allclose(found.roll, roll, atol=1e-6)


def test_a_vertical_view_has_no_roll():
    pose = np.array([[1, 0, 0, 0], [0, 0, -1, 2], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    label = np.concatenate([pose.ravel(), np.eye(3).ravel()])[None]
    found = pose_angles(np.concatenate([labels_at([0] * 5), label]))
    assert found.pitch[-1] == pytest.approx(90) and found.roll[-1] == pytest.approx(0)


def test_the_published_numbers_of_copies():
    """139,914 pictures of FFHQ in nine arcs: 68,262 once, 57,980 twice, 12,154 four, 1,408 eight
    and 110 sixteen times. Here a tenth of them."""
    counts = [6, 70, 608, 2899, 6826, 2899, 608, 70, 6]
    middles = np.repeat(np.linspace(-80, 80, 9), counts)
    ends = [-90, 90]  # the range is that of the data
    weights = yaw_weights(labels_at([*ends, *middles]))
    copies = [weights[2 + sum(counts[:k])] for k in range(9)]
    assert copies == [16, 8, 4, 2, 1, 2, 4, 8, 16]


def test_the_range_may_go_over_the_back():
    """Cameras between 150 and 210 degrees, written as -150: arcs of 60 / 9 degrees."""
    yaws = np.concatenate([np.linspace(150, 180, 900), [-175, -165, -155, -150]])
    weights = yaw_weights(labels_at(yaws))
    assert weights[:900].max() == 1 and weights[-1] == 8
    even = yaw_weights(labels_at(np.arange(-180, 180, 2)))
    assert even.tolist() == [1.0] * 180 and yaw_weights(labels_at([3.0])).tolist() == [1.0]


WEIGHTS = np.array([1, 2, 4, 0.5, 1, 1, 16, 3.5, 1, 1])


def order(start=0, rank=0, ranks=1, batch_gpu=2, seed=3):
    return iteration_indices(10, 8, seed, start, rank, ranks, batch_gpu, weights=WEIGHTS)


def test_images_come_as_often_as_their_weights_say():
    drawn = sum(islice(order(), 1000), [])
    counts = Counter(drawn)
    for index, share in enumerate(WEIGHTS / WEIGHTS.sum()):
        assert counts[index] == pytest.approx(8000 * share, rel=0.06)
    for k in range(0, 1000, 10):  # and in each pass but for the rounding
        one = Counter(drawn[k : k + 10])
        assert all(abs(one[i] - 10 * w / WEIGHTS.sum()) < 1 for i, w in enumerate(WEIGHTS))
    passes = {tuple(drawn[k : k + 10]) for k in range(0, 1000, 10)}
    assert len(passes) > 90 and sum(islice(order(seed=4), 1000), []) != drawn


def test_weighted_order_goes_on_anywhere_and_is_shared_by_processes():
    whole = list(islice(order(), 40))
    for start in (1, 4, 5, 33):
        assert list(islice(order(start), 5)) == whole[start : start + 5]
    for ranks in (2, 4):
        shares = zip(*(order(0, rank, ranks) for rank in range(ranks)), strict=True)
        assert [sum(parts, []) for parts in islice(shares, 40)] == whole
    next(order(10**8))  # at once


@pytest.mark.parametrize("bad", [np.ones(9), np.array([1.0] * 9 + [0]), np.full(10, np.nan)])
def test_weights_that_are_none(bad):
    with pytest.raises(ValueError, match="10 numbers above 0"):
        iteration_indices(10, 8, 0, weights=bad)


def test_cameras_of_fakes_follow_the_weights():
    cameras = torch.arange(10.0)[:, None]
    reals = [Reals(k, torch.zeros(50, 3, 2, 2), torch.zeros(50, 1)) for k in range(80)]
    batches = list(draw_batches(reals, cameras, 4, (1, 2), running_sum(WEIGHTS)))
    drawn = torch.cat([batch.gen_c for batch in batches]).flatten().long()
    found = torch.bincount(drawn, minlength=10) / 4000
    assert np.abs(found.numpy() - WEIGHTS / WEIGHTS.sum()).max() < 0.03
    again = list(draw_batches(reals[40:41], cameras, 4, (1, 2), running_sum(WEIGHTS)))
    assert torch.equal(again[0].gen_c, batches[40].gen_c)


@pytest.fixture
def folder(tmp_path):
    names = [f"{k}.png" for k in range(4)]
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    labels = [[n, row.tolist()] for n, row in zip(names, labels_at([0, 1, 2, 50]), strict=True)]
    weights = [[n, w] for n, w in zip(names, [1, 2.5, 3, 4], strict=True)]
    (tmp_path / "dataset.json").write_text(json.dumps(dict(labels=labels, weights=weights)))
    return tmp_path


def test_weights_of_a_dataset(folder):
    data = ImageFolderDataset(folder, use_labels=True, xflip=True)
    assert sampling_weights(data, None) is None
    assert sampling_weights(data, "weights").tolist() == [1, 2.5, 3, 4] * 2
    assert len(sampling_weights(data, "yaw")) == 8
    (folder / "dataset.json").write_text(
        json.dumps(
            dict(
                labels=[
                    [f"{k}.png", label.tolist()] for k, label in enumerate(labels_at([0, 1, 2, 3]))
                ]
            )
        )
    )
    with pytest.raises(DatasetError, match="has no weights; dataset.json must have"):
        sampling_weights(ImageFolderDataset(folder, use_labels=True), "weights")
    named = json.loads((folder / "dataset.json").read_text())
    named["classes"] = [[name, 4] for name, _ in named["labels"]]
    (folder / "dataset.json").write_text(json.dumps(named))
    plain, classed = (
        ImageFolderDataset(folder, use_labels=True, use_classes=use) for use in (False, True)
    )
    assert np.array_equal(sampling_weights(classed, "yaw"), sampling_weights(plain, "yaw"))
    with pytest.raises(DatasetError, match="no cameras"):
        sampling_weights(ImageFolderDataset(folder), "yaw")


@pytest.mark.parametrize(
    "weights, words",
    [
        ([["a", 0], ["b", 1]], "weight of a is 0, must be a number above 0"),
        ([["a", 1], ["b", math.nan]], "weight of b is nan"),
        ([["a", 1], ["b", "2"]], "weight of b is '2'"),
        ([["a", True], ["b", 1]], "weight of a is True"),
        ([["a", 1], ["b", 1e300]], "weight of b is 1e"),
        ([["a", 1]], "has no weight for b"),
        ([1, 2], "must be ..file name, number"),
        ({"a": 1}, "must be ..file name, number"),
    ],
)
def test_bad_weights_are_named(weights, words):
    with pytest.raises(DatasetError, match=words):
        parse_weights(dict(weights=weights), ["a", "b"], "dataset.json")
