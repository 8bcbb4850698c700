"""Datasets: selection, labels, mirroring, and one clear line for everything that can be wrong."""

import io
import json
import math
import multiprocessing
import pickle
import re
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from training.cameras import check_label
from training.dataset import Dataset, DatasetError, ImageFolderDataset
from training.label_file import parse_labels, valid_labels

SIDE = 8


def camera(yaw=0.3, cx=0.5, skew=0.0):
    """A label written out by hand: turned about y, 2 units away."""
    c, s = math.cos(yaw), math.sin(yaw)
    pose = [c, 0, -s, 2 * s, 0, -1, 0, 0.1, -s, 0, -c, 2 * c, 0, 0, 0, 1]
    return [*pose, 1.5, skew, cx, 0, 1.5, 0.5, 0, 0, 1]


def pixels(index, shape=(SIDE, SIDE, 3)):
    return np.random.RandomState(index).randint(0, 256, shape).astype(np.uint8)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def contents(count=5, labels=True):
    files = {f"00000/img{i:08d}.png": png(pixels(i)) for i in range(count)}
    if labels:
        entries = [[name, camera(0.1 * i)] for i, name in enumerate(files)]
        files["dataset.json"] = json.dumps({"labels": entries}).encode()
    return files


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


@pytest.fixture(params=["zip", "folder"])
def write(request, tmp_path):
    """`write(files)` -> path of a dataset named toy_8, once as a zip and once as a folder."""
    if request.param == "zip":
        return lambda files: write_zip(tmp_path / "toy_8.zip", files)
    return lambda files: write_folder(tmp_path / "toy_8", files)


def expect_error(match, path, **options):
    with pytest.raises(DatasetError) as caught:
        dataset = ImageFolderDataset(path, **options)
        for index in range(len(dataset)):
            dataset[index]
    message = str(caught.value)
    assert re.search(match, message), message
    assert "\n" not in message and str(path) in message and isinstance(caught.value, OSError)


def test_images_and_labels_come_back_as_written(write):
    dataset = ImageFolderDataset(write(contents()), resolution=SIDE, use_labels=True)
    assert (dataset.name, len(dataset), dataset.image_shape) == ("toy_8", 5, [3, SIDE, SIDE])
    assert (dataset.num_channels, dataset.resolution, dataset.label_shape) == (3, SIDE, [25])
    assert dataset.has_labels and not dataset.has_onehot_labels
    for i in range(5):
        image, label = dataset[i]
        assert image.dtype == np.uint8 and label.dtype == np.float32
        np.testing.assert_array_equal(image, pixels(i).transpose(2, 0, 1))
        np.testing.assert_array_equal(label, np.float32(camera(0.1 * i)))
        image[:], label[:] = 0, 0
        assert dataset[i][0].any() and dataset[i][1].any()


def test_without_labels_they_are_empty(write):
    dataset = ImageFolderDataset(write(contents(labels=False)))
    assert dataset.label_dim == 0 and not dataset.has_labels
    assert dataset[0][1].shape == (0,) and dataset[0][1].dtype == np.float32


def test_classes_become_onehot(write):
    files = contents(labels=False)
    entries = [[name, [2, 0, 1, 2, 4][i]] for i, name in enumerate(files)]
    files["dataset.json"] = json.dumps({"labels": entries}).encode()
    dataset = ImageFolderDataset(write(files), use_labels=True, xflip=True)
    assert dataset.has_onehot_labels and dataset.label_shape == [5]
    assert dataset.get_label(0).tolist() == [0, 0, 1, 0, 0] == dataset.get_label(5).tolist()
    assert dataset.get_details(4).raw_label == 4


def with_classes(files, classes, **more):
    """The files of a dataset, its images of these classes."""
    content = json.loads(files["dataset.json"])
    names = [name for name, _ in content["labels"]]
    content |= dict(classes=[list(pair) for pair in zip(names, classes, strict=True)], **more)
    return {**files, "dataset.json": json.dumps(content).encode()}


def test_classes_stand_behind_cameras(write):
    path = write(with_classes(contents(), [2, 0, 1, 2, 2]))
    plain = ImageFolderDataset(path, use_labels=True, xflip=True)
    dataset = ImageFolderDataset(path, use_labels=True, use_classes=True, xflip=True)
    assert dataset.label_shape == [28] and not dataset.has_onehot_labels
    for i in range(10):  # the last five are mirrored: their cameras are, their classes are not
        expected = [*plain[i][1].tolist(), *([0.0] * 3)]
        expected[25 + [2, 0, 1, 2, 2][i % 5]] = 1.0
        assert dataset[i][1].tolist() == expected == dataset.all_labels()[i].tolist()
    assert not np.array_equal(dataset[1][1][:25], dataset[6][1][:25])
    assert dataset.get_label_std().shape == (28,)
    assert dataset.get_details(6).raw_label[25:].tolist() == [1, 0, 0]


