"""Building blocks shared by generators and discriminators: equalised-learning-rate layers, the
mapping network and the modulated convolution (Karras et al., StyleGAN2, 2020, section 2)."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils import persistence
from torch_utils.ops import bias_act, upfirdn2d
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.epilogue import Epilogue


def normalize_2nd_moment(x: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Scales `x` so that the mean of its squares along `dim` is one."""
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    noise: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    resample_filter: Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    fused_modconv: bool = True,
    epilogue: Epilogue | None = None,
) -> Tensor:
    """Convolution whose input channels are scaled per sample (StyleGAN2, equations 1 to 3).

    Args:
        x: [N, I, H, W].
        weight: [O, I, kh, kw], float32.
        styles: [N, I], float32: the scale of each input channel of each sample.
        noise: broadcastable to the output, added at the end.
        up, down, padding, resample_filter, flip_weight: as in `conv2d_resample`.
        demodulate: divide each output channel by the norm of its modulated weights.
        fused_modconv: put the scales into the weights where one set serves the whole call, i.e.
            for a batch of one. A larger batch would need a grouped convolution, which is slower
            than scaling the activations, and equals it up to rounding.
        epilogue: what is done to the result, in the same pass as the demodulation; then the noise
            is part of it.

    Returns:
        [N, O, H', W'] in the dtype of `x`.
    """
    scale = None
    if demodulate:
        if x.dtype == torch.float16:
            # Half precision overflows long before demodulation could bring the values back; both
            # scales cancel in it.
            peak = weight.abs().amax(dim=(1, 2, 3), keepdim=True)
            weight = weight / (peak * math.sqrt(weight[0].numel()))
            styles = styles / styles.abs().amax(dim=1, keepdim=True)
        scale = demodulation(weight, styles)

    if fused_modconv and x.shape[0] == 1:
        factors = styles if scale is None else scale.t() * styles
        weight, scale = weight * factors[:, :, None, None], None
    else:
        x = Epilogue(scale=styles)(x)

    return conv2d_resample(
        x=x,
        w=weights_for(x, weight),
        f=resample_filter,
        up=up,
        down=down,
        padding=padding,
        flip_weight=flip_weight,
        epilogue=replace(epilogue or Epilogue(noise=noise), scale=scale),
    )


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """What brings the outputs of weights [O, I, kh, kw], scaled by styles [N, I], back to unit
    variance: [N, O] (StyleGAN2, equation 3)."""
    # sum_ik (W_oik s_i)^2 = sum_i s_i^2 (sum_k W_oik^2): a small matrix product.
    power = weight.square().sum(dim=(2, 3))
    return (styles.square() @ power.t() + 1e-8).rsqrt()


def weights_for(x: Tensor, weight: Tensor) -> Tensor:
    """`weight` in the dtype of `x` and, in half precision, in its memory format: otherwise the
    convolution and each of its gradients would convert it again."""
    half = x.dtype == torch.float16
    last = half and x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.preserve_format
    return weight.to(x.dtype, memory_format=layout)


def in_half_precision(block: torch.nn.Module, force_fp32: bool, x: Tensor) -> bool:
    """Whether `block` computes in float16: if it is meant to, nobody objects, and on a GPU only."""
    return block.use_fp16 and not force_fp32 and x.device.type == "cuda"


@persistence.persistent_class
class FullyConnectedLayer(torch.nn.Module):
    """Linear layer with equalised learning rate: [N, in_features] -> [N, out_features].

    Weights are stored with unit variance (divided by `lr_multiplier`) and scaled at run time.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str = "linear",
        lr_multiplier: float = 1,
        bias_init: float = 0,
    ):
        super().__init__()
        if not lr_multiplier > 0:
            raise ValueError(f"lr_multiplier must be positive, not {lr_multiplier}")
        self.in_features = in_features
        self.out_features = out_features
        self.activation = activation
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.weight = torch.nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        filled = torch.full((out_features,), float(bias_init))
        self.bias = torch.nn.Parameter(filled) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_features] -> [N, out_features]."""
        weight = self.weight.to(x.dtype) * self.weight_gain
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if bias is not None and self.bias_gain != 1:
            bias = bias * self.bias_gain
        if self.activation == "linear":
            return F.linear(x, weight, bias)
        return bias_act.bias_act(F.linear(x, weight), bias, act=self.activation)

    def extra_repr(self) -> str:
        """Sizes and activation, for `print`."""
        return f"{self.in_features}, {self.out_features}, activation={self.activation}"


