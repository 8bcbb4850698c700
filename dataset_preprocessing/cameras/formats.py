"""From cameras of any format to a dataset, or to any other: all of `python -m
dataset_preprocessing.cameras`."""

import hashlib
import json
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from dataset_preprocessing.cameras import colmap, deep3dface, labels, srn, transforms_json
from dataset_preprocessing.cameras.alignment import Similarity, align
from dataset_preprocessing.cameras.gallery import Gallery
from dataset_preprocessing.cameras.posed import CameraError, Export, PosedPictures, check
from dataset_preprocessing.conversion.archive import Destination

FORMATS: dict[str, ModuleType] = {
    "transforms": transforms_json,
    "colmap": colmap,
    "srn": srn,
    "deep3dface": deep3dface,
    "labels": labels,
}
WRITERS = {
    "labels": labels.write,
    "transforms": transforms_json.write,
    "colmap": colmap.write,
    "colmap-text": colmap.write_text,
    "srn": srn.write,
}
ALIGNMENT_FILE = "alignment.json"


@dataclass(frozen=True)
class Report:
    """What was converted: format, number of pictures, how the scene was moved."""

    format: str
    pictures: int
    similarity: Similarity


def convert_cameras(
    source: str | Path,
    dest: str | Path,
    format: str = "auto",
    export: str = "labels",
    images: str | Path | None = None,
    mode: str | None = None,
    ignore_distortion: bool = False,
    **alignment,
) -> Report:
    """Copies pictures, byte for byte, and writes their cameras beside them.

    `dest`, a zip or a folder, appears when it is complete. A scene that was moved has the
    similarity in an `alignment.json`.

    Args:
        format, images, mode, ignore_distortion: as of `read_cameras`.
        export: a key of `WRITERS`; 'labels' makes what dataset_tool.py reads.
        alignment: as of `align`.

    Raises CameraError, or OSError where a file cannot be read or written.
    """
    format = detect(Path(source)) if format == "auto" else format
    posed, gallery = read_cameras(source, format, images, mode, ignore_distortion)
    posed, similarity = align(posed, **alignment)
    made = WRITERS[export](posed)
    if any(alignment.values()):
        made.files[ALIGNMENT_FILE] = _described(similarity)
    _write(dest, made, posed, gallery)
    return Report(format, len(posed), similarity)


def read_cameras(
    source: str | Path,
    format: str = "auto",
    images: str | Path | None = None,
    mode: str | None = None,
    ignore_distortion: bool = False,
) -> tuple[PosedPictures, Gallery]:
    """Checked cameras, in the order of their pictures' names, and the pictures.

    Args:
        format: a key of `FORMATS`, or 'auto': what the path looks like.
        images: folder of the pictures, where they are not at the place that the format says.
        mode: of 'deep3dface', 'orig' (default) or 'cor'.
        ignore_distortion: takes distorted lenses for undistorted ones.

    Raises CameraError, or OSError where a file cannot be read.
    """
    source = Path(source)
    format = detect(source) if format == "auto" else format
    module = FORMATS[format]
    if not module.is_there(source):
        raise CameraError(f"{source}: has no cameras of format {format}")
    if images is not None and module is labels:
        raise CameraError("--images: a dataset has its pictures beside its labels")
    if mode is not None and module is not deep3dface:
        raise CameraError(f"--mode={mode}: is for deep3dface, not {format}")
    gallery = Gallery(images or module.pictures_folder(source), anywhere=images is not None)
    read = module.read if mode is None else partial(deep3dface.read, mode=mode)
    posed = read(source, gallery)
    check(posed, str(source), gallery.size, ignore_distortion)
    return posed.sorted(), gallery


def detect(source: Path) -> str:
    """The format of a path. Raises CameraError if it is none, or several."""
    if not source.exists():
        raise CameraError(f"{source}: no such file or folder")
    found = [name for name, module in FORMATS.items() if module.is_there(source)]
    if len(found) > 1:
        raise CameraError(f"{source}: has cameras of {' and '.join(found)}; choose with --format")
    if not found:
        raise CameraError(f"{source}: has no cameras of {', '.join(FORMATS)}")
    return found[0]


def _described(similarity: Similarity) -> bytes:
    values = dict(
        new="scale * rotation @ old + translation",
        scale=similarity.scale,
        rotation=similarity.rotation.tolist(),
        translation=similarity.translation.tolist(),
    )
    return json.dumps(values, indent=1).encode()


def _write(dest: str | Path, made: Export, posed: PosedPictures, gallery: Gallery) -> None:
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in made.files.items()}
    key = [str(gallery.path.resolve()), posed.names, made.pictures, hashes]
    with closing(Destination(dest, key)) as destination:
        for name, path in zip(posed.names, made.pictures, strict=True):
            if path not in destination.kept:
                destination.add(path, gallery.read(name))
        for path, content in made.files.items():
            if path not in destination.kept:
                destination.add(path, content)
        destination.finish()
