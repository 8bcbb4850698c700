"""Rendering and point queries of a tri-plane field by kernels that never hold what lies between
planes and pixels: `torch_utils.ops.triplane_ops` and `render_ops`.

They are for decoders of two layers on tensors that `torch_utils.ops.choice` gives to Triton. For
any other field, and where densities are perturbed or determinism is asked for, there are none, and
the renderer goes its plain way.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops import render_ops, triplane_ops
from torch_utils.ops.choice import use_triton

from .depths import importance_depths
from .draws import Draws
from .options import RenderingOptions
from .quadrature import Rendered, Sums, quadrature

if TYPE_CHECKING:
    from .field import TriPlaneField

# Matrix units would do with 16, but four warps then hold the hidden layer twice: registers spill.
LEAST_COLOURS = 32


@dataclass(frozen=True, eq=False)
class FusedField:
    """A field as kernels take it.

    Args:
        planes: [N, T, C], the texels of all planes, whose features add up.
        layers: w1 [HIDDEN, C], b1, w2 [1 + K, HIDDEN], b2 of the decoder, with as many colours K as
            matrix units want.
        how: what else there is to know.
        colours: how many of the K colours there are.
    """

    planes: Tensor
    layers: tuple[Tensor, Tensor, Tensor, Tensor]
    how: triplane_ops.How
    colours: int

    @classmethod
    def of(cls, field: "TriPlaneField", like: Tensor) -> "FusedField | None":
        """The same field for points or rays `like`; None where the kernels do not apply."""
        first = field.sets[0]
        if not use_triton(first.planes) or field.density_noise > 0 or not field.averages:
            return None
        if not is_two_layers(field.decoder) or like.dtype != torch.float32:
            return None
        if any(s.scale != first.scale or s.planes.dtype != first.planes.dtype for s in field.sets):
            return None
        activations = activations_of(field.decoder)
        *layers, w2, b2 = field.decoder.two_layers()
        colours = len(b2) - 1
        missing = max(LEAST_COLOURS - colours, 0)
        layers = (*layers, F.pad(w2, (0, 0, 0, missing)), F.pad(b2, (0, missing)))
        texels = [s.planes.permute(0, 1, 3, 4, 2).flatten(1, 3) for s in field.sets]
        planes = (texels[0] if len(texels) == 1 else torch.cat(texels, dim=1)).contiguous()
        if not triplane_ops.fits(planes, layers[0], layers[2]):
            return None
        sides = [(s.planes.shape[-1], s.planes.shape[-2]) for s in field.sets for _ in s.pairs]
        how = triplane_ops.How(
            tuple(axis for s in field.sets for pair in s.pairs for axis in pair),
            tuple(side for pair in sides for side in pair),
            first.scale,
            _precision(planes),
            *activations,
        )
        return cls(planes, layers, how, colours)

    def query(self, points: Tensor, want_rgb: bool = True) -> dict[str, Tensor]:
        """Points [N, P, 3] -> {'rgb' [N, P, K] if wanted, 'sigma' [N, P, 1] raw}."""
        rgb, sigma = triplane_ops.decode(self.planes, *self.layers, points, *self.how, want_rgb)
        answer = {"sigma": sigma.unsqueeze(-1)}
        return {"rgb": rgb[..., : self.colours], **answer} if want_rgb else answer

    def renders(self, options: RenderingOptions) -> bool:
        """Whether `render` can: not where the ray marcher changes densities or weights itself."""
        return options.marcher_noise == 0 and not options.last_back

    def render(
        self,
        origins: Tensor,
        directions: Tensor,
        depths: Tensor,
        options: RenderingOptions,
        draws: Draws,
    ) -> Rendered:
        """Rays [N, M, 3], coarse depths [N, M, S] -> as `render_rays`."""
        given = (self.planes, *self.layers, origins, directions)
        if options.depth_resolution_importance > 0:
            with torch.no_grad():
                sigma = render_ops.ray_densities(*given, depths, *self.how)
                merged = _all_depths(depths.flatten(0, 1), sigma.flatten(0, 1), options, draws)
                depths = merged.unflatten(0, depths.shape[:2])
        found = render_ops.composite(*given, depths, *self.how, *_rule(options))
        features, (total, distance, left) = found[0], (x.unsqueeze(-1) for x in found[1:])
        sums = Sums(None, total, distance, left)
        return quadrature(options).finish(features[..., : self.colours], sums, depths)


def is_two_layers(decoder: object) -> bool:
    """Whether the tensors of `two_layers()` are all of a decoder: not of a class that has taken
    that over from another but does something else itself."""
    forward, layers = (
        next((c for c in type(decoder).__mro__ if name in vars(c)), None)
        for name in ("forward", "two_layers")
    )
    return layers is not None and forward is layers


def activations_of(decoder: object) -> tuple[str, str]:
    """What a decoder with `two_layers()` declares of its hidden layer and its colours, by default
    softplus and the widened sigmoid: keys of `triplane_ops.ACTIVATIONS` and `COLOURINGS`.

    Raises ValueError for others.
    """
    hidden = getattr(decoder, "hidden_activation", "softplus")
    colour = getattr(decoder, "color_activation", "sigmoid")
    for name, value, known in (
        ("hidden_activation", hidden, triplane_ops.ACTIVATIONS),
        ("color_activation", colour, triplane_ops.COLOURINGS),
    ):
        if value not in known:
            raise ValueError(
                f"{name} of {type(decoder).__name__} is {value!r}; "
                f"possible: {', '.join(map(repr, known))}"
            )
    return hidden, colour


def _precision(planes: Tensor) -> str:
    """16 bits for planes that have no more and under `torch.autocast`; else as plain products."""
    if planes.dtype == torch.float16 or torch.is_autocast_enabled(planes.device.type):
        return "float16"
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "float32"


def _rule(options: RenderingOptions) -> render_ops.Rule:
    return render_ops.Rule(
        options.ray_marcher, options.clamp_mode, options.density_bias, options.last_delta
    )


def _all_depths(depths: Tensor, sigma: Tensor, options: RenderingOptions, draws: Draws) -> Tensor:
    """Coarse depths and densities [R, S] -> coarse and fine depths in order, [R, S + S_f]."""
    uniform = draws.fine((len(depths), options.depth_resolution_importance), depths)
    bins, smoothing = options.importance_bins, options.importance_smoothing
    if max(depths.shape[1], uniform.shape[1]) <= render_ops.MOST_SAMPLES:
        how = (bins == "centered", smoothing, *_rule(options))
        return render_ops.importance_depths(depths, sigma, uniform, *how)
    weights = quadrature(options).weights(sigma, depths)
    fine = importance_depths(depths, weights, uniform, bins, smoothing)
    return torch.cat([depths, fine], dim=-1).sort(-1)[0]
