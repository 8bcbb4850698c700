"""What is painted on parts: colour, gloss and segment id of every surface point."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np

from dataset_preprocessing.procedural.cars import Car, Colour

_GLASS = (0.17, 0.25, 0.36)
_RUBBER = (0.10, 0.10, 0.11)
_LAMP = (1.0, 0.97, 0.80)
_TAIL_LAMP = (0.85, 0.07, 0.08)
_PLATE = (0.92, 0.92, 0.88)
_BED = (0.20, 0.20, 0.22)
_GLASS_GLOSS = 2.0


class Segment(IntEnum):
    """Part ids of the segmentation images."""

    BACKGROUND = 0
    BODY = 1
    ROOF = 2
    GLASS = 3
    TYRE = 4
    HUB = 5
    LIGHT = 6
    TRIM = 7
    ACCESSORY = 8


@dataclass
class Coat:
    """Painted surface points: colour [N, 3] in 0..1, gloss [N] and segment id [N]."""

    colour: np.ndarray
    gloss: np.ndarray
    segment: np.ndarray

    @classmethod
    def of(cls, count: int, colour: Colour, segment: IntEnum, gloss: float) -> "Coat":
        """`count` points of one colour."""
        return cls(
            np.tile(np.float32(colour), (count, 1)),
            np.full(count, gloss, dtype=np.float32),
            np.full(count, segment, dtype=np.uint8),
        )

    def put(self, where: np.ndarray, colour: Colour, segment: Segment, gloss: float) -> None:
        """Paint over the points in the mask `where` [N]."""
        self.colour[where] = colour
        self.gloss[where] = gloss
        self.segment[where] = segment


class Paint(Protocol):
    """Colours surface points of one solid."""

    def coat(self, points: np.ndarray, normals: np.ndarray, planes: np.ndarray) -> Coat:
        """Coat of points [N, 3] with normals [N, 3] and plane distances [N, P]."""


@dataclass
class Plain:
    """One colour all over."""

    colour: Colour
    segment: IntEnum
    gloss: float

    def coat(self, points: np.ndarray, normals: np.ndarray, planes: np.ndarray) -> Coat:
        """See `Paint.coat`."""
        return Coat.of(len(points), self.colour, self.segment, self.gloss)


@dataclass
class WheelPaint:
    """Black tyre around a bright hub with five dark gaps between its spokes."""

    hub: Colour
    radius: float
    y: float
    z: float

    def coat(self, points: np.ndarray, normals: np.ndarray, planes: np.ndarray) -> Coat:
        """See `Paint.coat`."""
        coat = Coat.of(len(points), _RUBBER, Segment.TYRE, 0.1)
        y, z = points[:, 1] - self.y, points[:, 2] - self.z
        distance = np.hypot(y, z) / self.radius
        hub = (distance < 0.56) & (np.abs(normals[:, 0]) > 0.5)
        coat.put(hub, self.hub, Segment.HUB, 0.5)
        gaps = hub & (distance > 0.20) & (distance < 0.46) & (np.cos(5 * np.arctan2(z, y)) < -0.2)
        coat.colour[gaps] *= 0.45
        return coat


@dataclass
class BodyPaint:
    """Lower body: paint, wheel arches, sill, lamps, plates and stripes.

    `shoulder` is the height (world y) of the lamps' upper edge.
    """

    car: Car
    shoulder: float
    ends: tuple[str, ...] = ("front", "rear")  # those that carry lamps and plates
    bed_front: float | None = None  # a pickup's cargo floor ends here

    def coat(self, points: np.ndarray, normals: np.ndarray, planes: np.ndarray) -> Coat:
        """See `Paint.coat`."""
        car, (x, y, z) = self.car, points.T
        coat = Coat.of(len(points), car.paint, Segment.BODY, 1.0)
        if car.stripe is not None:
            self._stripe(coat, x, y, normals)
        if self.bed_front is not None:
            coat.put((normals[:, 1] > 0.7) & (z < self.bed_front), _BED, Segment.TRIM, 0.0)
        ground = -car.measures.height / 2
        coat.put(y < ground + car.measures.clearance + 0.022, (0.13,) * 3, Segment.TRIM, 0.0)
        side = np.abs(normals[:, 0]) > 0.6
        for axle in (-0.5, 0.5):
            reach = np.hypot(y - ground - car.measures.wheel, z - axle * car.measures.wheel_base)
            arch = side & (reach < 1.15 * car.measures.wheel)
            coat.put(arch, (0.06,) * 3, Segment.TRIM, 0.0)
        self._ends(coat, np.abs(x), y, normals[:, 2])
        return coat

    def _stripe(self, coat: Coat, x: np.ndarray, y: np.ndarray, normals: np.ndarray) -> None:
        if self.car.style in ("bus", "van"):
            middle = self.shoulder - 0.035
            where = (np.abs(y - middle) < 0.02) & (np.abs(normals[:, 1]) < 0.7)
        else:
            where = (np.abs(np.abs(x) - 0.045) < 0.022) & (normals[:, 1] > 0.3)
        coat.put(where, self.car.stripe, Segment.BODY, 1.0)

    def _ends(self, coat: Coat, x: np.ndarray, y: np.ndarray, facing: np.ndarray) -> None:
        half_width = self.car.measures.width / 2
        front = (facing > 0.45) & ("front" in self.ends)
        rear = (facing < -0.45) & ("rear" in self.ends)
        middle = self.shoulder - 0.035
        lamp = np.hypot((x - half_width + 0.075) / 0.048, (y - middle) / 0.034) < 1
        coat.put(front & lamp, _LAMP, Segment.LIGHT, 1.5)
        grille = (x < half_width - 0.14) & (np.abs(y - middle) < 0.020)
        coat.put(front & grille, (0.12,) * 3, Segment.TRIM, 0.3)
        tail = (np.abs(x - half_width + 0.055) < 0.035) & (np.abs(y - middle) < 0.030)
        coat.put(rear & tail, _TAIL_LAMP, Segment.LIGHT, 1.5)
        plate = (x < 0.055) & (np.abs(y - middle + 0.005) < 0.018)
        coat.put(rear & plate, _PLATE, Segment.TRIM, 0.0)


@dataclass
class CabinPaint:
    """Cabin: roof colour, windows inset into its four sides, pillars between the side windows."""

    car: Car
    belt: float
    pillars: tuple[float, ...] = ()
    margin: float = 0.020

    def coat(self, points: np.ndarray, normals: np.ndarray, planes: np.ndarray) -> Coat:
        """See `Paint.coat`."""
        coat = Coat.of(len(points), self.car.roof, Segment.ROOF, 1.0)
        front, rear, left, right, roof = (-planes[:, index] for index in range(5))
        sill = points[:, 1] - self.belt - 0.004
        inset = np.minimum(roof, sill)
        along = np.minimum(front, rear)
        across = np.minimum(left, right)
        pillar = np.zeros(len(points), dtype=bool)
        for z in self.pillars:
            pillar |= np.abs(points[:, 2] - z) < 0.013
        side = (across < 0.012) & (np.minimum(inset, along) > self.margin) & ~pillar
        screen = (along < 0.012) & (np.minimum(inset, across) > self.margin)
        coat.put(side | screen, _GLASS, Segment.GLASS, _GLASS_GLOSS)
        if self.car.stripe is not None and self.car.style not in ("bus", "van"):
            stripe = (np.abs(np.abs(points[:, 0]) - 0.045) < 0.022) & (coat.segment == Segment.ROOF)
            coat.put(stripe & (normals[:, 1] > 0.3), self.car.stripe, Segment.ROOF, 1.0)
        return coat
