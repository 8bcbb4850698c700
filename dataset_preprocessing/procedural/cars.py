"""Random toy cars: their measures, colours and accessories.

A car's forward direction is +z, its up +y and its left +x; it is centred at the origin and
symmetric about the plane x = 0. Lengths are world units; a car is at most one unit long.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

STYLES = ("sedan", "hatchback", "van", "pickup", "bus")
_STYLE_ODDS = (0.30, 0.25, 0.18, 0.15, 0.12)
_SEDAN_LIKE = ("sedan", "hatchback")

# Hues in turns, spread as the eye spreads them: even steps of hue would make every third car green.
_HUES = (0.0, 0.025, 0.075, 0.125, 0.15, 0.24, 0.36, 0.47, 0.53, 0.57, 0.61, 0.66, 0.75, 0.84, 0.93)

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Measures:
    """Sizes of a car in world units; heights are above the ground."""

    length: float
    width: float
    height: float
    belt: float  # where the cabin begins
    clearance: float  # underside of the body
    wheel: float  # radius of a wheel
    wheel_base: float  # distance between the axles


@dataclass(frozen=True)
class Car:
    """Everything that fixes how a car looks; colours are RGB in 0..1."""

    style: str
    measures: Measures
    paint: Colour
    roof: Colour
    trim: Colour
    hub: Colour
    stripe: Colour | None
    accessory: str | None
    accent: Colour


def sample_car(rng: np.random.Generator) -> Car:
    """A random car. The same state of `rng` gives the same car."""
    style = STYLES[rng.choice(len(STYLES), p=_STYLE_ODDS)]
    paint = _paint_colour(rng)
    two_tone = rng.random() < (0.6 if style == "bus" else 0.25)
    roof = _contrast(rng, paint) if two_tone else paint
    striped = rng.random() < (0.5 if style == "bus" else 0.2)
    trim = _grey(rng.uniform(0.16, 0.30)) if rng.random() < 0.6 else _grey(rng.uniform(0.6, 0.75))
    accent = colorsys.hsv_to_rgb(rng.random(), 0.75, 0.95)
    return Car(
        style=style,
        measures=_measures(rng, style),
        paint=paint,
        roof=roof,
        trim=trim,
        hub=_grey(rng.uniform(0.72, 0.9)) if rng.random() < 0.8 else accent,
        stripe=_contrast(rng, paint) if striped else None,
        accessory=_accessory(rng, style),
        accent=accent,
    )


def _measures(rng: np.random.Generator, style: str) -> Measures:
    length, height, belt = {
        "sedan": ((0.90, 0.98), (0.355, 0.39), (0.55, 0.60)),
        "hatchback": ((0.76, 0.86), (0.38, 0.42), (0.53, 0.57)),
        "van": ((0.84, 0.95), (0.43, 0.48), (0.48, 0.54)),
        "pickup": ((0.92, 0.98), (0.42, 0.45), (0.58, 0.61)),
        "bus": ((0.92, 0.98), (0.44, 0.49), (0.44, 0.50)),
    }[style]
    length, height = rng.uniform(*length), rng.uniform(*height)
    wheel = rng.uniform(0.082, 0.094)
    return Measures(
        length=length,
        width=rng.uniform(0.40, 0.45),
        height=height,
        belt=height * rng.uniform(*belt),
        clearance=wheel * rng.uniform(0.50, 0.65),
        wheel=wheel,
        wheel_base=length * rng.uniform(0.56, 0.62),
    )


def _accessory(rng: np.random.Generator, style: str) -> str | None:
    names = ("spoiler", "siren", "sign") if style in _SEDAN_LIKE else ("siren",)
    if style in ("hatchback", "van"):
        names += ("rack", "luggage")
    if style == "bus":
        names = ("vents",)
    chance = 0.2 if style == "pickup" else 0.45
    return str(rng.choice(names)) if rng.random() < chance else None


def _paint_colour(rng: np.random.Generator) -> Colour:
    if rng.random() < 0.12:
        return _grey(rng.choice([0.30, 0.62, 0.8]) + rng.uniform(-0.05, 0.05))
    hue = rng.choice(_HUES) + rng.uniform(-0.015, 0.015)
    return colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.65, 0.92), rng.uniform(0.78, 1.0))


def _contrast(rng: np.random.Generator, paint: Colour) -> Colour:
    """A colour for roof or stripes that stands out from the paint."""
    bright = sum(paint) > 1.5
    kind = rng.integers(3)
    if kind == 0:
        return _grey(0.36 if bright else 0.88)
    if kind == 1:
        return _grey(0.88)
    hue = colorsys.rgb_to_hsv(*paint)[0] + rng.uniform(0.3, 0.7)
    return colorsys.hsv_to_rgb(hue % 1.0, 0.75, 0.9)


def _grey(level: float) -> Colour:
    return (float(level),) * 3
