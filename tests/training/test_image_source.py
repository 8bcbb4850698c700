"""Sources of images: the same batches whatever is kept where, and processes that end."""

import gc
import json
import math
from itertools import islice
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from training import image_source
from training.dataset import DatasetError, ImageFolderDataset
from training.image_source import CacheError, MemorySource, make_source

COUNT, SIDE = 7, 8
CPU = torch.device("cpu")
ORDER = [[3, 0, 0], [13, 6, 9], [2, 7], [5, 5, 12]]  # from 7 on: mirrored, where there are such
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


def camera(yaw):
    c, s = math.cos(yaw), math.sin(yaw)
    pose = [c, 0, -s, 2 * s, 0, -1, 0, 0.1, -s, 0, -c, 2 * c, 0, 0, 0, 1]
    return [*pose, 1.5, 0.02, 0.45, 0, 1.5, 0.5, 0, 0, 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy"
    path.mkdir()
    for i in range(COUNT):
        noise = np.random.RandomState(i).randint(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
        Image.fromarray(noise).save(path / f"{i}.png")
    entries = [[f"{i}.png", camera(0.3 * i)] for i in range(COUNT)]
    (path / "dataset.json").write_text(json.dumps({"labels": entries}))
    return path


def dataset(folder, xflip=True, **options):
    return ImageFolderDataset(folder, use_labels=True, xflip=xflip, **options)


@pytest.fixture
def children():
    """`children()` -> the processes that this one started; nothing ends them but being let go."""
    gc.disable()
    yield lambda: psutil.Process().children()
    gc.enable()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("cache", ["none, no workers", "none", "ram", "on the device"])
def test_every_source_gives_the_items_asked_for(folder, cache, device):
    data, device = dataset(folder), torch.device(device)
    if cache == "on the device":
        source = MemorySource(data, device, device, workers=0)
    else:
        workers = 2 if cache == "none" else 0
        source = make_source(data, device, cache.partition(",")[0], workers)
    found = list(source.read(ORDER))
    assert len(found) == len(ORDER)
    for items, (images, labels) in zip(ORDER, found, strict=True):
        assert images.device.type == labels.device.type == device.type
        assert images.dtype == torch.uint8 and images.is_contiguous()
        assert labels.dtype == torch.float32 and labels.shape == (len(items), 25)
        np.testing.assert_array_equal(images.cpu(), np.stack([data[i][0] for i in items]))
        np.testing.assert_array_equal(labels.cpu(), np.stack([data[i][1] for i in items]))
    source.close()


@pytest.mark.parametrize("options", [{}, dict(xflip=False), dict(max_size=4), dict(workers=2)])
def test_a_cache_decodes_every_file_once(folder, options, monkeypatch, capsys):
    workers = options.pop("workers", 0)
    data = dataset(folder, **options)
    reads, read = [], type(data)._read
    monkeypatch.setattr(type(data), "_read", lambda *a: reads.append(a[1]) or read(*a))
    kept = options.get("max_size", COUNT)
    source = make_source(data, CPU, "ram", workers)
    assert source._images.shape == (kept, 3, SIDE, SIDE)
    assert f"Keeping {kept} images in memory" in capsys.readouterr().out
    if workers == 0:
        assert sorted(name for name in reads if name.endswith("png")) == sorted(
            data._describe(data.get_details(i).raw_idx).rpartition("/")[2] for i in range(kept)
        )
    every = list(range(len(data)))
    before = len(reads)
    images, labels = next(source.read([every]))
    assert len(reads) == before
    monkeypatch.undo()
    np.testing.assert_array_equal(images, np.stack([data[i][0] for i in every]))
    np.testing.assert_array_equal(labels, data.all_labels())


def test_a_cache_assumes_no_order_of_the_items(folder):
    data = dataset(folder)
    shuffled = np.random.RandomState(0).permutation(2 * COUNT)
    data._raw_idx, data._xflip = data._raw_idx[shuffled], data._xflip[shuffled]
    source = make_source(data, CPU, "ram", workers=0, verbose=False)
    assert len(source._images) == COUNT
    images, labels = next(source.read([list(range(2 * COUNT))]))
    np.testing.assert_array_equal(images, np.stack([data[i][0] for i in range(2 * COUNT)]))
    np.testing.assert_array_equal(labels, data.all_labels())


def test_endless_indices_are_read_as_they_are_wanted(folder):
    asked = []

    def endless():
        while True:
            asked.append(len(asked) % COUNT)
            yield asked[-1:]

    for cache in ("none", "ram"):
        asked.clear()
        source = make_source(dataset(folder), CPU, cache, workers=0, verbose=False)
        assert len(list(islice(source.read(endless()), 20))) == 20
        assert 20 <= len(asked) <= 24
        source.close()


def test_workers_end_with_the_reader_and_with_the_source(folder, children):
    source = make_source(dataset(folder), CPU, workers=2)
    reader, other = source.read([[0]] * 50), source.read([[1]] * 50)
    before = children()
    next(reader), next(other)
    assert len(children()) == len(before) + 4
    reader.close()
    assert len(children()) == len(before) + 2
    next(other)
    source.close()
    assert children() == before
    assert list(other) == []


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("cache", ["none", "ram"])
def test_what_a_worker_cannot_read_is_one_line(folder, tmp_path, cache, workers, children):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "4.png").write_bytes((folder / "4.png").read_bytes()[:60])
    before = children()
    with pytest.raises(DatasetError) as caught:
        source = make_source(dataset(tmp_path), CPU, cache, workers)
        list(source.read([[0, 1], [2, 4]]))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/4.png cannot be decoded") and "\n" not in message
    assert children() == before


def test_it_leaves_random_numbers_alone(folder):
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    for cache in ("none", "ram"):
        source = make_source(dataset(folder), CPU, cache, workers=1, verbose=False)
        list(source.read(ORDER))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numbers)


