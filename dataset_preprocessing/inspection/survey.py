"""Reads every picture and label of a dataset, however broken, and says what is wrong with each."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tqdm

from dataset_preprocessing.conversion.pictures import PictureError
from dataset_preprocessing.conversion.sources import Source, open_source
from dataset_preprocessing.inspection.geometry import common_point
from dataset_preprocessing.inspection.labels import from_opengl, has_opengl_axes, mend_label
from dataset_preprocessing.inspection.pictures import Look, duplicates, look_at_picture
from dnnlib.util import one_line

_CHUNK = 16


@dataclass(frozen=True, eq=False)
class Survey:
    """What is in a dataset.

    Attributes:
        path: of the dataset, as it was given.
        source: its pictures.
        looks: by number of the picture, of those that can be decoded.
        labels: camera [25] by number, mended where that is possible.
        problems: by number, what cannot be mended.
        mends: by number, what was mended in the label.
        opengl: whether all labels had the axes of OpenGL, which is mended too.
        exact, near: pairs of duplicates, see `pictures.duplicates`.
        empty: numbers of pictures with next to nothing in them.
    """

    path: str
    source: Source
    looks: dict[int, Look]
    labels: dict[int, np.ndarray]
    problems: dict[int, list[str]]
    mends: dict[int, list[str]]
    opengl: bool
    exact: list[tuple[int, int]]
    near: list[tuple[int, int]]
    empty: list[int]

    @property
    def names(self) -> list[str]:
        """Of all pictures."""
        return self.source.names

    @property
    def usual_size(self) -> tuple[int, int]:
        """The width and height of most pictures."""
        return Counter(look.size for look in self.looks.values()).most_common(1)[0][0]

    def posed(self) -> list[int]:
        """Numbers of the pictures that have both picture and camera."""
        return [number for number in self.labels if number in self.looks]


def survey(path: str | Path, workers: int = 1, verbose: bool = False) -> Survey:
    """Raises SourceError where there is no dataset at all."""
    source = open_source(path)
    looks: dict[int, Look] = {}
    labels: dict[int, np.ndarray] = {}
    problems: dict[int, list[str]] = {}
    mends: dict[int, list[str]] = {}
    progress = tqdm.tqdm(
        _look_all(source, workers),
        total=len(source),
        unit="img",
        desc="looking",
        disable=None if verbose else True,
    )
    for number, look in enumerate(progress):
        if isinstance(look, str):
            problems.setdefault(number, []).append(look)
        else:
            looks[number] = look
        mended = mend_label(source.labels[number], *(getattr(look, "size", (1, 1))))
        if mended.label is None:
            problems.setdefault(number, []).append(mended.problem)
        else:
            labels[number] = mended.label
            if mended.mends:
                mends[number] = mended.mends
    opengl = _turn_round(labels)
    exact, near = duplicates(looks)
    empty = [number for number, look in looks.items() if look.extent is None]
    found = Survey(str(path), source, looks, labels, problems, mends, opengl, exact, near, empty)
    if looks:
        _note_odd_sizes(found)
    return found


def _turn_round(labels: dict[int, np.ndarray]) -> bool:
    """Mends labels with the axes of OpenGL; whether they had them."""
    if not labels:
        return False
    matrix = np.stack(list(labels.values()))
    opengl = has_opengl_axes(matrix, common_point(matrix))
    if opengl:
        labels.update(zip(labels, from_opengl(matrix), strict=True))
    return opengl


def _note_odd_sizes(found: Survey) -> None:
    usual = found.usual_size
    grey = Counter(look.grey for look in found.looks.values()).most_common(1)[0][0]
    for number, look in found.looks.items():
        if look.size != usual:
            text = f"is {look.size[0]} x {look.size[1]} pixels, most are {usual[0]} x {usual[1]}"
            found.problems.setdefault(number, []).append(text)
        elif look.grey != grey:
            text = "is grey, most have colours" if look.grey else "has colours, most are grey"
            found.problems.setdefault(number, []).append(text)


def _look(source: Source, number: int) -> Look | str:
    try:
        return look_at_picture(source.read(number))
    except (PictureError, OSError, MemoryError) as error:
        return one_line(error)


_source: Source | None = None  # of a worker process


def _begin(source: Source) -> None:
    global _source
    _source = source


def _look_here(number: int) -> Look | str:
    return _look(_source, number)


def _look_all(source: Source, workers: int) -> Iterator[Look | str]:
    numbers = range(len(source))
    if workers == 1:
        yield from (_look(source, number) for number in numbers)
        return
    with ExitStack() as stack:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, _begin, (source,))
        stack.callback(pool.shutdown, cancel_futures=True)
        yield from pool.map(_look_here, numbers, chunksize=_CHUNK)
