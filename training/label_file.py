"""The labels of a dataset: reading and checking the content of its dataset.json."""

import numpy as np

from training.cameras import FARTHEST_CENTRE, LABEL_SIZE, POSE_SIZE, check_label

LABEL_FILE = "dataset.json"
_TOLERANCE = 1e-3


class DatasetError(IOError):
    """A dataset cannot be read; the message is one line for the user."""


def parse_labels(content: object, images: list[str], where: str) -> np.ndarray:
    """Labels of `images` from the content of a dataset.json called `where` in messages.

    float32 [N, 25] of cameras or int64 [N] of classes. Raises DatasetError when the content is of
    another form, an image has no entry, or an entry is not a camera or class.
    """
    entries = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DatasetError(
            f'{where} has no labels; must be {{"labels": [[file name, label], ...]}}'
        )
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise DatasetError(f"{where} has the entry {_short(entry)}; must be [file name, label]")
    labels = _by_image(entries, images, where, "entry")
    if all(type(label) is int for label in labels):
        return _classes(labels, images, where)
    return _cameras(labels, images, where)


def parse_weights(content: object, images: list[str], where: str) -> np.ndarray | None:
    """How often each of `images` is to be drawn beside the others, from the content of a
    dataset.json, `{"weights": [[file name, number above 0], ...]}`.

    float64 [N], None where there are no weights. Raises DatasetError.
    """
    weights = _extra(content, "weights", images, where, "weight")
    if weights is None:
        return None
    for name, weight in zip(images, weights, strict=True):
        if type(weight) not in (int, float) or not 1e-9 <= weight <= 1e9:
            raise DatasetError(
                f"{where}: weight of {name} is {_short(weight)}, must be a number above 0"
            )
    return np.array(weights, dtype=np.float64)


def parse_classes(content: object, images: list[str], where: str) -> np.ndarray | None:
    """What kind of thing each of `images` shows, beside its camera, from the content of a
    dataset.json, `{"classes": [[file name, whole number], ...]}`.

    int64 [N], None where there are no classes. Raises DatasetError.
    """
    classes = _extra(content, "classes", images, where, "class")
    if classes is None:
        return None
    for name, value in zip(images, classes, strict=True):
        if type(value) is not int:
            raise DatasetError(
                f"{where}: class of {name} is {_short(value)}, must be a whole number"
            )
    return _classes(classes, images, where)


def count_classes(content: object, classes: np.ndarray, where: str) -> int:
    """How many kinds of things there are: as the content of a dataset.json says,
    `{"num_classes": number}`, or one more than the greatest of `classes` [N]. Raises DatasetError.
    """
    greatest = int(classes.max())
    count = content.get("num_classes")
    if count is None:
        count = greatest + 1
    elif type(count) is not int or count <= greatest:
        raise DatasetError(
            f"{where}: its num_classes is {_short(count)}, must be a whole number above its "
            f"greatest class, {greatest}"
        )
    return count


def _extra(content: object, key: str, images: list[str], where: str, what: str) -> list | None:
    """The values of further [file name, number] entries, one for each image; None: there are
    none."""
    entries = content.get(key) if isinstance(content, dict) else None
    if entries is None:
        return None
    if not isinstance(entries, list) or not all(
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)
        for entry in entries
    ):
        raise DatasetError(f"{where}: its {key} must be [[file name, number], ...]")
    return _by_image(entries, images, where, what)


def _by_image(entries: list, images: list[str], where: str, what: str) -> list:
    """The values of [file name, value] entries, one for each image."""
    by_name = dict(entries)
    missing = [name for name in images if name not in by_name]
    if missing:
        raise DatasetError(
            f"{where} has no {what} for {missing[0]} ({len(missing)} of {len(images)} images have "
            "none); every image must have one"
        )
    return [by_name[name] for name in images]


def _classes(labels: list[int], images: list[str], where: str) -> np.ndarray:
    for name, label in zip(images, labels, strict=True):
        if not 0 <= label < 2**31:
            raise DatasetError(f"{where}: class of {name} is {label}, must be 0 or more")
    return np.array(labels, dtype=np.int64)


def _cameras(labels: list, images: list[str], where: str) -> np.ndarray:
    for name, label in zip(images, labels, strict=True):
        if not isinstance(label, list) or len(label) != LABEL_SIZE:
            found = f"{len(label)} numbers" if isinstance(label, list) else _short(label)
            raise DatasetError(
                f"{where}: label of {name} is {found}, must be {LABEL_SIZE} numbers "
                "(or an integer for every image)"
            )
    try:
        values = np.array(labels)
    except ValueError:  # lists among the numbers
        values = np.empty(0, dtype=object)
    if values.dtype.kind not in "fiu":  # of text, integers without end
        raise DatasetError(
            f"{where}: label of {_not_numbers(labels, images)} must be {LABEL_SIZE} numbers"
        )
    with np.errstate(over="ignore"):
        cameras = values.astype(np.float32)
    bad = np.flatnonzero(~valid_labels(cameras))
    if bad.size:
        reason = check_label(cameras[bad[0]], _TOLERANCE)
        raise DatasetError(f"{where}: label of {images[bad[0]]}: {reason}")
    return cameras


def valid_labels(labels: np.ndarray, tolerance: float = _TOLERANCE) -> np.ndarray:
    """Mask [N] of the labels [N, 25] in which `cameras.check_label` finds nothing wrong."""
    with np.errstate(invalid="ignore", over="ignore"):
        values = labels.astype(np.float64)
        pose = values[:, :POSE_SIZE].reshape(-1, 4, 4)
        rotation = pose[:, :3, :3]
        gram = np.einsum("nki,nkj->nij", rotation, rotation)
        valid = np.isfinite(values).all(1)
        valid &= np.abs(pose[:, 3] - (0, 0, 0, 1)).max(1) <= tolerance
        valid &= np.abs(gram - np.eye(3)).max((1, 2)) <= tolerance
        valid &= np.linalg.det(rotation) >= 0
        lens = values[:, POSE_SIZE:].reshape(-1, 3, 3)
        valid &= (lens[:, 0, 0] > 0) & (lens[:, 1, 1] > 0)
        valid &= np.abs(lens[:, :2, 2]).max(1) <= FARTHEST_CENTRE
        return valid & (np.abs(lens[:, 2] - (0, 0, 1)).max(1) <= tolerance)


def _not_numbers(labels: list, images: list[str]) -> str:
    """Name of the first image whose label is not made of numbers."""
    for name, label in zip(images, labels, strict=True):
        if not all(isinstance(v, float) or isinstance(v, int) and abs(v) < 2**63 for v in label):
            return name
    return images[0]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
