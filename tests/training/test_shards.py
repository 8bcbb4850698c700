"""Shards: the same images, labels and order as the zip of the same dataset, from anywhere."""

import io
import json
import os
import pickle
import tarfile
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_preprocessing.conversion.convert import convert
from metrics.real_statistics import content_hash
from tests.tiny_runs import Workshop
from training import shards
from training.dataset import DatasetError, ImageFolderDataset
from training.image_source import make_source
from training.index_order import iteration_indices
from training.shards import ShardFiles, expand, is_shards, sample_key

fsspec = pytest.importorskip("fsspec")
LABEL = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2, 0, 0.5, 0, 4.2, 0.5, 0, 0, 1]
COUNT = 11


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


def png(seed):
    noise = np.random.RandomState(seed).randint(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "png")
    return buffer.getvalue()


def files(count=COUNT):
    """{name: content} of a dataset of a folder, with weights."""
    names = [f"00000/img{k:08d}.png" for k in range(count)]
    labels = [[n, [*LABEL[:3], k / 100, *LABEL[4:]]] for k, n in enumerate(names)]
    weights = [[n, 1 + k % 3] for k, n in enumerate(names)]
    found = {name: png(k) for k, name in enumerate(names)}
    return found | {"dataset.json": json.dumps(dict(labels=labels, weights=weights)).encode()}


