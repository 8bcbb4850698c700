"""From cameras of any format to a dataset, or to any other: all of `python -m
dataset_preprocessing.cameras`."""

import hashlib
import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from dataset_preprocessing.cameras import colmap, deep3dface, epigraf, labels, srn, transforms_json
from dataset_preprocessing.cameras.alignment import Similarity, align
from dataset_preprocessing.cameras.gallery import Gallery
from dataset_preprocessing.cameras.posed import CameraError, Export, PosedPictures, check
from dataset_preprocessing.conversion.archive import Destination

FORMATS: dict[str, ModuleType] = {
    "transforms": transforms_json,
    "colmap": colmap,
    "srn": srn,
    "deep3dface": deep3dface,
    "epigraf": epigraf,
    "labels": labels,
}
WRITERS = {
    "labels": labels.write,
    "transforms": transforms_json.write,
    "colmap": colmap.write,
    "colmap-text": colmap.write_text,
    "srn": srn.write,
    "epigraf": epigraf.write,
}
# What only one format asks for.
SETTINGS = {"mode": "deep3dface", "fov": "epigraf", "negate_yaw": "epigraf"}
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
    ignore_distortion: bool = False,
    approximate: bool = False,
    **options,
) -> Report:
    """Copies pictures, byte for byte, and writes their cameras beside them.

    `dest`, a zip or a folder, appears when it is complete. A scene that was moved has the
    similarity in an `alignment.json`.

    Args:
        format, images, ignore_distortion: as of `read_cameras`.
        export: a key of `WRITERS`; 'labels' makes what dataset_tool.py reads.
        approximate: of 'epigraf', as of `epigraf.write`.
        options: the settings of `read_cameras`, and what `align` takes.

    Raises CameraError, or OSError where a file cannot be read or written.
    """
    format = detect(Path(source)) if format == "auto" else format
    settings = {name: options.pop(name) for name in SETTINGS if name in options}
    posed, gallery = read_cameras(source, format, images, ignore_distortion, **settings)
    posed, similarity = align(posed, **options)
    if approximate and export != "epigraf":
        raise CameraError(f"--approximate: is for --export=epigraf, not {export}")
    made = epigraf.write(posed, approximate=True) if approximate else WRITERS[export](posed)
    if any(options.values()):
        made.files[ALIGNMENT_FILE] = _described(similarity)
    _write(dest, made, posed, gallery)
    return Report(format, len(posed), similarity)


def read_cameras(
    source: str | Path,
    format: str = "auto",
    images: str | Path | None = None,
    ignore_distortion: bool = False,
    **settings,
) -> tuple[PosedPictures, Gallery]:
    """Checked cameras, in the order of their pictures' names, and the pictures.

    Args:
        format: a key of `FORMATS`, or 'auto': what the path looks like.
        images: folder of the pictures, where they are not at the place that the format says.
        ignore_distortion: takes distorted lenses for undistorted ones.
        settings: what only one format asks for, by the names of `SETTINGS`: `mode` of
            `deep3dface.read`, `fov` and `negate_yaw` of `epigraf.read`; None or False: not given.

    Raises CameraError, or OSError where a file cannot be read.
    """
    source = Path(source)
    format = detect(source) if format == "auto" else format
    module = FORMATS[format]
    if not module.is_there(source):
        raise CameraError(f"{source}: has no cameras of format {format}")
    if images is not None and module is labels:
        raise CameraError("--images: a dataset has its pictures beside its labels")
    given = {name: value for name, value in settings.items() if value not in (None, False)}
    for name, value in given.items():
        if format != SETTINGS[name]:
            option = name.replace("_", "-") + ("" if value is True else f"={value}")
            raise CameraError(f"--{option}: is for {SETTINGS[name]}, not {format}")
    place = images or module.pictures_folder(source)
    gallery = Gallery(place, anywhere=images is not None, labelled=module is labels)
    posed = module.read(source, gallery, **given)
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
