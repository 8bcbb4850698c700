"""From a source of pictures to a dataset: all of `dataset_tool.py --source=… --dest=…`."""

import io
import json
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import tqdm
from PIL import Image

from dataset_preprocessing.conversion.archive import Destination
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
from dataset_preprocessing.conversion.shard_archive import ShardPlan, plan_shards
from dataset_preprocessing.conversion.sources import PROVENANCE, Label, Source, open_source
from training.cameras import LABEL_SIZE, check_label
from training.label_file import LABEL_FILE
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


@dataclass
class Report:
    """What a conversion did: pictures written, dropped as too small, and left out with the
    reasons; whether those that are written have labels."""

    written: int = 0
    has_labels: bool = False
    dropped: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Made:
    """A picture of the dataset: PNG, label and shape; or why it cannot be had; or nothing, for one
    that is dropped."""

    png: bytes | None = None
    label: Label = None
    shape: tuple[int, ...] | None = None
    problem: str | None = None


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
    wrong = _wrong_labels(pictures)
    report.problems += wrong.values()
    if wrong and on_error == "stop":
        raise _failure(report)
    todo = [index for index in range(len(pictures)) if index not in wrong]
    weights = _weights(pictures, todo, rebalance)
    plan = plan_shards(dest, shard_size, len(pictures))
    key = dict(source=str(Path(source).resolve()), names=pictures.names, recipe=asdict(recipe))
    if plan is not None or weights:
        key |= dict(shards=plan and plan.names, weights=sorted(weights.items()))
    folder = dest if plan is None else plan.folder
    with closing(Destination(folder, key, shards=plan is not None)) as destination:
        made = _make_all(pictures, recipe, todo, workers, destination)
        writer = _Writer(destination, plan, weights, pictures, report)
        for index, picture in _progress(made, verbose):
            writer.write(index, picture)
        odd = _odd_ones(writer.shapes)
        report.problems += [f"{pictures.names[k]}: {problem}" for k, problem in odd.items()]
        if report.problems and on_error == "stop":
            raise _failure(report)
        if len(odd) == len(writer.labels):
            raise ConversionError(f"{source}: no picture is left to be written")
        writer.finish(odd)
    return report


class _Writer:
    """Puts what was made into a destination, and keeps account."""

    def __init__(
        self,
        destination: Destination,
        plan: ShardPlan | None,
        weights: dict[int, float],
        pictures: Source,
        report: Report,
    ):
        self.destination, self.plan, self.weights = destination, plan, weights
        self.pictures, self.report = pictures, report
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.labels: dict[int, Label] = {}

    def write(self, index: int, made: _Made) -> None:
        """A picture, in shards with its label, or why there is none."""
        if made.problem is not None:
            self.report.problems.append(f"{self.pictures.names[index]}: {made.problem}")
        elif made.shape is None:
            self.report.dropped += 1
        else:
            shard = None if self.plan is None else self.plan.shard_of(index)
            if made.png is not None:
                note = dict(label=made.label, shape=made.shape)
                self.destination.add(picture_name(index), made.png, note, shard)
            if shard is not None and made.label is not None:
                self._write_label(index, made.label, shard)
            self.shapes[index], self.labels[index] = tuple(made.shape), made.label

    def _write_label(self, index: int, label: Label, shard: str) -> None:
        name = _label_name(index)
        if name not in self.destination.kept:
            weight = dict(weight=self.weights[index]) if self.weights else {}
            content = json.dumps(dict(label=label, **weight))
            self.destination.add(name, content.encode(), None, shard)

    def finish(self, odd: Iterable[int]) -> None:
        """The labels of all, and the dataset in its place without the pictures `odd`."""
        names = {index: picture_name(index) for index in sorted(self.labels)}
        for index in odd:
            del names[index]
        labels = [[name, self.labels[index]] for index, name in names.items()]
        complete = all(label is not None for _, label in labels)
        content = dict(labels=labels if complete and self.plan is None else None)
        if self.weights and self.plan is None:
            content["weights"] = [[name, self.weights[index]] for index, name in names.items()]
        if self.pictures.provenance is not None:
            content[PROVENANCE] = self.pictures.provenance
        if self.plan is None or PROVENANCE in content:
            self.destination.add(LABEL_FILE, json.dumps(content).encode())
        leave_out = {picture_name(index) for index in odd}
        if self.plan is not None and complete:
            leave_out |= {_label_name(index) for index in odd}
        self.destination.finish(leave_out)
        self.report.written, self.report.has_labels = len(labels), complete


def _label_name(index: int) -> str:
    """Of the label of a picture in a shard."""
    return picture_name(index).removesuffix("png") + "json"


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


def picture_name(index: int) -> str:
    """The name of a picture in a dataset."""
    return f"{index:08d}"[:5] + f"/img{index:08d}.png"


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


def _make(pictures: Source, recipe: Recipe, grey: bool, index: int) -> _Made:
    try:
        content = pictures.read(index)
        pixels, label = make_picture(content, pictures.labels[index], recipe, grey)
    except (PictureError, OSError, MemoryError) as error:
        return _Made(problem=" ".join(str(error).split()) or type(error).__name__)
    if pixels is None:
        return _Made()
    problem = _wrong_shape(pixels.shape)
    if problem:
        return _Made(problem=problem)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=0)
    return _Made(buffer.getvalue(), label, pixels.shape)


_work: tuple | None = None  # what a worker process makes pictures from


def _begin(*work) -> None:
    global _work
    _work = work


def _make_here(index: int) -> _Made:
    return _make(*_work, index)


def _make_all(
    pictures: Source, recipe: Recipe, todo: list[int], workers: int, destination: Destination
) -> Iterator[tuple[int, _Made]]:
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
                yield index, _Made(**destination.kept[picture_name(index)])
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


def _wrong_labels(pictures: Source) -> dict[int, str]:
    """A line for each picture whose label is missing though others have one, or is no camera and no
    class."""
    if not pictures.has_labels:
        return {}
    found = {}
    kinds = Counter(type(label) for label in pictures.labels if type(label) in (int, list))
    usual = kinds.most_common(1)[0][0] if kinds else list
    for index, (name, label) in enumerate(zip(pictures.names, pictures.labels, strict=True)):
        problem = _wrong_label(label)
        if problem is None and type(label) is not usual:
            problem = "has a class, most have cameras" if usual is list else "has no class"
        if problem is not None:
            found[index] = f"{name}: {problem}"
    return found


def _wrong_label(label: Label) -> str | None:
    if label is None:
        return f"has no label in {LABEL_FILE}, though others have"
    if type(label) is int:
        return None if label >= 0 else f"class is {label}, must be 0 or more"
    numbers = isinstance(label, list) and all(type(v) in (int, float) for v in label)
    if not numbers or len(label) != LABEL_SIZE:
        return f"label must be {LABEL_SIZE} numbers or a class"
    return check_label(label)


def _wrong_shape(shape: tuple[int, ...]) -> str | None:
    height, width = shape[:2]
    if height != width:
        return f"is {width} x {height} pixels, must be square: use --transform or --crop"
    if width & (width - 1):
        return f"has {width} pixels a side, must be a power of two: use --resolution"
    return None


def _odd_ones(shapes: dict[int, tuple[int, ...]]) -> dict[int, str]:
    """A line for each picture that has not the size of most."""
    if not shapes:
        return {}
    usual = Counter(shapes.values()).most_common(1)[0][0]
    return {
        index: f"has {shape[1]} pixels a side, most have {usual[1]}: use --resolution"
        for index, shape in shapes.items()
        if shape != usual
    }


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
