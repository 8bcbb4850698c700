"""The solids a chair is made of, and the colour of each."""

from enum import IntEnum

import numpy as np

from dataset_preprocessing.procedural.cars import Colour
from dataset_preprocessing.procedural.chairs import Chair
from dataset_preprocessing.procedural.geometry import Solid, box, frustum, rounded
from dataset_preprocessing.procedural.paint import Plain
from dataset_preprocessing.procedural.parts import Part

_SEAT_SIDES, _LEG_SIDES = 24, 8
_BACK, _POST = 0.05, 0.05  # thickness of a back, width of the posts at its sides
_CUSHION = 0.035


class ChairSegment(IntEnum):
    """Part ids of a chair's segmentation images."""

    BACKGROUND = 0
    SEAT = 1
    BACK = 2
    LEG = 3
    ARM = 4
    CUSHION = 5


def chair_parts(chair: Chair) -> list[Part]:
    """The parts of a chair, in world coordinates."""
    legs = {
        "posts": _posts,
        "splayed": _splayed,
        "sled": _sled,
        "pedestal": _pedestal,
        "star": _star,
    }
    arms = {None: lambda chair: [], "rails": _rails, "walls": _walls}
    parts = [*_seat(chair), *legs[chair.legs](chair), *arms[chair.arms](chair)]
    return parts + _back(chair)


def _level(chair: Chair, height: float) -> float:
    """World y of a height above the floor."""
    return height - chair.measures.height / 2


def _part(solid: Solid, colour: Colour, segment: ChairSegment) -> Part:
    gloss = 0.15 if segment is ChairSegment.CUSHION else 0.6
    return Part(solid, Plain(colour, segment, gloss))


def _block(chair: Chair, low: tuple, high: tuple, radius: float) -> Solid:
    """Rounded box whose y are heights above the floor."""
    low, high = ((x, _level(chair, y), z) for x, y, z in (low, high))
    return box(low, high, radius)


def _seat(chair: Chair) -> list[Part]:
    m = chair.measures
    x, z = m.width / 2, m.depth / 2
    cushion = chair.cushion is not None and chair.style != "stool"
    bottom, inset = m.seat - m.thickness, 0.03
    if chair.round_seat:
        low, high = (0.0, _level(chair, bottom), 0.0), (0.0, _level(chair, m.seat), 0.0)
        seat = frustum(low, high, x * 0.93, x, _SEAT_SIDES)
        raised = (0.0, high[1] + _CUSHION, 0.0)
        pad = frustum(high, raised, x - inset, x - 1.6 * inset, _SEAT_SIDES)
    else:
        seat = _block(chair, (-x, bottom, -z), (x, m.seat, z), min(0.025, 0.4 * m.thickness))
        low, high = (inset - x, m.seat - 0.03, inset - z), (x - inset, m.seat + _CUSHION, z - 0.01)
        pad = _block(chair, low, high, 0.03)
    parts = [_part(seat, chair.fabric, ChairSegment.SEAT)]
    if cushion:
        parts.append(_part(pad, chair.cushion, ChairSegment.CUSHION))
    return parts


def _feet(chair: Chair, inset: float) -> list[tuple[float, float]]:
    """(x, z) of four places, `inset` from the edges of the seat."""
    m = chair.measures
    reach = 0.72 if chair.round_seat else 1.0  # the corners of a disc
    x, z = reach * m.width / 2 - inset, reach * m.depth / 2 - inset
    return [(side * x, end * z) for side in (-1, 1) for end in (-1, 1)]


def _leg(chair: Chair, foot: tuple, top: tuple, radii: tuple[float, float]) -> Part:
    """Leg from the floor at `foot` (x, z) to the seat's underside at `top`."""
    m = chair.measures
    low = (foot[0], _level(chair, 0.0), foot[1])
    high = (top[0], _level(chair, m.seat - 0.7 * m.thickness), top[1])
    return _part(frustum(low, high, *radii, _LEG_SIDES), chair.frame, ChairSegment.LEG)


