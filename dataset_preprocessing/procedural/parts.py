"""The solids a car is made of, and what is painted on each."""

from dataclasses import dataclass

from dataset_preprocessing.procedural import paint
from dataset_preprocessing.procedural.cars import Car
from dataset_preprocessing.procedural.geometry import Solid, box, disc, rounded

_WHEEL_SIDES = 32
_PROTRUSION = 0.012  # of wheels and bumpers beyond the body


@dataclass(frozen=True)
class Part:
    """A convex solid and the paint that colours its surface."""

    solid: Solid
    paint: paint.Paint


def car_parts(car: Car) -> list[Part]:
    """The parts of a car, in world coordinates."""
    builders = {
        "sedan": _sedan,
        "hatchback": _hatchback,
        "van": _van,
        "pickup": _pickup,
        "bus": _bus,
    }
    return builders[car.style](car) + _wheels(car) + _accessory(car)


def _level(car: Car, height: float) -> float:
    """World y of a height above the ground; the car's bounding box is centred at the origin."""
    return height - car.measures.height / 2


def _body(car: Car, top: float, hood_drop: float, boot_drop: float, half_width: float) -> Part:
    """Lower body: its upper side falls from the middle towards both ends."""
    m = car.measures
    half = m.length / 2 - _PROTRUSION
    top, bottom = _level(car, top), _level(car, m.clearance)
    hood, boot = (drop / (0.6 * half) for drop in (hood_drop, boot_drop))
    ridge = 0.4 * half
    solid = rounded(
        [
            ((0.0, 0.12, 1.0), half + 0.12 * bottom),
            ((0.0, 0.10, -1.0), half + 0.10 * bottom),
            ((1.0, 0.16, 0.0), half_width + 0.16 * (bottom + 0.06)),
            ((-1.0, 0.16, 0.0), half_width + 0.16 * (bottom + 0.06)),
            ((0.0, 1.0, hood), top + hood * ridge),
            ((0.0, 1.0, -boot), top + boot * ridge),
            ((0.0, -1.0, 0.0), -bottom),
        ],
        radius=0.05,
    )
    return Part(solid, paint.BodyPaint(car, top - max(hood_drop, 0.02)))


def _cabin(car: Car, span: tuple[float, float], rakes: tuple[float, float], **options) -> Part:
    """Cabin from the belt to the roof; `span` (rear, front) are z at the belt, `rakes` the run of
    the rear window and the windshield for each unit of height."""
    m = car.measures
    low = _level(car, options.pop("low", m.belt - 0.02))
    high = _level(car, m.height)
    half_width = m.width / 2 - 0.018
    lean = options.pop("lean", 0.28)
    (rear, front), (rear_rake, front_rake) = span, rakes
    solid = rounded(
        [
            ((0.0, front_rake, 1.0), front + front_rake * low),
            ((0.0, rear_rake, -1.0), -rear + rear_rake * low),
            ((1.0, lean, 0.0), half_width + lean * low),
            ((-1.0, lean, 0.0), half_width + lean * low),
            ((0.0, 1.0, 0.0), high),
            ((0.0, -1.0, 0.0), -low),
        ],
        radius=options.pop("radius", 0.035),
    )
    return Part(solid, paint.CabinPaint(car, _level(car, m.belt), **options))


def _bumpers(car: Car) -> list[Part]:
    m = car.measures
    low, high = _level(car, m.clearance + 0.004), _level(car, m.clearance + 0.062)
    x, end = m.width / 2 - 0.012, m.length / 2
    coat = paint.Plain(car.trim, paint.Segment.TRIM, gloss=0.4)
    return [
        Part(box((-x, low, end - 0.05), (x, high, end), 0.022), coat),
        Part(box((-x, low, -end), (x, high, 0.05 - end), 0.022), coat),
    ]


def _wheels(car: Car) -> list[Part]:
    m = car.measures
    half_width = 0.042
    x = m.width / 2 + _PROTRUSION - half_width
    y = _level(car, m.wheel)
    parts = []
    for side in (-1, 1):
        for z in (-m.wheel_base / 2, m.wheel_base / 2):
            solid = disc((side * x, y, z), m.wheel, half_width, _WHEEL_SIDES)
            parts.append(Part(solid, paint.WheelPaint(car.hub, m.wheel, y, z)))
    return parts


def _sedan(car: Car) -> list[Part]:
    m = car.measures
    span = (-0.40 * m.length, 0.24 * m.length)
    body = _body(car, m.belt, 0.045, 0.025, m.width / 2)
    cabin = _cabin(car, span, (0.85, 0.95), pillars=(-0.08 * m.length,))
    return [body, cabin, *_bumpers(car)]


def _hatchback(car: Car) -> list[Part]:
    m = car.measures
    span = (-0.48 * m.length, 0.24 * m.length)
    body = _body(car, m.belt, 0.045, 0.0, m.width / 2)
    cabin = _cabin(car, span, (0.38, 0.85), pillars=(-0.10 * m.length,))
    return [body, cabin, *_bumpers(car)]


def _van(car: Car) -> list[Part]:
    m = car.measures
    span = (-0.485 * m.length, 0.36 * m.length)
    body = _body(car, m.belt, 0.05, 0.0, m.width / 2)
    pillars = (-0.20 * m.length, 0.06 * m.length)
    cabin = _cabin(car, span, (0.10, 0.60), pillars=pillars, lean=0.16)
    return [body, cabin, *_bumpers(car)]


