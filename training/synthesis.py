"""Modulated synthesis (StyleGAN2, Karras et al. 2020, figure 2c and section 4): from intermediate
latents to an image, or, in EG3D, to the channels of three feature planes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torch_utils import misc, persistence
from torch_utils.ops import bias_act, upfirdn2d
from torch_utils.ops.epilogue import Epilogue
from training.layers import (
    Conv2dLayer,
    FullyConnectedLayer,
    MappingNetwork,
    activation_of,
    in_half_precision,
    modulated_conv2d,
)

NOISE_MODES = ("random", "const", "none")


@persistence.persistent_class
class SynthesisLayer(torch.nn.Module):
    """Modulated 3x3 convolution, noise, bias, activation:
    [N, in_channels, resolution / up, ...] -> [N, out_channels, resolution, resolution]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        kernel_size: int = 3,
        up: int = 1,
        use_noise: bool = True,
        activation: str = "lrelu",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        channels_last: bool = False,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.w_dim = w_dim
        self.resolution = resolution
        self.up = up
        self.use_noise = use_noise
        self.activation = activation
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.act_gain = float(bias_act.activation_funcs[activation].def_gain)
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))

        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        weight = torch.randn(out_channels, in_channels, kernel_size, kernel_size)
        self.weight = torch.nn.Parameter(weight.to(memory_format=layout))
        if use_noise:
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
            self.noise_strength = torch.nn.Parameter(torch.zeros([]))
        self.bias = torch.nn.Parameter(torch.zeros(out_channels))

    def forward(
        self,
        x: Tensor,
        w: Tensor,
        noise_mode: str = "random",
        fused_modconv: bool = True,
        gain: float = 1,
    ) -> Tensor:
        """x [N, I, R / up, R / up], w [N, w_dim] -> [N, O, R, R]."""
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode must be one of {NOISE_MODES}, not {noise_mode!r}")
        misc.assert_shape(x, [None, self.in_channels, *[self.resolution // self.up] * 2])
        return modulated_conv2d(
            x=x,
            weight=self.weight,
            styles=self.affine(w),
            up=self.up,
            padding=self.padding,
            resample_filter=self.resample_filter,
            flip_weight=self.up == 1,
            fused_modconv=fused_modconv,
            epilogue=activation_of(self, gain, bias=self.bias, **self._noise(x, noise_mode)),
        )

    def _noise(self, x: Tensor, mode: str) -> dict[str, Tensor]:
        if not self.use_noise or mode == "none":
            return {}
        if mode == "const":
            return dict(noise=self.noise_const, strength=self.noise_strength)
        size = (x.shape[0], 1, self.resolution, self.resolution)
        return dict(noise=torch.randn(size, device=x.device), strength=self.noise_strength)

    def extra_repr(self) -> str:
        """Sizes, for `print`."""
        sizes = f"{self.in_channels}, {self.out_channels}, resolution={self.resolution}"
        return f"{sizes}, up={self.up}, activation={self.activation}"


@persistence.persistent_class
class ToRGBLayer(torch.nn.Module):
    """Modulated 1x1 convolution to the output channels, without demodulation:
    [N, in_channels, R, R] -> [N, out_channels, R, R]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        kernel_size: int = 1,
        conv_clamp: float | None = None,
        channels_last: bool = False,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.w_dim = w_dim
        self.conv_clamp = conv_clamp
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)

        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        weight = torch.randn(out_channels, in_channels, kernel_size, kernel_size)
        self.weight = torch.nn.Parameter(weight.to(memory_format=layout))
        self.bias = torch.nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, w: Tensor, fused_modconv: bool = True) -> Tensor:
        """x [N, I, R, R], w [N, w_dim] -> [N, O, R, R]."""
        return modulated_conv2d(
            x=x,
            weight=self.weight,
            styles=self.affine(w) * self.weight_gain,
            demodulate=False,
            fused_modconv=fused_modconv,
            epilogue=Epilogue(bias=self.bias, clamp=self.conv_clamp),
        )


@persistence.persistent_class
class SynthesisBlock(torch.nn.Module):
    """One resolution of the synthesis network.

    Consumes `num_conv + num_torgb` latents in the order conv0, conv1, torgb. The first block
    (`in_channels == 0`) starts from a learned constant and has no conv0.

    `up` is the factor between the block's input and its output; 1 makes a block that refines at
    its own resolution (super-resolution, EG3D appendix), adding its colours to `img` in place.
    """

    up = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        is_last: bool,
        architecture: str = "skip",
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = 256,
        use_fp16: bool = False,
        fp16_channels_last: bool = False,
        fused_modconv_default: bool | str = True,
        **layer_kwargs,
    ):
        super().__init__()
        if architecture not in ("orig", "skip", "resnet"):
            raise ValueError(f"architecture must be orig, skip or resnet, not {architecture!r}")
        self.architecture = architecture
        self.resolution = resolution
        self.is_last = is_last
        self.in_channels, self.img_channels = in_channels, img_channels
        self.w_dim = w_dim
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        self.fused_modconv_default = fused_modconv_default
        self.num_conv = 1 if in_channels == 0 else 2
        self.num_torgb = int(is_last or architecture == "skip")
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))

        common = dict(conv_clamp=conv_clamp, channels_last=self.channels_last)
        layers = dict(w_dim=w_dim, resolution=resolution, **common, **layer_kwargs)
        if in_channels == 0:
            self.const = torch.nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            upsampling = dict(up=self.up, resample_filter=resample_filter)
            self.conv0 = SynthesisLayer(in_channels, out_channels, **upsampling, **layers)
        self.conv1 = SynthesisLayer(out_channels, out_channels, **layers)
        if self.num_torgb:
            self.torgb = ToRGBLayer(out_channels, img_channels, w_dim=w_dim, **common)
        if in_channels != 0 and architecture == "resnet":
            self.skip = Conv2dLayer(
                in_channels,
                out_channels,
                kernel_size=1,
                bias=False,
                up=self.up,
                resample_filter=resample_filter,
                channels_last=self.channels_last,
            )

    def forward(
        self,
        x: Tensor | None,
        img: Tensor | None,
        ws: Tensor,
        force_fp32: bool = False,
        fused_modconv: bool | None = None,
        update_emas: bool = False,
        **layer_kwargs,
    ) -> tuple[Tensor, Tensor | None]:
        """x [N, I, R / up, R / up] (None for the first block), img [N, C, R / up, R / up] or None,
        ws [N, num_conv + num_torgb, w_dim] -> (x [N, O, R, R], img [N, C, R, R] float32)."""
        misc.assert_shape(ws, [None, self.num_conv + self.num_torgb, self.w_dim])
        if fused_modconv is None:
            fused_modconv = self.fused_modconv_default
        if fused_modconv == "inference_only":
            fused_modconv = not self.training
        layer_kwargs["fused_modconv"] = fused_modconv

        w = iter(ws.unbind(dim=1))
        if self.in_channels == 0:
            x = self.const.expand(ws.shape[0], *self.const.shape)
            x = self.conv1(self._cast(x, ws, force_fp32), next(w), **layer_kwargs)
        else:
            misc.assert_shape(x, [None, self.in_channels, *[self.resolution // self.up] * 2])
            x = self._cast(x, ws, force_fp32)
            if self.architecture == "resnet":
                shortcut = self.skip(x, gain=math.sqrt(0.5))
                x = self.conv0(x, next(w), **layer_kwargs)
                x = shortcut + self.conv1(x, next(w), gain=math.sqrt(0.5), **layer_kwargs)
            else:
                x = self.conv0(x, next(w), **layer_kwargs)
                x = self.conv1(x, next(w), **layer_kwargs)

        if img is not None and self.up > 1:
            misc.assert_shape(img, [None, self.img_channels, *[self.resolution // self.up] * 2])
            img = upfirdn2d.upsample2d(img, self.resample_filter, up=self.up)
        if self.num_torgb:
            y = self.torgb(x, next(w), fused_modconv=fused_modconv).to(torch.float32)
            img = y if img is None else (img + y if self.up > 1 else img.add_(y))
        return x, img

    def _cast(self, x: Tensor, ws: Tensor, force_fp32: bool) -> Tensor:
        half = in_half_precision(self, force_fp32, ws)
        # Half precision needs channels-last for tensor cores; CPUs are up to twice as fast in it.
        channels_last = self.channels_last or half or x.device.type == "cpu"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        dtype = torch.float16 if half else torch.float32
        return x.to(dtype=dtype, memory_format=layout)

    def extra_repr(self) -> str:
        """Resolution and architecture, for `print`."""
        return f"resolution={self.resolution}, architecture={self.architecture}"


def block_channels(resolution: int, channel_base: int, channel_max: int) -> int:
    """Feature channels of the blocks at `resolution`."""
    return min(channel_base // resolution, channel_max)


def first_fp16_resolution(img_resolution: int, num_fp16_res: int) -> float:
    """Blocks at this resolution and above run in half precision on a GPU."""
    return max(2 ** (math.log2(img_resolution) + 1 - num_fp16_res), 8)


def resolutions(img_resolution: int) -> list[int]:
    """[4, 8, ..., img_resolution]; raises ValueError if that is not a power of two."""
    if img_resolution < 4 or img_resolution & (img_resolution - 1):
        raise ValueError(f"img_resolution must be a power of two from 4, not {img_resolution}")
    return [2**i for i in range(2, img_resolution.bit_length())]


@persistence.persistent_class
class SynthesisNetwork(torch.nn.Module):
    """Blocks `b4`, `b8`, ... from a constant to [N, img_channels, img_resolution, img_resolution].

    The colour layer of a block shares its latent with the first convolution of the next one.
    """

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 4,
        **block_kwargs,
    ):
        super().__init__()
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_resolution_log2 = img_resolution.bit_length() - 1
        self.img_channels = img_channels
        self.num_fp16_res = num_fp16_res
        self.block_resolutions = resolutions(img_resolution)
        self.num_ws = 0
        in_channels = 0
        for res in self.block_resolutions:
            out_channels = block_channels(res, channel_base, channel_max)
            block = SynthesisBlock(
                in_channels,
                out_channels,
                w_dim=w_dim,
                resolution=res,
                img_channels=img_channels,
                is_last=res == img_resolution,
                use_fp16=res >= first_fp16_resolution(img_resolution, num_fp16_res),
                **block_kwargs,
            )
            self.add_module(f"b{res}", block)
            self.num_ws += block.num_conv + (block.num_torgb if block.is_last else 0)
            in_channels = out_channels

    def forward(self, ws: Tensor, **block_kwargs) -> Tensor:
        """ws [N, num_ws, w_dim] -> [N, img_channels, img_resolution, img_resolution], float32."""
        misc.assert_shape(ws, [None, self.num_ws, self.w_dim])
        ws = ws.to(torch.float32)
        x = img = None
        first = 0
        for res in self.block_resolutions:
            block = getattr(self, f"b{res}")
            count = block.num_conv + block.num_torgb
            x, img = block(x, img, ws[:, first : first + count], **block_kwargs)
            first += block.num_conv
        return img.contiguous()


@persistence.persistent_class
class Generator(torch.nn.Module):
    """Mapping and synthesis: z [N, z_dim], c [N, c_dim] -> image. EG3D's backbone."""

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: dict | None = None,
        **synthesis_kwargs,
    ):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **synthesis_kwargs)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(
            z_dim, c_dim, w_dim, num_ws=self.num_ws, **(mapping_kwargs or {})
        )

    def forward(
        self,
        z: Tensor,
        c: Tensor,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
        **synthesis_kwargs,
    ) -> Tensor:
        """z [N, z_dim], c [N, c_dim] -> [N, img_channels, img_resolution, img_resolution]."""
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff, update_emas=update_emas)
        return self.synthesis(ws, update_emas=update_emas, **synthesis_kwargs)
