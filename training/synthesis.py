"""Layers and blocks of modulated synthesis (StyleGAN2, Karras et al. 2020, figure 2c and section
4); `backbone.py` makes a network of them."""

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
    activation_of,
    in_half_precision,
    modulated_conv2d,
)
from training.roll_out import ROLL_OUTS, roll_out_of

NOISE_MODES = ("random", "const", "none")


@persistence.persistent_class
class SynthesisLayer(torch.nn.Module):
    """Modulated 3x3 convolution, noise, bias, activation:
    [N, in_channels, resolution / up, ...] -> [N, out_channels, resolution, resolution].

    `roll_out`: where it finds three feature planes, see `training.roll_out`.
    """

    roll_out: str | None = None

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
        roll_out: str | None = None,
    ):
        super().__init__()
        if roll_out is not None:
            self.roll_out = roll_out
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

        planes = roll_out_of(roll_out)
        fan_in = planes.gathered * in_channels
        self.affine = FullyConnectedLayer(w_dim, planes.separate * fan_in, bias_init=1)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        weight = torch.randn(out_channels, fan_in, kernel_size, kernel_size)
        self.weight = torch.nn.Parameter(weight.to(memory_format=layout))
        if use_noise:
            noise = torch.randn(resolution, resolution * planes.abreast)
            self.register_buffer("noise_const", noise)
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
        planes = ROLL_OUTS[self.roll_out]
        side = self.resolution // self.up
        misc.assert_shape(x, [None, self.in_channels, side, side * planes.abreast])
        convolve = planes.convolve or modulated_conv2d
        return convolve(
            x=x,
            weight=self.weight,
            styles=planes.styles(self.affine(w)),
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
        size = (x.shape[0], 1, *self.noise_const.shape)
        return dict(noise=torch.randn(size, device=x.device), strength=self.noise_strength)

    def extra_repr(self) -> str:
        """Sizes, for `print`."""
        sizes = f"{self.in_channels}, {self.out_channels}, resolution={self.resolution}"
        return f"{sizes}, up={self.up}, activation={self.activation}"


@persistence.persistent_class
class ToRGBLayer(torch.nn.Module):
    """Modulated 1x1 convolution to the output channels, without demodulation:
    [N, in_channels, R, R] -> [N, out_channels, R, R]. `roll_out` as of `SynthesisLayer`."""

    roll_out: str | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        kernel_size: int = 1,
        conv_clamp: float | None = None,
        channels_last: bool = False,
        roll_out: str | None = None,
    ):
        super().__init__()
        if roll_out is not None:
            self.roll_out = roll_out
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.w_dim = w_dim
        self.conv_clamp = conv_clamp
        # Without regard to what an exchange of planes adds: published weights mean it so.
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)

        planes = roll_out_of(roll_out)
        fan_in = planes.gathered * in_channels
        self.affine = FullyConnectedLayer(w_dim, planes.separate * fan_in, bias_init=1)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        weight = torch.randn(out_channels, fan_in, kernel_size, kernel_size)
        self.weight = torch.nn.Parameter(weight.to(memory_format=layout))
        self.bias = torch.nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, w: Tensor, fused_modconv: bool = True) -> Tensor:
        """x [N, I, R, R], w [N, w_dim] -> [N, O, R, R]."""
        planes = ROLL_OUTS[self.roll_out]
        convolve = planes.convolve or modulated_conv2d
        return convolve(
            x=x,
            weight=self.weight,
            styles=planes.styles(self.affine(w)) * self.weight_gain,
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
    its own resolution. `roll_out`: where it finds three feature planes, see `training.roll_out`.
    """

    up = 2
    roll_out: str | None = None

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
        up: int | None = None,
        roll_out: str | None = None,
        **layer_kwargs,
    ):
        super().__init__()
        if up is not None:
            self.up = up
        if roll_out is not None:
            self.roll_out = roll_out
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

        common = dict(conv_clamp=conv_clamp, channels_last=self.channels_last, roll_out=roll_out)
        layers = dict(w_dim=w_dim, resolution=resolution, **common, **layer_kwargs)
        if in_channels == 0:
            planes = roll_out_of(roll_out)
            size = (out_channels, resolution, resolution * planes.abreast)
            size = size if roll_out is None else (planes.separate, *size)
            self.const = torch.nn.Parameter(torch.randn(size))
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
        side = self.resolution // self.up
        size = [side, side * ROLL_OUTS[self.roll_out].abreast]
        if self.in_channels == 0:
            x = self.const.expand(ws.shape[0], *self.const.shape)
            x = x if x.ndim == 4 else x.flatten(0, 1)  # a constant for each of the planes
            x = self.conv1(self._cast(x, ws, force_fp32), next(w), **layer_kwargs)
        else:
            misc.assert_shape(x, [None, self.in_channels, *size])
            x = self._cast(x, ws, force_fp32)
            if self.architecture == "resnet":
                shortcut = self.skip(x, gain=math.sqrt(0.5))
                x = self.conv0(x, next(w), **layer_kwargs)
                x = shortcut + self.conv1(x, next(w), gain=math.sqrt(0.5), **layer_kwargs)
            else:
                x = self.conv0(x, next(w), **layer_kwargs)
                x = self.conv1(x, next(w), **layer_kwargs)

        if img is not None and self.up > 1:
            misc.assert_shape(img, [None, self.img_channels, *size])
            img = upfirdn2d.upsample2d(img, self.resample_filter, up=self.up)
        if self.num_torgb:
            y = self.torgb(x, next(w), fused_modconv=fused_modconv).to(torch.float32)
            img = y if img is None else self._add(img, y)
        return x, img

    def _add(self, img: Tensor, colours: Tensor) -> Tensor:
        return img + colours

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        name = f"{prefix}const"
        if self.in_channels == 0 and name in state_dict:
            state_dict[name] = fitted(name, state_dict[name], self.const.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _cast(self, x: Tensor, ws: Tensor, force_fp32: bool) -> Tensor:
        half = in_half_precision(self, force_fp32, ws)
        # Half precision needs channels-last for tensor cores; CPUs are up to twice as fast in it,
        # but not where the planes of a sample are convolved in groups of channels.
        apart = ROLL_OUTS[self.roll_out].convolve is None
        channels_last = self.channels_last or half or (x.device.type == "cpu" and apart)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        dtype = torch.float16 if half else torch.float32
        return x.to(dtype=dtype, memory_format=layout)

    def extra_repr(self) -> str:
        """Resolution and architecture, for `print`."""
        return f"resolution={self.resolution}, architecture={self.architecture}"


def fitted(name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
    """The tensor `name` of a state_dict, in `shape` where it is a learned constant that has an axis
    of one more or less: [1, C, 4, 4] in Mimic3D's files, [C, 4, 4] in EG3D's. Else as it is."""
    is_const = name.rpartition(".")[2] == "const" and tensor.shape[-3:] == shape[-3:]
    return tensor.reshape(shape) if is_const and tensor.numel() == shape.numel() else tensor


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
