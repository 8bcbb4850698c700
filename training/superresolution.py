"""Super-resolution: from the small feature image of the renderer to the final picture (EG3D, Chan
et al. 2022, section 4.2 and appendix), for any output size from 64 to 1024.

One implementation; the published class names are its configurations.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torch_utils import persistence
from torch_utils.ops import resampling, upfirdn2d
from training.networks_stylegan2 import SynthesisBlock
from training.recomputation import run


class Layout(NamedTuple):
    """Sizes of a published configuration; `has_filter` keeps a buffer that its files contain."""

    img_resolution: int
    input_resolution: int
    widths: tuple[int, ...]
    has_filter: bool


@persistence.persistent_class
class SynthesisBlockNoUp(SynthesisBlock):
    """A synthesis block that keeps its resolution. Adds its colours to `img` in place."""

    up = 1

    def _add(self, img: Tensor, colours: Tensor) -> Tensor:
        return img.add_(colours)


@persistence.persistent_class
class Superresolution(torch.nn.Module):
    """Feature image [N, channels, h, h] and its colours -> picture [N, 3, img_resolution, ...].

    The input is first resized to `input_resolution`; each of the blocks after that doubles the
    resolution. Where only one doubling is needed, a block that keeps the resolution comes first.

    Args:
        channels: channels of the feature image.
        img_resolution: side of the picture.
        sr_num_fp16_res: above 0, all blocks run in half precision on a GPU, clamped at 256.
        sr_antialias: antialias where the input is larger than `input_resolution`.
        num_fp16_res, conv_clamp, channel_base, channel_max: options of the other networks, which
            programs pass along; nothing here depends on them.
        input_resolution: default half the picture's side, at most 128.
        widths: output channels of each block.
        w_dim: size of the latents.
        block_kwargs: options of the synthesis blocks.
    """

    layout: Layout | None = None

    def __init__(
        self,
        channels: int,
        img_resolution: int,
        sr_num_fp16_res: int = 0,
        sr_antialias: bool = True,
        num_fp16_res: int = 4,
        conv_clamp: float | None = None,
        channel_base: int | None = None,
        channel_max: int | None = None,
        *,
        input_resolution: int | None = None,
        widths: Sequence[int] | None = None,
        w_dim: int = 512,
        **block_kwargs,
    ):
        super().__init__()
        if self.layout is not None:
            if img_resolution != self.layout.img_resolution:
                raise ValueError(
                    f"{type(self).__name__} makes pictures of {self.layout.img_resolution} pixels, "
                    f"not {img_resolution}; training.superresolution.Superresolution makes any size"
                )
            input_resolution, widths = self.layout.input_resolution, self.layout.widths
        if input_resolution is None:
            input_resolution = min(img_resolution // 2, 128)
        self.input_resolution = input_resolution
        self.sr_antialias = sr_antialias
        if self.layout is not None and self.layout.has_filter:
            self.register_buffer("resample_filter", upfirdn2d.setup_filter([1, 3, 3, 1]))

        sides = _block_resolutions(input_resolution, img_resolution)
        if widths is None:
            widths = (128, 64) if sides[0] == input_resolution else (256, 128, 64)[: len(sides)]
        if len(widths) != len(sides):
            raise ValueError(f"widths must name {len(sides)} blocks for sides {sides}: {widths}")
        for i, (side, width) in enumerate(zip(sides, widths, strict=True)):
            block = (SynthesisBlockNoUp if side == input_resolution else SynthesisBlock)(
                widths[i - 1] if i else channels,
                width,
                w_dim=w_dim,
                resolution=side,
                img_channels=3,
                is_last=side == img_resolution,
                use_fp16=sr_num_fp16_res > 0,
                conv_clamp=256 if sr_num_fp16_res > 0 else None,
                **block_kwargs,
            )
            self.add_module(f"block{i}", block)

    def forward(
        self, rgb: Tensor, x: Tensor, ws: Tensor, *, recompute: bool = False, **block_kwargs
    ) -> Tensor:
        """rgb [N, 3, h, h], x [N, channels, h, h], ws [N, L, w_dim] -> [N, 3, R, R].

        Every layer uses the last latent. Where no resize happens and the first block keeps the
        resolution, `rgb` receives that block's colours in place: published discriminators were
        trained on such raw pictures. With `recompute` the activations of each block are not kept
        for the backward pass but computed again.
        """
        ws = ws[:, -1:].expand(-1, 3, -1)
        if x.shape[-1] != self.input_resolution:
            antialias = getattr(self, "sr_antialias", False)
            size = [self.input_resolution] * 2
            rgb, x = (resampling.resize(t, *size, antialias) for t in (rgb, x))
        for block in self.children():
            step = functools.partial(_run_twice, block) if recompute else block
            x, rgb = step(x, rgb, ws, **block_kwargs)
        return rgb.contiguous()


def _run_twice(block: SynthesisBlock, x: Tensor, rgb: Tensor, ws: Tensor, **kwargs):
    """What the block returns and does to `rgb`, its activations being computed again."""
    random = kwargs.get("noise_mode", "random") == "random"
    if block.up > 1:
        return run(functools.partial(block, **kwargs), x, rgb, ws, again=True, random=random)

    def on_a_copy(x: Tensor, rgb: Tensor, ws: Tensor) -> tuple[Tensor, Tensor]:
        return block(x, rgb.clone(), ws, **kwargs)

    x, colours = run(on_a_copy, x, rgb.clone(), ws, again=True, random=random)
    return x, rgb.copy_(colours)


def _block_resolutions(source: int, target: int) -> list[int]:
    factor = target // source
    if factor < 2 or source * factor != target or factor & (factor - 1):
        raise ValueError(
            f"super-resolution from {source} to {target}: the factor must be a power of two from 2"
        )
    if factor == 2:
        return [source, target]
    return [source * 2**i for i in range(1, factor.bit_length())]


@persistence.persistent_class
class SuperresolutionHybrid8XDC(Superresolution):
    """128 -> 512 with wide blocks: FFHQ-512 and AFHQ-512."""

    layout = Layout(512, 128, (256, 128), has_filter=False)


@persistence.persistent_class
class SuperresolutionHybrid8X(Superresolution):
    """128 -> 512 with narrow blocks."""

    layout = Layout(512, 128, (128, 64), has_filter=True)


@persistence.persistent_class
class SuperresolutionHybrid4X(Superresolution):
    """128 -> 256."""

    layout = Layout(256, 128, (128, 64), has_filter=True)


@persistence.persistent_class
class SuperresolutionHybrid2X(Superresolution):
    """64 -> 128: ShapeNet."""

    layout = Layout(128, 64, (128, 64), has_filter=True)


@persistence.persistent_class
class SuperresolutionHybridDeepfp32(Superresolution):
    """128 -> 256 without antialiasing, for old files; `sr_antialias` is accepted and ignored."""

    layout = Layout(256, 128, (128, 64), has_filter=True)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        del self.sr_antialias


@persistence.persistent_class
class SuperresolutionHybrid16XDC(Superresolution):
    """128 -> 1024 with wide blocks."""

    layout = Layout(1024, 128, (256, 128, 64), has_filter=False)
