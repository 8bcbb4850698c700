"""Conversion as a whole: sources, names, labels, problems, interruptions."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from dataset_preprocessing.conversion import convert as conversion
from dataset_preprocessing.conversion.archive import DestinationError
from dataset_preprocessing.conversion.convert import ConversionError, Recipe, convert
from dataset_preprocessing.conversion.sources import SourceError, open_source
from training.dataset import ImageFolderDataset

LABEL = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2, 0, 0.5, 0, 4.2, 0.5, 0, 0, 1]


def noise(side, seed=0, channels=3):
    shape = (side, side, channels) if channels > 1 else (side, side)
    return np.random.RandomState(seed).randint(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def photos(tmp_path):
    """Five pictures of 16 x 16 with labels, in two folders."""
    folder = tmp_path / "photos"
    names = ["a/1.png", "a/2.png", "b/0.png", "b/7.png", "c.png"]
    for k, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(16, k)).save(folder / name)
    labels = [[name, [*LABEL[:3], k / 10, *LABEL[4:]]] for k, name in enumerate(names)]
    (folder / "dataset.json").write_text(json.dumps(dict(labels=labels)))
    (folder / "notes.txt").write_text("not a picture")
    return folder


def content(path):
    """{name: bytes} of a dataset."""
    if path.is_dir():
        files = [p for p in path.rglob("*") if p.is_file()]
        return {p.relative_to(path).as_posix(): p.read_bytes() for p in files}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
        return {name: archive.read(name) for name in archive.namelist()}


def left_over(tmp_path):
    return [path.name for path in tmp_path.rglob(".*")]


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("dest", ["out.zip", "deep/er/out.zip", "out"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_pictures_and_labels(photos, tmp_path, dest, kind):
    source = photos if kind == "folder" else zipped(photos, tmp_path / "photos.zip")
    report = convert(source, tmp_path / dest)
    assert (report.written, report.dropped, report.problems) == (5, 0, []) and report.has_labels
    found = content(tmp_path / dest)
    names = [f"00000/img{k:08d}.png" for k in range(5)]
    assert sorted(found) == sorted([*names, "dataset.json"])
    data = ImageFolderDataset(tmp_path / dest, use_labels=True)
    for k in range(5):
        image, label = data[k]
        assert np.array_equal(image.transpose(1, 2, 0), noise(16, k))
        assert label[3] == pytest.approx(k / 10)
    assert left_over(tmp_path) == []


def test_names_go_on_after_a_thousand():
    names = [conversion.picture_name(index) for index in (0, 999, 1000, 123456)]
    assert names[0] == "00000/img00000000.png" and names[3] == "00123/img00123456.png"
    assert names[1:3] == ["00000/img00000999.png", "00001/img00001000.png"]


@pytest.mark.parametrize("dest", ["a.zip", "a"])
def test_the_same_bytes_whoever_works(photos, tmp_path, dest):
    recipe = Recipe(size=(8, 8))
    convert(photos, tmp_path / dest, recipe)
    convert(photos, tmp_path / f"b{dest}", recipe, workers=2)
    assert content(tmp_path / dest) == content(tmp_path / f"b{dest}")
    if dest.endswith(".zip"):
        assert (tmp_path / dest).read_bytes() == (tmp_path / f"b{dest}").read_bytes()


@pytest.mark.parametrize("dest", ["out.zip", "out"])
@pytest.mark.parametrize("after", [0, 1, 3, 4])
def test_an_interrupted_conversion_goes_on(photos, tmp_path, monkeypatch, dest, after):
    """To the same bytes, without making anew what is there; nothing is at the destination until
    then."""
    make, made = conversion._make, []

    def stopping(pictures, recipe, grey, index):
        if index == after and len(made) <= after:
            made.append("stopped")
            raise KeyboardInterrupt
        made.append(index)
        return make(pictures, recipe, grey, index)

    monkeypatch.setattr(conversion, "_make", stopping)
    with pytest.raises(KeyboardInterrupt):
        convert(photos, tmp_path / dest)
    assert not (tmp_path / dest).exists()
    made.clear()
    made += ["again"] * (after + 1)
    convert(photos, tmp_path / dest)
    assert made[after + 1 :] == list(range(after, 5))
    monkeypatch.undo()
    convert(photos, tmp_path / f"whole-{dest}")
    assert content(tmp_path / dest) == content(tmp_path / f"whole-{dest}")
    if dest.endswith(".zip"):
        assert (tmp_path / dest).read_bytes() == (tmp_path / f"whole-{dest}").read_bytes()
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("cut", [1, 50])
def test_files_that_were_cut_short_are_made_anew(photos, tmp_path, monkeypatch, cut):
    """As after a loss of power: the zip or its journal lacks an end."""
    monkeypatch.setattr(conversion, "odd_ones", _interrupt)
    for name in (".out.zip.part", ".out.zip.journal"):
        with pytest.raises(KeyboardInterrupt):
            convert(photos, tmp_path / "out.zip")
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-cut])
    monkeypatch.undo()
    convert(photos, tmp_path / "out.zip")
    convert(photos, tmp_path / "whole.zip")
    assert (tmp_path / "out.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()


def _interrupt(shapes):
    raise KeyboardInterrupt


def test_another_recipe_starts_anew(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "odd_ones", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(photos, tmp_path / "out.zip", Recipe(size=(8, 8)))
    monkeypatch.undo()
    convert(photos, tmp_path / "out.zip", Recipe(size=(4, 4)))
    assert ImageFolderDataset(tmp_path / "out.zip").resolution == 4


# -- Other sources --------------------------------------------------------------------------------


def test_cifar(tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    pixels = np.random.RandomState(0).randint(0, 256, (10, 3, 32, 32), dtype=np.uint8)
    with tarfile.open(path, "w:gz") as archive:
        for k in range(5):
            part = pixels[2 * k : 2 * k + 2].reshape(2, -1)
            batch = pickle.dumps({"data": part, "labels": [k, 9 - k]}, protocol=2)
            info = tarfile.TarInfo(f"cifar-10-batches-py/data_batch_{k + 1}")
            info.size = len(batch)
            archive.addfile(info, io.BytesIO(batch))
    convert(path, tmp_path / "out.zip")
    data = ImageFolderDataset(tmp_path / "out.zip", use_labels=True)
    assert all(np.array_equal(data[k][0], pixels[k]) for k in range(10))
    assert [data.get_details(k).raw_label for k in range(4)] == [0, 9, 1, 8]


def test_a_pickle_in_cifar_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        batch = pickle.dumps({"data": Evil(), "labels": []})
        info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        info.size = len(batch)
        archive.addfile(info, io.BytesIO(batch))
    with pytest.raises(SourceError, match="builtins.print in it, which no CIFAR-10 file has"):
        open_source(path)


def test_mnist(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (6, 28, 28), dtype=np.uint8)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(b"h" * 16 + pixels.tobytes()))
    with pytest.raises(SourceError, match="train-labels-idx1-ubyte.gz: no such file"):
        open_source(path)
    labels = path.with_name("train-labels-idx1-ubyte.gz")
    labels.write_bytes(gzip.compress(b"h" * 8 + bytes([3, 1, 4, 1, 5, 9])))
    convert(path, tmp_path / "out.zip", max_images=5)
    data = ImageFolderDataset(tmp_path / "out.zip", use_labels=True)
    assert data.image_shape == [1, 32, 32] and len(data) == 5
    assert np.array_equal(data[4][0][0, 2:30, 2:30], pixels[4]) and not data[4][0][0, :2].any()
    assert data.get_details(4).raw_label == 5


def test_databases_want_their_package(tmp_path):
    (tmp_path / "church_lmdb").mkdir()
    with pytest.raises(SourceError, match="lmdb"):
        open_source(tmp_path / "church_lmdb")


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda p: None, "no such file or folder"),
        (lambda p: p.mkdir(), "no pictures in it"),
        (lambda p: p.write_text("x"), "unknown kind of file"),
    ],
)
def test_what_is_no_source(tmp_path, make, words):
    make(tmp_path / "x")
    with pytest.raises(SourceError, match=words):
        open_source(tmp_path / "x")


def test_broken_zips(photos, tmp_path):
    whole = zipped(photos, tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    with pytest.raises(SourceError, match="not a readable zip"):
        open_source(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a.png", b"x")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", b"x")
    with pytest.raises(SourceError, match="has a.png twice"):
        open_source(tmp_path / "twice.zip")


# -- Transforms and labels ------------------------------------------------------------------------


def test_crops_move_the_lens(photos, tmp_path):
    convert(photos, tmp_path / "out.zip", Recipe(crop=(4, 2, 8, 8), size=(16, 16)))
    label = ImageFolderDataset(tmp_path / "out.zip", use_labels=True).get_label(0)
    assert label[16:22] == pytest.approx([8.4, 0, 0.5, 0, 8.4, 0.75])


def test_center_crop(tmp_path):
    folder = tmp_path / "wide"
    folder.mkdir()
    pixels = np.random.RandomState(0).randint(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    (folder / "dataset.json").write_text(json.dumps(dict(labels=[["a.png", LABEL]])))
    convert(folder, tmp_path / "out.zip", Recipe("center-crop", (16, 16)))
    data = ImageFolderDataset(tmp_path / "out.zip", use_labels=True)
    assert np.array_equal(data[0][0].transpose(1, 2, 0), pixels[:, 4:20])
    assert data.get_label(0)[16] == pytest.approx(4.2 * 24 / 16)


def test_small_pictures_leave_gaps(tmp_path):
    folder = tmp_path / "cars"
    folder.mkdir()
    for k, width in enumerate((64, 20, 64)):
        Image.fromarray(noise(64, k)[:48, :width]).save(folder / f"{k}.png")
    report = convert(folder, tmp_path / "out.zip", Recipe("center-crop-wide", (64, 48)))
    assert (report.written, report.dropped) == (2, 1)
    names = [name for name in content(tmp_path / "out.zip") if name.endswith(".png")]
    assert names == ["00000/img00000000.png", "00000/img00000002.png"]
    assert json.loads(content(tmp_path / "out.zip")["dataset.json"]) == {"labels": None}


def test_colours(tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    Image.fromarray(noise(8, 0, 1)).save(folder / "0.png")
    Image.fromarray(noise(8, 1)).save(folder / "1.png")
    for colour, channels in (("auto", 3), ("grey", 1), ("rgb", 3)):
        convert(folder, tmp_path / f"{colour}.zip", Recipe(colour=colour))
        assert ImageFolderDataset(tmp_path / f"{colour}.zip").num_channels == channels
    (folder / "1.png").unlink()
    convert(folder, tmp_path / "all-grey.zip")
    assert ImageFolderDataset(tmp_path / "all-grey.zip").num_channels == 1


# -- Problems -------------------------------------------------------------------------------------


@pytest.fixture
def flawed(photos):
    """One picture broken, one of another size, one without a label, one with a bad one."""
    (photos / "a/2.png").write_bytes(b"broken")
    Image.fromarray(noise(32)).save(photos / "b/0.png")
    labels = json.loads((photos / "dataset.json").read_text())["labels"]
    labels = [entry for entry in labels if entry[0] != "b/7.png"]
    labels[0][1][3] = float("nan")
    for k, name in enumerate(("d.png", "e.png")):
        Image.fromarray(noise(16, 9 + k)).save(photos / name)
        labels.append([name, LABEL])
    (photos / "dataset.json").write_text(json.dumps(dict(labels=labels)))
    return photos


def test_all_wrong_labels_are_told_at_once(flawed, tmp_path):
    with pytest.raises(ConversionError) as caught:
        convert(flawed, tmp_path / "out.zip")
    text = str(caught.value)
    assert text.startswith("2 problems, nothing is written; --on-error=skip")
    assert "a/1.png: camera label has a value that is not finite" in text
    assert "b/7.png: has no label in dataset.json, though others have" in text
    assert not (tmp_path / "out.zip").exists() and left_over(tmp_path) == []


def test_all_broken_pictures_are_told_at_once(flawed, tmp_path):
    (flawed / "dataset.json").unlink()
    with pytest.raises(ConversionError) as caught:
        convert(flawed, tmp_path / "out.zip")
    text = str(caught.value)
    assert "a/2.png: cannot be decoded" in text
    assert "b/0.png: has 32 pixels a side, most have 16: use --resolution" in text
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize("dest", ["out.zip", "out"])
def test_skipping_keeps_the_rest(flawed, tmp_path, dest):
    report = convert(flawed, tmp_path / dest, on_error="skip")
    assert report.written == 3 and len(report.problems) == 4
    data = ImageFolderDataset(tmp_path / dest, use_labels=True)
    assert np.array_equal(data[0][0].transpose(1, 2, 0), noise(16, 4)) and len(data) == 3
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    "shape, words",
    [((16, 12, 3), "is 12 x 16 pixels, must be square"), ((12, 12, 3), "a power of two")],
)
def test_shapes(tmp_path, shape, words):
    folder = tmp_path / "x"
    folder.mkdir()
    Image.fromarray(np.zeros(shape, dtype=np.uint8)).save(folder / "a.png")
    with pytest.raises(ConversionError, match=words):
        convert(folder, tmp_path / "out.zip")
    with pytest.raises(ConversionError, match="no picture is left"):
        convert(folder, tmp_path / "out.zip", on_error="skip")


@pytest.mark.parametrize("text", ["[]", '{"labels": 3}', "{", '{"labels": [["a.png"]]}'])
def test_label_files_of_another_form(photos, tmp_path, text):
    (photos / "dataset.json").write_text(text)
    with pytest.raises(SourceError, match="dataset.json: must be"):
        convert(photos, tmp_path / "out.zip")


def test_destinations(photos, tmp_path):
    (tmp_path / "there.zip").write_bytes(b"precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("precious")
    (tmp_path / "empty").mkdir()
    for name, words in (("there.zip", "is there already"), ("full", "must be an empty folder")):
        with pytest.raises(DestinationError, match=words):
            convert(photos, tmp_path / name)
    assert (tmp_path / "there.zip").read_bytes() == b"precious"
    with pytest.raises(DestinationError, match="cannot be written"):
        convert(photos, tmp_path / "there.zip" / "x.zip")
    assert convert(photos, tmp_path / "empty").written == 5


def test_the_same_command_writes_the_same_bytes(photos, tmp_path):
    found = []
    for _ in range(2):
        convert(photos, tmp_path / "out.zip", Recipe(size=(8, 8)), max_images=1)
        found.append((tmp_path / "out.zip").read_bytes())
        (tmp_path / "out.zip").unlink()
    assert found[0] == found[1]
