"""Seeing trouble early: what a few fixed samples of a generator look like, as numbers.

Everything is measured on pictures without super-resolution, of one size, with the same latents,
cameras and random numbers all through a run, so that curves mean something.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from training import surfaces
from training.cameras import Camera
from training.views import FullView
from training.volumetric_rendering.depths import ray_limits
from training.volumetric_rendering.draws import FixedDraws
from training.volumetric_rendering.math_utils import get_ray_limits_box
from training.volumetric_rendering.options import RenderingOptions

OPACITY = "Health/opacity"
OPAQUE = "Health/opaque"
NEAR = "Health/near"
DEPTH_SPREAD = "Health/depth_spread"
NORMAL_VARIANCE = "Health/normal_variance"
SAMPLES = "Health/samples"
VIEWS = "Health/views"
NAMES = (OPACITY, OPAQUE, NEAR, DEPTH_SPREAD, NORMAL_VARIANCE, SAMPLES, VIEWS)

# A ray with more opacity than this meets something solid. Higher than for a surface in a picture
# (surfaces.OPAQUE), so that fog stands out: it makes surfaces that nothing solid makes.
SOLID = 0.9

# Below (above) these something is wrong; tests/training/test_health.py has the scenes between which
# they lie.
EMPTY_OPACITY = 0.01
FOG_SHARE = 0.1
FILLED_NEAR = 0.9
FLAT_SPREAD = 0.02
FLAT_VARIANCE = 0.05
ALIKE = 0.03


class Health:
    """Measures generators on a few fixed latents and cameras.

    Args:
        z: [N, z_dim] latents.
        c: [N, 25] cameras, to look from; latents are conditioned on the first of them.
        side: of the pictures that are rendered, whatever the rendering resolution of training is.
        chunk: pictures rendered at a time.
    """

    def __init__(self, z: Tensor, c: Tensor, side: int = 32, chunk: int = 4):
        self.z = z
        self.c = c
        self.side = side
        self.chunk = chunk

    @torch.no_grad()
    def measure(self, G: torch.nn.Module) -> dict[str, float]:
        """The measures of `NAMES`, of all identities from one camera and one from all cameras.

        Health/opacity: mean opacity.
        Health/opaque: share of the rays that meet something solid (opacity above 0.9).
        Health/near: share of the rays that end where they enter the box or the range of depths.
        Health/depth_spread: root mean square distance of a picture's surface from its best plane,
            in box sides. (The depths' own deviation would take a slanted plane for a shape.)
        Health/normal_variance: 1 - length of a picture's mean normal.
        Health/samples, Health/views: deviation of the colours of [-1, 1] between the identities,
            and between the views of one of them, where these are not transparent.

        Those of surfaces and colours are 0 where there are none, so that every measure is finite
        as long as the weights are.
        """
        first = self.c[:1]
        planes = [
            G.planes(G.mapping(z, first.expand(len(z), -1)), noise_mode="const")
            for z in self.z.split(self.chunk)
        ]
        identities = [self._render(G, part, first.expand(len(part), -1)) for part in planes]
        views = [
            self._render(G, planes[0][:1].expand(len(c), -1, -1, -1, -1), c)
            for c in self.c[1:].split(self.chunk)
        ]
        pictures = _joined(identities + views)
        turned = _joined([{name: part[:1] for name, part in identities[0].items()}, *views])
        measures = {
            OPACITY: pictures["opacity"].mean(),
            OPAQUE: (pictures["opacity"] > SOLID).float().mean(),
            NEAR: pictures["near"].float().mean(),
            **_shape(pictures, G.rendering_kwargs["box_warp"]),
            SAMPLES: variation(**_looks(_joined(identities))),
            VIEWS: variation(**_looks(turned)),
        }
        return dict(zip(measures, torch.stack(list(measures.values())).tolist(), strict=True))

    def _render(self, G: torch.nn.Module, planes: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Pictures [N, K, side, side] of planes [N, 3, C, H, W] from cameras c [N, 25]."""
        camera = Camera.from_label(c)
        options = RenderingOptions.from_kwargs(G.rendering_kwargs)
        origins, directions = FullView(self.side).rays(camera)
        features, depth, opacity = G.march(planes, origins, directions, options, FixedDraws())
        near = (depth < entrances(origins, directions, options)) & (opacity > SOLID)
        rays = dict(raw=features[..., :3], depth=depth, opacity=opacity, near=near)
        shape = (self.side, self.side)
        pictures = {k: v.transpose(1, 2).unflatten(2, shape) for k, v in rays.items()}
        return dict(pictures, points=surfaces.surface_points(pictures["depth"], camera))


def entrances(origins: Tensor, directions: Tensor, options: RenderingOptions) -> Tensor:
    """Depths [N, M, 1] up to which light of rays [N, M, 3] comes from where they begin.

    One and a half sample distances behind the later of their first depth and their entry into the
    box: what is absorbed at once appears up to so far behind.
    """
    near, far = ray_limits(origins, directions, options)
    near, far = (torch.as_tensor(limit).to(origins) for limit in (near, far))
    enter, leave = get_ray_limits_box(origins, directions, options.box_warp)
    enter = torch.where(leave > enter, enter, near)
    return torch.maximum(enter, near) + 1.5 * (far - near) / (options.depth_resolution - 1)


def variation(colours: Tensor, opacity: Tensor) -> Tensor:
    """Standard deviation over N of pictures [N, 3, H, W], mean over channels and over pixels.

    Pixels count as much as they are opaque, [N, 1, H, W], on average: an empty background varies
    little whatever happens to the objects. 0 where nothing is opaque.
    """
    weights = opacity.mean(0)
    deviation = colours.std(0, correction=0).mean(0, keepdim=True)
    return (deviation * weights).sum() / weights.sum().clamp(min=1e-8)


def first_judgement(total_kimg: float, blur_fade_kimg: float) -> float:
    """From how many thousand images on `warnings` are worth hearing.

    A tenth of the run, at most as long as the discriminator sees blurred pictures: geometry forms
    when the blur has gone.
    """
    return min(total_kimg / 10, blur_fade_kimg)


def warnings(measures: Mapping[str, float], kimg: float, min_kimg: float = 0) -> list[str]:
    """A line for each sign of a run going wrong in what `Health.measure` returned.

    None before `min_kimg` thousand images, see `first_judgement`: what has not learned yet looks
    the same. None of weights that are not finite: those the guard reports.
    """
    opacity, opaque, near, spread, variance, samples, _ = (measures[name] for name in NAMES)
    if kimg < min_kimg or not math.isfinite(opacity):
        return []
    if opacity < EMPTY_OPACITY:
        return [f"the scene is empty: mean opacity {opacity:.4f}"]
    lines = []
    if opaque < FOG_SHARE * opacity:
        lines.append(
            f"the scene is fog: mean opacity {opacity:.2f}, "
            f"but only {opaque:.1%} of the rays meet anything solid"
        )
    elif near > FILLED_NEAR:
        lines.append(f"the box is filled: {near:.0%} of the rays end where they enter it")
    elif spread < FLAT_SPREAD and variance < FLAT_VARIANCE:
        lines.append(
            f"the geometry is flat: surfaces are within {spread:.4f} box sides of a plane, "
            f"their normals vary by {variance:.4f}"
        )
    if samples < ALIKE:
        lines.append(
            f"the generator has collapsed: colours of different latents differ by {samples:.4f} "
            "in a range of 2"
        )
    return lines


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _looks(pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(colours=pictures["raw"], opacity=pictures["opacity"])


def _shape(pictures: Mapping[str, Tensor], box: float) -> dict[str, Tensor]:
    """Mean depth spread and normal variance of the pictures that show a surface."""
    opaque = pictures["opacity"] > surfaces.OPAQUE
    spread = surfaces.plane_distance(pictures["points"], opaque) / box
    variance = surfaces.normal_variance(*surfaces.surface_normals(pictures["points"], opaque))
    showing = opaque.flatten(1).any(1)
    count = showing.sum().clamp(min=1)
    return {
        DEPTH_SPREAD: torch.where(showing, spread, 0.0).sum() / count,
        NORMAL_VARIANCE: torch.where(showing, variance, 0.0).sum() / count,
    }
