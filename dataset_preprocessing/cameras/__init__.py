"""Cameras of other programs, read and written: `python -m dataset_preprocessing.cameras`.

A module a format: `transforms_json`, `colmap`, `srn`, `deep3dface`, `epigraf`, `labels`. Each has

- `is_there(source)`: whether a path holds such cameras,
- `pictures_folder(source)`: where their pictures lie unless one is told,
- `read(source, gallery)`: pictures with cameras, as `PosedPictures`,
- `write(posed)`: the same as an `Export` (not `deep3dface`).
"""

from dataset_preprocessing.cameras.alignment import Similarity, align
from dataset_preprocessing.cameras.formats import FORMATS, convert_cameras, read_cameras
from dataset_preprocessing.cameras.gallery import Gallery
from dataset_preprocessing.cameras.posed import CameraError, Export, PosedPictures

__all__ = [
    "FORMATS",
    "CameraError",
    "Export",
    "Gallery",
    "PosedPictures",
    "Similarity",
    "align",
    "convert_cameras",
    "read_cameras",
]
