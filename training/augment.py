"""Augmentation in front of the discriminator (Karras et al. 2020, StyleGAN2-ADA, appendix B).

A table row says what each operation draws and which matrix that is; a draw of 0 always means that
nothing happens, so that gating is one line.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils import misc, persistence
from torch_utils.ops import upfirdn2d
from training import augment_ops as ops

_BLIT = ("xflip", "rotate90", "xint")
_GEOM = ("scale", "rotate", "aniso", "xfrac")
_COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")
_BGC = _BLIT + _GEOM + _COLOR
_PRESETS = {
    "b": _BLIT,
    "blit": _BLIT,
    "geom": _GEOM,
    "color": _COLOR,
    "bg": _BLIT + _GEOM,
    "bgc": _BGC,
    "bgcf": (*_BGC, "imgfilter"),
    "bgcfn": (*_BGC, "imgfilter", "noise"),
    "bgcfnc": (*_BGC, "imgfilter", "noise", "cutout"),
}
AUGMENT_PRESETS: dict[str, dict[str, float]] = {
    preset: dict.fromkeys(operations, 1) for preset, operations in _PRESETS.items()
}
"""Constructor arguments of `AugmentPipe` for the usual sets of operations; "bgc" is EG3D's."""


class _Draws:
    """The random numbers of one call, as [N, width]; at a percentile nothing is random."""

    def __init__(self, images: Tensor, p: Tensor, percentile: float | None):
        self.count, self.device = images.shape[0], images.device
        self.size = misc.constant([images.shape[3], images.shape[2]], device=images.device)
        self.p = p
        self.percentile = percentile

    def uniform(self, width: int = 1) -> Tensor:
        """From 0 to 1."""
        if self.percentile is None:
            return torch.rand([self.count, width], device=self.device)
        return torch.full([self.count, width], self.percentile, device=self.device)

    def index(self, choices: int) -> Tensor:
        """A whole number from 0 to `choices` - 1."""
        return (self.uniform() * choices).floor()

    def symmetric(self, width: int = 1) -> Tensor:
        """From -1 to 1."""
        return self.uniform(width) * 2 - 1

    def normal(self, width: int = 1) -> Tensor:
        """Normal with deviation 1; percentiles are those of deviation 1/sqrt(2), as published."""
        if self.percentile is None:
            return torch.randn([self.count, width], device=self.device)
        return torch.erfinv(self.symmetric(width))

    def magnitude(self) -> Tensor:
        """Absolute value of a normal number, percentiles as above."""
        if self.percentile is None:
            return torch.randn([self.count, 1], device=self.device).abs()
        return torch.erfinv(self.uniform())

    def gated(self, value: Tensor, probability: Tensor) -> Tensor:
        """`value` [N, width] for that share of the pictures, 0 (nothing happens) for the others."""
        if self.percentile is not None:
            return value
        chosen = torch.rand([self.count, 1], device=self.device) < probability
        return torch.where(chosen, value, 0.0)


class _Operation(NamedTuple):
    """A matrix that applies with the probability p times the pipe's attribute `name`."""

    name: str
    draw: Callable[[_Draws, "AugmentPipe"], Tensor]
    matrix: Callable[[Tensor], Tensor]
    probability: Callable[[Tensor], Tensor] = lambda p: p
    needs_rgb: bool = False
    at_percentile: bool = True


def _either_rotation(p: Tensor) -> Tensor:
    """Two rotations with this probability each: at least one happens with probability `p`."""
    return 1 - (1 - p).clamp(0, 1).sqrt()


def _angle(draws: _Draws, pipe: "AugmentPipe") -> Tensor:
    return draws.symmetric() * (math.pi * pipe.rotate_max)


