"""The cache of real statistics: what its key depends on, and that it never gives wrong arrays."""

import json
import os
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from metrics import real_statistics
from metrics.errors import MetricError
from metrics.real_statistics import cache_key, content_hash, load, save

DETECTOR = SimpleNamespace(name="tiny", sha256="12ab")
KEY = "a key"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where the files of an empty cache go."""
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "real-statistics"


@pytest.fixture
def arrays():
    random = np.random.RandomState(0)
    return {
        "mean": random.randn(5),
        "products": random.randn(5, 5),
        "count": np.array(17),
        "rows": random.randn(30, 4).astype(np.float32)[:, ::2],  # not contiguous
        "none": np.zeros([0, 3], np.float16),
        "file": np.array([True, False]),  # also a name of np.savez's own
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def write_zip(path, pictures, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in pictures.items():
            archive.writestr(name, content)
    return {"path": str(path)}


PICTURES = {"a/1.png": b"1" * 100, "a/2.png": b"2" * 100, "dataset.json": b'{"labels": null}'}


def test_content_of_a_zip_is_names_and_bytes(tmp_path):
    """Not the place, the order or the compression."""
    first = content_hash(write_zip(tmp_path / "x.zip", PICTURES))
    turned = dict(reversed(PICTURES.items()))
    (tmp_path / "y").mkdir()
    other = write_zip(tmp_path / "y" / "z.ZIP", turned, compression=zipfile.ZIP_DEFLATED)
    assert content_hash(other) == first
    for name, content in PICTURES.items():
        for changed in ({name: content[:-1] + b"x"}, {name: content + b"x"}, {name + "_": content}):
            others = {k: v for k, v in PICTURES.items() if k != name}
            assert content_hash(write_zip(tmp_path / "w.zip", others | changed)) != first
    assert content_hash(write_zip(tmp_path / "w.zip", PICTURES)) == first


def test_content_of_a_folder_is_names_sizes_and_times(tmp_path):
    for name, content in PICTURES.items():
        path = tmp_path / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    first = content_hash({"path": tmp_path / "x"})
    shutil.copytree(tmp_path / "x", tmp_path / "y")  # with the times of the files
    assert content_hash({"path": tmp_path / "y"}) == first

    picture = tmp_path / "y" / "a" / "1.png"
    times = picture.stat()
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert content_hash({"path": tmp_path / "y"}) != first
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert content_hash({"path": tmp_path / "y"}) == first
    picture.rename(picture.with_name("3.png"))
    assert content_hash({"path": tmp_path / "y"}) != first


def test_content_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    for name in ("broken.zip", "absent.zip", "absent"):
        with pytest.raises(MetricError, match=f"{name} is not a readable folder or zip"):
            content_hash({"path": tmp_path / name})
    with pytest.raises(MetricError, match="have no 'path'"):
        content_hash({"class_name": "mine"})


def test_key_is_json_without_the_path(tmp_path):
    kwargs = write_zip(tmp_path / "x.zip", PICTURES)
    key = json.loads(cache_key(kwargs, DETECTOR))
    assert key["content"] == content_hash(kwargs)
    assert str(tmp_path) not in json.dumps(key) and "x.zip" not in json.dumps(key)
    assert list(key) == sorted(key)


def test_everything_that_changes_the_numbers_changes_the_key(tmp_path):
    kwargs = write_zip(tmp_path / "x.zip", PICTURES)
    other = write_zip(tmp_path / "y.zip", PICTURES | {"a/3.png": b"3"})
    limited = kwargs | dict(max_size=2)
    keys = [
        cache_key(kwargs, DETECTOR),
        cache_key(other, DETECTOR),
        cache_key(kwargs | dict(xflip=True), DETECTOR),
        cache_key(limited, DETECTOR),
        cache_key(limited | dict(max_size=1), DETECTOR),
        cache_key(limited | dict(random_seed=1), DETECTOR),
        cache_key(kwargs | dict(class_name="mine"), DETECTOR),
        cache_key(kwargs | dict(an_option_of_mine=1), DETECTOR),
        cache_key(kwargs, SimpleNamespace(name="other", sha256="12ab")),
        cache_key(kwargs, SimpleNamespace(name="tiny", sha256=None)),
        cache_key(kwargs, DETECTOR, output="probabilities"),
        cache_key(kwargs, DETECTOR, kept="all"),
        cache_key(kwargs, DETECTOR, number=2),
    ]
    assert len(set(keys)) == len(keys)


def test_nothing_else_changes_the_key(tmp_path, monkeypatch):
    kwargs = write_zip(tmp_path / "x.zip", PICTURES)
    key = cache_key(kwargs, DETECTOR)
    for same in (
        dict(path=write_zip(tmp_path / "y.zip", PICTURES)["path"]),
        dict(resolution=32, use_labels=True, mirror_labels=False, cache="ram"),
        dict(xflip=False, max_size=None, random_seed=5),  # which chooses among none
    ):
        assert cache_key(kwargs | same, DETECTOR) == key
    monkeypatch.setattr(real_statistics, "_VERSION", real_statistics._VERSION + 1)
    assert cache_key(kwargs, DETECTOR) != key


def test_wrong_words_are_named(tmp_path):
    with pytest.raises(ValueError, match="output='logits'.*'probabilities'"):
        cache_key({}, DETECTOR, output="logits")
    with pytest.raises(ValueError, match="kept='some'.*'moments'"):
        cache_key({}, DETECTOR, kept="some")


def test_what_was_saved_is_loaded(arrays, folder, capsys):
    assert load(KEY) is None
    save(KEY, arrays)
    assert_same(load(KEY), arrays)
    assert load(KEY + " more") is None
    save(KEY, {"mean": arrays["mean"] + 1})
    assert_same(load(KEY), {"mean": arrays["mean"] + 1})
    assert len(list(folder.iterdir())) == 1
    assert capsys.readouterr() == ("", "")


def complaint(capsys):
    """The one line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("Warning: ")
    return lines[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-30],
        lambda content: content[: len(content) // 2],
        lambda content: b"\x80\x04N.",
        lambda content: b"PK\x05\x06" + bytes(18),
    ],
    ids=["empty", "cut", "half", "pickle", "other zip"],
)
def test_broken_file_counts_as_absent(arrays, folder, capsys, damage):
    save(KEY, arrays)
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert load(KEY) is None
    assert f"{path} is not used, its statistics are collected anew" in complaint(capsys)
    save(KEY, arrays)
    assert_same(load(KEY), arrays)