def test_waiting_is_counted_until_it_is_asked_for(folder, monkeypatch):
    now = [0.0]

    def slow():
        for items in ORDER:
            now[0] += 2.0
            yield items

    monkeypatch.setattr(image_source.time, "perf_counter", lambda: now[0])
    source = make_source(dataset(folder), CPU, "ram", workers=0, verbose=False)
    reader = source.read(slow())
    assert source.take_wait() == 0
    next(reader)
    now[0] += 30  # what the loop does with the images does not count
    next(reader)
    assert source.take_wait() == 4
    assert source.take_wait() == 0
    next(reader)
    assert source.take_wait() == 2


def test_memory_is_looked_at_before_any_image(folder, monkeypatch):
    needed = COUNT * 3 * SIDE * SIDE
    free = SimpleNamespace(available=2 * needed)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    make_source(dataset(folder), CPU, "ram", 0, copies=2)
    monkeypatch.setattr(image_source, "_decoded", None)
    with pytest.raises(CacheError) as caught:
        make_source(dataset(folder), CPU, "ram", 0, copies=3)
    assert str(caught.value) == (
        "--cache=ram: toy needs 3 x 0.0 GiB for 7 images of 8x8, 0.0 GiB are free; use --cache=none"
    )


def test_sizes_are_shown_in_gib(monkeypatch):
    free = SimpleNamespace(available=23 * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(CacheError, match="faces needs 51.3 GiB for 70000 .* 23.0 GiB are free"):
        image_source._check_memory("faces", [70000, 3, 512, 512], CPU, 1)


def test_caches_that_do_not_exist_are_refused(folder):
    with pytest.raises(ValueError, match="'disk', must be one of none, ram, gpu"):
        make_source(dataset(folder), CPU, "disk")
    with pytest.raises(CacheError, match="--cache=gpu: needs a GPU, the device is cpu"):
        make_source(dataset(folder), CPU, "gpu")


def test_one_ahead_begins_the_next_before_it_gives_one_out():
    log = []
    items = (log.append(f"read {k}") or k for k in range(3))
    given = image_source._one_ahead(items, lambda k: log.append(f"begin {k}") or k)
    for k in given:
        log.append(f"use {k}")
    assert log == [
        *("read 0", "begin 0", "read 1", "begin 1", "use 0"),
        *("read 2", "begin 2", "use 1", "use 2"),
    ]