# Maps from output to input, in pixels from the centre: an enlarged picture is read more slowly.
_GEOMETRY = (
    _Operation(
        "xflip",
        lambda draws, pipe: draws.index(2),
        lambda i: ops.scaling(torch.cat([1 - 2 * i, torch.ones_like(i)], dim=1)),
    ),
    _Operation(
        "rotate90",
        lambda draws, pipe: draws.index(4),
        lambda i: ops.rotation(i * (math.pi / 2), ops.PLANE),
    ),
    _Operation(
        "xint",
        lambda draws, pipe: (draws.symmetric(2) * pipe.xint_max * draws.size).round(),
        lambda shift: ops.translation(-shift),
    ),
    _Operation(
        "scale",
        lambda draws, pipe: draws.normal() * pipe.scale_std,
        lambda octaves: ops.scaling(torch.exp2(-octaves).expand(-1, 2)),
    ),
    _Operation("rotate", _angle, lambda angle: ops.rotation(angle, ops.PLANE), _either_rotation),
    _Operation(
        "aniso",
        lambda draws, pipe: draws.normal() * pipe.aniso_std,
        lambda octaves: ops.scaling(torch.exp2(torch.cat([-octaves, octaves], dim=1))),
    ),
    _Operation(
        "rotate",
        _angle,
        lambda angle: ops.rotation(angle, ops.PLANE),
        _either_rotation,
        at_percentile=False,
    ),
    _Operation(
        "xfrac",
        lambda draws, pipe: draws.normal(2) * pipe.xfrac_std * draws.size,
        lambda shift: ops.translation(-shift),
    ),
)

_COLOUR = (
    _Operation(
        "brightness",
        lambda draws, pipe: draws.normal() * pipe.brightness_std,
        lambda offset: ops.translation(offset.expand(-1, 3)),
    ),
    _Operation(
        "contrast",
        lambda draws, pipe: draws.normal() * pipe.contrast_std,
        lambda octaves: ops.scaling(torch.exp2(octaves).expand(-1, 3)),
    ),
    _Operation(
        "lumaflip",
        lambda draws, pipe: draws.index(2),
        lambda i: ops.stretch_along(ops.LUMA, -2 * i),
    ),
    _Operation(
        "hue",
        lambda draws, pipe: draws.symmetric() * (math.pi * pipe.hue_max),
        lambda angle: ops.rotation(angle, ops.GREY),
        needs_rgb=True,
    ),
    _Operation(
        "saturation",
        lambda draws, pipe: draws.normal() * pipe.saturation_std,
        lambda octaves: ops.stretch_along(ops.CHROMA, torch.exp2(octaves) - 1),
        needs_rgb=True,
    ),
)


