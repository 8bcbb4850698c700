"""Random toy chairs: their measures, colours and kinds of seat, back, legs and arms.

A chair faces +z, up is +y and its left +x; its bounding box is centred at the origin in height, and
it is symmetric about the plane x = 0. Lengths are world units; heights are above the floor.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

from dataset_preprocessing.procedural.cars import Colour

STYLES = ("dining", "round", "armchair", "office", "stool")
_STYLE_ODDS = (0.34, 0.18, 0.20, 0.16, 0.12)
BACKS = {
    "dining": ("panel", "slats", "rungs", "frame"),
    "round": ("panel", "slats", "frame"),
    "armchair": ("panel",),
    "office": ("panel", "frame"),
    "stool": (None,),
}
LEGS = {
    "dining": ("posts", "splayed", "sled"),
    "round": ("splayed", "pedestal"),
    "armchair": ("posts", "splayed", "sled"),
    "office": ("star",),
    "stool": ("splayed", "pedestal"),
}
ARMS = {
    "dining": (None, None, None, "rails"),
    "round": (None,),
    "armchair": ("walls",),
    "office": (None, "rails"),
    "stool": (None,),
}
_ROUND_SEATS = ("round", "stool")

# Hue, saturation and value of woods; the last is nearly white.
_WOODS = ((0.07, 0.55, 0.50), (0.08, 0.58, 0.72), (0.09, 0.45, 0.84), (0.04, 0.62, 0.38))
_HUES = (0.0, 0.03, 0.08, 0.13, 0.17, 0.30, 0.42, 0.50, 0.56, 0.60, 0.66, 0.76, 0.86, 0.94)


@dataclass(frozen=True)
class Measures:
    """Sizes of a chair in world units; heights are above the floor."""

    height: float  # of the whole chair
    width: float  # of the seat, without arms
    depth: float  # of the seat
    seat: float  # upper side of the seat
    thickness: float  # of the seat
    leg: float  # thickness of a leg at its upper end
    arm: float  # upper side of the arms
    lean: float  # run of the back towards -z for each unit of height


@dataclass(frozen=True)
class Chair:
    """Everything that fixes how a chair looks; colours are RGB in 0..1, None is "has none"."""

    style: str
    measures: Measures
    back: str | None
    legs: str
    arms: str | None
    cushion: Colour | None
    frame: Colour
    fabric: Colour

    @property
    def round_seat(self) -> bool:
        """The seat is a disc."""
        return self.style in _ROUND_SEATS


def sample_chair(rng: np.random.Generator) -> Chair:
    """A random chair. The same state of `rng` gives the same chair."""
    style = STYLES[rng.choice(len(STYLES), p=_STYLE_ODDS)]
    back, legs, arms = (
        kinds[style][rng.integers(len(kinds[style]))] for kinds in (BACKS, LEGS, ARMS)
    )
    frame, fabric = _frame_colour(rng, style), _bright(rng)
    cushioned = rng.random() < 0.5
    if style != "armchair" and rng.random() < 0.35:
        fabric = frame  # of one piece
    return Chair(
        style=style,
        measures=_measures(rng, style),
        back=back,
        legs=legs,
        arms=arms,
        cushion=_bright(rng) if cushioned else None,
        frame=frame,
        fabric=fabric,
    )


def _measures(rng: np.random.Generator, style: str) -> Measures:
    height, width, seat, thickness = {
        "dining": ((0.76, 0.90), (0.38, 0.48), (0.38, 0.44), (0.045, 0.07)),
        "round": ((0.74, 0.90), (0.42, 0.50), (0.38, 0.44), (0.045, 0.07)),
        "armchair": ((0.66, 0.80), (0.40, 0.48), (0.32, 0.38), (0.14, 0.20)),
        "office": ((0.78, 0.90), (0.42, 0.48), (0.38, 0.44), (0.06, 0.09)),
        "stool": ((0.44, 0.66), (0.36, 0.46), (0.0, 0.0), (0.05, 0.10)),
    }[style]
    height, width, seat = rng.uniform(*height), rng.uniform(*width), rng.uniform(*seat)
    seat = height if style == "stool" else seat
    return Measures(
        height=height,
        width=width,
        depth=width * (1.0 if style in _ROUND_SEATS else rng.uniform(0.92, 1.06)),
        seat=seat,
        thickness=rng.uniform(*thickness),
        leg=rng.uniform(0.042, 0.066),
        arm=seat + rng.uniform(0.13, 0.19),
        lean=rng.uniform(0.05, 0.20),
    )


def _frame_colour(rng: np.random.Generator, style: str) -> Colour:
    kind = rng.random()
    if style == "office" or kind < 0.15:
        return (rng.choice([0.16, 0.24, 0.62, 0.85]) + rng.uniform(-0.03, 0.03),) * 3
    if kind < 0.55:
        hue, saturation, value = _WOODS[rng.integers(len(_WOODS))]
        return colorsys.hsv_to_rgb(hue, saturation, value + rng.uniform(-0.05, 0.05))
    return _bright(rng)


def _bright(rng: np.random.Generator) -> Colour:
    hue = rng.choice(_HUES) + rng.uniform(-0.015, 0.015)
    return colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.60, 0.90), rng.uniform(0.75, 1.0))
