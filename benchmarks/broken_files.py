"""Broken pictures, labels and label files: what `broken_datasets` is made of.

A damage changes a small dataset in place. Its number of another picture, offset or value comes from
the random numbers that it is given.
"""

import io
import json
import math
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

COUNT, SIDE = 4, 32
_POSE = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1]
_LENS = [4.2, 0, 0.5, 0, 4.2, 0.5, 0, 0, 1]


@dataclass
class Content:
    """A dataset on its way to a container: files and labels by name, or another label file; files
    that come twice."""

    files: dict[str, bytes]
    labels: dict[str, Any]
    label_file: bytes | None = None
    weights: Any = None
    twice: list[str] = field(default_factory=list)

    def packed_labels(self) -> bytes:
        """The dataset.json."""
        if self.label_file is not None:
            return self.label_file
        found = dict(labels=[list(pair) for pair in self.labels.items()])
        if self.weights is not None:
            found["weights"] = self.weights
        return json.dumps(found).encode()


def good() -> Content:
    """Four pictures that nothing is wrong with."""
    names = [f"00000/img{k:08d}.png" for k in range(COUNT)]
    pixels = [np.random.RandomState(k).randint(0, 256, (SIDE, SIDE, 3)) for k in range(COUNT)]
    files = {n: encoded(p.astype(np.uint8)) for n, p in zip(names, pixels, strict=True)}
    return Content(files, {name: [*_POSE, *_LENS] for name in names})


def encoded(pixels: np.ndarray, mode: str | None = None, kind: str = "png") -> bytes:
    """A picture as a file."""
    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (picture if mode is None else picture.convert(mode)).save(buffer, kind)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def _text_bomb(content: bytes) -> bytes:
    text = b"Comment\0\0" + zlib.compress(b" " * 20_000_000)
    return content[:33] + _chunk(b"zTXt", text) + content[33:]


# -- Pictures: bytes of one and random numbers to other bytes ---------------------------------


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content) - 60)]


def _flip_header(content: bytes, rng: random.Random) -> bytes:
    broken = bytearray(content)
    broken[rng.randrange(0, 33)] ^= 1 << rng.randrange(8)
    return bytes(broken)


def _noise(shape: tuple[int, ...], rng: random.Random) -> np.ndarray:
    return np.random.RandomState(rng.randrange(2**31)).randint(0, 256, shape).astype(np.uint8)


PICTURES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut off": _cut,
    "bit of the header": _flip_header,
    "empty file": lambda content, rng: b"",
    "text": lambda content, rng: b"this is not a picture\n" * rng.randrange(1, 50),
    "other bytes": lambda content, rng: rng.randbytes(rng.randrange(1, 4000)),
    "zeros": lambda content, rng: bytes(len(content)),
    "smaller": lambda content, rng: encoded(_noise((16, 16, 3), rng)),
    "larger": lambda content, rng: encoded(_noise((64, 64, 3), rng)),
    "not square": lambda content, rng: encoded(_noise((SIDE, SIDE - rng.randrange(1, 9), 3), rng)),
    "one pixel": lambda content, rng: encoded(_noise((1, 1, 3), rng)),
    "bomb of pixels": lambda content, rng: png_claiming(60_000, 60_000 + rng.randrange(1000)),
    "no pixels": lambda content, rng: png_claiming(0, rng.randrange(1, 9)),
    "bomb of text": lambda content, rng: _text_bomb(content),
    "NaN in floats": lambda content, rng: encoded(
        np.full((SIDE, SIDE), math.nan, np.float32), kind="tiff"
    ),
}

# What dataset_tool.py makes good pictures of, and training cannot use.
MODES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "16 bits": lambda content, rng: encoded(_noise((SIDE, SIDE), rng).astype(np.uint16) * 257),
    "CMYK": lambda content, rng: encoded(_noise((SIDE, SIDE, 3), rng), "CMYK", "jpeg"),
    "grey": lambda content, rng: encoded(_noise((SIDE, SIDE), rng)),
    "transparent": lambda content, rng: encoded(_noise((SIDE, SIDE, 4), rng)),
    "black and white": lambda content, rng: encoded(_noise((SIDE, SIDE), rng), "1"),
}

# -- Labels: the 25 numbers and random numbers to something else -----------------------------------


def _with(*changes: tuple[int, Any]) -> Callable[[list, random.Random], Any]:
    def change(label: list, rng: random.Random) -> list:
        label = list(label)
        for place, value in changes:
            label[place] = value
        return label

    return change


def _somewhere(value: Any) -> Callable[[list, random.Random], Any]:
    def change(label: list, rng: random.Random) -> list:
        place = rng.randrange(25)
        return [*label[:place], value, *label[place + 1 :]]

    return change


