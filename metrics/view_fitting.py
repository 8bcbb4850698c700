"""A scene fitted to pictures of it from known cameras, and to nothing else.

The scene is what our renderer can show: three feature planes and a small decoder, without
super-resolution. Its colours do not depend on where they are seen from, so that views that
contradict each other cannot all be fitted.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.cameras import Camera
from training.triplane import OSGDecoder
from training.volumetric_rendering.draws import Draws, FixedDraws, RandomDraws
from training.volumetric_rendering.options import RenderingOptions
from training.volumetric_rendering.planes import generate_planes
from training.volumetric_rendering.ray_sampler import RaySampler
from training.volumetric_rendering.renderer import TriPlaneField, render_rays

RECONSTRUCTOR = "triplane-1"  # to be counted up with every change of what it gives

_AXES = generate_planes("orthogonal")
_LEVELS = 3  # sizes of planes, each half of the one before


@dataclass(frozen=True)
class FitSettings:
    """How a scene is fitted.

    Args:
        reconstructor: name of the method; values of different ones cannot be compared.
        steps: of Adam.
        rays: of a step, drawn from all pixels of all pictures.
        samples: coarse, and fine ones along a ray.
        plane_resolution: side of the finest planes.
        channels: of the planes.
        learning_rate: the highest; rises during a tenth of the steps, then falls to nothing.
    """

    reconstructor: str = RECONSTRUCTOR
    steps: int = 500
    rays: int = 1024
    samples: tuple[int, int] = (16, 16)
    plane_resolution: int = 64
    channels: int = 16
    learning_rate: float = 0.1

    def __post_init__(self):
        if self.reconstructor != RECONSTRUCTOR:
            raise ValueError(f"reconstructor is {self.reconstructor!r}; possible: {RECONSTRUCTOR}")
        for name in ("steps", "rays", "plane_resolution", "channels", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of a fit is {getattr(self, name)!r}; must be positive")


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A fitted scene.

    Args:
        planes: [1, 3, C, S, S], over the faces of the box.
        decoder: of the mean of their features.
        background: colour [3] of the light that nothing absorbs.
        options: of the renderer; rays end at the box.
    """

    planes: Tensor
    decoder: OSGDecoder
    background: Tensor
    options: RenderingOptions

    def colours(self, origins: Tensor, directions: Tensor, draws: Draws) -> Tensor:
        """Colours [M, 3] in about [0, 1] of rays [M, 3] with unit directions."""
        field = TriPlaneField(self.planes, self.decoder, _AXES, self.options.box_warp)
        found = render_rays(field, origins[None], directions[None], self.options, draws)
        features, opacity = found[0][0], found[2][0]
        return (features + 1) / 2 + (1 - opacity) * self.background

    @torch.no_grad()
    def render(self, camera: Camera, side: int) -> Tensor:
        """Pictures [N, 3, side, side] in [0, 1] from N cameras; the same each time."""
        camera = camera.to(self.planes)
        views = zip(*RaySampler()(camera.cam2world, camera.intrinsics, side), strict=True)
        colours = torch.stack([self.colours(o, d, FixedDraws()) for o, d in views])
        return colours.clamp(0, 1).transpose(1, 2).unflatten(2, (side, side))


def fit_views(
    pictures: Tensor,
    camera: Camera,
    box: float,
    settings: FitSettings = FitSettings(),  # noqa: B008
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Reconstruction:
    """The scene that V pictures [V, 3, H, H] in [0, 1] from V cameras show, as well as it can be
    found: least squares over random rays, by Adam.

    On a CPU the same numbers give the same bits with the same number of threads. Random states are
    left alone.

    Args:
        box: side of the cube around the origin that the scene is in.
        seed: of first values, rays and samples along them.
        progress: is told the number of steps done, after each.
    """
    if pictures.ndim != 4 or pictures.shape != (len(camera), 3, *pictures.shape[2:3] * 2):
        raise ValueError(
            f"pictures of shape {tuple(pictures.shape)} and {len(camera)} cameras; must be "
            "[V, 3, H, H] and V"
        )
    camera = camera.to(pictures)
    origins, directions = (
        rays.flatten(0, 1)
        for rays in RaySampler()(camera.cam2world, camera.intrinsics, pictures.shape[3])
    )
    colours = pictures.permute(0, 2, 3, 1).flatten(0, 2)
    random = torch.Generator().manual_seed(seed)
    levels, decoder = _first_values(settings, random, pictures.device)
    background = _border(pictures).requires_grad_()
    options = _rendering(settings, box)
    colour_rate = settings.learning_rate / 100  # it is a colour itself
    optimizer = torch.optim.Adam(
        [
            dict(params=[*levels, *decoder.parameters()], lr=settings.learning_rate),
            dict(params=[background], lr=colour_rate),
        ],
        betas=(0.9, 0.99),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: _pace(k, settings.steps))
    for step in range(settings.steps):
        chosen = torch.randint(len(colours), [settings.rays], generator=random).to(colours.device)
        with torch.enable_grad():
            scene = Reconstruction(_sum(levels), decoder, background, options)
            found = scene.colours(origins[chosen], directions[chosen], RandomDraws(random))
            loss = (found - colours[chosen]).square().mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1)
    decoder.requires_grad_(False)
    return Reconstruction(_sum(levels).detach(), decoder, background.detach(), options)


def _pace(step: int, steps: int) -> float:
    """Share of the learning rate: up in a tenth of the steps, down in half a cosine."""
    done = (step + 0.5) / steps
    return min(10 * done, (1 + math.cos(math.pi * done)) / 2)


def _rendering(settings: FitSettings, box: float) -> RenderingOptions:
    coarse, fine = settings.samples
    return RenderingOptions(
        depth_resolution=coarse,
        depth_resolution_importance=fine,
        ray_start="auto",
        ray_end="auto",
        box_warp=box,
        disparity_space_sampling=False,
        clamp_mode="softplus",
        ray_limits="exact",
        importance_bins="centered",
        empty_depth="ray",
    )


def _first_values(
    settings: FitSettings, random: torch.Generator, device: torch.device
) -> tuple[list[Tensor], OSGDecoder]:
    """Planes [3, C, S, S] of each size, finest first, and a decoder."""
    sides = [max(settings.plane_resolution >> k, 1) for k in range(_LEVELS)]
    shapes = [(3, settings.channels, side, side) for side in sides]
    levels = [0.1 * torch.randn(shape, generator=random) for shape in shapes]
    with torch.random.fork_rng(devices=[]):
        decoder = OSGDecoder(settings.channels, dict(decoder_lr_mul=1, decoder_output_dim=3))
    for layer in (decoder.net[0], decoder.net[2]):
        torch.nn.init.normal_(layer.weight, generator=random)
    return [level.to(device).requires_grad_() for level in levels], decoder.to(device)


def _sum(levels: list[Tensor]) -> Tensor:
    """Planes [1, 3, C, S, S] of planes [3, C, s, s] of all sizes.

    A coarse texel moves all that it covers: what is smooth is learned in few steps.
    """
    size = levels[0].shape[2:]
    coarse = [F.interpolate(level, size, mode="bilinear") for level in levels[1:]]
    return 3 * sum(coarse, levels[0])[None]  # the decoder takes the mean of three


def _border(pictures: Tensor) -> Tensor:
    """The median colour [3] of the edges of pictures [V, 3, H, H]."""
    edges = [pictures[:, :, 0], pictures[:, :, -1], pictures[..., 0], pictures[..., -1]]
    return torch.cat(edges, dim=2).transpose(0, 1).flatten(1).median(1).values
