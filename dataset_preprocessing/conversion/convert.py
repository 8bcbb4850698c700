"""From a source of pictures to a dataset: all of `dataset_tool.py --source=… --dest=…`."""

import io
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tqdm
from PIL import Image

from dataset_preprocessing.conversion.archive import Destination
from dataset_preprocessing.conversion.checks import odd_ones, wrong_labels, wrong_shape
from dataset_preprocessing.conversion.pictures import (
    Box,
    PictureError,
    center_crop,
    center_crop_wide,
    cropped_label,
    decode,
    is_grey,
    transformed,
)
from dataset_preprocessing.conversion.shard_archive import plan_shards
from dataset_preprocessing.conversion.sources import Label, Source, open_source
from dataset_preprocessing.conversion.writer import Made, Report, Writer, picture_name
from dnnlib.util import one_line
from training.sampling_weights import yaw_weights

_SHOWN = 20  # problems that are listed
_CHUNK = 8


class ConversionError(ValueError):
    """A conversion that cannot be made; the message lists the problems, a line each."""


@dataclass(frozen=True)
class Recipe:
    """What happens to each picture.

    Args:
        transform: None, 'center-crop' or 'center-crop-wide'.
        size: (width, height) of the result; None keeps a side as it is.
        crop: (x, y, width, height) in pixels of the upright picture, before anything else.
        background: behind transparent parts, 'white' or 'black'.
        colour: 'rgb', 'grey', or 'auto': grey if all pictures are.
    """

    transform: str | None = None
    size: tuple[int | None, int | None] = (None, None)
    crop: tuple[int, int, int, int] | None = None
    background: str = "black"
    colour: str = "auto"


def convert(
    source: str | Path,
    dest: str | Path,
    recipe: Recipe = Recipe(),  # noqa: B008
    max_images: int | None = None,
    on_error: str = "stop",
    workers: int = 1,
    verbose: bool = False,
    shard_size: int | None = None,
    rebalance: str | None = None,
) -> Report:
    """Makes a dataset of a source of pictures.

    Pictures keep their order; their numbers are those of the source, with gaps where one is left
    out. The same source and recipe give the same bytes, also after an interruption.

    Args:
        on_error: 'stop' writes nothing if anything is wrong, 'skip' leaves out what is.
        workers: processes.
        shard_size: most pictures of a tar shard; None: no shards, unless `dest` names them.
        rebalance: 'yaw' gives pictures from rare sides larger weights (`yaw_weights`); None keeps
            the weights of the source.

    Raises SourceError, DatasetError, DestinationError, ConversionError with all problems.
    """
    pictures = open_source(source)
    pictures.limit(max_images)
    check_recipe(recipe)
    report = Report()
    wrong = wrong_labels(pictures)
    report.problems += wrong.values()
    if wrong and on_error == "stop":
        raise _failure(report)
    todo = [index for index in range(len(pictures)) if index not in wrong]
    weights = _weights(pictures, todo, rebalance)
    plan = plan_shards(dest, shard_size, len(pictures))
    if plan is not None and pictures.classes is not None:
        raise ConversionError(f"{dest}: shards have no place for the classes of {source}")
    key = dict(source=str(Path(source).resolve()), names=pictures.names, recipe=asdict(recipe))
    if plan is not None or weights:
        key |= dict(shards=plan and plan.names, weights=sorted(weights.items()))
    folder = dest if plan is None else plan.folder
    with closing(Destination(folder, key, shards=plan is not None)) as destination:
        made = _make_all(pictures, recipe, todo, workers, destination)
        writer = Writer(destination, plan, weights, pictures, report)
        for index, picture in _progress(made, verbose):
            writer.write(index, picture)
        odd = odd_ones(writer.shapes)
        report.problems += [f"{pictures.names[k]}: {problem}" for k, problem in odd.items()]
        if report.problems and on_error == "stop":
            raise _failure(report)
        if len(odd) == len(writer.labels):
            raise ConversionError(f"{source}: no picture is left to be written")
        writer.finish(odd)
    return report


def _weights(pictures: Source, todo: list[int], rebalance: str | None) -> dict[int, float]:
    """How often each picture is to be drawn, by number; empty where nothing says so."""
    if rebalance is not None:
        labels = [pictures.labels[index] for index in todo]
        if not labels or not all(isinstance(label, list) for label in labels):
            raise ConversionError(f"--rebalance={rebalance}: the pictures have no cameras")
        return dict(zip(todo, yaw_weights(np.array(labels)).tolist(), strict=True))
    if pictures.weights is None:
        return {}
    return {index: pictures.weights[index] for index in todo}