LABELS: dict[str, Callable[[list, random.Random], Any]] = {
    "NaN": _somewhere(math.nan),
    "infinity": _somewhere(-math.inf),
    "too large a number": _somewhere(1e300),
    "a number of 400 digits": _somewhere(10**400),
    "text for a number": _somewhere("1"),
    "nothing for a number": _somewhere(None),
    "a list for a number": _somewhere([1.0]),
    "24 numbers": lambda label, rng: label[:24],
    "26 numbers": lambda label, rng: [*label, 0],
    "a pose alone": lambda label, rng: label[:16],
    "rows": lambda label, rng: [label[k : k + 5] for k in range(0, 25, 5)],
    "no numbers": lambda label, rng: [],
    "nothing": lambda label, rng: None,
    "text": lambda label, rng: "camera",
    "an object": lambda label, rng: {"pose": label},
    "true": lambda label, rng: True,
    "a class among cameras": lambda label, rng: rng.randrange(9),
    "a negative class": lambda label, rng: -1,
    "a left-handed rotation": lambda label, rng: _negated_column(label, rng.randrange(3)),
    "a stretched rotation": _with((0, 1.2)),
    "a sheared rotation": _with((1, 0.3)),
    "no rotation": _with((0, 0), (5, 0), (10, 0)),
    "another last row": _with((14, 0.5)),
    "a pose by columns": lambda label, rng: [
        *np.reshape(label[:16], (4, 4)).T.ravel().tolist(),
        *label[16:],
    ],
    "intrinsics in pixels": lambda label, rng: [
        *label[:16],
        *(v * SIDE for v in label[16:22]),
        *label[22:],
    ],
    "intrinsics for another size": _with((18, 256), (21, 256)),
    "no focal length": _with((16, 0)),
    "a negative focal length": _with((20, -4.2)),
    "another last row of the lens": _with((24, 0)),
}


def _negated_column(label: list, column: int) -> list:
    pose = np.reshape(label[:16], (4, 4)).astype(float)
    pose[:3, column] *= -1
    return [*pose.ravel().tolist(), *label[16:]]


# -- Label files -----------------------------------------------------------------------------------


def _text(content: bytes | str) -> Callable[[Content, random.Random], None]:
    def change(dataset: Content, rng: random.Random) -> None:
        dataset.label_file = content if isinstance(content, bytes) else content.encode()

    return change


def _cut_labels(dataset: Content, rng: random.Random) -> None:
    whole = dataset.packed_labels()
    dataset.label_file = whole[: rng.randrange(len(whole))]


def _forget_one(dataset: Content, rng: random.Random) -> None:
    del dataset.labels[rng.choice(sorted(dataset.labels))]


def _rename_one(dataset: Content, rng: random.Random) -> None:
    name = rng.choice(sorted(dataset.labels))
    dataset.labels[f"elsewhere/{name}"] = dataset.labels.pop(name)


def _weights(value: Any) -> Callable[[Content, random.Random], None]:
    def change(dataset: Content, rng: random.Random) -> None:
        dataset.weights = [[name, 1.0] for name in dataset.labels]
        dataset.weights[rng.randrange(COUNT)][1] = value

    return change


LABEL_FILES: dict[str, Callable[[Content, random.Random], None]] = {
    "cut off": _cut_labels,
    "empty": _text(b""),
    "binary": _text(b"\xff\xfe\x00\x80\x81"),
    "a list": _text("[]"),
    "a number": _text("3"),
    "another key": _text('{"label": []}'),
    "labels are text": _text('{"labels": "none"}'),
    "labels are numbers": _text('{"labels": [1, 2]}'),
    "entries of one": _text('{"labels": [["00000/img00000000.png"]]}'),
    "names are numbers": _text('{"labels": [[1, 2]]}'),
    "nested without end": _text("[" * 100_000),
    "nested labels": _text('{"labels": ' + "[" * 100_000),
    "an entry is missing": _forget_one,
    "an entry has another name": _rename_one,
}
WEIGHTS: dict[str, Callable[[Content, random.Random], None]] = {
    f"weight {value!r}": _weights(value) for value in (0, -1.0, math.nan, "1", None, 1e300)
}

# -- Names -----------------------------------------------------------------------------------------


def _named(name: str) -> Callable[[Content, random.Random], None]:
    def change(dataset: Content, rng: random.Random) -> None:
        old = rng.choice(sorted(dataset.labels))
        dataset.files[name] = dataset.files.pop(old)
        dataset.labels[name] = dataset.labels.pop(old)

    return change


def _twice(dataset: Content, rng: random.Random) -> None:
    dataset.twice.append(rng.choice(sorted(dataset.files)))


def _without_pictures(dataset: Content, rng: random.Random) -> None:
    dataset.files = {"readme.txt": b"hello"}


NAMES: dict[str, Callable[[Content, random.Random], None]] = {
    "a parent's": _named("../evil.png"),
    "a parent's, deeper": _named("00000/../../../evil.png"),
    "absolute": _named("/tmp/evil.png"),
    "absolute, of Windows": _named("C:\\evil.png"),
    "a parent's, of Windows": _named("..\\evil.png"),
    "twice": _twice,
    "no pictures": _without_pictures,
}
