"""Datasets written as shards: the zip's pictures and labels, whole or not at all, resumed."""

import json
import tarfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import dataset_tool
from dataset_preprocessing.conversion import convert as conversion
from dataset_preprocessing.conversion.archive import DestinationError
from dataset_preprocessing.conversion.convert import ConversionError, Recipe, convert
from dataset_preprocessing.conversion.shard_archive import plan_shards
from tests.training.test_sampling_weights import labels_at
from training.dataset import DatasetError, ImageFolderDataset

COUNT = 7


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def noise(side, seed):
    return np.random.RandomState(seed).randint(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture
def photos(tmp_path):
    """Seven pictures with cameras; the last looks from a rare side."""
    folder = tmp_path / "photos"
    folder.mkdir()
    labels = labels_at([*range(COUNT - 1), 80]).tolist()
    for k in range(COUNT):
        Image.fromarray(noise(16, k)).save(folder / f"{k}.png")
    entries = [[f"{k}.png", label] for k, label in enumerate(labels)]
    (folder / "dataset.json").write_text(json.dumps(dict(labels=entries)))
    return folder


def same_dataset(one, other):
    one, other = (ImageFolderDataset(path, use_labels=True) for path in (one, other))
    assert len(one) == len(other)
    for k in range(len(one)):
        assert np.array_equal(one[k][0], other[k][0]) and np.array_equal(one[k][1], other[k][1])
    weights = [data.all_weights() for data in (one, other)]
    assert weights[0] is weights[1] is None or np.array_equal(*weights)


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "dest, size, counts",
    [
        ("cars", 3, [3, 2, 2]),
        ("cars", 100, [7]),
        ("deep/cars-{00..01}.tar", None, [4, 3]),
        ("deep/only.tar", None, [7]),
    ],
)
@pytest.mark.parametrize("rebalance", [None, "yaw"])
def test_shards_hold_what_the_zip_holds(photos, tmp_path, dest, size, counts, rebalance):
    report = convert(photos, tmp_path / dest, shard_size=size, rebalance=rebalance)
    assert report.written == COUNT and report.has_labels
    convert(photos, tmp_path / "cars.zip", rebalance=rebalance)
    same_dataset(tmp_path / dest, tmp_path / "cars.zip")
    folder = tmp_path / dest if size else tmp_path / "deep"
    found = sorted(folder.iterdir())
    assert len(found) == len(counts) and not [p for p in tmp_path.rglob(".*")]
    for path, count in zip(found, counts, strict=True):
        with tarfile.open(path) as archive:
            names = archive.getnames()
        assert len(names) == 2 * count
        assert [n.replace(".json", ".png") for n in names[1::2]] == names[::2]
    if rebalance:
        weights = ImageFolderDataset(tmp_path / "cars.zip", use_labels=True).all_weights()
        assert weights.tolist() == [1] * (COUNT - 1) + [2]


