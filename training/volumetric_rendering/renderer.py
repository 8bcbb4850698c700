"""The volume renderer: a field, rays and options give features, depth and opacity.

`render_rays` takes any function from points to colours and densities. `TriPlaneField` makes one of
three planes and a decoder. `ImportanceRenderer` is the module published models contain.
"""

from collections.abc import Callable
from typing import Any

import torch

from .depths import (
    Limit,
    coarse_depths,
    importance_depths,
    inverse_cdf,
    ray_limits,
    stratified_depths,
)
from .draws import Draws, RandomDraws
from .field import Planes, TriPlaneField
from .fused import FusedField
from .options import RenderingOptions, read_option
from .planes import (
    generate_planes,
    project_onto_planes,
    sample_from_3dgrid,
    sample_from_planes,
)
from .quadrature import Quadrature, Rendered, quadrature
from .ray_marcher import MipRayMarcher2, weighted_sum

__all__ = [
    "Field",
    "ImportanceRenderer",
    "Planes",
    "Rendered",
    "TriPlaneField",
    "generate_planes",
    "project_onto_planes",
    "render_rays",
    "sample_from_3dgrid",
    "sample_from_planes",
]

# (points [N, P, 3], unit directions [N, P, 3]) -> {'rgb': [N, P, K], 'sigma': [N, P, 1] raw}
Field = Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]
Rendering = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def render_rays(
    field: Field,
    origins: torch.Tensor,
    directions: torch.Tensor,
    options: RenderingOptions,
    draws: Draws | None = None,
    chunk: int | None = None,
    limits: tuple[Limit, Limit] | None = None,
) -> Rendered:
    """Volume rendering with importance sampling (Chan et al. 2022, section 4.2).

    Gradients flow through the field's answers and the positions of its points, not through depths.
    Nothing waits for the device.

    Args:
        origins, directions: of rays, [N, M, 3]; directions of length 1.
        draws: default random. Each chunk asks for numbers of its own.
        chunk: rays [N, chunk] to render at once, default all. The results are the same, except that
            with `empty_depth` 'batch' a chunk is its own batch.
        limits: first and last depth, in place of those of the options: two numbers or tensors
            [N, M, 1].
    """
    draws = RandomDraws() if draws is None else draws
    near, far = ray_limits(origins, directions, options) if limits is None else limits
    rays, count = (origins, directions, near, far), origins.shape[1]
    kernels = FusedField.of(field, origins) if isinstance(field, TriPlaneField) else None
    if kernels is not None and not kernels.renders(options):
        kernels = None
    if chunk is None or count <= chunk:
        return _render(field, kernels, *rays, options, draws)
    parts = [
        _render(field, kernels, *(_part(x, start, chunk) for x in rays), options, draws)
        for start in range(0, count, chunk)
    ]
    return Rendered(*(torch.cat(results, dim=1) for results in zip(*parts, strict=True)))


def _part(values, start, length):
    """So many rays or points [N, M, ...] of a tensor; what is no tensor is that of all."""
    return values[:, start : start + length] if torch.is_tensor(values) else values


def _render(field, kernels, origins, directions, near, far, options, draws) -> Rendered:
    rule = quadrature(options)
    coarse_count, fine_count = options.depth_resolution, options.depth_resolution_importance
    jitter = draws.coarse((*origins.shape[:2], coarse_count, 1), origins.detach())
    depths = coarse_depths(near, far, jitter, options)
    depths = depths.expand(*origins.shape[:2], coarse_count, 1)[..., 0]
    if kernels is not None:
        return kernels.render(origins, directions, depths, options, draws)
    colors, densities = _query(field, origins, directions, depths)
    if fine_count == 0:
        sums = rule.sums(_noisy(densities, options, draws), depths)
        return rule.finish(weighted_sum(sums.shares, colors), sums, depths)

    fine_depths = _fine_depths(rule, densities, depths, draws)
    fine_colors, fine_densities = _query(field, origins, directions, fine_depths)

    # Depths and densities are sorted, the wide colours stay where they are: their weights are put
    # back into the order of the samples.
    depths, order = torch.cat([depths, fine_depths], dim=-1).sort(-1)
    densities = torch.cat([densities, fine_densities], -1).gather(-1, order)
    sums = rule.sums(_noisy(densities, options, draws), depths)
    shares = torch.zeros_like(sums.shares).scatter(-1, order, sums.shares)
    features = weighted_sum(shares[..., :coarse_count], colors)
    features = features + weighted_sum(shares[..., coarse_count:], fine_colors)
    return rule.finish(features, sums, depths)


