"""The fused epilogue of a convolution as operators of `torch.library`, with gradients of any order.

y = clamp(gain * act(x * scale + noise * strength + bias)), where act is the identity for positive
values and multiplies negative ones by `slope`: leaky ReLU, ReLU (0) or the identity (1).

The derivative in x is dy times a mask that can be told from y, so the backward pass is linear in
dy and its own derivative is the same operator again.
"""

import torch
from torch import Tensor

from .choice import use_triton
from .registration import operator

__all__ = [
    "dense_format",
    "epilogue",
    "epilogue_backward",
    "fits",
    "noise_fits",
    "slope_of",
    "sum_dtype",
]


def slope_of(act: str, alpha: float) -> float | None:
    """Factor of negative values under an activation; None if that is not all it does to them."""
    return {"linear": 1.0, "relu": 0.0, "lrelu": alpha}.get(act)


def fits(x: Tensor, slope: float | None, gain: float) -> bool:
    """Whether `epilogue` can and should finish `x`: the mask needs what keeps the sign."""
    keeps_sign = slope is not None and slope >= 0 and gain > 0
    shaped = x.ndim in (2, 4) and x.is_floating_point() and x.numel() > 0
    return keeps_sign and shaped and use_triton(x)


def noise_fits(noise: Tensor | None, samples: int, height: int, width: int) -> bool:
    """Whether `epilogue` takes this noise. It has no gradient for noise that is being optimised,
    as in inversion."""
    if noise is None:
        return True
    shapes = [(height, width), (1, 1, height, width), (samples, 1, height, width)]
    return tuple(noise.shape) in shapes and not noise.requires_grad


@operator
def epilogue(
    x: Tensor,
    scale: Tensor | None,
    noise: Tensor | None,
    strength: Tensor | None,
    bias: Tensor | None,
    slope: float,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """`clamp(gain * act(x * scale + noise * strength + bias))`, rounded once to the dtype of `x`.

    Args:
        x: [N, C, H, W], or [N, C] without scale and noise.
        scale: [N, C] or None.
        noise: [H, W], [1, 1, H, W] or [N, 1, H, W]; None for none. It gets no gradient.
        strength: a scalar tensor that multiplies the noise, or None.
        bias: [C] or None.
        slope: factor of negative values, at least 0.
        gain: above 0.
        clamp: largest absolute value; None for none.
    """
    from . import epilogue_triton

    return epilogue_triton.forward(x, scale, noise, strength, bias, slope, gain, clamp)


@operator
def epilogue_backward(
    dy: Tensor,
    y: Tensor | None,
    x: Tensor | None,
    scale: Tensor | None,
    noise: Tensor | None,
    with_bias: bool,
    slope: float,
    gain: float,
    clamp: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `epilogue` in one pass over `dy`: of x [as dy], bias [C], scale [N, C] and
    strength []. That of the bias is empty unless `with_bias`, that of the scale without `x`, and
    that of the strength without `noise`. `y` may be None if there is neither slope nor clamp.
    """
    from . import epilogue_triton

    return epilogue_triton.backward(dy, y, x, scale, noise, with_bias, slope, gain, clamp)


def dense_format(x: Tensor) -> torch.memory_format:
    """The memory format in which kernels read `x` (after a copy, should it have another one)."""
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last and not x.is_contiguous() else torch.contiguous_format


@torch.library.register_fake(epilogue.name())
def _(x, scale, noise, strength, bias, slope, gain, clamp):
    return torch.empty_like(x, memory_format=dense_format(x))


@torch.library.register_fake(epilogue_backward.name())
def _(dy, y, x, scale, noise, with_bias, slope, gain, clamp):
    sums = dict(dtype=sum_dtype(dy.dtype))
    return (
        torch.empty_like(dy, memory_format=dense_format(dy if y is None else y)),
        dy.new_empty(dy.shape[1] if with_bias else 0, **sums),
        dy.new_empty(dy.shape[:2] if x is not None else 0, **sums),
        dy.new_empty(() if noise is not None else 0, **sums),
    )


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which sums over values of `dtype` are kept."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _save(ctx, inputs, output) -> None:
    x, scale, noise, strength, bias, *ctx.shape_of_act = inputs
    slope, gain, clamp = ctx.shape_of_act
    ctx.set_materialize_grads(False)
    needed = x if scale is not None and scale.requires_grad else None
    masked = slope != 1 or clamp is not None
    ctx.save_for_backward(output if masked else None, needed, scale, noise)
    ctx.dtypes = [None if t is None else t.dtype for t in (scale, strength, bias)]


def _gradients(ctx, dy):
    if dy is None:
        return (None,) * 8
    y, x, scale, noise = ctx.saved_tensors
    _, with_scale, _, with_strength, with_bias = ctx.needs_input_grad[:5]
    dx, db, ds, dn = epilogue_backward(
        dy,
        y,
        x if with_scale else None,
        scale,
        noise if with_strength else None,
        with_bias,
        *ctx.shape_of_act,
    )
    of_scale, of_strength, of_bias = ctx.dtypes
    ds = ds.to(of_scale) if with_scale else None
    dn = dn.to(of_strength) if with_strength else None
    db = db.to(of_bias) if with_bias else None
    return dx, ds, None, dn, db, None, None, None


def _save_backward(ctx, inputs, output) -> None:
    dy, y, x, scale, noise, _, *ctx.shape_of_act = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(dy if x is not None or scale is not None else None, y, x, scale, noise)


def _second_gradients(ctx, of_dx, of_db, of_ds, of_dn):
    """With m = gain * act' * [inside the clamp]: dx = m dy scale, db = sum m dy,
    ds = sum m dy x, dn = sum m dy noise. Plain torch around m: only the discriminator needs second
    derivatives for training, and it has neither scales nor noise.
    """
    dy, y, x, scale, noise = ctx.saved_tensors

    def times_mask(t: Tensor) -> Tensor:
        return epilogue_backward(t, y, None, None, None, False, *ctx.shape_of_act)[0]

    def wide(t: Tensor) -> Tensor:
        """[C] or [N, C] for multiplication with [N, C, H, W]."""
        return t[..., None, None] if like.ndim == 4 else t

    like = next(t for t in (y, of_dx, x, dy) if t is not None)
    terms = [None if of_dx is None or scale is None else of_dx * wide(scale)]
    terms += [of_dx if scale is None else None]
    terms += [None if of_db is None else wide(of_db)]
    terms += [None if of_ds is None or x is None else wide(of_ds) * x]
    terms += [None if of_dn is None or noise is None else of_dn * noise]
    terms = [t for t in terms if t is not None]
    of_dy = of_x = of_scale = None
    if terms:
        total = terms[0] if len(terms) == 1 else sum(terms[1:], terms[0])
        of_dy = times_mask(total.to(like.dtype).expand(like.shape))
    if of_ds is not None and x is not None:
        of_x = (wide(of_ds) * times_mask(dy)).to(x.dtype)
    if of_dx is not None and scale is not None:
        product = of_dx * times_mask(dy)
        of_scale = (product if like.ndim == 2 else product.sum((2, 3))).to(scale.dtype)
    return of_dy, None, of_x, of_scale, *(None,) * 5


torch.library.register_autograd(epilogue.name(), _gradients, setup_context=_save)
torch.library.register_autograd(
    epilogue_backward.name(), _second_gradients, setup_context=_save_backward
)
