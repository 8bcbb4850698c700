"""Parts of the page as SVG: histograms, and the box and axes over a picture."""

import base64
import html
import io

import numpy as np
from PIL import Image

from training.cameras import POSE_SIZE

_BINS = 37
_NEAR = 0.05  # distance in front of a camera at which lines are cut off
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
EDGES = [
    (a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(CORNERS[a] - CORNERS[b]).sum() == 2
]
_AXES = (("x", "#e5484d"), ("y", "#30a46c"), ("z", "#3e63dd"))
UNITS = dict(yaw="°", pitch="°", roll="°", radius="", focal="")


def histogram(name: str, values: np.ndarray) -> str:
    """Counts of values as bars, with the range and the median."""
    values = np.round(values, 3)
    low, high = float(values.min()), float(values.max())
    least = 1.0 if UNITS[name] else 0.02 * max(abs(high), 1e-6)
    if high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    counts, _ = np.histogram(values, bins=_BINS, range=(low, high))
    width = 100 / _BINS
    bars = "".join(
        f'<rect x="{k * width:.2f}" y="{40 - 38 * count / counts.max():.2f}" '
        f'width="{width - 0.5:.2f}" height="{38 * count / counts.max():.2f}"/>'
        for k, count in enumerate(counts)
        if count
    )
    middle = float(np.median(values)) + 0.0
    mark = 100 * (middle - low) / (high - low)
    unit = UNITS[name]
    return (
        f'<figure class="histogram"><figcaption>{name} <b>{middle:.4g}{unit}</b></figcaption>'
        f'<svg viewBox="0 0 100 40" preserveAspectRatio="none">{bars}'
        f'<line x1="{mark:.2f}" x2="{mark:.2f}" y1="0" y2="40"/></svg>'
        f'<p class="ends"><span>{low:.4g}{unit}</span><span>{high:.4g}{unit}</span></p></figure>'
    )


def projected(points: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places [n, 2] in a picture that spans [0, 1], and depths [n], of points [n, 3]."""
    pose, lens = label[:POSE_SIZE].reshape(4, 4), label[POSE_SIZE:].reshape(3, 3)
    seen = (points - pose[:3, 3]) @ pose[:3, :3]
    with np.errstate(divide="ignore", invalid="ignore"):
        place = seen @ lens.T / seen[:, 2:]
    return place[:, :2], seen[:, 2]


def overlay(label: np.ndarray, box: float) -> str:
    """The cube of side `box` around the origin, and the axes, as lines over a picture."""
    corners = CORNERS * box / 2
    lines = [_line(corners[a], corners[b], label, 'class="box"') for a, b in EDGES]
    for axis, (name, colour) in zip(np.eye(3) * box / 2, _AXES, strict=True):
        lines.append(_line(np.zeros(3), axis, label, f'class="axis" stroke="{colour}"'))
        (x, y), depth = (value[0] for value in projected(axis[None], label))
        if depth > _NEAR:
            lines.append(f'<text x="{x:.4f}" y="{y:.4f}" fill="{colour}">{name}</text>')
    return f'<svg viewBox="0 0 1 1" preserveAspectRatio="none">{"".join(lines)}</svg>'


def _line(start: np.ndarray, end: np.ndarray, label: np.ndarray, style: str) -> str:
    """Cut off where it goes behind the camera."""
    _, depths = projected(np.stack([start, end]), label)
    if depths.max() <= _NEAR:
        return ""
    if depths.min() < _NEAR:
        share = (_NEAR - depths[0]) / (depths[1] - depths[0])
        cut = start + share * (end - start)
        start, end = (cut, end) if depths[0] < _NEAR else (start, cut)
    ((x1, y1), (x2, y2)), _ = projected(np.stack([start, end]), label)
    return f'<line {style} x1="{x1:.4f}" y1="{y1:.4f}" x2="{x2:.4f}" y2="{y2:.4f}"/>'


def picture(pixels: np.ndarray, name: str, side: int, over: str = "", note: str = "") -> str:
    """A picture uint8 [H, W] or [H, W, 3] of at most `side` pixels with something over it and a
    note below, in the page itself."""
    image = Image.fromarray(pixels).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(name, quote=True)
    below = f"<figcaption>{html.escape(note)}</figcaption>" if note else ""
    return (
        f'<figure class="picture" title="{text}"><div>'
        f'<img alt="{text}" src="data:image/jpeg;base64,{data}">{over}</div>{below}</figure>'
    )
