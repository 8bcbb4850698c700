"""Scenes of Scene Representation Networks (Sitzmann et al. 2019), as ShapeNet cars come in.

Each object is a folder with `rgb/NAME.png`, `pose/NAME.txt` and `intrinsics.txt`. A pose is 16
numbers, camera to world with the axes of OpenCV. The first line of the intrinsics begins with focal
length and principal point, the last is height and width; they are in pixels of that size, whatever
size the pictures are. The world of ShapeNet has +z up.
"""

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np

from dataset_preprocessing.cameras.gallery import Gallery
from dataset_preprocessing.cameras.posed import (
    CameraError,
    Export,
    Lens,
    PosedPictures,
    assemble,
    lenses_of,
)

_LENS = "intrinsics.txt"
_SAME = 1e-6  # relative: lenses that differ by less are one


def is_there(source: Path) -> bool:
    """Whether a folder is an object, or has folders of objects."""
    return source.is_dir() and bool(_objects(source))


def pictures_folder(source: Path) -> Path:
    """The folder itself."""
    return source


def read(source: Path, gallery: Gallery) -> PosedPictures:
    """The pictures of all objects below a folder that have poses. Raises CameraError."""
    names, poses, lenses = [], [], []
    for folder in _objects(source):
        lens = _lens(folder / _LENS)
        for file in sorted((folder / "pose").glob("*.txt")):
            stem = folder.relative_to(source) / "rgb" / file.stem
            names.append(gallery.find(stem.as_posix()))
            poses.append(_numbers(file.read_text(), 16, file))
            lenses.append(lens)
    return assemble(names, np.array(poses), lenses)


def write(posed: PosedPictures) -> Export:
    """One object with all the pictures, numbered in their order.

    Raises CameraError for skew, for pixels that are not square, and for pictures whose lenses
    differ: the format has one focal length for an object.
    """
    lenses = lenses_of(posed, _LENS)
    lens = lenses[0]
    expected = replace(lens, fy=lens.fx)
    for name, found in zip(posed.names, lenses, strict=True):
        if not np.allclose(astuple(found), astuple(expected), rtol=_SAME, atol=0):
            raise CameraError(
                f"{name}: its lens is {found}; {_LENS} has one for all pictures, with fx = fy: "
                f"{expected}"
            )
    head = f"{lens.fx} {lens.cx} {lens.cy} 0.\n0. 0. 0.\n1.\n{lens.height} {lens.width}\n"
    files, pictures = {_LENS: head.encode()}, []
    digits = max(6, len(str(len(posed))))
    for number, (name, pose) in enumerate(zip(posed.names, posed.cam2world, strict=True)):
        stem = f"{number:0{digits}d}"
        files[f"pose/{stem}.txt"] = " ".join(map(str, pose.ravel().tolist())).encode()
        pictures.append(f"rgb/{stem}{Path(name).suffix}")
    return Export(files, pictures)


def _objects(source: Path) -> list[Path]:
    files = [source / _LENS, *source.glob(f"*/{_LENS}"), *source.glob(f"*/*/{_LENS}")]
    return sorted(file.parent for file in files if (file.parent / "pose").is_dir())


def _lens(file: Path) -> Lens:
    lines = [line for line in file.read_text().splitlines() if line.strip()]
    if len(lines) < 2:
        raise CameraError(
            f"{file}: must have focal length, cx and cy, and a last line height width"
        )
    focal, cx, cy = _numbers(" ".join(lines[0].split()[:3]), 3, file)
    height, width = _numbers(lines[-1], 2, file)
    return Lens(round(width), round(height), focal, focal, cx, cy)


def _numbers(text: str, count: int, file: Path) -> list[float]:
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise CameraError(f"{file}: has {text[:60]!r}, must be {count} numbers")
    return values
