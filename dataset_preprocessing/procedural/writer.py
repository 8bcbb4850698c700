"""Write the procedural dataset: an ordinary dataset zip, depth and part ids in zips beside it."""

import io
import json
import multiprocessing
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from dataset_preprocessing.procedural.cameras import sample_label
from dataset_preprocessing.procedural.categories import CATEGORIES, shown
from dataset_preprocessing.procedural.render import render_model
from dnnlib.util import replacing

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: the same options, the same bytes
_CHUNK = 16
_MODEL_STREAM, _CAMERA_STREAM = 0, 1


@dataclass(frozen=True)
class View:
    """One image of the dataset, encoded: PNG bytes, label [25], .npy bytes and PNG bytes."""

    image: bytes
    label: list[float]
    depth: bytes | None
    segmentation: bytes | None


def make_dataset(
    dest: str | Path,
    num_images: int,
    resolution: int = 64,
    seed: int = 0,
    views_per_car: int = 1,
    depth: bool = False,
    segmentation: bool = False,
    workers: int = 1,
    overwrite: bool = False,
    category: str = "cars",
) -> list[Path]:
    """Write `num_images` posed pictures to the zip `dest`; returns the files written.

    category is a key of `CATEGORIES`, or 'all': models of all of them in turns, whose numbers are
    the classes of the images; views_per_car counts the images of each car or chair.
    depth=True adds `<dest>_depth.zip` with float32 .npy images of the distance along the ray (inf
    on the background), segmentation=True `<dest>_segmentation.zip` with PNG images of part ids (the
    category's `segments`). The bytes depend on the options except `workers`, the number of
    processes; with more than one, call it under `if __name__ == "__main__":`. Files appear only
    when all are complete. Raises ValueError on bad options, FileExistsError when a file is there
    already and `overwrite` is not set, OSError when the folder cannot be written.
    """
    paths = _destinations(Path(dest), depth, segmentation)
    _check(paths, num_images, resolution, seed, views_per_car, workers, overwrite)
    categories = shown(category)
    wanted = {"depth": depth, "segmentation": segmentation, "category": category}
    draw = partial(draw_view, resolution, seed, views_per_car, **wanted)
    with ExitStack() as stack:
        archives = {kind: stack.enter_context(_atomic_zip(path)) for kind, path in paths.items()}
        labels = []
        for index, view in enumerate(_in_order(draw, num_images, workers)):
            stem = f"{index // 1000:05d}/img{index:08d}"
            labels.append([f"{stem}.png", view.label])
            _add(archives["image"], f"{stem}.png", view.image)
            if view.depth is not None:
                _add(archives["depth"], f"{stem}.npy", view.depth)
            if view.segmentation is not None:
                _add(archives["segmentation"], f"{stem}.png", view.segmentation)
        content = {"labels": labels}
        if len(categories) > 1:
            kinds = (index // views_per_car % len(categories) for index in range(num_images))
            content["classes"] = [[name, k] for (name, _), k in zip(labels, kinds, strict=True)]
            content["num_classes"] = len(categories)
        _add(archives["image"], "dataset.json", json.dumps(content).encode())
    return list(paths.values())


def draw_view(
    resolution: int,
    seed: int,
    views_per_car: int,
    index: int,
    depth: bool = False,
    segmentation: bool = False,
    category: str = "cars",
) -> View:
    """Image number `index` of the dataset with this resolution, seed and views of each model."""
    number, categories = index // views_per_car, shown(category)
    model_stream = np.random.default_rng([seed, _MODEL_STREAM, number])
    model = CATEGORIES[categories[number % len(categories)]].sample(model_stream)
    label = sample_label(np.random.default_rng([seed, _CAMERA_STREAM, index]))
    picture = render_model(model, label, resolution)
    return View(
        _png(picture.image),
        [float(str(value)) for value in label],  # the shortest decimals of the same float32
        _npy(picture.depth) if depth else None,
        _png(picture.segmentation) if segmentation else None,
    )


def _destinations(dest: Path, depth: bool, segmentation: bool) -> dict[str, Path]:
    if dest.suffix.lower() != ".zip":
        raise ValueError(f"dest must be a file name ending in .zip, got '{dest}'")
    paths = {"image": dest}
    for kind, wanted in (("depth", depth), ("segmentation", segmentation)):
        if wanted:
            paths[kind] = dest.with_name(f"{dest.stem}_{kind}.zip")
    return paths


def _check(
    paths: dict[str, Path],
    num_images: int,
    resolution: int,
    seed: int,
    views_per_car: int,
    workers: int,
    overwrite: bool,
) -> None:
    counts = {"num_images": num_images, "views_per_car": views_per_car, "workers": workers}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if not 4 <= resolution <= 1024 or resolution & (resolution - 1):
        raise ValueError(f"resolution must be a power of two from 4 to 1024, got {resolution}")
    for path in paths.values():
        if path.is_dir():
            raise FileExistsError(f"'{path}' is a folder; dest must be the name of a zip file")
        if path.exists() and not overwrite:
            raise FileExistsError(f"'{path}' exists; remove it or ask to overwrite it")


def _in_order(draw: partial, count: int, workers: int) -> Iterator[View]:
    if workers == 1:
        yield from map(draw, range(count))
        return
    # Spawned, not forked: the caller may be a program with threads (torch, a notebook).
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from _flatten(pool.imap(partial(_draw_many, draw), _chunks(count)))


def _draw_many(draw: partial, indices: range) -> list[View]:
    return [draw(index) for index in indices]


def _chunks(count: int) -> list[range]:
    return [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]


def _flatten(chunks: Iterable[list[View]]) -> Iterator[View]:
    for chunk in chunks:
        yield from chunk


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=0)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@contextmanager
def _atomic_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Uncompressed zip that takes its name only when the block ends well."""
    with replacing(path) as partial_path:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(partial_path, "wb")
        except OSError as error:
            raise OSError(f"'{path}' cannot be written: {error.strerror}") from None
        with file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            yield archive


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system, info.external_attr = 3, 0o644 << 16
    archive.writestr(info, content)
