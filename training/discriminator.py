"""The residual discriminator of StyleGAN2 (Karras et al. 2020, figure 7), conditioned on a label by
projection (Miyato and Koyama 2018)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torch_utils import misc, persistence
from torch_utils.ops import upfirdn2d
from torch_utils.ops.epilogue import Epilogue
from training.layers import (
    Conv2dLayer,
    FullyConnectedLayer,
    MappingNetwork,
    in_half_precision,
)
from training.synthesis import block_channels, first_fp16_resolution, resolutions


@persistence.persistent_class
class DiscriminatorBlock(torch.nn.Module):
    """One resolution: [N, tmp_channels, R, R] -> [N, out_channels, R / down, R / down].

    `in_channels == 0` marks the first block, which reads only the image. Layers whose running
    index (from `first_layer_idx`) is below `freeze_layers` are not trained.
    """

    def __init__(
        self,
        in_channels: int,
        tmp_channels: int,
        out_channels: int,
        resolution: int,
        img_channels: int,
        first_layer_idx: int,
        architecture: str = "resnet",
        activation: str = "lrelu",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        use_fp16: bool = False,
        fp16_channels_last: bool = False,
        freeze_layers: int = 0,
        down: int = 2,
    ):
        super().__init__()
        if in_channels not in (0, tmp_channels):
            raise ValueError(f"in_channels must be 0 or {tmp_channels}, not {in_channels}")
        if architecture not in ("orig", "skip", "resnet"):
            raise ValueError(f"architecture must be orig, skip or resnet, not {architecture!r}")
        self.architecture = architecture
        self.resolution = resolution
        self.in_channels, self.img_channels = in_channels, img_channels
        self.first_layer_idx = first_layer_idx
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        self.num_layers = 0
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))

        def layer(inputs: int, outputs: int, kernel_size: int, **kwargs) -> Conv2dLayer:
            trainable = first_layer_idx + self.num_layers >= freeze_layers
            self.num_layers += 1
            return Conv2dLayer(
                inputs,
                outputs,
                kernel_size,
                trainable=trainable,
                channels_last=self.channels_last,
                **kwargs,
            )

        active = dict(activation=activation, conv_clamp=conv_clamp)
        reducing = dict(down=down, resample_filter=resample_filter)
        if in_channels == 0 or architecture == "skip":
            self.fromrgb = layer(img_channels, tmp_channels, 1, **active)
        self.conv0 = layer(tmp_channels, tmp_channels, 3, **active)
        self.conv1 = layer(tmp_channels, out_channels, 3, **active, **reducing)
        if architecture == "resnet":
            self.skip = layer(tmp_channels, out_channels, 1, bias=False, **reducing)

    def forward(
        self,
        x: Tensor | None,
        img: Tensor | None,
        force_fp32: bool = False,
        channel_scale: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(x [N, tmp, R, R] or None, img [N, C, R, R] or None) -> (x, img), both at R / down.

        `channel_scale` [N, tmp] multiplies the channels between the two convolutions.
        """
        source = img if x is None else x
        half = in_half_precision(self, force_fp32, source)
        channels_last = self.channels_last or half  # tensor cores read half precision so
        layout = torch.channels_last if channels_last else torch.contiguous_format
        cast = dict(dtype=torch.float16 if half else torch.float32, memory_format=layout)

        if x is not None:
            misc.assert_shape(x, [None, self.in_channels, self.resolution, self.resolution])
            x = x.to(**cast)
        if self.in_channels == 0 or self.architecture == "skip":
            misc.assert_shape(img, [None, self.img_channels, self.resolution, self.resolution])
            img = img.to(**cast)
            y = self.fromrgb(img)
            x = y if x is None else x + y
            skip = self.architecture == "skip"
            img = self._reduced(img) if skip else None
        y = self.conv0(x)
        if channel_scale is not None:
            y = Epilogue(scale=channel_scale)(y)
        if self.architecture != "resnet":
            return self.conv1(y), img
        gain = math.sqrt(0.5)
        return self.skip(x, gain=gain) + self.conv1(y, gain=gain), img

    def _reduced(self, img: Tensor) -> Tensor:
        down = self.conv1.down
        return upfirdn2d.downsample2d(img, self.resample_filter, down=down) if down > 1 else img

    def extra_repr(self) -> str:
        """Resolution and architecture, for `print`."""
        return f"resolution={self.resolution}, architecture={self.architecture}"


