"""What the dataset can show: a category is a sampler of models and what a model is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np

from dataset_preprocessing.procedural.cars import Car, sample_car
from dataset_preprocessing.procedural.chair_parts import ChairSegment, chair_parts
from dataset_preprocessing.procedural.chairs import Chair, sample_chair
from dataset_preprocessing.procedural.paint import Segment
from dataset_preprocessing.procedural.parts import Part, car_parts

Model: TypeAlias = Car | Chair


@dataclass(frozen=True)
class Category:
    """`sample` draws a model; the same state of its generator gives the same model. `segments`
    are the part ids of its segmentation images."""

    sample: Callable[[np.random.Generator], Model]
    segments: type[IntEnum]


CATEGORIES = {
    "cars": Category(sample_car, Segment),
    "chairs": Category(sample_chair, ChairSegment),
}


ALL = "all"  # in place of a category: all in turns


def shown(category: str) -> tuple[str, ...]:
    """The categories that the models of a data set belong to, in turns. Raises ValueError."""
    if category != ALL and category not in CATEGORIES:
        known = ", ".join([*CATEGORIES, ALL])
        raise ValueError(f"category must be one of {known}; got '{category}'")
    return tuple(CATEGORIES) if category == ALL else (category,)


def model_parts(model: Model) -> list[Part]:
    """The parts of a car or chair, in world coordinates."""
    return car_parts(model) if isinstance(model, Car) else chair_parts(model)


def surface_distance(model: Model, points: np.ndarray) -> np.ndarray:
    """Implicit function [...] of a model at points [..., 3]: 0 on its surface, negative inside."""
    return np.min([part.solid.distance(points) for part in model_parts(model)], axis=0)