def test_no_flipped_bit_gives_other_arrays(arrays, folder):
    """Whether the file is found to be broken, or the bit does not matter."""
    save(KEY, arrays)
    (path,) = folder.iterdir()
    content, random, noticed = path.read_bytes(), np.random.RandomState(0), 0
    for bit in random.randint(8 * len(content), size=400):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        found = load(KEY)
        noticed += found is None
        if found is not None:
            assert_same(found, arrays)
    assert noticed > 200


def test_other_arrays_and_other_keys_are_noticed(arrays, folder, capsys):
    """Intact files, but not what was saved: the checksum and the key are looked at."""
    save("another", arrays)
    (path,) = folder.iterdir()
    with np.load(path) as file:
        members = dict(file)
    path.unlink()
    save(KEY, arrays)
    (path,) = folder.iterdir()
    np.savez(path, **members)
    assert load(KEY) is None
    assert "belongs to other pictures or settings" in complaint(capsys)

    save(KEY, arrays)
    with np.load(path) as file:
        members = dict(file)
    np.savez(path, **members | {"array-count": np.array(18)})
    assert load(KEY) is None
    assert "checksum is wrong" in complaint(capsys)


def test_pickled_objects_are_neither_written_nor_read(folder, capsys):
    with pytest.raises(ValueError, match="x is an array of objects"):
        save(KEY, {"x": np.array([{}])})
    save(KEY, {"x": np.zeros(1)})
    (path,) = folder.iterdir()
    with np.load(path) as file:
        np.savez(path, header=file["header"], **{"array-x": np.array([{}])})
    assert load(KEY) is None
    assert "allow_pickle=False" in complaint(capsys)


@pytest.mark.parametrize("older", [False, True])
def test_interrupted_save_leaves_what_was_there(arrays, folder, monkeypatch, older):
    if older:
        save(KEY, arrays)

    def interrupted(file, **members):
        file.write(b"PK half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "savez", interrupted)
        save(KEY, {"mean": arrays["mean"] + 1})
    assert len(list(folder.iterdir())) == older
    if older:
        assert_same(load(KEY), arrays)


def test_cache_that_cannot_be_written_is_one_warning(arrays, folder, capsys):
    folder.parent.write_text("a file where the cache folder would be")
    assert load(KEY) is None
    save(KEY, arrays)
    assert "statistics of real pictures are not kept" in complaint(capsys)


def test_full_disk_is_one_warning(arrays, folder, capsys, monkeypatch):
    save(KEY, arrays)

    def full(file, **members):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        save(KEY, {"mean": arrays["mean"] + 1})
    assert "No space left on device" in complaint(capsys)
    assert_same(load(KEY), arrays)