@persistence.persistent_class
class MinibatchStdLayer(torch.nn.Module):
    """Appends the standard deviation within groups of the batch as extra channels (Karras et al.,
    Progressive GAN, section 3): [N, C, H, W] -> [N, C + num_channels, H, W].

    Group j holds the samples j, j + N / G, j + 2 N / G, ...; N must be divisible by the group size.
    """

    def __init__(self, group_size: int | None, num_channels: int = 1):
        super().__init__()
        self.group_size = group_size
        self.num_channels = num_channels

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C + num_channels, H, W]."""
        n, _, height, width = x.shape
        group = n if self.group_size is None else min(self.group_size, n)
        if n % group:
            raise ValueError(
                f"minibatch std: a batch of {n} does not divide into groups of {group}"
            )
        parts = x.reshape(group, n // group, self.num_channels, -1, height, width)
        std = (parts.var(dim=0, unbiased=False) + 1e-8).sqrt()
        std = std.mean(dim=(2, 3, 4)).repeat(group, 1)
        return torch.cat([x, std[:, :, None, None].expand(-1, -1, height, width)], dim=1)

    def extra_repr(self) -> str:
        """Group size and channels, for `print`."""
        return f"group_size={self.group_size}, num_channels={self.num_channels}"


@persistence.persistent_class
class DiscriminatorEpilogue(torch.nn.Module):
    """The last layers, always in float32: [N, C, R, R] -> logits [N, 1] (projected on `cmap`)."""

    def __init__(
        self,
        in_channels: int,
        cmap_dim: int,
        resolution: int,
        img_channels: int,
        architecture: str = "resnet",
        mbstd_group_size: int | None = 4,
        mbstd_num_channels: int = 1,
        activation: str = "lrelu",
        conv_clamp: float | None = None,
    ):
        super().__init__()
        self.architecture = architecture
        self.resolution = resolution
        self.in_channels, self.img_channels = in_channels, img_channels
        self.cmap_dim = cmap_dim
        if architecture == "skip":
            self.fromrgb = Conv2dLayer(img_channels, in_channels, 1, activation=activation)
        grouped = mbstd_num_channels > 0
        self.mbstd = MinibatchStdLayer(mbstd_group_size, mbstd_num_channels) if grouped else None
        self.conv = Conv2dLayer(
            in_channels + mbstd_num_channels,
            in_channels,
            kernel_size=3,
            activation=activation,
            conv_clamp=conv_clamp,
        )
        self.fc = FullyConnectedLayer(
            in_channels * resolution**2, in_channels, activation=activation
        )
        self.out = FullyConnectedLayer(in_channels, cmap_dim if cmap_dim > 0 else 1)

    def forward(
        self, x: Tensor, img: Tensor | None, cmap: Tensor | None, force_fp32: bool = False
    ) -> Tensor:
        """x [N, C, R, R], cmap [N, cmap_dim] or None -> [N, 1]."""
        misc.assert_shape(x, [None, self.in_channels, self.resolution, self.resolution])
        x = x.to(dtype=torch.float32, memory_format=torch.contiguous_format)
        if self.architecture == "skip":
            x = x + self.fromrgb(img.to(torch.float32))
        if self.mbstd is not None:
            x = self.mbstd(x)
        x = self.out(self.fc(self.conv(x).flatten(1)))
        if self.cmap_dim > 0:
            misc.assert_shape(cmap, [None, self.cmap_dim])
            x = (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)
        return x


@persistence.persistent_class
class Discriminator(torch.nn.Module):
    """img [N, img_channels, img_resolution, img_resolution], c [N, c_dim] -> logits [N, 1].

    Blocks `b<img_resolution>` ... `b8`, the label network `mapping` (if c_dim > 0) and `b4`.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        architecture: str = "resnet",
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 4,
        conv_clamp: float | None = 256,
        cmap_dim: int | None = None,
        block_kwargs: dict | None = None,
        mapping_kwargs: dict | None = None,
        epilogue_kwargs: dict | None = None,
    ):
        super().__init__()
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_resolution_log2 = img_resolution.bit_length() - 1
        self.img_channels = img_channels
        self.block_resolutions = resolutions(img_resolution)[:0:-1]

        def channels(res: int) -> int:
            return block_channels(res, channel_base, channel_max)

        if cmap_dim is None:
            cmap_dim = channels(4)
        common = dict(img_channels=img_channels, architecture=architecture, conv_clamp=conv_clamp)
        layers = 0
        for res in self.block_resolutions:
            block = DiscriminatorBlock(
                channels(res) if res < img_resolution else 0,
                channels(res),
                channels(res // 2),
                resolution=res,
                first_layer_idx=layers,
                use_fp16=res >= first_fp16_resolution(img_resolution, num_fp16_res),
                **common,
                **(block_kwargs or {}),
            )
            self.add_module(f"b{res}", block)
            layers += block.num_layers
        if c_dim > 0:
            self.mapping = MappingNetwork(
                z_dim=0,
                c_dim=c_dim,
                w_dim=cmap_dim,
                num_ws=None,
                w_avg_beta=None,
                **(mapping_kwargs or {}),
            )
        self.b4 = DiscriminatorEpilogue(
            channels(4),
            cmap_dim=cmap_dim if c_dim > 0 else 0,
            resolution=4,
            **common,
            **(epilogue_kwargs or {}),
        )

    def forward(
        self,
        img: Tensor,
        c: Tensor | None,
        update_emas: bool = False,
        return_features: bool = False,
        **block_kwargs,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """img [N, C, R, R] in [-1, 1], c [N, c_dim] -> logits [N, 1], float32.

        With `return_features` also what each block gave, [N, C, R / 2, R / 2] to [N, C, 4, 4].
        """
        x, features = None, []
        for res in self.block_resolutions:
            x, img = getattr(self, f"b{res}")(x, img, **block_kwargs)
            if return_features:
                features.append(x)
        cmap = self.mapping(None, c) if self.c_dim > 0 else None
        logits = self.b4(x, img, cmap)
        return (logits, features) if return_features else logits

    def extra_repr(self) -> str:
        """Sizes, for `print`."""
        return (
            f"c_dim={self.c_dim}, img_resolution={self.img_resolution}, "
            f"img_channels={self.img_channels}"
        )
