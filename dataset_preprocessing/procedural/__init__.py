"""Procedural dataset: toy cars or chairs on white, seen from above, made without downloads.

`python -m dataset_preprocessing.procedural --dest=cars.zip` writes a dataset; the functions below
are the same thing as a library. World: y up, models centred at the origin with their front to +z.
"""

from dataset_preprocessing.procedural.cameras import (
    ELEVATION_DEGREES,
    FOCAL,
    PRESET,
    RADIUS,
    look_at_origin,
    sample_label,
)
from dataset_preprocessing.procedural.cars import Car, sample_car
from dataset_preprocessing.procedural.categories import CATEGORIES, surface_distance
from dataset_preprocessing.procedural.chair_parts import ChairSegment
from dataset_preprocessing.procedural.chairs import Chair, sample_chair
from dataset_preprocessing.procedural.paint import Segment
from dataset_preprocessing.procedural.render import Rendering, render_car, render_model
from dataset_preprocessing.procedural.writer import make_dataset

__all__ = [
    "CATEGORIES",
    "ELEVATION_DEGREES",
    "FOCAL",
    "PRESET",
    "RADIUS",
    "Car",
    "Chair",
    "ChairSegment",
    "Rendering",
    "Segment",
    "look_at_origin",
    "make_dataset",
    "render_car",
    "render_model",
    "sample_car",
    "sample_chair",
    "sample_label",
    "surface_distance",
]