@torch.no_grad()
def _fine_depths(rule: Quadrature, densities, depths, draws):
    """Coarse densities and depths [N, M, S] -> fine depths [N, M, S_f], unsorted."""
    options = rule.options
    weights = rule.weights(_noisy(densities, options, draws), depths).flatten(0, 1)
    uniform = draws.fine((weights.shape[0], options.depth_resolution_importance), depths)
    fine = importance_depths(
        depths.flatten(0, 1),
        weights,
        uniform,
        options.importance_bins,
        options.importance_smoothing,
    )
    return fine.unflatten(0, depths.shape[:2])


def _noisy(densities, options, draws):
    """Raw densities [N, M, S] with the noise that the ray marcher adds."""
    if options.marcher_noise == 0:
        return densities
    return densities + options.marcher_noise * draws.noise(tuple(densities.shape), densities)


def _query(field, origins, directions, depths):
    """The field at depths [N, M, S] of every ray -> colours [N, M, S, K], densities [N, M, S]."""
    points = origins.unsqueeze(2) + depths.unsqueeze(-1) * directions.unsqueeze(2)
    repeated = directions.unsqueeze(2).expand_as(points)
    answer = field(points.flatten(1, 2), repeated.flatten(1, 2))
    colors = answer["rgb"].unflatten(1, depths.shape[1:])
    return colors, answer["sigma"].reshape(depths.shape)