def test_webdataset_reads_them(photos, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    convert(photos, tmp_path / "cars-{0..2}.tar".replace("cars", "w/cars"), rebalance="yaw")
    urls = f"{tmp_path}/w/cars-{{0..2}}.tar"
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    data = ImageFolderDataset(urls, use_labels=True)
    assert len(samples) == len(data) == COUNT
    for k, sample in enumerate(samples):
        assert sample["__key__"] == f"00000/img{k:08d}"
        assert np.array_equal(sample["png"].transpose(2, 0, 1), data[k][0])
        assert np.allclose(sample["json"]["label"], data[k][1])
        assert sample["json"]["weight"] == data.all_weights()[k]


def test_weights_are_kept_and_made_anew(photos, tmp_path):
    convert(photos, tmp_path / "a.zip", rebalance="yaw")
    convert(tmp_path / "a.zip", tmp_path / "b", shard_size=2)
    convert(tmp_path / "b", tmp_path / "c.zip", max_images=5)
    assert ImageFolderDataset(tmp_path / "c.zip", use_labels=True).all_weights().tolist() == [1] * 5
    same_dataset(tmp_path / "a.zip", tmp_path / "b")
    convert(photos, tmp_path / "plain.zip")
    assert ImageFolderDataset(tmp_path / "plain.zip", use_labels=True).all_weights() is None


def test_without_labels(photos, tmp_path):
    (photos / "dataset.json").unlink()
    report = convert(photos, tmp_path / "cars", shard_size=4)
    assert not report.has_labels and len(ImageFolderDataset(tmp_path / "cars")) == COUNT
    with pytest.raises(DatasetError, match="dataset.json is missing"):
        ImageFolderDataset(tmp_path / "cars", use_labels=True)
    with pytest.raises(ConversionError, match="--rebalance=yaw: the pictures have no cameras"):
        convert(photos, tmp_path / "x.zip", rebalance="yaw")


@pytest.mark.parametrize("after", [0, 1, 2, 5, 6])
@pytest.mark.parametrize("lost", [0, 700])
def test_an_interrupted_conversion_goes_on(photos, tmp_path, monkeypatch, after, lost):
    """Also where the last bytes of a shard never got to the disk."""
    make = conversion._make

    def stopping(pictures, recipe, grey, index):
        if index == after:
            raise KeyboardInterrupt
        return make(pictures, recipe, grey, index)

    monkeypatch.setattr(conversion, "_make", stopping)
    with pytest.raises(KeyboardInterrupt):
        convert(photos, tmp_path / "cars", shard_size=3)
    assert not (tmp_path / "cars").exists()
    for path in sorted((tmp_path / ".cars.part").iterdir())[-1:]:
        path.write_bytes(path.read_bytes()[: -lost or None])
    monkeypatch.undo()
    convert(photos, tmp_path / "cars", shard_size=3)
    (tmp_path / "whole").mkdir()
    convert(
        photos, tmp_path / "whole/cars", shard_size=3, workers=2 if (after, lost) == (2, 0) else 1
    )
    assert bytes_of(tmp_path / "cars") == bytes_of(tmp_path / "whole/cars")


def test_odd_pictures_are_cut_out(photos, tmp_path):
    for k in (0, 3):
        Image.fromarray(noise(32, k)).save(photos / f"{k}.png")
    with pytest.raises(ConversionError, match="2 problems"):
        convert(photos, tmp_path / "cars", shard_size=3)
    report = convert(photos, tmp_path / "cars", shard_size=3, on_error="skip")
    assert report.written == 5 and len(report.problems) == 2
    convert(photos, tmp_path / "cars.zip", on_error="skip")
    same_dataset(tmp_path / "cars", tmp_path / "cars.zip")


def test_another_recipe_starts_anew(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "odd_ones", lambda shapes: 1 / 0)
    for size in (3, 4):
        with pytest.raises(ZeroDivisionError):
            convert(photos, tmp_path / "cars", Recipe(size=(8, 8)), shard_size=size)
    monkeypatch.undo()
    convert(photos, tmp_path / "cars", shard_size=3)
    assert ImageFolderDataset(tmp_path / "cars").resolution == 16


def test_layouts():
    plan = plan_shards("a/b-{0..3}.tar", None, 10)
    assert [plan.shard_of(k)[2] for k in range(10)] == list("0001122233")
    assert plan_shards("a.zip", None, 10) is None is plan_shards("a", None, 10)
    assert plan_shards("a/b", 3, 10).names == tuple(f"b-00000{k}.tar" for k in range(4))


@pytest.mark.parametrize(
    "dest, size, words",
    [
        ("a-{0..9}.tar", None, "names 10 shards for 7 pictures"),
        ("a-{0..1}.tar", 3, "--shard-size: a-{0..1}.tar says already"),
        ("a.zip", 3, "--shard-size: .*a.zip must be a folder"),
        ("a-{3..1}.tar", None, "must count upwards"),
    ],
)
def test_what_is_refused(photos, tmp_path, dest, size, words):
    with pytest.raises(DatasetError, match=words):
        convert(photos, tmp_path / dest, shard_size=size)
    assert list(tmp_path.iterdir()) == [photos]


def test_folders_that_are_not_empty_and_links(photos, tmp_path):
    with pytest.raises(DestinationError, match="must be an empty folder"):
        convert(photos, photos, shard_size=3)
    (tmp_path / ".cars.part").symlink_to(photos)
    with pytest.raises(DestinationError, match="is a link in the way"):
        convert(photos, tmp_path / "cars", shard_size=3)
    assert len(list(photos.iterdir())) == COUNT + 1


def test_the_command(photos, tmp_path):
    line = [f"--source={photos}", f"--dest={tmp_path / 'cars'}", "--shard-size=3"]
    done = CliRunner().invoke(dataset_tool.main, [*line, "--rebalance=yaw"])
    assert done.exit_code == 0, done.output
    assert ImageFolderDataset(tmp_path / "cars", use_labels=True).all_weights()[-1] == 2
    done = CliRunner().invoke(dataset_tool.main, [*line[:1], f"--dest={tmp_path}/a.zip", line[2]])
    assert done.exit_code == 1 and done.output.startswith("Error: --shard-size: ")