def _posts(chair: Chair) -> list[Part]:
    m = chair.measures
    places = _feet(chair, m.leg / 2 + 0.004)
    top = m.seat - 0.6 * m.thickness
    return [
        _part(
            _block(
                chair, (x - m.leg / 2, 0, z - m.leg / 2), (x + m.leg / 2, top, z + m.leg / 2), 0.01
            ),
            chair.frame,
            ChairSegment.LEG,
        )
        for x, z in places
    ]


def _splayed(chair: Chair) -> list[Part]:
    m = chair.measures
    tops, ends = _feet(chair, 0.06), _feet(chair, 0.01)
    radii = (0.30 * m.leg, 0.55 * m.leg)
    return [_leg(chair, end, top, radii) for end, top in zip(ends, tops, strict=True)]


def _sled(chair: Chair) -> list[Part]:
    """Two runners on the floor, each with two posts."""
    m = chair.measures
    x, z, half = m.width / 2 - m.leg / 2, m.depth / 2, m.leg / 2
    runners = [
        _part(
            _block(chair, (side * x - half, 0.0, -z), (side * x + half, m.leg, z), 0.012),
            chair.frame,
            ChairSegment.LEG,
        )
        for side in (-1, 1)
    ]
    return runners + _posts(chair)


def _column(chair: Chair, low: float, radius: float) -> Part:
    """Upright column in the middle from the height `low` to the seat."""
    m = chair.measures
    ends = ((0.0, _level(chair, y), 0.0) for y in (low, m.seat - 0.7 * m.thickness))
    return _part(frustum(*ends, radius, radius, 2 * _LEG_SIDES), chair.frame, ChairSegment.LEG)


def _pedestal(chair: Chair) -> list[Part]:
    m = chair.measures
    ends = ((0.0, _level(chair, y), 0.0) for y in (0.0, 0.05))
    plate = frustum(*ends, 0.40 * m.width, 0.30 * m.width, _SEAT_SIDES)
    return [_part(plate, chair.frame, ChairSegment.LEG), _column(chair, 0.03, 0.75 * m.leg)]


def _star(chair: Chair) -> list[Part]:
    """Five spokes on the floor, one of them towards the front, around a column."""
    m = chair.measures
    reach, half = 0.52 * m.width, 0.48 * m.leg
    parts = [_column(chair, 0.04, 0.7 * m.leg)]
    for turn in 2 * np.pi * np.arange(5) / 5:
        along = np.array([np.sin(turn), 0.0, np.cos(turn)])
        across = np.array([np.cos(turn), 0.0, -np.sin(turn)])
        low, high = _level(chair, 0.0), _level(chair, 0.075)
        planes = [
            (tuple(along), reach),
            (tuple(-along), 0.0),
            (tuple(across), half),
            (tuple(-across), half),
            ((0.0, -1.0, 0.0), -low),
            (tuple(0.12 * along + [0.0, 1.0, 0.0]), high),
        ]
        parts.append(_part(rounded(planes, 0.012), chair.frame, ChairSegment.LEG))
    return parts


def _leaning(
    chair: Chair,
    x: tuple[float, float],
    heights: tuple[float, float],
    thickness: float,
    radius: float,
) -> Solid:
    """Slab of the back between two x and two heights above the floor; it leans as the chair's
    back does, which begins at the rear edge of the seat."""
    m = chair.measures
    lean, (low, high) = m.lean, (_level(chair, y) for y in heights)
    middle = -m.depth / 2 + _BACK / 2 + lean * _level(chair, m.seat)
    planes = [
        ((0.0, lean, 1.0), middle + thickness / 2),
        ((0.0, -lean, -1.0), -middle + thickness / 2),
        ((1.0, 0.0, 0.0), x[1]),
        ((-1.0, 0.0, 0.0), -x[0]),
        ((0.0, 1.0, 0.0), high),
        ((0.0, -1.0, 0.0), -low),
    ]
    return rounded(planes, radius)