@persistence.persistent_class
class AugmentPipe(torch.nn.Module):
    """Random operations on pictures [N, C, H, W], each with a probability of p times its weight.

    The buffer `p` (1 at first) is set from outside: a fixed number, or what ADA arrives at. The
    arguments named as in `AUGMENT_PRESETS` are the weights of the operations, 0 switches them off.
    Pictures stay in place and size; colours are meant to be from -1 to 1.

    Args:
        xflip, rotate90, xint: weights of mirroring, quarter turns, shifts by whole pixels.
        xint_max: largest shift, in picture widths.
        scale, rotate, aniso, xfrac: weights of zoom, rotation, stretching, any shift.
        scale_std, aniso_std: deviation of the zoom and stretch, in octaves.
        rotate_max: largest angle, in half turns.
        xfrac_std: deviation of the shift, in picture widths.
        brightness, contrast, lumaflip, hue, saturation: weights of what happens to colours.
        brightness_std: deviation of the offset.
        contrast_std, saturation_std: deviation of the factors, in octaves.
        hue_max: largest angle, in half turns.
        imgfilter: weight of amplifying four bands of frequencies, low to high.
        imgfilter_bands: weight of each band.
        imgfilter_std: deviation of their gains, in octaves.
        noise, noise_std: weight of noise, and deviation of the noise's deviation.
        cutout, cutout_size: weight of blackening a square, and its side in picture widths.
    """

    def __init__(
        self,
        xflip: float = 0,
        rotate90: float = 0,
        xint: float = 0,
        xint_max: float = 0.125,
        scale: float = 0,
        rotate: float = 0,
        aniso: float = 0,
        xfrac: float = 0,
        scale_std: float = 0.2,
        rotate_max: float = 1,
        aniso_std: float = 0.2,
        xfrac_std: float = 0.125,
        brightness: float = 0,
        contrast: float = 0,
        lumaflip: float = 0,
        hue: float = 0,
        saturation: float = 0,
        brightness_std: float = 0.2,
        contrast_std: float = 0.5,
        hue_max: float = 1,
        saturation_std: float = 1,
        imgfilter: float = 0,
        imgfilter_bands: Sequence[float] = (1, 1, 1, 1),
        imgfilter_std: float = 1,
        noise: float = 0,
        cutout: float = 0,
        noise_std: float = 0.1,
        cutout_size: float = 0.5,
    ):
        settings = dict(locals())  # the arguments by name: each becomes an attribute
        del settings["self"], settings["__class__"]
        super().__init__()
        for name, value in settings.items():
            if np.min(value) < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
            setattr(self, name, list(value) if name == "imgfilter_bands" else float(value))
        if len(self.imgfilter_bands) != 4:
            raise ValueError(f"imgfilter_bands has 4 numbers, got {self.imgfilter_bands}")
        self.register_buffer("p", torch.ones([]))
        self.register_buffer("Hz_geom", upfirdn2d.setup_filter(ops.SYM6))
        self.register_buffer("Hz_fbank", ops.filter_bank())

    def forward(self, images: Tensor, debug_percentile: float | None = None) -> Tensor:
        """Augments `images` [N, C, H, W], every picture differently; C = 6 holds two pictures that
        are treated alike.

        Computes in float32 and returns the dtype of `images`. With `debug_percentile`, from 0 to 1,
        every operation that is switched on acts on every picture, with that quantile for its draws
        (rotation once, and the pixels of noise stay random). Raises ValueError for shapes that do
        not fit, and for C other than 1, 3, 6 if colours are to change.
        """
        if images.ndim != 4 or not images.is_floating_point():
            found = f"{images.dtype} {list(images.shape)}"
            raise ValueError(f"images must be a floating [N, C, H, W], got {found}")
        if debug_percentile is not None and not 0 <= debug_percentile <= 1:
            raise ValueError(f"debug_percentile must be from 0 to 1, got {debug_percentile}")
        draws = _Draws(images, self.p, debug_percentile)
        y = images.float()
        if matrices := list(self._matrices(_GEOMETRY, draws)):
            y = ops.warp(y, reduce(torch.matmul, matrices), self.Hz_geom)
        is_grey = images.shape[1] == 1
        if matrices := list(self._matrices(_COLOUR, draws, is_grey)):
            y = ops.recolour(y, reduce(torch.matmul, reversed(matrices)))
        if self.imgfilter > 0:
            y = ops.amplify_bands(y, self._band_gain(draws), self.Hz_fbank)
        if self.noise > 0:
            deviation = draws.gated(draws.magnitude() * self.noise_std, self.p * self.noise)
            y = y + torch.randn_like(y) * deviation[:, :, None, None]
        if self.cutout > 0:
            size = torch.full([len(y), 1], self.cutout_size, device=y.device)
            size = draws.gated(size, self.p * self.cutout)
            y = ops.cut_out(y, size, draws.uniform(2))
        return y.to(images.dtype)

    def _matrices(
        self, table: tuple[_Operation, ...], draws: _Draws, is_grey: bool = False
    ) -> Iterator[Tensor]:
        """The matrices of the operations that are switched on, in the table's order."""
        for operation in table:
            weight = getattr(self, operation.name)
            without = draws.percentile is not None and not operation.at_percentile
            if weight == 0 or without or (is_grey and operation.needs_rgb):
                continue
            value = operation.draw(draws, self)
            yield operation.matrix(draws.gated(value, operation.probability(self.p * weight)))

    def _band_gain(self, draws: _Draws) -> Tensor:
        """Gains [N, 4] of the bands; each one amplified costs the others some."""
        gain = torch.ones([draws.count, 4], device=draws.device)
        for band, weight in enumerate(self.imgfilter_bands):
            if weight == 0:
                continue
            octaves = draws.normal() * self.imgfilter_std
            octaves = draws.gated(octaves, self.p * self.imgfilter * weight)
            octaves = F.pad(octaves, (band, 3 - band))
            gain = gain * ops.normalized_gain(torch.exp2(octaves))
        return gain
