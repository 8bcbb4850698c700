"""Procedural dataset: toy cars on white, seen from the upper hemisphere, made without downloads.

`python -m dataset_preprocessing.procedural --dest=cars.zip` writes a dataset; the functions below
are the same thing as a library. World: y up, cars centred at the origin with their front to +z.
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
from dataset_preprocessing.procedural.paint import Segment
from dataset_preprocessing.procedural.parts import surface_distance
from dataset_preprocessing.procedural.render import Rendering, render_car
from dataset_preprocessing.procedural.writer import make_dataset

__all__ = [
    "ELEVATION_DEGREES",
    "FOCAL",
    "PRESET",
    "RADIUS",
    "Car",
    "Rendering",
    "Segment",
    "look_at_origin",
    "make_dataset",
    "render_car",
    "sample_car",
    "sample_label",
    "surface_distance",
]