def make_picture(
    content: bytes | np.ndarray, label: Label, recipe: Recipe, grey: bool
) -> tuple[np.ndarray | None, Label]:
    """Pixels uint8 [H, W, 3], or [H, W] if `grey`, and label of a picture of the dataset; pixels
    None for one that is too small. Raises PictureError."""
    pixels = decode(content, recipe.background)
    if grey != (pixels.ndim == 2):
        pixels = np.array(Image.fromarray(pixels).convert("L" if grey else "RGB"))
    if recipe.crop is not None:
        pixels, label = _cropped(pixels, label, Box(*recipe.crop))
    height, width = pixels.shape[:2]
    if recipe.transform == "center-crop-wide":
        square, box = center_crop_wide(pixels, recipe.size)
        if square is None:
            return None, label
        return square, _follow(label, box, width, height)
    if recipe.transform == "center-crop":
        pixels, label = _cropped(pixels, label, center_crop(width, height))
        height, width = pixels.shape[:2]
    size = (recipe.size[0] or width, recipe.size[1] or height)
    return transformed(pixels, None, size), label


def _cropped(pixels: np.ndarray, label: Label, box: Box) -> tuple[np.ndarray, Label]:
    height, width = pixels.shape[:2]
    return transformed(pixels, box, None), _follow(label, box, width, height)


def _follow(label: Label, box: Box, width: int, height: int) -> Label:
    return cropped_label(label, box, width, height) if isinstance(label, list) else label


def _make(pictures: Source, recipe: Recipe, grey: bool, index: int) -> Made:
    try:
        content = pictures.read(index)
        pixels, label = make_picture(content, pictures.labels[index], recipe, grey)
    except (PictureError, OSError, MemoryError) as error:
        return Made(problem=one_line(error))
    if pixels is None:
        return Made()
    problem = wrong_shape(pixels.shape)
    if problem:
        return Made(problem=problem)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=0)
    return Made(buffer.getvalue(), label, pixels.shape)


_work: tuple | None = None  # what a worker process makes pictures from


def _begin(*work) -> None:
    global _work
    _work = work


def _make_here(index: int) -> Made:
    return _make(*_work, index)


def _make_all(
    pictures: Source, recipe: Recipe, todo: list[int], workers: int, destination: Destination
) -> Iterator[tuple[int, Made]]:
    """(number, what was made of it) of each picture, in order; those that the destination has kept
    come without their content."""
    grey = _is_grey(pictures, recipe)
    kept = {index for index in todo if picture_name(index) in destination.kept}
    fresh = [index for index in todo if index not in kept]
    with ExitStack() as stack:
        if workers == 1:
            made = (_make(pictures, recipe, grey, index) for index in fresh)
        else:  # Spawned, not forked: the caller may be a program with threads.
            context = multiprocessing.get_context("spawn")
            work = (pictures, recipe, grey)
            pool = ProcessPoolExecutor(workers, context, _begin, work)
            stack.callback(pool.shutdown, cancel_futures=True)
            made = iter(pool.map(_make_here, fresh, chunksize=_CHUNK))
        for index in todo:
            if index in kept:
                yield index, Made(**destination.kept[picture_name(index)])
            else:
                yield index, next(made)


def _is_grey(pictures: Source, recipe: Recipe) -> bool:
    """Whether the dataset is grey: asked for, or because all pictures that can be opened are."""
    if recipe.colour != "auto":
        return recipe.colour == "grey"
    for index in range(len(pictures)):
        try:
            if not is_grey(pictures.read(index)):
                return False
        except (OSError, PictureError):
            continue
    return True


def check_recipe(recipe: Recipe) -> None:
    """Raises ConversionError for what cannot be done."""
    width, height = recipe.size
    if recipe.transform is not None and None in recipe.size:
        raise ConversionError(f"--transform={recipe.transform}: needs --resolution=WxH")
    if recipe.transform == "center-crop-wide" and height > width:
        raise ConversionError(
            f"--resolution={width}x{height}: must be wider than high with center-crop-wide"
        )


def _failure(report: Report) -> ConversionError:
    count = len(report.problems)
    lines = report.problems[:_SHOWN]
    more = [f"and {count - _SHOWN} more"] if count > _SHOWN else []
    number = f"{count} problem" + ("s" if count > 1 else "")
    advice = "nothing is written; --on-error=skip leaves such pictures out"
    return ConversionError("\n  ".join([f"{number}, {advice}:", *lines, *more]))


def _progress(items: Iterator, verbose: bool) -> Iterator:
    return tqdm.tqdm(items, unit="img", desc="converting", disable=None if verbose else True)