def _pickup(car: Car) -> list[Part]:
    m = car.measures
    bed, rim = max(m.belt - 0.08, 2 * m.wheel + 0.005), m.belt - 0.005
    back, split = -m.length / 2 + _PROTRUSION, -0.10 * m.length
    coat = paint.Plain(car.paint, paint.Segment.BODY, gloss=1.0)
    floor, top = _level(car, bed - 0.03), _level(car, rim)
    x = m.width / 2 - 0.02
    walls = [
        Part(box((-x, floor, back + 0.004), (0.03 - x, top, split + 0.03), 0.012), coat),
        Part(box((x - 0.03, floor, back + 0.004), (x, top, split + 0.03), 0.012), coat),
        Part(box((-x, floor, back + 0.004), (x, top, back + 0.034), 0.012), coat),
    ]
    base = _body(car, bed, 0.0, 0.0, m.width / 2)
    base.paint.ends, base.paint.bed_front = ("rear",), split
    nose = rounded(
        [
            ((0.0, 0.12, 1.0), m.length / 2 - _PROTRUSION + 0.12 * _level(car, m.clearance)),
            ((0.0, 0.0, -1.0), -split),
            ((1.0, 0.16, 0.0), m.width / 2 + 0.16 * (_level(car, m.clearance) + 0.06)),
            ((-1.0, 0.16, 0.0), m.width / 2 + 0.16 * (_level(car, m.clearance) + 0.06)),
            ((0.0, 1.0, 0.08), _level(car, m.belt) + 0.08 * 0.2 * m.length),
            ((0.0, -1.0, 0.0), -floor),
        ],
        radius=0.04,
    )
    hood = Part(nose, paint.BodyPaint(car, top - 0.02, ends=("front",)))
    cabin = _cabin(car, (split + 0.015, 0.27 * m.length), (0.12, 0.7), lean=0.22)
    return [base, hood, cabin, *walls, *_bumpers(car)]


def _bus(car: Car) -> list[Part]:
    m = car.measures
    half = m.length / 2 - _PROTRUSION
    body = _body(car, m.belt, 0.0, 0.0, m.width / 2)
    pillars = tuple(m.length * z for z in (-0.29, -0.10, 0.09, 0.28))
    cabin = _cabin(car, (-half + 0.006, half - 0.008), (0.05, 0.10), pillars=pillars, lean=0.08)
    return [body, cabin, *_bumpers(car)]


def _accessory(car: Car) -> list[Part]:
    builders = {
        None: lambda car: [],
        "spoiler": _spoiler,
        "siren": _siren,
        "sign": _sign,
        "rack": _rack,
        "luggage": _luggage,
        "vents": _vents,
    }
    return builders[car.accessory](car)


def _extra(car: Car, low: tuple, high: tuple, colour: tuple, radius: float = 0.01) -> Part:
    """Accessory box; heights are above the roof."""
    roof = car.measures.height
    low = (low[0], _level(car, roof + low[1]), low[2])
    high = (high[0], _level(car, roof + high[1]), high[2])
    return Part(box(low, high, radius), paint.Plain(colour, paint.Segment.ACCESSORY, gloss=0.6))


def _spoiler(car: Car) -> list[Part]:
    m = car.measures
    back, x = -m.length / 2 + 0.015, m.width / 2 - 0.03
    sedan = car.style == "sedan"
    top = (m.belt + 0.065 if sedan else m.height) - m.height
    parts = [_extra(car, (-x, top - 0.022, back), (x, top, back + 0.095), car.accent)]
    foot = m.belt - 0.06 - m.height
    for side in (-1, 1):
        low, high = sorted((side * (x - 0.05), side * (x - 0.085)))
        parts.append(
            _extra(
                car, (low, foot, back + 0.03), (high, top - 0.01, back + 0.07), car.accent, 0.005
            )
        )
    return parts


def _siren(car: Car) -> list[Part]:
    z = _roof_centre(car)
    return [
        _extra(car, (-0.10, -0.01, z - 0.025), (0.10, 0.035, z + 0.025), (0.15, 0.35, 1.0), 0.012),
        _extra(car, (-0.04, -0.01, z - 0.029), (0.04, 0.038, z + 0.029), (0.9, 0.9, 0.92), 0.012),
    ]


def _sign(car: Car) -> list[Part]:
    z = _roof_centre(car)
    return [_extra(car, (-0.06, -0.01, z - 0.03), (0.06, 0.045, z + 0.03), (1.0, 0.85, 0.2), 0.015)]


def _rack(car: Car) -> list[Part]:
    z, x, run = _roof_centre(car), car.measures.width / 2 - 0.11, 0.16
    rails = [
        _extra(car, (side * x - 0.009, 0.012, z - run), (side * x + 0.009, 0.03, z + run), car.trim)
        for side in (-1, 1)
    ]
    bars = [
        _extra(car, (-x, -0.01, z + at - 0.01), (x, 0.022, z + at + 0.01), car.trim)
        for at in (-0.11, 0.11)
    ]
    return rails + bars


def _luggage(car: Car) -> list[Part]:
    z = _roof_centre(car)
    return [
        *_rack(car),
        _extra(car, (-0.085, 0.015, z - 0.13), (0.085, 0.085, z + 0.10), car.accent, 0.025),
    ]


def _vents(car: Car) -> list[Part]:
    grey = (0.8, 0.8, 0.82)
    return [
        _extra(car, (-0.09, -0.01, z - 0.07), (0.09, 0.03, z + 0.07), grey, 0.02)
        for z in (-0.22, 0.20)
    ]


def _roof_centre(car: Car) -> float:
    return {"sedan": -0.07, "hatchback": -0.12, "van": -0.08, "pickup": 0.04}[car.style] * (
        car.measures.length
    )
