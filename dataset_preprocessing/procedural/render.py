"""Pictures of a model: colour, true depth and part ids for one camera label."""

from typing import NamedTuple

import numpy as np

from dataset_preprocessing.procedural.categories import Model, model_parts
from dataset_preprocessing.procedural.geometry import Rays
from dataset_preprocessing.procedural.parts import Part

# Two lamps, mirror images of each other, so that a flipped picture is the mirrored camera's.
_LAMP = np.array([0.62, 0.68, 0.40]) / np.linalg.norm([0.62, 0.68, 0.40])
_AMBIENT, _SKY, _DIFFUSE = 0.42, 0.25, 0.31
_GLINT, _GLINT_POWER, _REFLECTION = 0.22, 24, 0.16


class Rendering(NamedTuple):
    """A picture of R x R pixels.

    image [R, R, 3] uint8 RGB on white; depth [R, R] float32, Euclidean distance from the camera
    centre along the ray through the pixel's centre, inf on the background; segmentation [R, R]
    uint8, part ids (`Segment` of a car, `ChairSegment` of a chair) at the pixels' centres.
    """

    image: np.ndarray
    depth: np.ndarray
    segmentation: np.ndarray


def render_model(model: Model, label: np.ndarray, resolution: int, samples: int = 3) -> Rendering:
    """Render a car or chair from a camera label [25] with `samples` x `samples` rays a pixel.

    `samples` is odd, so that one ray passes through each pixel's centre. Raises ValueError on bad
    sizes, a bad label or a camera that is not outside the model.
    """
    if resolution < 1 or samples < 1 or samples % 2 == 0:
        raise ValueError(
            f"resolution must be positive and samples odd, got {resolution} and {samples}"
        )
    rays = Rays.of_label(label, resolution * samples)
    parts = model_parts(model)
    inverse_depth, owner = _nearest(rays, parts)
    colour = np.ones((*owner.shape, 3), dtype=np.float32)
    segment = np.zeros(owner.shape, dtype=np.uint8)
    for index, part in enumerate(parts):
        rows, columns = np.nonzero(owner == index)
        if len(rows):
            directions = rays.directions(rows, columns)
            shaded = _shade(part, rays.origin, directions, inverse_depth[rows, columns])
            colour[rows, columns], segment[rows, columns] = shaded
    image = colour.reshape(resolution, samples, resolution, samples, 3).mean((1, 3))
    centre = slice(samples // 2, None, samples)
    return Rendering(
        (image * 255 + 0.5).astype(np.uint8),
        _ray_depth(rays, inverse_depth)[centre, centre],
        segment[centre, centre],
    )


render_car = render_model  # its name from when there were only cars; programs use it


def _nearest(rays: Rays, parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Inverse depth [H, W] of the nearest part, 0 where there is none, and its index or -1."""
    nearest = np.zeros((len(rays.y), len(rays.x)), dtype=np.float32)
    owner = np.full(nearest.shape, -1, dtype=np.int8)
    for index, part in enumerate(parts):
        window = rays.window(part.solid.corners)
        candidate = rays.inverse_depth(part.solid, *window)
        closer = candidate > nearest[window]
        nearest[window][closer] = candidate[closer]
        owner[window][closer] = index
    return nearest, owner


def _ray_depth(rays: Rays, inverse_depth: np.ndarray) -> np.ndarray:
    stretch = np.sqrt(1 + rays.x[None, :] ** 2 + rays.y[:, None] ** 2)
    with np.errstate(divide="ignore"):
        return (stretch / inverse_depth).astype(np.float32)


def _shade(
    part: Part, origin: np.ndarray, directions: np.ndarray, inverse_depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colours [N, 3] in 0..1 and segment ids [N] of the points that N rays hit."""
    points = origin.astype(np.float32) + directions / inverse_depth[:, None]
    planes = part.solid.plane_distances(points)
    normals = part.solid.shading_normals(planes)
    coat = part.paint.coat(points, normals, planes)
    view = -directions / np.linalg.norm(directions, axis=1, keepdims=True)
    facing = np.clip((normals * view).sum(1), 0, 1)
    light = _AMBIENT + _SKY * (0.5 + 0.5 * normals[:, 1])
    glint = np.zeros_like(light)
    for side in (1, -1):
        lamp = (_LAMP * [side, 1, 1]).astype(np.float32)
        light += _DIFFUSE * np.clip((normals * lamp).sum(1), 0, None)
        half = view + lamp
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        glint += np.clip((normals * half).sum(1), 0, 1) ** _GLINT_POWER
    # The sky mirrored in paint and glass: stronger at grazing angles and towards the zenith.
    mirrored_up = 2 * facing * normals[:, 1] - view[:, 1]
    sky = np.clip(mirrored_up, 0, 1) * (0.35 + 0.65 * (1 - facing) ** 3)
    shine = coat.gloss * (_GLINT * glint + _REFLECTION * sky)
    colour = coat.colour * light[:, None] + shine[:, None]
    return np.clip(colour, 0, 1), coat.segment
