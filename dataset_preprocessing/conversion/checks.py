"""What is checked of the pictures and labels of a source: a line for each that is wrong."""

from collections import Counter

from dataset_preprocessing.conversion.sources import Label, Source
from training.cameras import LABEL_SIZE, check_label
from training.label_file import LABEL_FILE


def wrong_labels(pictures: Source) -> dict[int, str]:
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


def wrong_shape(shape: tuple[int, ...]) -> str | None:
    """Why a picture of this shape [H, W, ...] cannot be in a dataset; None if it can."""
    height, width = shape[:2]
    if height != width:
        return f"is {width} x {height} pixels, must be square: use --transform or --crop"
    if width & (width - 1):
        return f"has {width} pixels a side, must be a power of two: use --resolution"
    return None


def odd_ones(shapes: dict[int, tuple[int, ...]]) -> dict[int, str]:
    """A line for each picture that has not the size of most."""
    if not shapes:
        return {}
    usual = Counter(shapes.values()).most_common(1)[0][0]
    return {
        index: f"has {shape[1]} pixels a side, most have {usual[1]}: use --resolution"
        for index, shape in shapes.items()
        if shape != usual
    }
