"""How often each image is drawn in training: all alike, rare poses more often, or as the dataset
says."""

import numpy as np

from training.cameras import LABEL_SIZE
from training.label_file import DatasetError
from training.pose_angles import pose_angles

REBALANCE = ("yaw", "weights")
_ARCS = 9
_MOST = 4  # doublings


def sampling_weights(training_set, rebalance: str | None) -> np.ndarray | None:
    """float64 [len(training_set)] numbers above 0; None: all alike.

    Args:
        rebalance: None; 'yaw', `yaw_weights` of the labels; 'weights', those of the dataset.json.

    Raises DatasetError where the dataset lacks what is wanted.
    """
    if rebalance is None:
        return None
    if rebalance == "yaw":
        if not training_set.has_labels or training_set.has_onehot_labels:
            raise DatasetError(f"{training_set.name}: has no cameras, so nothing to rebalance")
        return yaw_weights(training_set.all_labels()[:, :LABEL_SIZE])
    if rebalance != "weights":
        raise ValueError(f"rebalance is {rebalance!r}, must be None or one of {REBALANCE}")
    weights = training_set.all_weights()
    if weights is None:
        raise DatasetError(
            f'{training_set.name}: has no weights; dataset.json must have "weights": '
            "[[file name, number], ...]"
        )
    return weights


def yaw_weights(labels: np.ndarray) -> np.ndarray:
    """1, 2, 4, 8 or 16 for each of the camera labels [N, 25]: more for views from rare sides.

    The range of yaw is cut into nine equal arcs. A view has the square root of what would make all
    arcs alike, rounded to a power of two, so that rare sides count more and are not copied without
    end. For the arcs of FFHQ these are the numbers of copies in the published rebalanced set.
    """
    yaw = pose_angles(labels).yaw
    first, span = _occupied_range(yaw)
    arcs = np.floor(np.mod(yaw - first, 360) / max(span, 1e-9) * _ARCS)
    arcs = np.clip(arcs, 0, _ARCS - 1).astype(np.int64)
    counts = np.bincount(arcs, minlength=_ARCS)
    share = counts.max() / np.maximum(counts, 1)
    doublings = np.clip(np.rint(np.log2(share) / 2), 0, _MOST)
    return 2.0 ** doublings[arcs]


def _occupied_range(yaw: np.ndarray) -> tuple[float, float]:
    """Where views begin, and over how many degrees they go: the circle without its largest gap."""
    places = np.sort(yaw)
    gaps = np.diff(places, append=places[0] + 360)
    widest = int(np.argmax(gaps))
    return float(places[(widest + 1) % len(places)]), float(360 - gaps[widest])
