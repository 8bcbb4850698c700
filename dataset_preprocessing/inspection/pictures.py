"""What can be said of one picture, and of two: thumbnail, hashes, emptiness, likeness."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dataset_preprocessing.conversion.pictures import PictureError, decode

SIDE = 16  # pixels of a thumbnail
_LIKE = 16  # of 255: colours that differ by less are one
_EMPTY = 0.01  # share of a picture that is not background, below which it is near-empty
_UNIFORM = 0.95  # share of the border that has one colour, from which there is a background
_NEAR_BITS = 4  # of 64
_NEAR_COLOURS = 4.0  # of 255, root mean square between thumbnails
_PART = 13  # bits: five parts of a hash, of which four differing bits leave one alone
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Look:
    """A picture in short.

    size: (width, height). grey: whether it has no colours. digest: of its pixels. hash: 64 bits,
    alike for pictures that look alike. thumbnail: uint8 [16, 16, 3]. border: colour [3] of most of
    its border. uniform: whether that is all of it. extent: left, top, right, bottom, from 0 to 1,
    of what has another colour; None where there is next to nothing.
    """

    size: tuple[int, int]
    grey: bool
    digest: str
    hash: int
    thumbnail: np.ndarray
    border: np.ndarray
    uniform: bool
    extent: tuple[float, float, float, float] | None


def look_at_picture(content: bytes | np.ndarray) -> Look:
    """Raises PictureError."""
    pixels = decode(content)
    if 0 in pixels.shape:
        raise PictureError("has no pixels")
    grey = pixels.ndim == 2
    picture = Image.fromarray(pixels).convert("RGB")
    thumbnail = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))
    full = np.asarray(picture)
    edge = np.concatenate([full[0], full[-1], full[:, 0], full[:, -1]]).astype(int)
    border = np.median(edge, axis=0)
    uniform = (np.abs(edge - border).max(1) <= _LIKE).mean() >= _UNIFORM
    return Look(
        size=picture.size,
        grey=grey,
        digest=hashlib.sha256(full.tobytes() + str(full.shape).encode()).hexdigest(),
        hash=_difference_hash(picture),
        thumbnail=thumbnail,
        border=border,
        uniform=bool(uniform),
        extent=_extent(np.abs(full - border).max(2) > _LIKE),
    )


def _difference_hash(picture: Image.Image) -> int:
    """64 bits: whether brightness rises from each cell of 9 x 8 to the next one on its right."""
    cells = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX)).astype(int)
    bits = (cells[:, 1:] > cells[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _extent(inside: np.ndarray) -> tuple[float, float, float, float] | None:
    if inside.mean() < _EMPTY:
        return None
    height, width = inside.shape
    columns, rows = (np.flatnonzero(inside.any(axis)) for axis in (0, 1))
    ends = columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
    return tuple(float(end) for end in ends)


def duplicates(looks: dict[int, Look]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Pairs (first number, later number) of pictures with the same pixels, and of other pictures
    that look alike: hashes differ in 4 bits at most, and thumbnails hardly.

    A picture is paired with the first one that it resembles.
    """
    first: dict[str, int] = {}
    exact = []
    for number, look in looks.items():
        if look.digest in first:
            exact.append((first[look.digest], number))
        else:
            first[look.digest] = number
    numbers = [number for number in first.values() if looks[number].extent is not None]
    return exact, _near(numbers, looks)


def _near(numbers: list[int], looks: dict[int, Look]) -> list[tuple[int, int]]:
    """Hashes that differ in few bits have one of five parts in common: only such are compared."""
    hashes = np.array([looks[number].hash for number in numbers], dtype=np.uint64)
    found: dict[int, int] = {}
    for shift in range(0, 64, _PART):
        parts = (hashes >> np.uint64(shift)) & np.uint64(2**_PART - 1)
        order = np.argsort(parts, kind="stable")
        ends = np.flatnonzero(np.diff(parts[order])) + 1
        for group in np.split(order, ends):
            for one, other in _close(group, hashes):
                pair = numbers[one], numbers[other]
                if pair[0] < found.get(pair[1], pair[1]) and _looks_alike(*map(looks.get, pair)):
                    found[pair[1]] = pair[0]
    return [(one, other) for other, one in sorted(found.items())]


def _close(group: np.ndarray, hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of a group, the earlier first, whose hashes differ in few bits."""
    for start in range(0, len(group) - 1, _BLOCK):
        rows, columns = group[start : start + _BLOCK], group[start:]
        differing = _count_bits(hashes[rows, None] ^ hashes[None, columns])
        for row, column in zip(*np.nonzero(differing <= _NEAR_BITS), strict=True):
            if row < column:
                yield int(rows[row]), int(columns[column])


def _looks_alike(one: Look, other: Look) -> bool:
    difference = one.thumbnail.astype(float) - other.thumbnail
    return bool(np.sqrt((difference**2).mean()) <= _NEAR_COLOURS)


def _count_bits(values: np.ndarray) -> np.ndarray:
    """Ones in each of uint64 values (numpy.bitwise_count is not in NumPy 1)."""
    masks = [(1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)]
    for shift, mask in masks:
        mask, shift = np.uint64(mask), np.uint64(shift)
        values = (values & mask) + ((values >> shift) & mask)
    return (values * np.uint64(0x0101010101010101)) >> np.uint64(56)