class ImportanceRenderer(torch.nn.Module):
    """Renders planes [N, 3, C, H, W], or a sequence of them, along rays. Has no parameters.

    plane_axes: 'legacy' (x,y), (x,z), (z,x), as released models of EG3D were trained, or another
    name of `generate_planes`. The attribute `plane_axes` [3, 3, 3] stays on the CPU: only the host
    reads it.
    """

    def __init__(self, plane_axes: str = "legacy"):
        super().__init__()
        self.ray_marcher = MipRayMarcher2()
        self.plane_axes = generate_planes(plane_axes)

    def __setstate__(self, state: dict[str, Any]):
        axes = state.get("plane_axes")
        axes = generate_planes() if axes is None else axes.cpu()
        super().__setstate__({**state, "plane_axes": axes})

    def field(
        self,
        planes: Planes,
        decoder: Callable,
        options: dict | RenderingOptions,
        draws: Draws | None = None,
    ) -> TriPlaneField:
        """The field of planes and a decoder that the options describe. Of a dictionary, box_warp is
        required; other keys than the renderer's are ignored."""
        noise = read_option(options, "density_noise", 0.0)
        by_marcher = read_option(options, "ray_marcher", "midpoint") == "classic"
        return TriPlaneField(
            planes,
            decoder,
            self.plane_axes,
            read_option(options, "box_warp"),
            0.0 if by_marcher else noise,
            draws,
            read_option(options, "plane_align_corners", False),
        )

    def forward(
        self,
        planes: Planes,
        decoder: Callable,
        ray_origins: torch.Tensor,
        ray_directions: torch.Tensor,
        rendering_options: dict | RenderingOptions,
        draws: Draws | None = None,
        chunk: int | None = None,
    ) -> Rendering:
        """Planes [N, 3, C, H, W], rays [N, M, 3] -> features, depth and opacity as `render_rays`.
        draws None: random."""
        options = RenderingOptions.from_kwargs(rendering_options)
        field = self.field(planes, decoder, options, draws)
        return render_rays(field, ray_origins, ray_directions, options, draws, chunk)[:3]

    def run_model(
        self,
        planes: Planes,
        decoder: Callable,
        sample_coordinates: torch.Tensor,
        sample_directions: torch.Tensor | None,
        options: dict | RenderingOptions,
        draws: Draws | None = None,
        want_rgb: bool = True,
    ) -> dict[str, torch.Tensor]:
        """Points [N, P, 3] (world units) -> {'rgb' [N, P, K], 'sigma' [N, P, 1] raw}."""
        field = self.field(planes, decoder, options, draws)
        return field(sample_coordinates, sample_directions, want_rgb)

    def sort_samples(
        self, all_depths: torch.Tensor, all_colors: torch.Tensor, all_densities: torch.Tensor
    ) -> Rendering:
        """Put samples [N, M, S, 1], [N, M, S, K], [N, M, S, 1] into the order of their depths."""
        depths, order = all_depths.sort(dim=-2)
        colors = all_colors.gather(-2, order.expand_as(all_colors))
        return depths, colors, all_densities.gather(-2, order)

    def unify_samples(
        self,
        depths1: torch.Tensor,
        colors1: torch.Tensor,
        densities1: torch.Tensor,
        depths2: torch.Tensor,
        colors2: torch.Tensor,
        densities2: torch.Tensor,
    ) -> Rendering:
        """Two sets of samples [N, M, S, ...] in the order of their depths."""
        return self.sort_samples(
            torch.cat([depths1, depths2], dim=-2),
            torch.cat([colors1, colors2], dim=-2),
            torch.cat([densities1, densities2], dim=-2),
        )

    def sample_stratified(
        self,
        ray_origins: torch.Tensor,
        ray_start: float | torch.Tensor,
        ray_end: float | torch.Tensor,
        depth_resolution: int,
        disparity_space_sampling: bool = False,
        draws: Draws | None = None,
    ) -> torch.Tensor:
        """Coarse depths [N, M, S, 1] of rays [N, M, 3]; limits are numbers or [N, M, 1]."""
        shape = (*ray_origins.shape[:2], depth_resolution, 1)
        jitter = (draws or RandomDraws()).coarse(shape, ray_origins.detach())
        return stratified_depths(
            ray_start, ray_end, depth_resolution, jitter, disparity_space_sampling
        ).expand(shape)

    @torch.no_grad()
    def sample_importance(
        self,
        z_vals: torch.Tensor,
        weights: torch.Tensor,
        N_importance: int,
        draws: Draws | None = None,
    ) -> torch.Tensor:
        """Depths [N, M, S, 1], segment weights [N, M, S - 1, 1] -> fine depths [N, M, S_f, 1]."""
        depths, weights = z_vals.squeeze(-1).flatten(0, 1), weights.squeeze(-1).flatten(0, 1)
        uniform = (draws or RandomDraws()).fine((depths.shape[0], N_importance), depths)
        fine = importance_depths(depths, weights, uniform)
        return fine.view(*z_vals.shape[:2], N_importance, 1)

    def sample_pdf(
        self,
        bins: torch.Tensor,
        weights: torch.Tensor,
        N_importance: int,
        det: bool = False,
        eps: float = 1e-5,
        draws: Draws | None = None,
    ) -> torch.Tensor:
        """Edges [R, L + 1 or more], weights [R, L] -> positions [R, N_importance].

        det: evenly spaced quantiles from 0 to 1 instead of draws.
        """
        shape = (weights.shape[0], N_importance)
        if det:
            uniform = torch.linspace(0, 1, N_importance, dtype=bins.dtype, device=bins.device)
            uniform = uniform.expand(shape)
        else:
            uniform = (draws or RandomDraws()).fine(shape, bins)
        return inverse_cdf(bins, weights, uniform, eps)