def test_classes_follow_the_choice_of_images(write):
    path = write(with_classes(contents(), [0, 1, 2, 3, 4]))
    dataset = ImageFolderDataset(path, use_labels=True, use_classes=True, max_size=3)
    raw = [dataset.get_details(i).raw_idx for i in range(3)]
    assert dataset.all_labels()[:, 25:].argmax(1).tolist() == raw
    assert dataset.label_dim == 30


def test_classes_without_labels_are_nothing(write):
    dataset = ImageFolderDataset(write(contents()), use_classes=True)
    assert dataset.label_dim == 0


def test_the_number_of_classes_may_be_said(write):
    path = write(with_classes(contents(), [2, 0, 1, 2, 2], num_classes=7))
    dataset = ImageFolderDataset(path, use_labels=True, use_classes=True)
    assert dataset.label_dim == 32 and dataset[0][1][25:].tolist() == [0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "classes, more, match",
    [
        ([0, 1, 2, 1, 1.5], {}, "class of 00000/img00000004.png is 1.5, must be a whole number"),
        ([0, 1, 2, 1, -1], {}, "class of 00000/img00000004.png is -1, must be 0 or more"),
        ([0, 1, 2, 1, 12345], {}, "has 12346 classes, .* must be at most 10000"),
        ([0, 1, 2, 1, 1], {"num_classes": 2}, "num_classes is 2, must be .* class, 2$"),
        ([0, 1, 2, 1, 1], {"num_classes": "3"}, "num_classes is '3', must be a whole number"),
        ([0, 1, 2, 1, 1], {"num_classes": True}, "num_classes is True, must be"),
        ([0, 1, 2, 1, 1], {"num_classes": 10**9}, "has 1000000000 classes"),
    ],
)
def test_bad_classes_are_named(write, classes, more, match):
    path = write(with_classes(contents(), classes, **more))
    expect_error(f"dataset.json.*{match}", path, use_labels=True, use_classes=True)


def test_missing_classes_are_named(write):
    match = 'dataset.json has no "classes", but classes are wanted'
    expect_error(match, write(contents()), use_labels=True, use_classes=True)


def test_classes_stand_beside_cameras_alone(write):
    files = contents(labels=False)
    labels = [[name, 0] for name in files]
    files["dataset.json"] = json.dumps(dict(labels=labels, classes=labels)).encode()
    match = "img00000000.png: its label is no camera of 25 numbers"
    expect_error(match, write(files), use_labels=True, use_classes=True)


def test_max_size_keeps_a_fixed_sorted_choice(write):
    path = write(contents(20))
    for seed in (0, 3):
        order = np.arange(20)
        np.random.RandomState(seed).shuffle(order)
        dataset = ImageFolderDataset(path, max_size=6, random_seed=seed, xflip=True)
        raw = [dataset.get_details(i).raw_idx for i in range(len(dataset))]
        assert raw == sorted(order[:6].tolist()) * 2
    assert len(ImageFolderDataset(path, max_size=99)) == 20


def test_xflip_mirrors_image_and_camera(write):
    files = contents(3)
    entries = [[f"00000/img{i:08d}.png", camera(0.2 * i + 0.1, 0.45, 0.02)] for i in range(3)]
    files["dataset.json"] = json.dumps({"labels": entries}).encode()
    path = write(files)
    dataset = ImageFolderDataset(path, use_labels=True, xflip=True)
    plain = ImageFolderDataset(path, use_labels=True, xflip=True, mirror_labels=False)
    assert len(dataset) == 6 and not dataset.get_details(2).xflip and dataset.get_details(3).xflip
    point = np.array([0.2, -0.3, 0.4, 1.0])
    for i in range(3):
        image, label = dataset[i]
        flipped, mirrored = dataset[i + 3]
        np.testing.assert_array_equal(flipped, image[:, :, ::-1])
        np.testing.assert_array_equal(mirrored, dataset.get_label(i + 3))
        np.testing.assert_array_equal(plain.get_label(i + 3), label)
        np.testing.assert_array_equal(dataset.get_details(i + 3).raw_label, label)
        u, v = project(label, point)
        np.testing.assert_allclose(project(mirrored, point * [-1, 1, 1, 1]), (1 - u, v), atol=1e-6)


def project(label, point):
    local = np.linalg.inv(np.float64(label[:16]).reshape(4, 4)) @ point
    u, v, w = np.float64(label[16:]).reshape(3, 3) @ local[:3]
    return u / w, v / w


