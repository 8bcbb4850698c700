"""The pictures that cameras belong to: found by name, measured by their headers, read as is."""

import io
import os
import posixpath
from collections import defaultdict
from pathlib import Path

from PIL import Image

from dataset_preprocessing.cameras.posed import CameraError
from dataset_preprocessing.conversion.sources import FileSource, Label, SourceError
from dnnlib.util import one_line

_ORIENTATION = 0x0112  # of EXIF; 1 is upright


class Gallery:
    """All pictures in a folder or `.zip`.

    Args:
        path: the folder or zip.
        anywhere: a picture is also found by the last parts of a longer path, as far as they
            coincide, so that cameras may have been made elsewhere.
        labelled: whether to read the labels of a dataset.json among them.

    Raises SourceError.
    """

    def __init__(self, path: str | Path, anywhere: bool = False, labelled: bool = True):
        self.path = Path(path)
        if not self.path.exists():
            raise SourceError(f"{path}: no such file or folder")
        is_zip = self.path.suffix.lower() == ".zip" and self.path.is_file()
        if not is_zip and not self.path.is_dir():
            raise SourceError(f"{path}: must be a folder of pictures or a .zip")
        self._source = FileSource(self.path, labelled)
        self._anywhere = anywhere
        self._index = {name: index for index, name in enumerate(self._source.names)}
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in self._source.names:
            self._by_stem[os.path.splitext(name)[0]].append(name)
        self._sizes: dict[str, tuple[int, int]] = {}

    @property
    def names(self) -> list[str]:
        """Of all pictures, in order."""
        return self._source.names

    @property
    def labels(self) -> list[Label]:
        """Of each picture, from the dataset.json among them; None where there is none."""
        return self._source.labels

    @property
    def classes(self) -> list[int] | None:
        """Of each picture, likewise."""
        return self._source.classes

    def find(self, wanted: str) -> str:
        """The name of the picture that a path means, which may lack its extension. Raises
        CameraError."""
        path = posixpath.normpath(wanted.replace("\\", "/"))
        parts = path.split("/")
        for start in range(len(parts) if self._anywhere else 1):
            tail = "/".join(parts[start:])
            if tail in self._index:
                return tail
            found = self._by_stem.get(tail, [])
            if len(found) > 1:
                raise CameraError(f"{self.path}: {wanted} may be {found[0]} or {found[1]}")
            if found:
                return found[0]
        raise CameraError(
            f"{self.path}: has no picture {wanted}; --images=FOLDER says where the pictures are"
        )

    def size(self, name: str) -> tuple[int, int]:
        """Width and height in pixels. Raises CameraError if the picture cannot be opened, or is to
        be turned: nobody can know which way up its camera is meant."""
        if name not in self._sizes:
            try:
                with Image.open(io.BytesIO(self.read(name))) as picture:
                    self._sizes[name] = picture.size
                    turned = picture.getexif().get(_ORIENTATION, 1) != 1
            except Exception as error:  # Pillow's plugins raise whatever they like.
                reason = one_line(error)
                raise CameraError(f"{self.path}: {name}: cannot be opened ({reason})") from None
            if turned:
                raise CameraError(
                    f"{self.path}: {name}: its EXIF entry says to turn it; turn the pictures "
                    "before finding cameras"
                )
        return self._sizes[name]

    def read(self, name: str) -> bytes:
        """The encoded picture. Raises OSError."""
        return self._source.read(self._index[name])
