"""Bias, activation, gain and clamp in one call (Karras et al., StyleGAN2)."""

import math

import torch
import torch.nn.functional as F

from dnnlib.util import EasyDict

from .epilogue_ops import epilogue, fits, slope_of

__all__ = ["activation_funcs", "bias_act"]


def _entry(index: int, func, ref: str, alpha: float = 0, gain: float = 1, curved: bool = False):
    return EasyDict(
        func=func, def_alpha=alpha, def_gain=gain, cuda_idx=index, ref=ref, has_2nd_grad=curved
    )


# `func(u, alpha)` is the activation; `ref` is what a fused backward pass needs: the output 'y', the
# input 'x' or nothing; `has_2nd_grad` says whether the second derivative is not zero everywhere.
activation_funcs: dict[str, EasyDict] = {
    "linear": _entry(1, lambda u, alpha: u, ""),
    "relu": _entry(2, lambda u, alpha: F.relu(u), "y", gain=math.sqrt(2)),
    "lrelu": _entry(3, F.leaky_relu, "y", alpha=0.2, gain=math.sqrt(2)),
    "tanh": _entry(4, lambda u, alpha: torch.tanh(u), "y", curved=True),
    "sigmoid": _entry(5, lambda u, alpha: torch.sigmoid(u), "y", curved=True),
    "elu": _entry(6, lambda u, alpha: F.elu(u), "y", curved=True),
    "selu": _entry(7, lambda u, alpha: F.selu(u), "y", curved=True),
    "softplus": _entry(8, lambda u, alpha: F.softplus(u), "y", curved=True),
    "swish": _entry(9, lambda u, alpha: F.silu(u), "x", gain=math.sqrt(2), curved=True),
}

# act(gain * u) = gain * act(u) for gain > 0: the gain rides on the addition of the bias for free.
_HOMOGENEOUS = {"linear", "relu", "lrelu"}


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    impl: str = "cuda",
    inplace: bool = False,
) -> torch.Tensor:
    """Returns clamp(gain * act(x + b; alpha), -clamp, clamp) in the dtype and shape of `x`.

    `b` [x.shape[dim]] has the dtype of `x`; `act` is a key of `activation_funcs`, whose defaults
    stand for `alpha` (slope of lrelu) and `gain`; `clamp` is None or at least 0. 16-bit input is
    computed in float32 and rounded once. NaN stays NaN. Differentiable any number of times.
    `impl` is "cuda" (the version of `choice`: one kernel where Triton runs) or "ref" (plain torch).
    `inplace` allows to overwrite `x`, done on the CPU only: getting memory for a large picture
    takes longer there than all the arithmetic. Raises ValueError for bad arguments.
    """
    if impl not in ("cuda", "ref"):
        raise ValueError(f'impl is "cuda" or "ref", got {impl!r}')
    if act not in activation_funcs:
        raise ValueError(f"unknown activation {act!r}, known are {', '.join(activation_funcs)}")
    if clamp is not None and clamp < 0:
        raise ValueError(f"clamp is None or at least 0, got {clamp}")
    spec = activation_funcs[act]
    alpha = float(spec.def_alpha if alpha is None else alpha)
    gain = float(spec.def_gain if gain is None else gain)
    bias = None if b is None else _broadcast_bias(x, b, dim)
    slope = slope_of(act, alpha)
    if impl == "cuda" and dim % x.ndim == 1 and fits(x, slope, gain):
        return epilogue(x, None, None, None, b, slope, gain, clamp)

    dtype = x.dtype
    inplace = inplace and x.device.type == "cpu"
    if dtype in (torch.float16, torch.bfloat16):
        x = x.float()
        bias = None if bias is None else bias.float()
    if act in _HOMOGENEOUS and gain > 0:
        u = _scaled_sum(x, bias, gain, inplace)
        # A fresh tensor may be overwritten: half the memory traffic, and autograd keeps the output.
        # That needs a slope from which the sign of the input can be told.
        fresh = (inplace or u is not x) and act == "lrelu" and alpha >= 0
        y = F.leaky_relu_(u, alpha) if fresh else spec.func(u, alpha)
    else:
        y = spec.func(x if bias is None else x + bias, alpha)
        y = y if gain == 1 else y * gain
    if clamp is not None:
        recorded = y.requires_grad and torch.is_grad_enabled()  # the activation keeps its output
        fresh = not recorded and (inplace or y is not x)
        # Hardtanh is the same with a gradient of one pass; a clamp's takes four.
        y = y.clamp_(-clamp, clamp) if fresh else F.hardtanh(y, -clamp, clamp)
    return y.to(dtype)


def _broadcast_bias(x: torch.Tensor, b: torch.Tensor, dim: int) -> torch.Tensor:
    if not -x.ndim <= dim < x.ndim or b.ndim != 1 or b.shape[0] != x.shape[dim]:
        raise ValueError(f"bias {list(b.shape)} does not fit axis {dim} of {list(x.shape)}")
    if b.dtype != x.dtype:
        raise ValueError(f"bias is {b.dtype}, x is {x.dtype}: they must agree")
    shape = [1] * x.ndim
    shape[dim] = -1
    return b.reshape(shape)


def _scaled_sum(
    x: torch.Tensor, bias: torch.Tensor | None, gain: float, inplace: bool
) -> torch.Tensor:
    """gain * (x + bias) in one pass over x; x itself where there is nothing to do."""
    if inplace:
        x = x if gain == 1 else x.mul_(gain)
        return x if bias is None else x.add_(bias * gain)
    if bias is None:
        return x if gain == 1 else x * gain
    return x + bias if gain == 1 else torch.add(bias * gain, x, alpha=gain)
