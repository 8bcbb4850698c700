"""Identity, depth and pose of generated faces, as networks that somebody else trained see them.

The three scores of Chan et al. 2022, table 2, which have no published code. Their estimators are
arguments here, any callables, so values can be compared only where estimators are the same.
Pictures that an estimator sees are float32 RGB, clamped to [-1, 1]; it says in which of them it
finds no face. Samples along rays are fixed and noise is constant.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.errors import MetricError
from metrics.fakes import cameras_of, frontal_camera
from metrics.fixed_views import fixed_views
from metrics.options import MetricOptions
from metrics.samples import in_order, picks, real_labels, turns
from metrics.true_geometry import FEWEST_PIXELS
from training.cameras import Camera

Estimator = Callable[[Tensor], Tensor]

_FACE = 112  # side in pixels of what ArcFace sees (Deng et al. 2019)
_FLAT = 1e-6  # deviation of a depth map that has no shape


def centre_crop(pictures: Tensor, share: float = 1.0) -> Tensor:
    """The middle of pictures [n, 3, R, R], `share` of their side, at [n, 3, 112, 112].

    In place of an alignment by landmarks: data sets of faces are aligned, and so is what learned
    from them.
    """
    side = pictures.shape[-1]
    rim = round(side * (1 - share) / 2)
    middle = pictures[:, :, rim : side - rim, rim : side - rim]
    return F.interpolate(middle, (_FACE, _FACE), mode="bilinear", antialias=True)


def identity_consistency(
    options: MetricOptions,
    embed: Estimator,
    identities: int = 1024,
    condition: str = "fixed",
    align: Estimator = centre_crop,
    divisor: float = 127.5,
) -> dict[str, float]:
    """Are two views of a face the same person? To be called in all processes.

    Each identity is seen from the cameras of two random real pictures.

    Args:
        embed: pictures [n, 3, 112, 112] -> embeddings [n, D] of any length; a row of zeros, or with
            NaN, where it finds no face.
        condition: 'fixed', the frontal camera for all; 'first', the camera of the first view.
        align: pictures [n, 3, R, R] -> what `embed` sees.
        divisor: of values that are 127.5 less than those of 0 to 255; some networks want 128.

    Returns identity_consistency, the mean cosine of both embeddings, NaN without any;
    identity_pairs, how many these are, and identity_excluded, pairs with no face in one of the
    views. Raises DatasetError, MetricError.
    """
    if condition not in ("fixed", "first"):
        raise ValueError(f"condition is '{condition}', must be fixed or first")

    def share() -> dict[int, float]:
        labels, rows = real_labels(options), {}
        for part in turns(identities, options.batch_gen, options):
            pairs = range(2 * part.start, 2 * part.stop)
            c = labels[picks(pairs, len(labels), options.seed)].to(options.device)
            first, second = c[0::2], c[1::2]
            fixed = frontal_camera(options, first).expand(len(first), -1)
            look = fixed_views(options, part, fixed if condition == "fixed" else first)
            faces = (align(look(c)["image"]) * (127.5 / divisor) for c in (first, second))
            a, b = (_estimate("face embedder", embed, face, None) for face in faces)
            rows |= zip(part, _cosines(a, b), strict=True)
        return rows

    cosines = np.array(in_order(options, share))
    return _named("identity", "consistency", cosines, "pairs")


def depth_accuracy(
    options: MetricOptions, estimate: Estimator, pictures: int = 1024, normalise: bool = True
) -> dict[str, float]:
    """Does the depth that is rendered fit the face that is seen? To be called in all processes.

    Each picture is conditioned on, and rendered from, the camera of a random real one.

    Args:
        estimate: pictures [n, 3, R, R] -> the distance from the camera along the rays
            [n, 1, h, w], of any size, scale and offset; NaN where the face is not. Averaged over
            the pixels of the rendered depth, which count if the face covers half of one.
        normalise: both maps to mean 0 and variance 1 over the pixels that count.

    Returns depth_accuracy, the mean squared difference, mean over pictures, NaN without any;
    depth_pictures, how many these are, and depth_excluded, those with fewer than 20 pixels that
    count. Raises DatasetError, MetricError.
    """

    def measure(view: dict[str, Tensor], c: Tensor) -> list[float]:
        found = _estimate("depth estimator", estimate, view["image"], 1, None, None)
        return _depth_errors(view["image_depth"].to(found), found, normalise)

    return _named("depth", "accuracy", np.array(_of_each(options, pictures, measure)), "pictures")


def pose_accuracy(
    options: MetricOptions, estimate: Estimator, pictures: int = 1024
) -> dict[str, float]:
    """Is a face seen from where it was to be seen from? To be called in all processes.

    Each picture is conditioned on, and rendered from, the camera of a random real one.

    Args:
        estimate: pictures [n, 3, R, R] -> pitch, yaw and roll [n, 3] in radians, as of
            `camera_angles`; a row with NaN where it finds no face.

    Returns pose_accuracy, the squared distance of both triples of angles, mean over pictures, NaN
    without any; what pitch, yaw and roll contribute to it, pose_pitch, pose_yaw and pose_roll;
    pose_pictures, how many these are, and pose_excluded. Raises DatasetError, MetricError.
    """

    def measure(view: dict[str, Tensor], c: Tensor) -> list[list[float]]:
        found = _estimate("pose estimator", estimate, view["image"], 3)
        error = found - camera_angles(c).to(found)
        error = torch.atan2(error.sin(), error.cos())  # the short way round
        return error.square().tolist()

    squares = np.array(_of_each(options, pictures, measure))
    results = _named("pose", "accuracy", squares.sum(1), "pictures")
    used = squares[np.isfinite(squares).all(1)]
    means = used.mean(0).tolist() if len(used) else [math.nan] * 3
    return results | dict(zip(("pose_pitch", "pose_yaw", "pose_roll"), means, strict=True))


def camera_angles(labels: Tensor) -> Tensor:
    """Pitch, yaw and roll float64 [n, 3] in radians of the head seen by cameras [n, 25], as
    Deep3DFaceRecon (Deng et al. 2019) defines them.

    For a face that looks to +z of a y-up world, and a camera without roll that looks at it: pitch
    is the angle by which the camera is above, yaw that by which it is displaced towards -x. Roll is
    positive where the face is turned counter-clockwise in the picture. In formulas, the camera's
    axes right, up and backward in the world are the rows of Rz(roll) Ry(yaw) Rx(pitch).
    """
    flip = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)  # right, down, forward
    turn = Camera.from_label(labels.double()).cam2world[:, :3, :3].mT * flip[:, None]
    pitch = torch.atan2(turn[:, 2, 1], turn[:, 2, 2])
    yaw = torch.asin(-turn[:, 2, 0].clamp(-1, 1))
    roll = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
    return torch.stack([pitch, yaw, roll], dim=1)


# -- What they share -------------------------------------------------------------------------------


def _of_each(
    options: MetricOptions,
    pictures: int,
    measure: Callable[[dict[str, Tensor], Tensor], list],
) -> list:
    """A value for each picture; measure(views, cameras) gives those of some."""

    def share() -> dict[int, object]:
        rows = {}
        for part in turns(pictures, options.batch_gen, options):
            c = cameras_of(options, "labels", part).to(options.device)
            view = fixed_views(options, part, c)(c)
            rows |= zip(part, measure(view, c), strict=True)
        return rows

    return in_order(options, share)


def _estimate(name: str, estimate: Estimator, pictures: Tensor, *shape: int | None) -> Tensor:
    """What an estimator returns for n pictures, float64 [n, *shape], None: any size. Raises
    MetricError if it is something else."""
    value = estimate(pictures)
    seen = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    expected = (len(pictures), *shape)
    agrees = isinstance(seen, tuple) and len(seen) == len(expected)
    if not agrees or any(b not in (None, a) for a, b in zip(seen, expected, strict=True)):
        words = ", ".join("any" if size is None else str(size) for size in expected)
        raise MetricError(
            f"the {name} returns {seen} for {len(pictures)} pictures; must be [{words}]"
        )
    return value.double()


def _cosines(a: Tensor, b: Tensor) -> list[float]:
    """Cosines of rows [n, D]; NaN where one of them is zero or not finite."""
    product = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return torch.where(product.isfinite(), product, math.nan).tolist()


def _depth_errors(depth: Tensor, estimate: Tensor, normalise: bool) -> list[float]:
    """Mean squared differences of rendered depths [n, 1, H, H] and estimates [n, 1, h, w], float64;
    NaN where there is too little to compare."""
    covered = estimate.isfinite()
    shares = F.adaptive_avg_pool2d(covered.to(depth), depth.shape[2:])
    sums = F.adaptive_avg_pool2d(torch.where(covered, estimate, 0), depth.shape[2:])
    errors = []
    for ours, theirs, share in zip(depth, sums / shares, shares, strict=True):
        a, b = (values[share >= 0.5] for values in (ours, theirs))
        if normalise:
            a, b = _normalised(a), _normalised(b)
        error = (a - b).square().mean().item()
        errors.append(error if len(a) >= FEWEST_PIXELS else math.nan)
    return errors


def _normalised(values: Tensor) -> Tensor:
    """To mean 0 and variance 1; what is flat becomes 0."""
    centred = values - values.mean()
    return centred / centred.square().mean().sqrt().clamp(min=_FLAT)


def _named(name: str, score: str, values: np.ndarray, unit: str) -> dict[str, float]:
    """The mean of values [n], how many it is of, and how many there are not."""
    used = values[np.isfinite(values)]
    return {
        f"{name}_{score}": float(used.mean()) if len(used) else math.nan,
        f"{name}_{unit}": len(used),
        f"{name}_excluded": len(values) - len(used),
    }