def tar(members):
    """A tar made by the standard library; members [(name, content)]."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sharded(content, size=4):
    """[bytes of each shard] of a dataset: each image, then its label."""
    entries = json.loads(content["dataset.json"])
    weights = dict(entries["weights"])
    members = []
    for name, label in entries["labels"]:
        about = json.dumps(dict(label=label, weight=weights[name])).encode()
        members.append([(name, content[name]), (name.replace(".png", ".json"), about)])
    return [tar(sum(members[k : k + size], [])) for k in range(0, len(members), size)]


@pytest.fixture
def folder(tmp_path):
    """The dataset as a folder, of the same short name."""
    for name, content in files().items():
        path = tmp_path / "plain" / "cars" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "plain" / "cars"


@pytest.fixture
def local(tmp_path):
    """A folder with the shards cars-000000.tar to cars-000002.tar."""
    place = tmp_path / "cars"
    place.mkdir()
    for k, content in enumerate(sharded(files())):
        (place / f"cars-{k:06d}.tar").write_bytes(content)
    return place


@pytest.fixture
def remote():
    """The address of a folder with the shards, in memory."""
    system = fsspec.filesystem("memory")
    for k, content in enumerate(sharded(files())):
        system.pipe(f"/bucket/cars/cars-{k:06d}.tar", content)
    yield "memory://bucket/cars"
    system.store.clear()


@pytest.fixture(params=["folder", "pattern", "address", "pattern of addresses", "file://"])
def place(request, local, remote):
    pattern = "cars-{000000..000002}.tar"
    return {
        "folder": local,
        "pattern": f"{local}/{pattern}",
        "address": remote,
        "pattern of addresses": f"{remote}/{pattern}",
        "file://": f"file://{local}/{pattern}",
    }[request.param]


def test_shards_are_the_dataset(place, folder):
    plain = ImageFolderDataset(folder, use_labels=True, xflip=True)
    found = ImageFolderDataset(place, use_labels=True, xflip=True)
    assert (found.name, len(found), found.image_shape) == ("cars", 2 * COUNT, [3, 8, 8])
    for k in range(2 * COUNT):
        assert np.array_equal(found[k][0], plain[k][0])
        assert np.array_equal(found[k][1], plain[k][1])
    assert np.array_equal(found.all_weights(), plain.all_weights())
    copy = pickle.loads(pickle.dumps(found))
    assert np.array_equal(copy[3][0], plain[3][0])


@pytest.mark.parametrize("workers", [0, 2])
def test_training_reads_the_same_and_goes_on_anywhere(place, folder, workers):
    def batches(path, start):
        data = ImageFolderDataset(path, use_labels=True)
        source = make_source(data, torch.device("cpu"), workers=workers)
        order = iteration_indices(len(data), 4, 1, start, weights=data.all_weights())
        found = list(source.read(list(islice(order, 5))))
        source.close()
        return found

    for start in (0, 7):
        for one, other in zip(batches(place, start), batches(folder, start), strict=True):
            assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_contents_are_listed_once(place, monkeypatch, cache):
    first = ShardFiles(place)
    assert len(list(cache.iterdir())) == 3
    monkeypatch.setattr(shards, "_list", lambda *args: pytest.fail("listed again"))
    again = ShardFiles(place)
    assert again.names == first.names and again.labels() == first.labels()


def test_a_shard_that_changed_is_listed_anew(local):
    before = content_hash(dict(path=local))
    assert content_hash(dict(path=local)) == before
    path = local / "cars-000002.tar"
    path.write_bytes(tar([("00000/img00000099.png", png(99)), ("00000/img00000099.json", b"{}")]))
    with pytest.raises(DatasetError, match="img00000099.json has no label"):
        ShardFiles(local)
    path.write_bytes(tar([("00000/img00000099.png", png(99))]))
    os.utime(path, ns=(1, 1))
    assert "00000/img00000099.png" in ShardFiles(local).names
    assert content_hash(dict(path=local)) != before


def test_a_broken_cache_counts_as_none(local, cache):
    names = ShardFiles(local).names
    for path in cache.iterdir():
        path.write_text("{}")
    assert ShardFiles(local).names == names


def test_names_with_several_dots_and_classes(tmp_path):
    members = [("a.b/c.x.png", png(1)), ("a.b/c.json", b'{"label": 3}')]
    (tmp_path / "x.tar").write_bytes(tar(members))
    data = ImageFolderDataset(tmp_path / "x.tar", use_labels=True)
    assert data.has_onehot_labels and data.get_details(0).raw_label == 3
    assert sample_key("a.b/c.x.png") == "a.b/c" and sample_key("n.png") == "n"


def test_patterns():
    assert expand("s/c-{08..11}.tar") == [f"s/c-{k}.tar" for k in ("08", "09", "10", "11")]
    assert expand("{0..1}{5..6}") == ["05", "06", "15", "16"] and expand("a.tar") == ["a.tar"]
    for wrong in ("c-{5..1}.tar", "c-{0..1000000}.tar"):
        with pytest.raises(DatasetError, match="must count upwards, to fewer than a million"):
            expand(wrong)


def test_what_means_shards(local, folder, tmp_path):
    (tmp_path / "x.zip").touch()
    for path in (local, "a.tar", "x-{0..1}.TAR", "s3://bucket/x"):
        assert is_shards(path)
    for path in (folder, tmp_path / "x.zip", tmp_path / "none", "a\0b"):
        assert not is_shards(path)
    (local / "dataset.json").touch()
    assert is_shards(local)
    (local / "photo.jpg").touch()
    assert not is_shards(local)  # a folder of pictures, with an archive in it


def test_short_names():
    names = {
        "a/cars-{000..9}.tar": "cars",
        "cars-000001.tar": "cars",
        "a/b": "b",
        "7.tar": "shards",
    }
    names |= {"s3://bucket/d/faces_512-{00..11}.tar": "faces_512", "memory://b/d/": "d"}
    assert {path: shards._short_name(path) for path in names} == names


def refused(path, words):
    with pytest.raises(DatasetError, match=words) as caught:
        data = ImageFolderDataset(path, use_labels=True)
        for k in range(len(data)):
            data[k]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [1, 300, 512, 1024, 3000, 9000])
def test_shards_that_were_cut_off(local, cut):
    """tarfile itself takes some of them for whole."""
    path = local / "cars-000001.tar"
    whole = path.read_bytes().rstrip(b"\0")
    path.write_bytes(whole[: len(whole) - cut])
    refused(local, "cars-000001.tar: not a readable tar file")


def test_what_else_is_refused(local, remote, tmp_path):
    refused(f"{local}/cars-{{000000..000004}}.tar", "cars-000003.tar: no such file .5 shards")
    refused("memory://bucket/none/x.tar", "memory://bucket/none/x.tar: cannot be read")
    refused("memory://bucket/none", "has no .tar files; expected shards")
    refused("nothing://bucket/x.tar", "cannot be opened .*nothing")
    (local / "cars-000003.tar").write_bytes(tar([("00000/img00000001.png", png(1))]))
    refused(local, "cars-000003.tar: has 00000/img00000001.png, which is in .*cars-000000.tar too")
    (local / "cars-000003.tar").write_bytes(b"x" * 5000)
    refused(local, "cars-000003.tar: not a readable tar file")
    for name, words in (("../a.png", "stay inside"), ("/a.png", "stay inside")):
        (tmp_path / "x.tar").write_bytes(tar([(name, png(1))]))
        refused(tmp_path / "x.tar", words)
    (tmp_path / "x.tar").write_bytes(tar([("a.png", png(1)), ("a.json", b"[" * 100_000)]))
    refused(tmp_path / "x.tar", "a.json is not readable JSON")
    (tmp_path / "x.tar").write_bytes(tar([("a.png", png(1)), ("a.json", b" " * 2**21)]))
    refused(tmp_path / "x.tar", "a.json has 2097152 bytes")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "../secret.png"
        archive.addfile(link)
    refused(tmp_path / "x.tar", "a.png is a link; must be an ordinary file")


def test_addresses_want_their_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    refused("s3://bucket/x.tar", r"run `pip install 'eg3d-open\[shards\]'` \(fsspec\)")


def test_training_from_shards_is_training_from_the_zip(tmp_path, cars):
    """Two iterations of tiny networks: the same weights, bit for bit."""
    convert(cars, tmp_path / "cars", shard_size=5)
    workshop = Workshop(tmp_path / "runs", cars)
    workshop.folder.mkdir()
    options = ["--kimg=2", "--rebalance=yaw", "--mirror=True"]
    one = workshop.trial(*options).run
    other = workshop.trial(*options, f"--data={tmp_path / 'cars'}").run
    for name in ("G", "D", "G_ema"):
        assert one.weights(name) == other.weights(name)
