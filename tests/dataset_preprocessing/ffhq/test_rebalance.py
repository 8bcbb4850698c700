"""Rebalancing by several copies."""

import hashlib
import json
import zipfile

import numpy as np
import pytest
import torch

from dataset_preprocessing.conversion.archive import Destination
from dataset_preprocessing.faces.labels import label_of
from dataset_preprocessing.ffhq import rebalance as module
from dataset_preprocessing.ffhq.rebalance import copies_by_yaw, replica_name
from tests.dataset_preprocessing.ffhq.conftest import png
from training.cameras import look_at
from training.dataset import ImageFolderDataset


def label(degrees):
    """Of a camera to the right of a face by so much."""
    angle = np.radians(degrees)
    place = torch.tensor([[2.7 * np.sin(angle), 0.3, 2.7 * np.cos(angle)]], dtype=torch.float64)
    return label_of(look_at(place, (0.0, 0.0, 0.0))[0].numpy())


YAWS = [-45, -30, -3, 0, 2, 12, 22, 31, 45]
COPIES = [16, 8, 1, 1, 1, 2, 4, 8, 16]  # arcs are 10 degrees wide, the middle one from -5 to 5


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "in.zip"
    names = [f"00000/img{k:08d}.png" for k in range(len(YAWS))]
    with zipfile.ZipFile(path, "w") as archive:
        for k, name in enumerate(names):
            archive.writestr(name, png(np.full((4, 4, 3), k, np.uint8)))
        labels = [[name, label(yaw)] for name, yaw in zip(names, YAWS, strict=True)]
        archive.writestr("dataset.json", json.dumps(dict(labels=labels, provenance=dict(who="me"))))
    return path


def test_published_counts():
    """Nine arcs with the published numbers of pictures get the published numbers of copies."""
    pictures = {0: 68262, 1: 57980, 2: 12154, 3: 1408, 4: 110}
    yaw = np.repeat([0.0, 10, 20, 30, 40], list(pictures.values()))
    yaw[-1], yaw[-2] = 45, -45  # what the range is
    yaw[1::2] *= -1
    copies = np.array(copies_by_yaw(yaw))
    assert {int(c): int((copies == c).sum()) for c in np.unique(copies)} == {
        1: 68262,
        2: 57980,
        4: 12154,
        8: 1408,
        16: 110,
    }
    assert copies.sum() == 245862


def test_copies(dataset, tmp_path, run):
    output = run("rebalance", dataset, tmp_path / "out.zip")
    assert f"{sum(COPIES)} pictures of 9; labels are not the published" in output
    data = ImageFolderDataset(tmp_path / "out.zip", use_labels=True)
    values = [int(data[k][0].max()) for k in range(len(data))]
    assert values == np.repeat(range(9), COPIES).tolist()
    before = ImageFolderDataset(dataset, use_labels=True)
    for k, value in enumerate(values):
        assert np.array_equal(data.get_label(k), before.get_label(value))
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        content = json.loads(archive.read("dataset.json"))
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
    assert content["provenance"] == dict(who="me")
    assert content["labels"][15][0] == "00000/img00000000_15.png"


def test_names():
    assert replica_name("a/img.png", 3) == "a/img_03.png"
    assert replica_name("img.x.png", 12) == "img.x_12.png"


def test_a_table(dataset, tmp_path, run):
    table = tmp_path / "num_replicas.json"
    table.write_text(json.dumps({str(k): 2 if k == 3 else 1 for k in range(9)}))
    assert "10 pictures of 9" in run("rebalance", dataset, tmp_path / "out.zip", f"--table={table}")


def test_arcs(dataset, tmp_path, run, refused):
    """Three arcs of 30 degrees: twice outside of 15."""
    wanted = 9 + sum(abs(yaw) > 15 for yaw in YAWS)
    assert f"{wanted} pictures" in run("rebalance", dataset, tmp_path / "out.zip", "--arcs=3")
    assert "must be odd" in refused("rebalance", dataset, tmp_path / "o.zip", "--arcs=4")


def test_one_side_only():
    assert copies_by_yaw(np.array([0.0, 0.0])) == [1, 1]
    assert copies_by_yaw(np.array([40.0, 1.0])) == [16, 1]


@pytest.mark.parametrize(
    "table, message",
    [
        ({"0": 1}, "is of 1 labels, the dataset has 9"),
        ({str(k): 0 for k in range(9)}, "9 problems"),
        ({str(k): "2" for k in range(9)}, "label 3 has '2' copies"),
        ([1], "must be"),
        (None, "no such file"),
    ],
)
def test_broken_tables(table, message, dataset, tmp_path, refused):
    path = tmp_path / "num_replicas.json"
    if table is not None:
        path.write_text(json.dumps(table))
    out = tmp_path / "out.zip"
    assert message in refused("rebalance", dataset, out, f"--table={path}") and not out.exists()


def test_broken_datasets(dataset, tmp_path, refused):
    out = tmp_path / "out.zip"
    assert "x.zip: no such file" in refused("rebalance", tmp_path / "x.zip", out)
    (tmp_path / "x.zip").write_text("no zip")
    assert "not a readable zip" in refused("rebalance", tmp_path / "x.zip", out)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", b"")
    assert "has no dataset.json" in refused("rebalance", tmp_path / "x.zip", out)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("dataset.json", json.dumps(dict(labels=[["a.png", label(0)]])))
    assert "a.png: no such picture" in refused("rebalance", tmp_path / "x.zip", out)
    out.touch()
    assert "is there already" in refused("rebalance", dataset, out)


def test_interruption(dataset, tmp_path, monkeypatch, run):
    """The same command goes on, to the same bytes."""
    add, count = Destination.add, []

    def stopping(destination, *arguments):
        if len(count) == 20:
            count.append("stopped")
            raise KeyboardInterrupt
        count.append(arguments[0])
        add(destination, *arguments)

    monkeypatch.setattr(Destination, "add", stopping)
    out = tmp_path / "out.zip"
    with pytest.raises(KeyboardInterrupt):
        module.rebalance(dataset, out)
    assert not out.exists()
    run("rebalance", dataset, out)
    assert len(count) == sum(COPIES) + 1 + 1
    run("rebalance", dataset, tmp_path / "whole.zip")
    assert out.read_bytes() == (tmp_path / "whole.zip").read_bytes()


def test_published_labels_are_known(dataset, tmp_path, monkeypatch, run):
    run("rebalance", dataset, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        digest = hashlib.md5(archive.read("dataset.json")).hexdigest()
    monkeypatch.setattr(module, "PUBLISHED_MD5", digest)
    assert "labels are the published" in run("rebalance", dataset, tmp_path / "again.zip")
