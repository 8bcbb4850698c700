"""Everything a user of the viewer can set: one frozen value, written as JSON and read back."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from eg3d.errors import InputError
from eg3d.latents import MOST_SEED
from eg3d.trajectories import NAMES as PATHS
from training.cameras import LABEL_SIZE, POSE_SIZE, check_label

VERSION = 1
VIEWS = ("image", "raw", "depth", "normals", "planes")
LENS = (1.0, 0.0, 0.5, 0.0, 1.0, 0.5, 0.0, 0.0, 1.0)  # any: only the pose is checked


def setting(
    default: Any,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """A field of `ViewState` and what it may be; panels take their ranges from here."""
    return field(default=default, metadata={"low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class ViewState:
    """What one viewer shows and how. Raises InputError where a value is out of its range.

    Latents: `seed` and the steps from it, dx to the next seed, dy to the one a hundred on, are
    blended bilinearly; then `blend` of `blend_seed` is added, then `mix_layers` of `mix_seed`.
    None stands for the model's own: lens, point to look at, rendering resolution, camera (the
    front), cutoff (all layers). Angles of the free conditioning are those of published scripts.
    `chosen` are pairs of a name and a value of the model's choices, such as ("branch", "3d"), and
    `compare_chosen` those of the picture beside it; what a model has not is left out.
    """

    network: str = setting("")
    weights: str = setting("G_ema", choices=("G_ema", "G"))
    follow: bool = setting(False)

    seed: int = setting(0, 0, MOST_SEED)
    dx: float = setting(0.0, -1e6, 1e6)
    dy: float = setting(0.0, -1e6, 1e6)
    blend_seed: int = setting(1, 0, MOST_SEED)
    blend: float = setting(0.0, 0.0, 1.0)
    mix_seed: int = setting(1000, 0, MOST_SEED)
    mix_layers: tuple[int, ...] = setting((), 0, 1000)
    psi: float = setting(0.7, -1.0, 2.0)
    cutoff: int | None = setting(None, 0, 1000)
    noise: str = setting("const", choices=("const", "none", "random"))
    noise_seed: int = setting(0, 0, MOST_SEED)

    conditioning: str = setting("front", choices=("front", "camera", "free"))
    cond_yaw: float = setting(0.0, -math.pi, math.pi)
    cond_pitch: float = setting(0.0, -math.pi / 2, math.pi / 2)

    camera: tuple[float, ...] | None = setting(None)
    target: tuple[float, ...] | None = setting(None, -100.0, 100.0)
    up: str = setting("y", choices=("y", "z"))
    fov: float | None = setting(None, 1.0, 120.0)

    view: str = setting("image", choices=VIEWS)
    chosen: tuple[tuple[str, str], ...] = setting(())
    resolution: int | None = setting(None, 8, 512)
    coarse: float = setting(1.0, 0.25, 4.0)
    fine: float = setting(1.0, 0.25, 4.0)
    cache_planes: bool = setting(True)
    full_precision: bool = setting(False)

    compare: str = setting("nothing", choices=("nothing", "seed", "model", "choice"))
    compare_seed: int = setting(1, 0, MOST_SEED)
    compare_network: str = setting("")
    compare_chosen: tuple[tuple[str, str], ...] = setting(())

    layer: str = setting("")
    layer_grey: bool = setting(False)
    layer_channel: int = setting(0, 0, 100000)
    layer_normalize: bool = setting(False)
    layer_gain: float = setting(0.0, -40.0, 40.0)
    fft: bool = setting(False)
    fft_all: bool = setting(True)
    fft_range: float = setting(50.0, 0.1, 100.0)
    fft_beta: float = setting(8.0, 0.0, 50.0)

    keyframes: tuple[tuple[float, ...], ...] = setting(())
    path: str = setting("orbit", choices=(*PATHS, "keyframes"))
    frames: int = setting(96, 1, 2000)
    fps: float = setting(30.0, 1.0, 120.0)

    most_fps: float = setting(60.0, 1.0, 1000.0)

    def __post_init__(self):
        for each in fields(self):
            _check(each, getattr(self, each.name))

    def with_(self, **changes: Any) -> "ViewState":
        """The same state with other values of some fields. Raises InputError."""
        return replace(self, **changes)

    def to_json(self) -> str:
        """JSON text that `from_json` reads back to an equal state."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "ViewState":
        """The state of a JSON text; fields that it lacks have their defaults. Raises InputError."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"session: not JSON ({error})") from error
        if not isinstance(values, dict) or values.pop("version", None) != VERSION:
            raise InputError(f'session: must be a JSON object with "version": {VERSION}')
        unknown = set(values) - {each.name for each in fields(cls)}
        if unknown:
            raise InputError(f"session: has no setting {min(unknown)!r}")
        return cls(**{name: _tuples(value) for name, value in values.items()})


def limits(name: str) -> tuple[float, float]:
    """Lowest and highest value of a field."""
    metadata = ViewState.__dataclass_fields__[name].metadata
    return metadata["low"], metadata["high"]


def choices(name: str) -> tuple[Any, ...]:
    """What a field may be."""
    return ViewState.__dataclass_fields__[name].metadata["choices"]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _check(each: Any, value: Any) -> None:
    """Raises InputError for what a field of `ViewState` cannot be."""
    low, high, allowed = (each.metadata[key] for key in ("low", "high", "choices"))
    if allowed is not None:
        if value not in allowed:
            raise InputError(f"{each.name} is {value!r}: must be one of {', '.join(allowed)}")
    elif each.name == "keyframes":
        _check_labels(value)
    elif each.name == "camera":
        if value is not None:
            _check_pose(value)
    elif not _fits(value, each.type):
        raise InputError(f"{each.name} is {value!r}: must be {_words(each.type)}")
    elif low is not None and value is not None:
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high:
                raise InputError(f"{each.name} is {number}: must be {low:g} to {high:g}")
    if each.name == "target" and value is not None and len(value) != 3:
        raise InputError(f"target is {value!r}: must be 3 numbers")


def _fits(value: Any, kind: Any) -> bool:
    if value is None:
        return kind in (int | None, float | None, tuple[float, ...] | None)
    if kind in (bool, str):
        return isinstance(value, kind)
    if kind == tuple[tuple[str, str], ...]:
        return isinstance(value, tuple) and all(map(_is_pair, value))
    if kind == tuple[int, ...] or kind == tuple[float, ...] | None:
        inner = int if kind == tuple[int, ...] else float
        return isinstance(value, tuple) and all(_fits(number, inner) for number in value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return kind in (float, float | None) or isinstance(value, int)


def _is_pair(value: Any) -> bool:
    texts = isinstance(value, tuple) and all(isinstance(part, str) for part in value)
    return texts and len(value) == 2


def _words(kind: Any) -> str:
    names = {bool: "true or false", str: "a text", int: "a whole number", int | None: "whole"}
    names[tuple[tuple[str, str], ...]] = "pairs of texts"
    return names.get(kind, "a number or a list of numbers")


def _check_pose(pose: Any) -> None:
    if not isinstance(pose, tuple) or len(pose) != POSE_SIZE:
        raise InputError(f"camera is {pose!r}: must be the {POSE_SIZE} numbers of a pose")
    _check_labels(((*pose, *LENS),), "camera")


def _check_labels(labels: Any, name: str = "keyframes") -> None:
    if not isinstance(labels, tuple):
        raise InputError(f"{name} must be a list of camera labels of {LABEL_SIZE} numbers")
    for label in labels:
        problem = check_label(label)
        if problem:
            raise InputError(f"{name}: {problem}")
