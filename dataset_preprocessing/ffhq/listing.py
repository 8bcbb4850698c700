"""The list of FFHQ's files, `ffhq-dataset-v2.json`: addresses, hashes, landmarks.

{"0": {"image": FILE, "thumbnail": FILE, "in_the_wild": FILE, ...}, ...}, where a FILE has file_url,
file_path, file_size, file_md5, pixel_size, pixel_md5, and mostly face_landmarks [68, 2].
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_preprocessing.faces.pictures import read_rgb
from dataset_preprocessing.faces.steps import PreprocessingError, problems_error
from dataset_preprocessing.faces.values import leads_out, numbers, parse_object
from dnnlib.util import is_url

LIST_FILE = "ffhq-dataset-v2.json"
LIST_MD5 = "425ae20f06a4da1d4dc0f46d40ba5fd6"
KINDS = {"images": "image", "thumbs": "thumbnail", "wilds": "in_the_wild"}


@dataclass(frozen=True)
class File:
    """One file of the list: number of the picture, kind (a key of `KINDS`), address, path in the
    folder, size in bytes, MD5 of the file and of its pixels, size in pixels, landmarks 68 x 2 or
    None."""

    number: int
    kind: str
    url: str
    path: str
    size: int
    md5: str
    pixel_md5: str
    pixel_size: tuple[int, int]
    landmarks: list[list[float]] | None = None

    def problem(self, content: bytes, mode: str = "file") -> str | None:
        """What is wrong with the content of the file; None if it is as listed. `mode` 'pixel'
        compares the decoded picture, so that files may have been written anew."""
        if mode == "file":
            if len(content) != self.size:
                return f"has {len(content):,} bytes, must have {self.size:,}"
            return _differs("MD5", hashlib.md5(content, usedforsecurity=False), self.md5)
        try:
            pixels = read_rgb(content)
        except ValueError as error:
            return str(error)
        if (pixels.shape[1], pixels.shape[0]) != self.pixel_size:
            found, wanted = (pixels.shape[1], pixels.shape[0]), self.pixel_size
            return f"has {found[0]} x {found[1]} pixels, must have {wanted[0]} x {wanted[1]}"
        digest = hashlib.md5(pixels.tobytes(), usedforsecurity=False)
        return _differs("MD5 of pixels", digest, self.pixel_md5)


def read_listing(path: str | Path, kinds: list[str], start: int = 0) -> list[File]:
    """The files of some kinds, from picture number `start` on, in order.

    Raises PreprocessingError with all entries that cannot be used.
    """
    path = Path(path)
    if not path.is_file():
        raise PreprocessingError(
            f"{path}: no such file; get {LIST_FILE} as https://github.com/NVlabs/ffhq-dataset "
            "says, and name it with --dataset-json"
        )
    form = "{number: {kind: file, ...}, ...}"
    content = parse_object(path.read_bytes(), path, form)
    if not all(number.isdecimal() for number in content):
        raise PreprocessingError(f"{path}: must be {form}")
    items = sorted((int(number), entry) for number, entry in content.items())
    files, problems = [], []
    for number, entry in items:
        for kind in kinds if number >= start else []:
            try:
                files.append(_file(number, kind, entry[KINDS[kind]]))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                problems.append(f"{path}: picture {number}, {KINDS[kind]}: {_reason(error)}")
    if problems:
        raise problems_error(problems)
    if not files:
        raise PreprocessingError(f"{path}: lists no pictures from number {start} on")
    return files


def is_published(path: str | Path) -> bool:
    """Whether a list is the published one."""
    content = Path(path).read_bytes()
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == LIST_MD5


def _file(number: int, kind: str, entry: dict[str, Any]) -> File:
    path = str(entry["file_path"])
    if leads_out(path):
        raise ValueError(f"file_path is {path!a}, must lie inside the folder")
    url = entry["file_url"]
    if not is_url(url):  # Of a file on this machine, the download would be a move.
        raise ValueError(f"file_url is {url!a}, must be a web address")
    landmarks = entry.get("face_landmarks")
    if landmarks is not None:
        landmarks = numbers("face_landmarks", landmarks, 68, 2).tolist()
    width, height = (int(side) for side in entry["pixel_size"])
    return File(
        number,
        kind,
        url,
        path,
        int(entry["file_size"]),
        str(entry["file_md5"]).lower(),
        str(entry["pixel_md5"]).lower(),
        (width, height),
        landmarks,
    )


def _reason(error: Exception) -> str:
    return f"has no {error}" if isinstance(error, KeyError) else str(error)


def _differs(what: str, digest: Any, wanted: str) -> str | None:
    found = digest.hexdigest()
    return None if found == wanted else f"{what} is {found}, must be {wanted}"