def _back(chair: Chair) -> list[Part]:
    if chair.back is None:
        return []
    m = chair.measures
    half = (0.40 if chair.round_seat else 0.5) * m.width - 0.006
    base, top = m.seat - 0.5 * min(m.thickness, 0.06), m.height
    if chair.back == "panel":
        return _panel(chair, half, base, top)
    inner = half - _POST
    parts = [
        _slab(chair, (side * (half - _POST / 2), _POST), (base, top), chair.frame)
        for side in (-1, 1)
    ]
    rail = top - 0.075
    parts.append(_slab(chair, (0.0, 2 * half), (rail, top), chair.frame))
    if chair.back == "slats":
        count = 3 if inner > 0.13 else 2
        gap = 2 * inner / (count + 0.5)
        for index in range(count):
            x = (index - (count - 1) / 2) * gap
            parts.append(_slab(chair, (x, 0.55 * gap), (base, rail + 0.02), chair.fabric, 0.7))
    elif chair.back == "rungs":
        step = (rail - m.seat) / 3
        for index in (1, 2):
            y = m.seat + index * step
            parts.append(
                _slab(chair, (0.0, 2 * half - 0.02), (y - 0.025, y + 0.03), chair.fabric, 0.7)
            )
    else:
        y = m.seat + 0.35 * (rail - m.seat)
        parts.append(_slab(chair, (0.0, 2 * inner + 0.02), (y, rail + 0.02), chair.fabric, 0.6))
    return parts


def _slab(
    chair: Chair,
    span: tuple[float, float],
    heights: tuple[float, float],
    colour: Colour,
    thin: float = 1.0,
) -> Part:
    """Member of the back: `span` is its middle and width in x, `thin` a factor on the
    thickness."""
    middle, width = span
    x = (middle - width / 2, middle + width / 2)
    thickness = thin * _BACK
    radius = 0.3 * min(thickness, width, heights[1] - heights[0])
    return _part(_leaning(chair, x, heights, thickness, radius), colour, ChairSegment.BACK)


def _panel(chair: Chair, half: float, base: float, top: float) -> list[Part]:
    """A back of one piece; an armchair's is thick, an office chair's stands clear of the seat."""
    m = chair.measures
    if chair.style == "armchair":
        solid = _leaning(chair, (-half, half), (base, top), 0.11, 0.045)
        return [_part(solid, chair.fabric, ChairSegment.BACK)]
    if chair.style != "office":
        return [_slab(chair, (0.0, 2 * half), (base, top), chair.fabric)]
    solid = _leaning(chair, (0.02 - half, half - 0.02), (m.seat + 0.11, top), 0.07, 0.03)
    support = _leaning(chair, (-0.035, 0.035), (base, m.seat + 0.16), 0.03, 0.008)
    return [
        _part(solid, chair.fabric, ChairSegment.BACK),
        _part(support, chair.frame, ChairSegment.BACK),
    ]


def _rails(chair: Chair) -> list[Part]:
    """A bar on one post at each side."""
    m = chair.measures
    half, inner = 0.024, m.width / 2 - 0.01
    front, rear = 0.36 * m.depth, -0.46 * m.depth
    parts = []
    for side in (-1, 1):
        middle = side * (inner + half)
        boxes = (
            ((middle - half, m.arm - 0.045, rear), (middle + half, m.arm, front)),
            (
                (middle - half, m.seat - 0.045, front - 0.11),
                (middle + half, m.arm - 0.02, front - 0.06),
            ),
        )
        for low, high in boxes:
            solid = _block(chair, low, high, 0.012)
            parts.append(_part(solid, chair.frame, ChairSegment.ARM))
    return parts


def _walls(chair: Chair) -> list[Part]:
    """Thick upholstered sides."""
    m = chair.measures
    x, thick = m.width / 2, 0.085
    parts = []
    for side in (-1, 1):
        low, high = sorted((side * (x - 0.02), side * (x - 0.02 + thick)))
        bottom = m.seat - m.thickness
        solid = _block(chair, (low, bottom, -m.depth / 2), (high, m.arm, m.depth / 2 - 0.01), 0.035)
        parts.append(_part(solid, chair.fabric, ChairSegment.ARM))
    return parts