@persistence.persistent_class
class Conv2dLayer(torch.nn.Module):
    """Convolution with optional resampling, bias and activation:
    [N, in_channels, H, W] -> [N, out_channels, H * up / down, W * up / down].

    With `trainable=False` weight and bias are buffers (Freeze-D).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[float] | None = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        channels_last: bool = False,
        trainable: bool = True,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.activation = activation
        self.up = up
        self.down = down
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.act_gain = float(bias_act.activation_funcs[activation].def_gain)
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))

        layout = torch.channels_last if channels_last else torch.contiguous_format
        weight = torch.randn(out_channels, in_channels, kernel_size, kernel_size)
        tensors = {"weight": weight.to(memory_format=layout)}
        if bias:
            tensors["bias"] = torch.zeros(out_channels)
        else:
            self.bias = None
        for name, tensor in tensors.items():
            if trainable:
                self.register_parameter(name, torch.nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    def forward(self, x: Tensor, gain: float = 1) -> Tensor:
        """Convolves, adds the bias and activates; `gain` multiplies the result and its clamp."""
        return conv2d_resample(
            x=x,
            w=weights_for(x, self.weight * self.weight_gain),
            f=self.resample_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            flip_weight=self.up == 1,
            epilogue=activation_of(self, gain, bias=self.bias),
        )

    def extra_repr(self) -> str:
        """Sizes, activation and rate change, for `print`."""
        sizes = f"{self.in_channels}, {self.out_channels}, activation={self.activation}"
        return f"{sizes}, up={self.up}, down={self.down}"


def activation_of(layer: torch.nn.Module, gain: float, **parts: Tensor | None) -> Epilogue:
    """Activation, gain and clamp as `layer` asks for, after the other parts of an epilogue; `gain`
    multiplies the result and its clamp."""
    return Epilogue(
        act=layer.activation,
        gain=layer.act_gain * gain,
        clamp=None if layer.conv_clamp is None else layer.conv_clamp * gain,
        **parts,
    )


@persistence.persistent_class
class MappingNetwork(torch.nn.Module):
    """Latent and conditioning label to intermediate latents (StyleGAN2 figure 2; EG3D section 4.3).

    Args:
        z_dim: size of the latent, 0 for none (the discriminator's label network).
        c_dim: size of the conditioning label, 0 for none.
        w_dim: size of the intermediate latent.
        num_ws: copies of it to return; None returns [N, w_dim].
        w_avg_beta: decay of the tracked mean `w_avg`; None tracks none.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        num_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
        activation: str = "lrelu",
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.998,
    ):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.num_ws = num_ws
        self.num_layers = num_layers
        self.w_avg_beta = w_avg_beta

        embedded = 0 if c_dim == 0 else (w_dim if embed_features is None else embed_features)
        hidden = w_dim if layer_features is None else layer_features
        widths = [z_dim + embedded] + [hidden] * (num_layers - 1) + [w_dim]
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embedded)
        for i in range(num_layers):
            layer = FullyConnectedLayer(
                widths[i], widths[i + 1], activation=activation, lr_multiplier=lr_multiplier
            )
            self.add_module(f"fc{i}", layer)
        if num_ws is not None and w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_emas: bool = False,
    ) -> Tensor:
        """z [N, z_dim] (any float dtype), c [N, c_dim] -> ws [N, num_ws, w_dim], or [N, w_dim].

        `truncation_psi` pulls the first `truncation_cutoff` copies (all if None) towards the mean.
        """
        parts = []
        if self.z_dim > 0:
            _check_columns("z", z, self.z_dim)
            parts.append(normalize_2nd_moment(z.to(torch.float32)))
        if self.c_dim > 0:
            _check_columns("c", c, self.c_dim)
            parts.append(normalize_2nd_moment(self.embed(c.to(torch.float32))))
        x = torch.cat(parts, dim=1)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)

        tracked = getattr(self, "w_avg", None)
        if update_emas and tracked is not None:
            tracked.copy_(x.detach().mean(dim=0).lerp(tracked, self.w_avg_beta))
        if self.num_ws is not None:
            x = x.unsqueeze(1).repeat(1, self.num_ws, 1)
        if truncation_psi != 1:
            if tracked is None:
                raise ValueError(
                    "truncation_psi needs the tracked mean w_avg, this network has none"
                )
            if truncation_cutoff is None:
                x = tracked.lerp(x, truncation_psi)
            else:
                near = tracked.lerp(x[:, :truncation_cutoff], truncation_psi)
                x = torch.cat([near, x[:, truncation_cutoff:]], dim=1)
        return x

    def extra_repr(self) -> str:
        """Sizes, for `print`."""
        return f"z_dim={self.z_dim}, c_dim={self.c_dim}, w_dim={self.w_dim}, num_ws={self.num_ws}"


def _check_columns(name: str, tensor: Tensor | None, columns: int) -> None:
    if tensor is None or tensor.ndim != 2 or tensor.shape[1] != columns:
        shape = None if tensor is None else tuple(tensor.shape)
        raise ValueError(f"mapping: {name} must have shape [N, {columns}], not {shape}")
