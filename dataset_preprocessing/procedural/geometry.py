"""Convex solids with rounded edges, and the rays of a camera against them.

A solid is the set of points p with n_i . p <= h_i for all of its planes. Rounding adds the tangent
planes of a sphere rolled along every edge and corner, so that one primitive serves boxes, cabins
and (as prisms of many sides) wheels, and everything about it is exact: distance, depth, normal.
"""

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

# Distance, in world units, over which the shading normals of neighbouring planes blend.
_BLEND = 0.011
_ON_PLANE = 1e-7


@dataclass(frozen=True)
class Solid:
    """Intersection of the half spaces `normals` [P, 3] (unit) . p <= `offsets` [P].

    The first planes are the faces before rounding, in the order they were given; `corners` [V, 3]
    are the vertices before rounding, whose convex hull holds the solid.
    """

    normals: np.ndarray
    offsets: np.ndarray
    corners: np.ndarray

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Implicit function [...] of points [..., 3]: negative inside, 0 on the surface."""
        return self.plane_distances(points).max(-1)

    def plane_distances(self, points: np.ndarray) -> np.ndarray:
        """Signed distance [..., P] of points [..., 3] to every plane, positive outside."""
        normals = self.normals.astype(points.dtype)
        distance = points[..., :1] * normals[:, 0] - self.offsets.astype(points.dtype)
        distance += points[..., 1:2] * normals[:, 1]
        distance += points[..., 2:] * normals[:, 2]
        return distance

    def shading_normals(self, plane_distances: np.ndarray) -> np.ndarray:
        """Unit normals [N, 3] at surface points, blended across edges so that no facet shows."""
        weights = np.exp(plane_distances / plane_distances.dtype.type(_BLEND))
        # einsum and sums, not matmul: BLAS would start threads of its own in every worker.
        columns = np.ascontiguousarray(self.normals.T, dtype=weights.dtype)
        normals = np.einsum("np,cp->nc", weights, columns)
        return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def rounded(planes: list[tuple[tuple[float, float, float], float]], radius: float) -> Solid:
    """Solid with the faces `planes` [(normal of any length, offset)], edges rounded by `radius`.

    An offset counts along the normal as given: the plane is normal . p = offset. Raises ValueError
    when the planes enclose no volume.
    """
    normals = np.array([normal for normal, _ in planes], dtype=np.float64)
    lengths = np.linalg.norm(normals, axis=1)
    offsets = np.array([offset for _, offset in planes]) / lengths
    normals /= lengths[:, None]
    corners, touches = _vertices(normals, offsets)
    if len(corners) < 4:
        raise ValueError("the planes of a solid enclose no volume")
    weights = [row for row in np.eye(len(planes))]
    if radius > 0:
        shared = touches.astype(int).T @ touches.astype(int)
        for i, j in combinations(range(len(planes)), 2):
            if shared[i, j] >= 2:
                weights += [_mix(len(planes), {i: a, j: b}) for a, b in ((2, 1), (1, 1), (1, 2))]
        weights += [row.astype(np.float64) for row in touches]
    weights = np.array(weights)
    tangents = weights @ normals
    scale = 1 / np.linalg.norm(tangents, axis=1)
    # A rounded solid is the solid shrunk by the radius and grown again by a ball: its support in
    # the direction sum(w n) is the weighted sum of the shrunk offsets, plus the radius.
    support = (weights @ (offsets - radius)) * scale + radius
    return Solid(tangents * scale[:, None], support, corners)


def box(low: tuple[float, float, float], high: tuple[float, float, float], radius: float) -> Solid:
    """Axis-aligned rounded box between the corners `low` and `high`."""
    planes = []
    for axis in range(3):
        normal = np.eye(3)[axis]
        planes += [(tuple(normal), high[axis]), (tuple(-normal), -low[axis])]
    return rounded(planes, radius)


def disc(center: tuple[float, float, float], radius: float, half_width: float, sides: int) -> Solid:
    """Wheel: prism of `sides` sides around the x axis; `radius` is that of the outer corners."""
    bevel = 0.22 * radius
    angles = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    tread = np.stack([np.zeros(sides), np.cos(angles), np.sin(angles)], 1)
    normals = [(1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), *tread]
    offsets = [half_width, half_width] + [radius * np.cos(np.pi / sides)] * sides
    for side in (1.0, -1.0):
        shoulder = tread + np.array([side, 0, 0])
        normals += list(shoulder / np.sqrt(2))
        offsets += [(radius + half_width - bevel) / np.sqrt(2)] * sides
    normals = np.array(normals)
    corners = np.array(
        list(product((-half_width, half_width), (-radius, radius), (-radius, radius)))
    )
    centre = np.array(center)
    return Solid(normals, np.array(offsets) + normals @ centre, corners + centre)


def frustum(
    low: tuple[float, float, float],
    high: tuple[float, float, float],
    low_radius: float,
    high_radius: float,
    sides: int,
) -> Solid:
    """Frustum of `sides` sides between level ends around `low` and, further up, `high`, whose radii
    are those of the inscribed circles."""
    rise = high[1] - low[1]
    planes = [((0.0, 1.0, 0.0), high[1]), ((0.0, -1.0, 0.0), -low[1])]
    for angle in 2 * np.pi * (np.arange(sides) + 0.5) / sides:
        x, z = float(np.sin(angle)), float(np.cos(angle))
        # The plane holds the outermost points of both circles in the direction (x, z).
        bottom, top = (x * p[0] + z * p[2] for p in (low, high))
        slope = (bottom + low_radius - top - high_radius) / rise
        planes.append(((x, slope, z), bottom + low_radius + slope * low[1]))
    return rounded(planes, 0.0)


def _mix(count: int, parts: dict[int, float]) -> np.ndarray:
    row = np.zeros(count)
    for index, weight in parts.items():
        row[index] = weight
    return row


def _vertices(normals: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners [V, 3] of a polytope and which planes pass through each, [V, P] bool."""
    triples = np.array(list(combinations(range(len(normals)), 3)))
    matrices = normals[triples]
    solvable = np.abs(np.linalg.det(matrices)) > 1e-6
    points = np.linalg.solve(matrices[solvable], offsets[triples[solvable]][..., None])[..., 0]
    points = points[(points @ normals.T <= offsets + _ON_PLANE).all(1)]
    points = np.unique(points.round(9), axis=0)
    return points, np.abs(points @ normals.T - offsets) <= 1e-6


