from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from training import image_grid


class FakeSet:
    """Images of one value each, labelled by `labels`."""

    has_labels = True

    def __init__(self, labels, side=128):
        self.labels = np.asarray(labels, dtype=np.float32)
        self.image_shape = [3, side, side]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return np.full([3, 2, 2], index, dtype=np.uint8), self.labels[index]

    def get_details(self, index):
        return SimpleNamespace(raw_idx=index, raw_label=self.labels[index])


def test_grid_fills_an_8k_picture():
    for side, expected in [(128, (32, 32)), (256, (30, 16)), (512, (15, 8)), (2048, (7, 4))]:
        grid, images, labels = image_grid.setup_snapshot_image_grid(FakeSet([[1.0]] * 5, side))
        assert grid == expected and len(images) == len(labels) == expected[0] * expected[1]


def test_rows_show_one_label_where_labels_repeat():
    grid, _, labels = image_grid.setup_snapshot_image_grid(FakeSet([[0], [1]] * 10), 0, (4, 3))
    assert grid == (4, 3)
    rows = labels.reshape(3, 4)
    assert all(len(set(row)) == 1 for row in rows.tolist()) and len(set(rows[:, 0])) == 2


def test_rows_show_one_class_where_cameras_differ():
    """The class stands behind the camera; without it each image would have a kind of its own."""
    labels = np.random.RandomState(0).randn(20, 27)
    labels[:, 25:] = np.eye(2)[np.arange(20) % 2]
    _, chosen = image_grid.choose_images(FakeSet(labels), 4, 3)
    rows = chosen[:, 25:].argmax(1).reshape(3, 4)
    assert all(len(set(row)) == 1 for row in rows.tolist()) and len(set(rows[:, 0])) == 2
    assert len({tuple(label) for label in chosen}) == 12


def test_a_row_goes_on_where_the_group_ended():
    images, labels = image_grid.choose_images(FakeSet([[0], [1]] * 10), 4, 4)
    shown = images[:, 0, 0, 0].reshape(4, 4)
    assert (labels.reshape(4, 4)[0] == labels.reshape(4, 4)[2]).all()
    assert len({*shown[0], *shown[2]}) == 8  # of the 10 members


def test_a_shared_camera_or_a_mirrored_copy_makes_no_rows():
    labels = np.arange(40)[:, None]
    labels[1] = labels[0]
    images, _ = image_grid.choose_images(FakeSet(labels), 6, 5)
    assert len(set(images[:, 0, 0, 0])) == 30

    mirrored = FakeSet(np.tile(np.arange(20), 2)[:, None])
    mirrored.get_details = lambda i: SimpleNamespace(raw_idx=i % 20, raw_label=mirrored.labels[i])
    images, _ = image_grid.choose_images(mirrored, 6, 5)
    assert len(set(images[:, 0, 0, 0])) == 30


def test_cameras_are_shuffled_without_repetition():
    images, labels = image_grid.choose_images(FakeSet(np.arange(50)[:, None]), 6, 5)
    assert len(set(labels[:, 0])) == 30
    again, _ = image_grid.choose_images(FakeSet(np.arange(50)[:, None]), 6, 5)
    other, _ = image_grid.choose_images(FakeSet(np.arange(50)[:, None]), 6, 5, random_seed=1)
    assert (images == again).all() and (images != other).any()


def test_saved_grid(tmp_path):
    images = np.stack([np.full([3, 2, 4], v, dtype=np.float32) for v in (-1, -0.5, 0, 1, 2, 0.5)])
    image_grid.save_image_grid(images, tmp_path / "a.png", (-1, 1), (3, 2))
    picture = np.asarray(PIL.Image.open(tmp_path / "a.png"))
    assert picture.shape == (4, 12, 3)
    assert [picture[0, x, 0] for x in (0, 4, 8)] == [0, 64, 128]
    assert [picture[2, x, 0] for x in (0, 4, 8)] == [255, 255, 191]
    with pytest.raises(ValueError, match="channels"):
        image_grid.save_image_grid(images[:, :2], tmp_path / "b.png", (-1, 1), (3, 2))
