"""Do two views of a subject show the same thing? One is warped into the other by its own depth.

A cheap stand-in for the multi-view consistency of GRAM-HD (Xiang et al. 2022), which fits a surface
to many views; the values of the two cannot be compared. A scene that is empty, flat or without
texture is consistent too: read this beside measures of quality and shape. Nor does a perfect model
score without limit: bilinear sampling blurs sharp edges, and gloss depends on the view.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.fixed_views import fixed_views
from metrics.image_similarity import psnr, ssim
from metrics.options import MetricOptions
from metrics.pose_distribution import fit
from metrics.samples import in_order, picks, real_labels, turns
from training.cameras import Camera
from training.surfaces import OPAQUE, surface_points

_TURN = math.radians(10)  # between the two views of a pair
_TOLERANCE = 0.02  # of depths that agree, as a share of the side of the box
_ALL = 0.999  # a mask that is sampled bilinearly exceeds this only where all its pixels are set


@dataclass(frozen=True, eq=False)
class View:
    """What N cameras see: pictures [N, C, H, H]; depth, the distance along the ray in world units,
    and opacity, both [N, 1, H, H]."""

    picture: Tensor
    depth: Tensor
    opacity: Tensor
    camera: Camera

    @property
    def opaque(self) -> Tensor:
        """Which pixels show a surface, bool [N, 1, H, H]."""
        return self.opacity > OPAQUE

    def with_picture(self, picture: Tensor) -> "View":
        """With pictures [N, C, R, R] of another size, depth and opacity interpolated. Depths weigh
        as much as they are opaque: those of empty pixels mean nothing."""
        size = picture.shape[2:]
        opacity = F.interpolate(self.opacity, size, mode="bilinear")
        weighted = F.interpolate(self.depth * self.opacity, size, mode="bilinear")
        depth = weighted / opacity.clamp(min=torch.finfo(opacity.dtype).tiny)
        return View(picture, depth, opacity, self.camera)


def reproject(a: View, b: View, tolerance: float) -> tuple[Tensor, Tensor]:
    """Pictures of b as seen from a, float64 [N, C, H, H], and which pixels are co-visible, bool
    [N, 1, H, H].

    Each opaque pixel of a shows a point of a surface, whose image in b is sampled bilinearly. It is
    co-visible if the four pixels of b that this takes are in the picture and opaque, and their
    depths differ from the distance of the point by at most `tolerance`, in world units: the root
    mean square, weighted as the colours are. So neither what is hidden nor the edge of what hides
    it is compared. Where a pixel is not co-visible, the picture is that of a.
    """
    depth, depth_b = (torch.where(view.opaque, view.depth.double(), 0) for view in (a, b))
    points = surface_points(depth, a.camera.to(depth))
    places, distance = _project(points, b.camera.to(depth))
    layers = torch.cat([b.picture.to(depth), b.opaque.to(depth), depth_b, depth_b**2], dim=1)
    sampled = F.grid_sample(layers, places * 2 - 1, align_corners=False)
    picture, opaque, mean, square = sampled.tensor_split([-3, -2, -1], dim=1)
    error = square - 2 * distance * mean + distance**2
    covisible = a.opaque & (opaque > _ALL) & (error <= tolerance**2)
    return torch.where(covisible, picture, a.picture.to(depth)), covisible


def compare(a: View, b: View, tolerance: float, data_range: float = 2.0) -> dict[str, Tensor]:
    """How alike a and b warped into it are, each float64 [N].

    'psnr' in dB and 'ssim' of co-visible pixels, of pictures whose values lie `data_range` apart at
    most; NaN without such pixels. 'covisible': their share of the opaque pixels of a; 0 without
    any.
    """
    warped, covisible = reproject(a, b, tolerance)
    picture = a.picture.to(warped)
    seen, of = (mask.flatten(1).sum(1).double() for mask in (covisible, a.opaque))
    return {
        "psnr": psnr(picture, warped, covisible, data_range),
        "ssim": ssim(picture, warped, covisible, data_range),
        "covisible": seen / of.clamp(min=1),
    }


def turned(camera: Camera, angle: Tensor, axis: Tensor, pivot: Tensor) -> Camera:
    """N cameras turned about the line through `pivot` [3] along the unit vector `axis` [3] by
    angles [N] in radians, counter-clockwise where the axis points at the onlooker."""
    eye = torch.eye(3).to(axis)
    cross = torch.linalg.cross(axis.expand(3, 3), eye).T  # cross @ v is axis x v
    sine, cosine = angle.sin()[:, None, None], angle.cos()[:, None, None]
    move = torch.eye(4).to(axis).repeat(len(angle), 1, 1)
    move[:, :3, :3] = eye + sine * cross + (1 - cosine) * cross @ cross  # Rodrigues' formula
    move[:, :3, 3] = pivot - move[:, :3, :3] @ pivot
    return Camera(move @ camera.cam2world, camera.intrinsics)


def partners(labels: Tensor, reals: Tensor) -> Tensor:
    """The cameras [N, 25] that the views from `labels` [N, 25] are compared with: those turned by
    10 degrees about the vertical through the point that the real cameras `reals` [M, 25] look at.

    Towards the mean of the real cameras, so that faces stay in the range of views that was learned.
    """
    scene = fit(reals)
    camera, centres = Camera.from_label(labels.double()), Camera.from_label(reals.double())
    up, pivot = (torch.tensor(v).to(labels.double()) for v in (scene.up, scene.pivot))
    middle = centres.cam2world[:, :3, 3].mean(0) - pivot
    forth = torch.linalg.cross(up.expand(len(labels), 3), camera.cam2world[:, :3, 3] - pivot)
    angle = torch.where(forth @ middle >= 0, _TURN, -_TURN).to(up)
    return turned(camera, angle, up, pivot).label().to(labels)


def reprojection_consistency(
    options: MetricOptions, subjects: int = 100, views: int = 4
) -> dict[str, float]:
    """How well pairs of generated views agree on what both show; to be called in all processes.

    Each subject is conditioned on the camera of a random real picture, and seen from it and
    `views` - 1 more, each time beside the view from the camera 10 degrees on (`partners`). Samples
    along rays are fixed, noise is constant. Depths agree within 2 % of the side of the box.

    Returns means over the pairs that have co-visible pixels, NaN where none has: reprojection_psnr
    and reprojection_ssim of the final pictures, with depths interpolated, reprojection_psnr_raw of
    the renderings that super-resolution starts from; and over all pairs reprojection_covisible, the
    share of the surface in one view that the other shows too. Raises DatasetError.
    """

    def share() -> dict[int, list[float]]:
        labels, rows = real_labels(options), {}
        first = labels[picks(range(subjects * views), len(labels), options.seed)]
        second = partners(first, labels)
        for part in turns(subjects, options.batch_gen, options):
            pairs = range(part.start * views, part.stop * views)
            mine = slice(pairs.start, pairs.stop)
            values = _measure(options, part, first[mine], second[mine])
            rows |= zip(pairs, values, strict=True)
        return rows

    columns = np.array(in_order(options, share)).T
    names = ("psnr", "ssim", "psnr_raw", "covisible")
    return {f"reprojection_{n}": _mean(c) for n, c in zip(names, columns, strict=True)}


def _measure(
    options: MetricOptions, numbers: range, first: Tensor, second: Tensor
) -> list[list[float]]:
    """psnr, ssim, psnr_raw and covisible of pairs of views of some successive subjects, which all
    have the same number; camera labels [pairs, 25]."""
    tolerance = _TOLERANCE * options.G.rendering_kwargs["box_warp"]
    first, second = (c.to(options.device).unflatten(0, (len(numbers), -1)) for c in (first, second))
    render = fixed_views(options, numbers, first[:, 0])

    def look(c: Tensor) -> tuple[View, View]:
        """The final picture and the rendering."""
        out = render(c)
        depth, opacity = out["image_depth"], out["image_opacity"]
        view = View(out["image_raw"], depth, opacity, Camera.from_label(c))
        return view.with_picture(out["image"]), view

    def rows(k: int) -> Tensor:
        (a, raw_a), (b, raw_b) = look(first[:, k]), look(second[:, k])
        final = compare(a, b, tolerance)
        warped, covisible = reproject(raw_a, raw_b, tolerance)
        raw = psnr(raw_a.picture, warped, covisible, data_range=2)
        return torch.stack([final["psnr"], final["ssim"], raw, final["covisible"]], dim=1)

    views = first.shape[1]
    return torch.stack([rows(k) for k in range(views)], dim=1).flatten(0, 1).tolist()


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def _project(points: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Where in the pictures of N cameras world points [N, 3, H, W] are, in [0, 1] [N, H, W, 2], and
    how far from the camera [N, 1, H, W]. What is not in front of it is far outside."""
    offset = points - camera.cam2world[:, :3, 3, None, None]
    seen = torch.einsum("nij,njhw->nihw", torch.linalg.inv(camera.cam2world[:, :3, :3]), offset)
    depth = seen[:, 2:]
    flat = torch.where(depth > 0, seen / depth, 1e6)
    places = torch.einsum("nij,njhw->nhwi", camera.intrinsics[:, :2], flat)
    return places, offset.norm(dim=1, keepdim=True)