@pytest.mark.parametrize("kind", ["cameras", "classes", "none"])
@pytest.mark.parametrize("mirror_labels", [True, False])
def test_all_labels_are_those_of_the_items(tmp_path, kind, mirror_labels):
    files = contents(9, labels=False)
    values = [camera(0.1 * i, 0.45, 0.02) if kind == "cameras" else 3 * i for i in range(9)]
    if kind != "none":
        entries = [[name, values[i]] for i, name in enumerate(files)]
        files["dataset.json"] = json.dumps({"labels": entries}).encode()
    path = write_zip(tmp_path / "toy.zip", files)
    options = dict(use_labels=kind != "none", max_size=6, xflip=True, mirror_labels=mirror_labels)
    dataset = ImageFolderDataset(path, **options)
    labels = dataset.all_labels()
    assert labels.dtype == np.float32 and labels.shape == (12, dataset.label_dim)
    for i in range(12):
        np.testing.assert_array_equal(labels[i], dataset.get_label(i))
        dataset.get_label(i)[:] = -1  # a copy: changes neither
    np.testing.assert_array_equal(dataset.all_labels()[11], dataset[11][1])
    assert dataset.all_labels() is labels
    assert pickle.loads(pickle.dumps(dataset))._item_labels is None


def test_label_std_is_over_all_raw_labels(write):
    dataset = ImageFolderDataset(write(contents(7)), use_labels=True, max_size=2, xflip=True)
    expected = np.std([np.float32(camera(0.1 * i)) for i in range(7)], axis=0)
    np.testing.assert_allclose(dataset.get_label_std(), expected, atol=1e-6)


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_pickle_and_close_then_read_again(write, cache):
    dataset = ImageFolderDataset(write(contents()), use_labels=True, xflip=True, cache=cache)
    first = [dataset[i] for i in range(10)]
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 4000
    dataset.close()
    for other in (dataset, copy):
        for i, (image, label) in enumerate(first):
            np.testing.assert_array_equal(other[i][0], image)
            np.testing.assert_array_equal(other[i][1], label)


def test_ram_cache_reads_each_file_once(tmp_path):
    path = write_folder(tmp_path / "toy", contents(labels=False))
    cached, plain = ImageFolderDataset(path, cache="ram", xflip=True), ImageFolderDataset(path)
    image = cached[1][0]
    (path / "00000/img00000001.png").unlink()
    np.testing.assert_array_equal(cached[1][0], image)
    np.testing.assert_array_equal(cached[6][0], image[:, :, ::-1])
    with pytest.raises(DatasetError, match="img00000001.png cannot be decoded"):
        plain[1]
    with pytest.raises(ValueError, match="'disk', must be one of none, ram"):
        ImageFolderDataset(path, cache="disk")


def _sums(dataset, queue):
    try:
        queue.put([int(dataset[i][0].astype(int).sum()) for _ in range(40) for i in range(5)])
    except DatasetError as error:
        queue.put(str(error))


def test_forked_readers_do_not_share_the_zip(tmp_path):
    # Noise of 12 kB an image: files that fit a reader's buffer would hide a shared position.
    images = [pixels(i, (64, 64, 3)) for i in range(5)]
    files = {f"{i}.png": png(image) for i, image in enumerate(images)}
    dataset = ImageFolderDataset(write_zip(tmp_path / "toy.zip", files))
    expected = [int(image.astype(int).sum()) for image in images] * 40
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    readers = [context.Process(target=_sums, args=(dataset, queue)) for _ in range(3)]
    for reader in readers:
        reader.start()
    assert all(queue.get(timeout=30) == expected for _ in readers)
    for reader in readers:
        reader.join()


def test_path_errors(tmp_path):
    expect_error("no such file or folder", tmp_path / "none.zip")
    (tmp_path / "list.txt").write_text("x")
    expect_error("neither a folder nor a .zip", tmp_path / "list.txt")
    (tmp_path / "bad.zip").write_text("x")
    expect_error("not a readable zip", tmp_path / "bad.zip")
    write_zip(tmp_path / "empty.zip", {"a.txt": b"x"})
    expect_error("no images", tmp_path / "empty.zip")


NAME = "00000/img00000003.png"


@pytest.mark.parametrize(
    "content, match",
    [
        (png(pixels(3))[:-60], "cannot be decoded"),
        (b"not a png", "cannot be decoded"),
        (b"", "cannot be decoded"),
        (png(pixels(3, (4, 4, 3))), "is 4x4 RGB, must be 8x8 RGB"),
        (png(pixels(3, (SIDE, SIDE))), "is 8x8 grey, must be 8x8 RGB"),
        (png(pixels(3, (SIDE, SIDE, 4))), "is 8x8 RGBA, must be 8x8 RGB"),
        (png(np.arange(64).reshape(8, 8).astype(np.uint16)), "I;16|grey, must be"),
    ],
)
def test_bad_image_is_named(write, content, match):
    expect_error(f"{NAME} .*({match})", write({**contents(), NAME: content}))