@dataclass(frozen=True)
class Rays:
    """Rays of a pinhole camera through a grid of samples; a ray is origin + depth_z * direction.

    rotation [3, 3] and origin [3] are the cam2world matrix's; x [W] and y [H] are the samples'
    coordinates on the plane at distance 1 in front of the camera (skew is not supported).
    """

    rotation: np.ndarray
    origin: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @classmethod
    def of_label(cls, label: np.ndarray, size: int) -> "Rays":
        """Rays through the centres of size x size samples for a camera label [25].

        Raises ValueError on a label of another length, not finite or with skew.
        """
        label = np.asarray(label, dtype=np.float64).reshape(-1)
        if label.size != 25 or not np.isfinite(label).all():
            raise ValueError(f"a camera label is 25 finite numbers, got {label.size} numbers")
        pose, intrinsics = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
        if intrinsics[0, 1] != 0:
            raise ValueError(f"skew is not supported, got {intrinsics[0, 1]:g}; it should be 0")
        centres = (np.arange(size) + 0.5) / size
        x = (centres - intrinsics[0, 2]) / intrinsics[0, 0]
        y = (centres - intrinsics[1, 2]) / intrinsics[1, 1]
        return cls(pose[:3, :3], pose[:3, 3], x, y)

    def directions(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """World directions [N, 3] (float32, 1 along the optical axis) of the given samples."""
        right, down, forward = self.rotation.T
        world = self.x[columns, None] * right + self.y[rows, None] * down + forward
        return world.astype(np.float32)

    def window(self, corners: np.ndarray) -> tuple[slice, slice]:
        """(rows, columns) of the samples that can see the convex hull of `corners` [V, 3].

        Raises ValueError when part of it is not in front of the camera.
        """
        local = (corners - self.origin) @ self.rotation
        if (local[:, 2] <= 1e-3).any():
            raise ValueError("the camera is inside or in front of the object; move it further away")
        u, v = local[:, 0] / local[:, 2], local[:, 1] / local[:, 2]
        rows = np.searchsorted(self.y, [v.min(), v.max()])
        columns = np.searchsorted(self.x, [u.min(), u.max()])
        return slice(*rows), slice(*columns)

    def inverse_depth(self, solid: Solid, rows: slice, columns: slice) -> np.ndarray:
        """1 / depth along the optical axis [h, w] float32 where rays enter the solid, else 0.

        On a plane, n . (o + d / s) = h gives s = n . d / (h - n . o), and d is affine in the
        image coordinates: a plane costs one addition and one comparison a sample. The ray enters
        through the farthest plane that faces the camera and leaves through the nearest other one.
        """
        distance = solid.normals @ self.origin - solid.offsets
        slopes = -(solid.normals @ self.rotation) / distance[:, None]
        along_x = np.outer(slopes[:, 0], self.x[columns]).astype(np.float32)
        along_y = (np.outer(slopes[:, 1], self.y[rows]) + slopes[:, 2:]).astype(np.float32)
        shape = (along_y.shape[1], along_x.shape[1])
        enter = np.full(shape, np.inf, dtype=np.float32)
        leave = np.zeros(shape, dtype=np.float32)
        plane = np.empty(shape, dtype=np.float32)
        for index, facing in enumerate(distance > 0):
            np.add(along_y[index][:, None], along_x[index], out=plane)
            if facing:
                np.minimum(enter, plane, out=enter)
            else:
                np.maximum(leave, plane, out=leave)
        return np.where((enter > leave) & np.isfinite(enter), enter, np.float32(0))
