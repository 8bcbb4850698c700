"""Rendering and point queries of a tri-plane field by kernels that never hold what lies between
planes and pixels: `torch_utils.ops.triplane_ops` and `render_ops`.

They are for the decoder of EG3D on tensors that `torch_utils.ops.choice` gives to Triton. For any
other field, and where densities are perturbed or determinism is asked for, there are none, and the
renderer goes its plain way.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_utils.ops import render_ops, triplane_ops
from torch_utils.ops.choice import use_triton

from .depths import importance_depths
from .draws import Draws
from .options import RenderingOptions
from .quadrature import Rendered, Sums, quadrature
from .ray_marcher import segment_weights

if TYPE_CHECKING:
    from .renderer import TriPlaneField


@dataclass(frozen=True, eq=False)
class FusedField:
    """A field as kernels take it.

    Args:
        planes: [N, P, H, W, C], whose features add up.
        layers: w1 [HIDDEN, C], b1, w2 [1 + K, HIDDEN], b2 of the decoder.
        axes: coordinates along columns and rows of plane after plane.
        scale: from world units to the cube [-1, 1]^3.
        precision: one of `triplane_ops.PRECISIONS`.
    """

    planes: Tensor
    layers: tuple[Tensor, Tensor, Tensor, Tensor]
    axes: tuple[int, ...]
    scale: float
    precision: str

    @classmethod
    def of(cls, field: "TriPlaneField", like: Tensor) -> "FusedField | None":
        """The same field for points or rays `like`; None where the kernels do not apply."""
        if len(field.sets) > 1 or field.density_noise > 0 or not field.averages:
            return None
        pairs, planes, scale = field.sets[0]
        if not use_triton(planes):
            return None
        if not hasattr(field.decoder, "two_layers") or like.dtype != torch.float32:
            return None
        layers = field.decoder.two_layers()
        if not triplane_ops.fits(planes, layers[0], layers[2]):
            return None
        axes = tuple(axis for pair in pairs for axis in pair)
        planes = planes.permute(0, 1, 3, 4, 2).contiguous()
        return cls(planes, layers, axes, scale, _precision(planes))

    def query(self, points: Tensor, want_rgb: bool = True) -> dict[str, Tensor]:
        """Points [N, P, 3] -> {'rgb' [N, P, K] if wanted, 'sigma' [N, P, 1] raw}."""
        rgb, sigma = triplane_ops.decode(
            self.planes, *self.layers, points, self.axes, self.scale, self.precision, want_rgb
        )
        answer = {"sigma": sigma.unsqueeze(-1)}
        return {"rgb": rgb, **answer} if want_rgb else answer

    def renders(self, options: RenderingOptions) -> bool:
        """Whether `render` can."""
        usual = options.density_bias == -1 and options.clamp_mode == "softplus"
        return usual and options.ray_marcher == "midpoint" and options.importance_smoothing

    def render(
        self,
        origins: Tensor,
        directions: Tensor,
        depths: Tensor,
        options: RenderingOptions,
        draws: Draws,
    ) -> Rendered:
        """Rays [N, M, 3], coarse depths [N, M, S] -> as `render_rays`."""
        how = (self.axes, self.scale, self.precision)
        given = (self.planes, *self.layers, origins, directions)
        if options.depth_resolution_importance > 0:
            with torch.no_grad():
                sigma = render_ops.ray_densities(*given, depths, *how)
                merged = _all_depths(depths.flatten(0, 1), sigma.flatten(0, 1), options, draws)
                depths = merged.unflatten(0, depths.shape[:2])
        features, total, distance = render_ops.composite(*given, depths, *how)
        total, distance = total.unsqueeze(-1), distance.unsqueeze(-1)
        sums = Sums(None, total, distance, 1 - total)
        return quadrature(options).finish(features, sums, depths)


def _precision(planes: Tensor) -> str:
    """16 bits for planes that have no more and under `torch.autocast`; else as plain products."""
    if planes.dtype == torch.float16 or torch.is_autocast_enabled(planes.device.type):
        return "float16"
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "float32"


def _all_depths(depths: Tensor, sigma: Tensor, options: RenderingOptions, draws: Draws) -> Tensor:
    """Coarse depths and densities [R, S] -> coarse and fine depths in order, [R, S + S_f]."""
    uniform = draws.fine((len(depths), options.depth_resolution_importance), depths)
    if max(depths.shape[1], uniform.shape[1]) <= render_ops.MOST_SAMPLES:
        centered = options.importance_bins == "centered"
        return render_ops.importance_depths(depths, sigma, uniform, centered)
    weights = segment_weights(sigma, depths)
    fine = importance_depths(depths, weights, uniform, options.importance_bins)
    return torch.cat([depths, fine], dim=-1).sort(-1)[0]
