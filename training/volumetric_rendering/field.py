"""Planes and a decoder as a function from points to colours and densities."""

from collections.abc import Callable, Sequence
from functools import reduce

import torch

from .draws import Draws, RandomDraws
from .fused import FusedField
from .planes import PlaneSet, axis_pairs, lookup, lookup_sum, plane_set

# Points decoded at once on a CPU: what lies between then stays in the cache, and in memory that the
# allocator keeps. A picture of 64^2 rays, 48 + 48 samples is 1.5 times as fast as in one call, a
# training step of 16 x 32^2 rays, 12 + 12 samples 1.25 times.
CPU_CHUNK = 32768

Planes = torch.Tensor | Sequence[torch.Tensor]


class TriPlaneField:
    """A field made of planes [N, 3, C, H, W] and a decoder; prepares the planes for many calls.

    Of a sequence of planes, whose sides H, W may differ, the features add up. `align_corners`: the
    faces of the box lie on the centres of the outer texels; planes are then square.

    decoder(features [N, K, P, C], directions [N, P, 3]) -> {'rgb', 'sigma'} gets the features of
    the three planes (K = 3), or, if it declares `averages_planes = True`, their mean (K = 1),
    which takes two look-ups instead of three where two planes see the same coordinates.
    If it has `density(features) -> [N, P, 1]`, queries for densities alone use that. If it has
    `two_layers()`, those four tensors and its `hidden_activation` and `color_activation` are all of
    it, see `fused`, and kernels can take its place. If it declares `needs_points`, it is called
    with `points=` too, in units of half the box.
    """

    def __init__(
        self,
        planes: Planes,
        decoder: Callable,
        plane_axes: torch.Tensor,
        box_warp: float,
        density_noise: float = 0.0,
        draws: Draws | None = None,
        align_corners: bool = False,
    ):
        self.decoder = decoder
        self.box_warp = box_warp
        self.density_noise = density_noise
        self.draws = RandomDraws() if draws is None else draws
        self.averages = getattr(decoder, "averages_planes", False)
        pairs = axis_pairs(plane_axes)
        each = [planes] if torch.is_tensor(planes) else planes
        self.sets: tuple[PlaneSet, ...] = tuple(
            plane_set(pairs, planes, 2 / box_warp, self.averages, align_corners) for planes in each
        )

    def features(self, points: torch.Tensor) -> torch.Tensor:
        """Points [N, P, 3] (world) -> [N, 1, P, C] the mean over planes, or [N, 3, P, C] each."""
        if self.averages:
            found = [lookup_sum(s.pairs, s.planes, s.scale * points) for s in self.sets]
            return reduce(torch.add, found).unsqueeze(1)
        found = [lookup(s.pairs, s.planes, s.scale * points) for s in self.sets]
        return reduce(torch.add, found).transpose(2, 3)

    def __call__(
        self, points: torch.Tensor, directions: torch.Tensor | None, want_rgb: bool = True
    ) -> dict[str, torch.Tensor]:
        """Points, directions [N, P, 3] -> {'rgb' [N, P, K] if wanted, 'sigma' [N, P, 1] raw}."""
        chunk = points.shape[1]
        if points.device.type == "cpu":
            chunk = max(CPU_CHUNK // points.shape[0], 1)
        parts = [
            self._decode(points[:, i : i + chunk], _part(directions, i, chunk), want_rgb)
            for i in range(0, max(points.shape[1], 1), max(chunk, 1))
        ]
        answer = parts[0]
        if len(parts) > 1:
            answer = {name: torch.cat([part[name] for part in parts], dim=1) for name in answer}
        if self.density_noise > 0:
            sigma = answer["sigma"]
            noise = self.draws.noise(tuple(sigma.shape), sigma)
            answer = {**answer, "sigma": sigma + noise * self.density_noise}
        return answer

    def _decode(self, points, directions, want_rgb):
        kernels = FusedField.of(self, points)
        if kernels is not None:
            return kernels.query(points, want_rgb)
        features = self.features(points)
        if getattr(self.decoder, "needs_points", False):
            return self.decoder(features, directions, points=points * (2 / self.box_warp))
        if not want_rgb and hasattr(self.decoder, "density"):
            return {"sigma": self.decoder.density(features)}
        return self.decoder(features, directions)


def _part(directions, start, length):
    return None if directions is None else directions[:, start : start + length]
