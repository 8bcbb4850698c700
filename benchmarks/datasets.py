"""Pictures a second: conversion by processes, inspection, and reading as training does.

python -m benchmarks.datasets --data=cars.zip [--count=2000] [--repeats=3] [--json=out/data.json]

Reading is that of `train.py`, batches of 8 in its order, from a zip, a folder and shards. A reader
starts its processes before the clock does, unless it has none; the cache is filled before, and that
is a row of its own. The processes of a conversion or inspection take seconds to start, which count:
take --count large. Files come from the system's memory if they fit in there: what is measured is
the work, not the disk.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import torch

from benchmarks.common import quartiles, table, write_json
from dataset_preprocessing.conversion.convert import Recipe, convert
from dataset_preprocessing.inspection import survey
from training.dataset import ImageFolderDataset
from training.image_source import ImageSource, make_source
from training.index_order import iteration_indices

_BATCH = 8
_WORKERS = (1, 2, 3)
_SHARD = 500  # pictures


def conversions(data: Path, folder: Path, count: int, repeats: int) -> list[dict]:
    """A row for each way of making a dataset: pictures a second."""
    side = ImageFolderDataset(data).resolution
    rows = []
    for what, recipe, dest in (
        ("zip, as they are", Recipe(), "made.zip"),
        ("zip, twice as large", Recipe(size=(2 * side, 2 * side)), "made.zip"),
        ("shards, as they are", Recipe(), "made"),
    ):
        for workers in _WORKERS[:2]:
            options = dict(max_images=count, workers=workers)
            if not dest.endswith(".zip"):
                options["shard_size"] = _SHARD
            run = _bound(_convert_anew, data, folder, dest, recipe, **options)
            rows.append(_row(dict(what=f"convert to {what}", workers=workers), run, count, repeats))
    for workers in _WORKERS[:2]:
        found = len(ImageFolderDataset(data))
        run = _bound(survey, data, workers)
        rows.append(_row(dict(what="inspect", workers=workers), run, found, repeats))
    return rows


def _convert_anew(data: Path, folder: Path, dest: str, recipe: Recipe, **options) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        convert(data, Path(place, dest), recipe, **options)


def readings(places: dict[str, Path], count: int, repeats: int) -> list[dict]:
    """A row for each way of reading: pictures a second."""
    rows = []
    for container, path in places.items():
        run = _bound(ImageFolderDataset, path, None, use_labels=True)
        size = len(run())
        rows.append(_row(dict(what=f"open a {container}", workers=""), run, size, repeats))
        for workers in (0, *_WORKERS):
            row = dict(what=f"read a {container}", workers=workers)
            with opened(path, "none", workers) as source:
                rows.append(_row(row, _bound(read, source, size, count), count, repeats))
    path = places["zip"]
    for workers in (0, *_WORKERS):
        run = _bound(_fill, path, workers)
        row = dict(what="fill the cache from a zip", workers=workers)
        rows.append(_row(row, run, len(ImageFolderDataset(path)), repeats))
    with opened(path, "ram", 0) as source:
        size = len(ImageFolderDataset(path))
        run = _bound(read, source, size, count)
        rows.append(_row(dict(what="read the cache", workers=""), run, count, repeats))
    return rows


@contextmanager
def opened(path: str | Path, cache: str, workers: int) -> Iterator[ImageSource]:
    """A reader as training has one."""
    training_set = ImageFolderDataset(path, use_labels=True)
    source = make_source(training_set, torch.device("cpu"), cache, workers, verbose=False)
    try:
        yield source
    finally:
        source.close()


def read(source: ImageSource, size: int, count: int) -> float:
    """Seconds that so many pictures take, after the first batch."""
    order = iteration_indices(size, _BATCH, seed=0)
    batches = source.read(order)
    next(batches)
    start = time.perf_counter()
    for _ in range(max(count // _BATCH, 1)):
        next(batches)
    seconds = time.perf_counter() - start
    batches.close()
    return seconds


def _fill(path: Path, workers: int) -> None:
    with opened(path, "ram", workers):
        pass


def _bound(function: Callable, *args, **kwargs) -> Callable:
    return lambda: function(*args, **kwargs)


def _row(row: dict, run: Callable, count: int, repeats: int) -> dict:
    """Pictures a second; `run` returns its seconds, if not all of its time counts."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        own = run()
        seconds.append(own if isinstance(own, float) else time.perf_counter() - start)
    spread = quartiles(seconds) if repeats > 1 else dict(median=seconds[0], minimum=seconds[0])
    rates = dict(median=count / spread["median"], best=count / spread["minimum"])
    return dict(row, **{f"images/s, {name}": round(rate) for name, rate in rates.items()})


@click.command()
@click.option("--data", required=True, help="Dataset.")
@click.option("--count", default=2000, show_default=True, help="Pictures to convert and to read.")
@click.option("--repeats", default=3, show_default=True, help="Times that each is done.")
@click.option("--json", "path", help="File for the result.")
def main(data, count, repeats, path):
    """Prints what conversion, inspection and reading manage in a second."""
    training_set = ImageFolderDataset(data)
    count = min(count, len(training_set))
    side = training_set.resolution
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        places = dict(zip=folder / "cars.zip", folder=folder / "plain", shards=folder / "shards")
        convert(data, places["zip"])
        convert(data, places["folder"])
        convert(data, places["shards"], shard_size=_SHARD)
        tables = dict(
            conversion=conversions(places["zip"], folder, count, repeats),
            reading=readings(places, count, repeats),
        )
    for title, rows in tables.items():
        click.echo(f"\n{title}, {side} x {side} pixels\n\n{table(rows)}")
    if path:
        write_json(path, side=side, count=count, **tables)


if __name__ == "__main__":
    main()