def test_corrupt_zip_member_is_named(tmp_path):
    path = write_zip(tmp_path / "toy.zip", contents())
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo(NAME).header_offset + 30 + len(NAME) + 60
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 0xFF
    path.write_bytes(raw)
    expect_error(f"{NAME} cannot be decoded", path)


def test_shape_of_the_first_image_is_checked_at_opening(tmp_path):
    wide = write_zip(tmp_path / "wide.zip", {"a.png": png(pixels(0, (4, 8, 3)))})
    expect_error("a.png is 8x4 RGB, must be square", wide)
    path = write_zip(tmp_path / "toy.zip", contents())
    expect_error("is 8x8 RGB, must be 16x16", path, resolution=16)


def test_palette_images_are_rgb(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(pixels(0)).quantize(16).save(buffer, "png")
    dataset = ImageFolderDataset(write_zip(tmp_path / "p.zip", {"a.png": buffer.getvalue()}))
    expected = np.array(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    np.testing.assert_array_equal(dataset[0][0], expected.transpose(2, 0, 1))


def test_missing_label_file_is_an_error_only_when_wanted(write):
    path = write(contents(labels=False))
    assert len(ImageFolderDataset(path)) == 5
    expect_error("dataset.json is missing, but labels are wanted", path, use_labels=True)


def corrupted(**changes):
    label = camera()
    for position, value in changes.items():
        label[int(position[1:])] = value
    return label


def reflected():
    label = camera()
    label[0:12:4] = [-value for value in label[0:12:4]]
    return label


@pytest.mark.parametrize(
    "label, match",
    [
        (camera()[:16], "is 16 numbers, must be 25"),
        (3, "is 3, must be 25"),
        (None, "is None, must be 25"),
        ([*camera()[:24], "one"], "must be 25 numbers"),
        (corrupted(_3=float("nan")), "not finite"),
        (corrupted(_3=1e300), "not finite"),
        (corrupted(_0=1.4), "not orthonormal"),
        (reflected(), "determinant -1"),
        (corrupted(_15=0), "last row"),
        (corrupted(_16=-1.5), "focal"),
    ],
)
def test_bad_label_is_named(write, label, match):
    files = contents()
    entries = json.loads(files["dataset.json"])["labels"]
    entries[3][1] = label
    files["dataset.json"] = json.dumps({"labels": entries}).encode()
    expect_error(f"dataset.json.*{NAME}.*{match}", write(files), use_labels=True)


@pytest.mark.parametrize(
    "content, match",
    [
        (b"{", "not readable JSON"),
        (b"\xff\xfe\xfa", "not readable JSON"),
        (b"[]", "has no labels; must be"),
        (b'{"labels": null}', "has no labels; must be"),
        (b'{"labels": [["a.png"]]}', "must be .file name, label"),
        (b'{"labels": [["a.png", 1]]}', r"no entry for 00000/img00000000.png \(5 of 5"),
    ],
)
def test_bad_label_file_is_named(write, content, match):
    path = write({**contents(), "dataset.json": content})
    expect_error(f"dataset.json.*{match}", path, use_labels=True)


def test_negative_class_is_named():
    with pytest.raises(DatasetError, match="b.png is -1, must be 0 or more"):
        parse_labels({"labels": [["a.png", 1], ["b.png", -1]]}, ["a.png", "b.png"], "d.json")


def test_check_of_all_labels_agrees_with_the_check_of_one():
    rng = np.random.RandomState(0)
    labels = np.array([camera(0.1 * i) for i in range(300)], dtype=np.float32)
    for row in range(0, 300, 2):
        labels[row, rng.randint(25)] += rng.choice([5e-4, 5e-3, -2.5, np.nan, np.inf])
    expected = [check_label(label) is None for label in labels]
    assert 150 < sum(expected) < 290
    assert valid_labels(labels).tolist() == expected


def test_many_labels_are_checked_quickly():
    images = [f"{i}.png" for i in range(50_000)]
    content = {"labels": [[name, camera()] for name in images]}
    start = time.perf_counter()
    assert parse_labels(content, images, "dataset.json").shape == (50_000, 25)
    assert time.perf_counter() - start < 3


def test_subclass_needs_only_two_methods():
    class Ramp(Dataset):
        def _load_raw_image(self, raw_idx):
            return np.full([1, 4, 6], raw_idx, dtype=np.uint8)

        def _load_raw_labels(self):
            return np.arange(6, dtype=np.float32).reshape(3, 2)

    dataset = Ramp("ramp", [3, 1, 4, 6], use_labels=True)
    assert dataset[2][0].max() == 2 and dataset[2][1].tolist() == [4, 5]
    with pytest.raises(DatasetError, match="ramp: images are 6x4, must be square"):
        _ = dataset.resolution
