"""Can one scene explain all views of a subject? PSNR_mv and SSIM_mv, by a reconstructor of ours.

The protocol of GRAM-HD (Xiang et al. 2022) and Mimic3D (Chen et al. 2023): a scene is fitted to
pictures from known cameras, and compared with them. They fit NeuS (Wang et al. 2021) at full size;
here it is `metrics.view_fitting`. So values of models that are measured here can be compared with
each other, but not with published ones.
"""

import numpy as np
import torch
import torch.nn.functional as F
import tqdm
from torch import Tensor

from metrics.fixed_views import fixed_views
from metrics.image_similarity import psnr, ssim
from metrics.options import MetricOptions
from metrics.pose_distribution import fit
from metrics.reprojection import turned
from metrics.samples import in_order, real_labels, turns
from metrics.view_fitting import FitSettings, fit_views
from training.cameras import Camera, look_at

_WIDEST = np.pi / 3  # between the mean direction and the ends of the arc, in radians
_INNER = (0.05, 0.95)  # quantiles of the directions of real cameras
_HIGHEST = 60.0  # dB; what is rounded to 8 bits agrees no better than to 59 with what is not


def arc_cameras(labels: Tensor, views: int) -> Camera:
    """`views` cameras, float64, on an arc through the middle of real cameras, labels [N, 25].

    It is horizontal, around the vertical through the point that the real cameras look at, with
    their median distance and elevation seen from there, and their median lens. It covers the
    directions of 90 % of them, but no more than 60 degrees to either side of their mean; the views
    are in the middles of equal parts of it, so that a single one is in the middle.
    """
    scene, real = fit(labels), Camera.from_label(labels.double())
    up, pivot = (torch.tensor(v).to(real.cam2world) for v in (scene.up, scene.pivot))
    offset = real.cam2world[:, :3, 3] - pivot
    height = offset @ up
    ring = offset - height[:, None] * up
    mean = ring.sum(0)
    if mean.norm() < 1e-6 * ring.norm(dim=1).sum():
        mean = ring[0]  # all around, none is the middle
    front = F.normalize(mean, dim=0)
    azimuth = torch.atan2(ring @ torch.linalg.cross(up, front), ring @ front)
    elevation = torch.atan2(height, ring.norm(dim=1)).median()
    direction = elevation.cos() * front + elevation.sin() * up
    pose = look_at((pivot + offset.norm(dim=1).median() * direction)[None], pivot, up)
    lens = real.intrinsics.median(0).values.expand(views, 3, 3)
    first, last = azimuth.quantile(azimuth.new_tensor(_INNER)).clamp(-_WIDEST, _WIDEST)
    angles = first + (last - first) * (torch.arange(views).to(first) + 0.5) / views
    return turned(Camera(pose.expand(views, 4, 4), lens), angles, up, pivot)


def multi_view_consistency(
    options: MetricOptions, subjects: int = 50, views: int = 30, side: int = 128, **fit_settings
) -> dict[str, float]:
    """How well one scene explains all views of a subject; to be called in all processes.

    Each subject is conditioned on the middle of the arc of `arc_cameras`, and seen from its `views`
    cameras. Samples along rays are fixed, noise is constant. Pictures of more than `side` pixels
    are averaged down to that, all are rounded to 8 bits, and compared with what is rendered of the
    scene that is fitted to them, likewise rounded.

    Args:
        side: 11 at least.
        fit_settings: fields of `metrics.view_fitting.FitSettings`.

    Returns mv_psnr in dB, of which a view counts 60 at most, and mv_ssim; means over the views of
    all subjects. Raises DatasetError, ValueError.
    """
    settings = FitSettings(**fit_settings)
    for name, number, least in (("subjects", subjects, 1), ("views", views, 2), ("side", side, 11)):
        if number < least:
            raise ValueError(
                f"{name} of multi-view consistency is {number}; must be {least} at least"
            )

    def share() -> dict[int, list[float]]:
        labels, rows = real_labels(options), {}
        cameras, middle = (arc_cameras(labels, n).to(options.device) for n in (views, 1))
        quiet = None if options.verbose and options.rank == 0 else True
        for part in tqdm.tqdm(list(turns(subjects, 1, options)), "scenes", disable=quiet):
            seen = subject_views(options, part, middle, cameras, side)
            rows[part.start] = _agreement(seen, cameras, options, settings)
        return rows

    psnr_mv, ssim_mv = np.mean(in_order(options, share), axis=0).tolist()
    return {"mv_psnr": psnr_mv, "mv_ssim": ssim_mv}


def subject_views(
    options: MetricOptions, subject: range, condition: Camera, cameras: Camera, side: int
) -> Tensor:
    """Pictures [V, 3, R, R] in [0, 1] of one subject, conditioned on one camera, from V cameras;
    in steps of 1/255, and R at most `side`."""
    look = fixed_views(options, subject, condition.label())
    parts = [look(c)["image"] for c in cameras.label().split(options.batch_gen)]
    pictures = (torch.cat(parts) + 1) / 2
    if pictures.shape[2] > side:
        pictures = F.interpolate(pictures, (side, side), mode="area")
    return _rounded(pictures)


def _agreement(
    pictures: Tensor, cameras: Camera, options: MetricOptions, settings: FitSettings
) -> list[float]:
    """PSNR and SSIM of the views [V, 3, R, R] of a subject and of what is fitted to them, means."""
    scene = fit_views(
        pictures, cameras, options.G.rendering_kwargs["box_warp"], settings, options.seed
    )
    again = _rounded(scene.render(cameras, pictures.shape[2]))
    found = psnr(pictures, again).clamp(max=_HIGHEST), ssim(pictures, again)
    return [float(values.mean()) for values in found]


def _rounded(pictures: Tensor) -> Tensor:
    return (pictures * 255).round() / 255
