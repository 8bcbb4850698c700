"""What follows a convolution, in one pass: demodulation, noise, bias, activation, clamp."""

from dataclasses import dataclass

from torch import Tensor

from . import fma
from .bias_act import activation_funcs, bias_act
from .epilogue_ops import epilogue, fits, noise_fits, slope_of

__all__ = ["Epilogue"]


@dataclass(frozen=True)
class Epilogue:
    """x -> clamp(gain * act(x * scale + noise * strength + bias)), parts left out being None.

    Args:
        scale: [N, C], such as the demodulation of StyleGAN2, equation 3.
        noise: [H, W], or anything that broadcasts to [N, C, H, W].
        strength: scalar that multiplies the noise.
        bias: [C].
        act: a key of `bias_act.activation_funcs`.
        gain: the default is the activation's own.
        clamp: largest absolute value.
    """

    scale: Tensor | None = None
    noise: Tensor | None = None
    strength: Tensor | None = None
    bias: Tensor | None = None
    act: str = "linear"
    gain: float | None = None
    clamp: float | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """[N, C, H, W] in the dtype of `x`, which may be overwritten. Differentiable any number of
        times in everything. One kernel where Triton runs, else the plain composition."""
        if self._does_something() and self.fused(x, *x.shape[2:]):
            return epilogue(x, *self.operands())
        return self.plain(x)

    def fused(self, x: Tensor, height: int, width: int) -> bool:
        """Whether one kernel can do all of it, to something like `x` of that size."""
        shaped = noise_fits(self.noise, x.shape[0], height, width)
        return shaped and fits(x, self._slope(), self._gain())

    def operands(self) -> tuple:
        """The arguments of `epilogue_ops.epilogue` after `x`."""
        tensors = self.scale, self.noise, self.strength, self.bias
        return *tensors, self._slope(), self._gain(), self.clamp

    def plain(self, x: Tensor) -> Tensor:
        """The same by plain operators, each rounding to the dtype of `x`."""
        noise = self.noise
        if noise is not None:
            noise = (noise if self.strength is None else noise * self.strength).to(x.dtype)
        if self.scale is not None:
            scale = self.scale.to(x.dtype)[:, :, None, None]
            x = x * scale if noise is None else fma.fma(x, scale, noise)
        elif noise is not None:
            x = x.add_(noise)
        if self.bias is None and not self._activates():
            return x
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return bias_act(x, bias, act=self.act, gain=self.gain, clamp=self.clamp, inplace=True)

    def _does_something(self) -> bool:
        parts = (self.scale, self.noise, self.bias)
        return self._activates() or any(part is not None for part in parts)

    def _activates(self) -> bool:
        return self.act != "linear" or self._gain() != 1 or self.clamp is not None

    def _slope(self) -> float | None:
        return slope_of(self.act, float(activation_funcs[self.act].def_alpha))

    def _gain(self) -> float:
        return float(activation_funcs[self.act].def_gain if self.gain is None else self.gain)
