"""The discriminator of patches (EpiGRAF, Skorokhodov et al. 2022, section 3.2): StyleGAN2's, told
where in the picture its patch lies."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from torch_utils import persistence
from training.discriminator import DiscriminatorBlock, DiscriminatorEpilogue
from training.epigraf.encoders import ScalarEncoder1d
from training.epigraf.mapping import PoseMappingNetwork
from training.layers import Conv2dLayer, FullyConnectedLayer
from training.synthesis import block_channels, first_fp16_resolution, resolutions

HYPER_DIM = 512  # of the code that modulates the blocks
PATCH_NUMBERS = 3  # scale and the two offsets
MAX_START_BLOCKS = 8


@persistence.persistent_class
class PatchDiscriminatorBlock(DiscriminatorBlock):
    """A residual block whose second convolution sees channels scaled by 1 + tanh(affine(code)).

    `hyper_dim` is the size of the code, 0 for an unmodulated block; see `DiscriminatorBlock` for
    the rest. Every block has the layer `fromrgb`, as published checkpoints do, and only the first
    (`in_channels == 0`) uses it.
    """

    def __init__(
        self,
        in_channels: int,
        tmp_channels: int,
        out_channels: int,
        img_channels: int,
        hyper_dim: int = 0,
        **block_kwargs,
    ):
        super().__init__(
            in_channels, tmp_channels, out_channels, img_channels=img_channels, **block_kwargs
        )
        if not hasattr(self, "fromrgb"):
            self.fromrgb = Conv2dLayer(img_channels, tmp_channels, 1)
        if hyper_dim > 0:
            self.conv1.affine = FullyConnectedLayer(hyper_dim, tmp_channels)

    def forward(
        self, x: Tensor | None, img: Tensor | None, code: Tensor | None, force_fp32: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """As `DiscriminatorBlock`, with code [N, hyper_dim], or None if there is no modulation."""
        scale = None if code is None else 1 + self.conv1.affine(code).tanh()
        return super().forward(x, img, force_fp32, channel_scale=scale)


@persistence.persistent_class
class PatchDiscriminator(torch.nn.Module):
    """{'image': [N, img_channels, r, r]}, class c [N, c_dim], angles [N, 3], and place of the patch
    -> logits [N, 1].

    Blocks are called by a virtual resolution: `b<r * 2^A>` ... `b8`, of which the first A keep the
    size of what they see; then `b4`. So patches get the channels that the whole picture would get.

    Args:
        c_dim: size of the class label, 0 for none.
        img_resolution: side r of a patch.
        num_additional_start_blocks: A, from 0 to 8.
        hyper_mod: tell blocks and head where the patch lies; else it sees whole pictures.
        head_kwargs: what the head is told of the pose: options of its `PoseMappingNetwork`, from
            `camera_cond` on.
        block_kwargs, mapping_kwargs, epilogue_kwargs: options of the blocks, of both mapping
            networks, and of `b4`.
    """

    nested_arguments: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "head_kwargs": ("PoseMappingNetwork", "MappingNetwork"),
        "mapping_kwargs": ("PoseMappingNetwork", "MappingNetwork"),
        "block_kwargs": ("PatchDiscriminatorBlock", "DiscriminatorBlock"),
    }

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int = 3,
        num_additional_start_blocks: int = 0,
        channel_base: int = 16384,
        channel_max: int = 512,
        num_fp16_res: int = 4,
        conv_clamp: float | None = 256,
        hyper_mod: bool = True,
        head_kwargs: dict | None = None,
        block_kwargs: dict | None = None,
        mapping_kwargs: dict | None = None,
        epilogue_kwargs: dict | None = None,
    ):
        super().__init__()
        if not 0 <= num_additional_start_blocks <= MAX_START_BLOCKS:
            raise ValueError(
                f"num_additional_start_blocks must be from 0 to {MAX_START_BLOCKS}, "
                f"not {num_additional_start_blocks}"
            )
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.hyper_mod = hyper_mod
        mapping = dict(z_dim=0, num_ws=None, w_avg_beta=None, **(mapping_kwargs or {}))
        head_kwargs = head_kwargs or {}
        label_dim = c_dim
        if hyper_mod:
            self.scalar_enc = ScalarEncoder1d(PATCH_NUMBERS, x_multiplier=1000, const_emb_dim=256)
            place_dim = self.scalar_enc.dim
            self.hyper_mod_mapping = PoseMappingNetwork(c_dim=place_dim, w_dim=HYPER_DIM, **mapping)
            label_dim += place_dim

        largest = img_resolution * 2**num_additional_start_blocks
        widths = {
            res: block_channels(res, channel_base, channel_max) for res in resolutions(largest)
        }
        self.block_resolutions = list(widths)[:0:-1]
        common = dict(img_channels=img_channels, conv_clamp=conv_clamp)
        half = first_fp16_resolution(largest, num_fp16_res)
        self._add_blocks(widths, half, **common, **(block_kwargs or {}))
        self.head_mapping = None
        if label_dim > 0 or head_kwargs.get("camera_cond"):
            self.head_mapping = PoseMappingNetwork(
                c_dim=label_dim, w_dim=widths[4], **mapping, **head_kwargs
            )
        self.b4 = DiscriminatorEpilogue(
            widths[4],
            cmap_dim=0 if self.head_mapping is None else widths[4],
            resolution=4,
            **common,
            **(epilogue_kwargs or {}),
        )

    def _add_blocks(self, widths: dict[int, int], first_half: float, **block_kwargs):
        """Channels at each virtual resolution, the first one in half precision, other options."""
        layers = 0
        for res in self.block_resolutions:
            block = PatchDiscriminatorBlock(
                widths[res] if layers else 0,
                widths[res],
                widths[res // 2],
                resolution=min(res, self.img_resolution),
                down=2 if res <= self.img_resolution else 1,
                first_layer_idx=layers,
                use_fp16=res >= first_half,
                hyper_dim=HYPER_DIM if self.hyper_mod else 0,
                **block_kwargs,
            )
            self.add_module(f"b{res}", block)
            layers += block.num_layers

    def forward(
        self,
        img: dict[str, Tensor],
        c: Tensor | None = None,
        angles: Tensor | None = None,
        scales: Tensor | None = None,
        offsets: Tensor | None = None,
        update_emas: bool = False,
        **block_kwargs,
    ) -> Tensor:
        """Logits [N, 1], float32.

        Args:
            img: 'image' [N, C, r, r] in [-1, 1].
            c: [N, c_dim], for a network with classes.
            angles: [N, 3], yaw, pitch and roll in radians, for a head with `camera_cond`.
            scales, offsets: [N, 2] in [0, 1], place of the patch, for a network with `hyper_mod`;
                a patch is as high as it is wide, so that only one scale is looked at.
            update_emas: without meaning here.
            block_kwargs: `force_fp32`.
        """
        label = [] if self.c_dim == 0 else [c]
        code = None
        if self.hyper_mod:
            place = self._place_code(scales, offsets)
            code = self.hyper_mod_mapping(None, place)
            label.append(place)
        x, picture = None, img["image"]
        for res in self.block_resolutions:
            x, picture = getattr(self, f"b{res}")(x, picture, code, **block_kwargs)
        cmap = None
        if self.head_mapping is not None:
            label = torch.cat(label, dim=1) if label else None
            cmap = self.head_mapping(None, label, angles=angles)
        return self.b4(x, picture, cmap)

    def _place_code(self, scales: Tensor | None, offsets: Tensor | None) -> Tensor:
        if scales is None or offsets is None:
            raise ValueError(
                "PatchDiscriminator with hyper_mod needs scales and offsets of patches"
            )
        return self.scalar_enc(torch.cat([scales[:, :1], offsets], dim=1))

    def extra_repr(self) -> str:
        """Sizes, for `print`."""
        return f"c_dim={self.c_dim}, img_resolution={self.img_resolution}"
