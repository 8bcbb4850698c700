"""Where cameras stand and look, which of them are odd, and what a model of the scene needs."""

import math
from dataclasses import dataclass, field

import numpy as np

from training.cameras import POSE_SIZE
from training.pose_angles import PoseAngles, pose_angles
from training.presets import PRESETS
from training.sampling_weights import yaw_weights

_PARALLEL = 1e-4  # squared sine of the angles between axes that never meet
_ODD = 6.0  # robust standard deviations
_ROBUST = 1.4826  # from a median of absolute deviations to a standard deviation
_MARGIN = 1.6  # side of the box beside what a picture shows of the pivot's plane, as of FFHQ
_SPARE = 1.04
_STANDING = 1e-6
_REACH = 1.2  # of half the box: how far in front of and behind its centre rays are sampled
_AROUND = 300.0  # degrees of yaw from which cameras go all around
_FEW = 10_000  # pictures below which a discriminator learns them by heart
_GAMMA = {"ffhq": "1", "afhq": "5", "shapenet": "0.3"}
_Y_UP = (0.0, 1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Geometry:
    """N cameras, measured. Arrays are float64 [N].

    radius: distance from the origin. focal: mean of both focal lengths, in widths of the picture.
    pivot: float64 [3], the point nearest to all optical axes. miss: how far an axis passes from it.
    odd: number among the N to what is odd about that camera.
    """

    labels: np.ndarray
    angles: PoseAngles
    radius: np.ndarray
    focal: np.ndarray
    pivot: np.ndarray
    miss: np.ndarray
    odd: dict[int, list[str]]

    @property
    def goes_around(self) -> bool:
        """Whether there are views from all sides."""
        yaw = np.sort(self.angles.yaw)
        gaps = np.diff(yaw, append=yaw[:1] + 360)
        return len(yaw) > 4 and 360 - gaps.max() > _AROUND


@dataclass(frozen=True)
class Proposal:
    """What a model of the dataset needs, in units of its world, and how to train one.

    prepare: a command that is to come first, or None. notes: what no command can mend.
    """

    near: float
    far: float
    box: float
    radius: float
    pivot: tuple[float, float, float]
    focal: float
    white_back: bool
    preset: str
    command: str
    prepare: str | None = None
    notes: list[str] = field(default_factory=list)


def common_point(labels: np.ndarray) -> np.ndarray:
    """The point [3] nearest to the optical axes of cameras [N, 25], by least squares, twice: the
    second time without axes that pass far from it. The origin where axes are parallel."""
    pose = labels[:, :POSE_SIZE].reshape(-1, 4, 4)
    used = np.ones(len(pose), dtype=bool)
    point = np.zeros(3)
    for _ in range(2):
        across = _across(pose[used, :3, 2])
        matrix = across.mean(0)
        if np.linalg.eigvalsh(matrix)[0] < _PARALLEL:
            return np.zeros(3)
        aim = (across @ pose[used, :3, 3, None]).mean(0)[:, 0]
        point = np.linalg.solve(matrix, aim)
        miss = _misses(pose, point)
        used = miss <= max(3 * np.median(miss), 1e-9)
    return point


def measure(labels: np.ndarray) -> Geometry:
    """Of cameras [N, 25], N above 0."""
    pose = labels[:, :POSE_SIZE].reshape(-1, 4, 4)
    lens = labels[:, POSE_SIZE:].reshape(-1, 3, 3)
    pivot = common_point(labels)
    angles = pose_angles(labels)
    radius = np.linalg.norm(pose[:, :3, 3], axis=1)
    focal = (lens[:, 0, 0] + lens[:, 1, 1]) / 2
    miss = _misses(pose, pivot)
    scale = max(float(np.median(radius)), 1e-9)
    odd: dict[int, list[str]] = {}
    for what, values, least in (
        ("distance from the origin", radius / scale, 0.1),
        ("focal length", focal / np.median(focal), 0.1),
        ("roll", angles.roll / 90, 0.15),
        ("optical axis", miss / scale, 0.2),
    ):
        middle = np.median(values)
        spread = _ROBUST * np.median(np.abs(values - middle))
        for number in np.flatnonzero(np.abs(values - middle) > max(_ODD * spread, least)):
            odd.setdefault(int(number), []).append(what)
    away = ((pivot - pose[:, :3, 3]) * pose[:, :3, 2]).sum(1) < 0
    for number in np.flatnonzero(away):
        odd.setdefault(int(number), []).append("looks away from the scene")
    return Geometry(labels, angles, radius, focal, pivot, miss, dict(sorted(odd.items())))


def propose(
    geometry: Geometry,
    path: str,
    extents: list[tuple[float, float, float, float]] | None = None,
    white_back: bool = False,
) -> Proposal:
    """What fits the cameras that are not odd.

    Args:
        path: of the dataset, for commands.
        extents: of what is in each picture, where all have a background of one colour; then the box
            holds it. Else the box has the proportion to what pictures show that it has for faces.
        white_back: whether that colour is white.
    """
    usual = [n for n in range(len(geometry.labels)) if n not in geometry.odd]
    usual = usual or list(range(len(geometry.labels)))
    radius = max(float(np.median(geometry.radius[usual])), _STANDING)
    focal = float(np.median(geometry.focal[usual]))
    if extents is None:
        box = _MARGIN * radius / focal
    else:
        lens = geometry.labels[usual, POSE_SIZE:].reshape(-1, 3, 3)
        box = _box_of(np.array(extents)[usual], lens, geometry.radius[usual])
    reach = _REACH * box / 2
    near, far = np.quantile(geometry.radius[usual], (0.02, 0.98)) + (-reach, reach)
    preset = _nearest_preset(radius, focal, geometry.goes_around)
    prepare, notes = _preparation(geometry, path, preset, radius, focal, box)
    return Proposal(
        near=_rounded(max(near, 0.02 * radius)),
        far=_rounded(far),
        box=_rounded(box),
        radius=_rounded(radius),
        pivot=tuple(_rounded(v) for v in geometry.pivot),
        focal=_rounded(focal),
        white_back=white_back,
        preset=preset,
        command=_command(geometry, "scaled.zip" if prepare else path, preset),
        prepare=prepare,
        notes=notes,
    )


def _across(axes: np.ndarray) -> np.ndarray:
    """Projections [N, 3, 3] onto the planes across some axes."""
    return np.eye(3) - axes[:, :, None] * axes[:, None]


def _misses(pose: np.ndarray, point: np.ndarray) -> np.ndarray:
    away = _across(pose[:, :3, 2]) @ (point - pose[:, :3, 3])[:, :, None]
    return np.linalg.norm(away[:, :, 0], axis=1)


def _box_of(extents: np.ndarray, lens: np.ndarray, radius: np.ndarray) -> float:
    """Side of the cube around the origin that holds the sphere that fills what pictures show."""
    left, top, right, bottom = extents.T
    across = np.maximum(np.abs(left - lens[:, 0, 2]), np.abs(right - lens[:, 0, 2])) / lens[:, 0, 0]
    down = np.maximum(np.abs(top - lens[:, 1, 2]), np.abs(bottom - lens[:, 1, 2])) / lens[:, 1, 1]
    half = radius * np.sin(np.arctan(np.maximum(across, down)))
    return _SPARE * 2 * float(np.quantile(half, 0.99))


def _nearest_preset(radius: float, focal: float, around: bool) -> str:
    def distance(name: str) -> float:
        rendering = PRESETS[name].rendering
        differs = ("camera_azimuth_degrees" in rendering) != around
        scale = abs(math.log(radius / rendering["avg_camera_radius"]))
        return abs(math.log(focal / rendering["avg_camera_focal"])) + scale / 4 + differs

    return min(PRESETS, key=distance)


def _preparation(
    geometry: Geometry, path: str, preset: str, radius: float, focal: float, box: float
) -> tuple[str | None, list[str]]:
    rendering = PRESETS[preset].rendering
    options, notes = [], []
    if radius <= _STANDING:
        return None, ["The cameras stand at the origin; a model needs views of it from around."]
    if geometry.angles.up != _Y_UP and preset != "shapenet":
        options.append("--auto-orient")
    off = np.linalg.norm(geometry.pivot - np.array(rendering["avg_camera_pivot"]))
    if off > 0.15 * radius:
        options.append("--recenter")
    wanted = rendering["avg_camera_radius"]
    if abs(math.log(radius / wanted)) > 0.1 and preset != "shapenet":
        options.append(f"--radius={wanted:g}")
    expected = rendering["avg_camera_focal"]
    if abs(math.log(focal / expected)) > 0.15:
        notes.append(
            f"The focal length is {focal:.4g}, the preset {preset} is made for {expected:.4g}: its "
            "near, far and box may not fit; compare them with those proposed here."
        )
    scale = wanted / radius if any("radius" in option for option in options) else 1
    if box * scale > 1.15 * rendering["box_warp"]:
        notes.append(
            f"What pictures show needs a box of {box * scale:.3g}, the preset {preset} has "
            f"{rendering['box_warp']:g}: crop the pictures, or scale the scene with --box."
        )
    if not options:
        return None, notes
    move = f"python -m dataset_preprocessing.cameras --source={path} --dest=scaled.zip "
    return move + " ".join(options), notes


def _command(geometry: Geometry, path: str, preset: str) -> str:
    words = [f"python train.py --cfg={preset} --data={path} --outdir=runs"]
    if preset in _GAMMA:
        words.append(f"--gpus=1 --batch=8 --gamma={_GAMMA[preset]}")
        if preset != "shapenet":
            words.append("--gen_pose_cond=True")
        if len(geometry.labels) < _FEW:
            words.append("--aug=ada")
    if yaw_weights(geometry.labels).max() > 2:
        words.append("--rebalance=yaw")
    return " ".join(words)


def _rounded(value: float) -> float:
    """To three digits that count."""
    return float(f"{value:.3g}") if abs(value) > 1e-6 else 0.0
