"""Features of planes at points, decoded, as one operator of `torch.library`.

The decoder has two layers: o = w2 activation(w1 f + b1) + b2, where f is the sum of the planes'
bilinear features. Its density is o[0], its colours are 1.002 sigmoid(o[1:]) - 0.001 or o[1:].

Plain PyTorch and kernels that decode a second time in the backward pass instead of keeping
anything. Gradients of gradients go through the plain version.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .choice import use_triton
from .registration import on_its_device

__all__ = [
    "ACTIVATIONS",
    "COLOURINGS",
    "PRECISIONS",
    "How",
    "decode",
    "decode_plain",
    "fits",
    "plain_gradients",
    "unpacked",
]

# "float32" is as exact as plain float32, "tf32" rounds the factors of products to 10 bits as the
# plain products do where that is allowed, "float16" keeps planes and factors in 16 bits.
PRECISIONS = ("float32", "tf32", "float16")


# Of the hidden layer; "lrelu" is leaky ReLU with slope 0.2 and gain sqrt 2.
ACTIVATIONS = {
    "softplus": F.softplus,
    "lrelu": lambda x: F.leaky_relu(x, 0.2) * 2**0.5,
}

# What makes colours of outputs.
COLOURINGS = {"sigmoid": lambda x: torch.sigmoid(x) * 1.002 - 0.001, "linear": lambda x: x}


class How(NamedTuple):
    """What kernels know of a field besides its tensors.

    Args:
        axes: which coordinates run along columns and rows of plane after plane, 2 P numbers.
        sizes: the numbers of columns and rows of plane after plane.
        scale: makes of points those of the cube [-1, 1]^3, over which the planes lie.
        precision: one of `PRECISIONS`, of the kernels.
        activation: one of `ACTIVATIONS`.
        colouring: one of `COLOURINGS`.
    """

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    scale: float
    precision: str = "float32"
    activation: str = "softplus"
    colouring: str = "sigmoid"


def fits(planes: Tensor, w1: Tensor, w2: Tensor) -> bool:
    """Whether kernels can decode planes [N, T, C] with w1 [HIDDEN, C], w2 [1 + K, HIDDEN].

    Matrix units want powers of two from 16; tf32 needs compute capability 8. Sums of atomic
    additions depend on chance, so not where deterministic algorithms are asked for.
    """
    if not use_triton(planes) or torch.are_deterministic_algorithms_enabled():
        return False
    widths = (planes.shape[2], w1.shape[0], w2.shape[0] - 1)
    shaped = w1.shape[1] == widths[0] and w2.shape[1] == widths[1]
    powers = all(16 <= n <= 128 and n & (n - 1) == 0 for n in widths)
    narrow = planes.dtype in (torch.float32, torch.float16, torch.bfloat16)
    able = not planes.is_cuda or torch.cuda.get_device_capability(planes.device) >= (8, 0)
    same = {w1.dtype, w2.dtype} == {torch.float32} and planes.numel() > 0
    return shaped and powers and narrow and able and same


@torch.library.custom_op("eg3d::triplane_decode", mutates_args=())
@on_its_device
def decode(
    planes: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    points: Tensor,
    axes: Sequence[int],
    sizes: Sequence[int],
    scale: float,
    precision: str,
    activation: str,
    colouring: str,
    want_rgb: bool,
) -> tuple[Tensor, Tensor]:
    """Colours [N, Q, K] (none of them, [N, 0, K], unless wanted) and raw densities [N, Q].

    Args:
        planes: [N, T, C], the texels of plane after plane, row after row; contiguous.
        w1, b1, w2, b2: [HIDDEN, C], [HIDDEN], [1 + K, HIDDEN], [1 + K].
        points: [N, Q, 3].
        axes and what follows: see `How`.
    """
    layers = (w1, b1, w2, b2)
    how = How(tuple(axes), tuple(sizes), scale, precision, activation, colouring)
    if not use_triton(planes):
        rgb, sigma = decode_plain(planes, *layers, points, how)
        return (rgb if want_rgb else rgb[:, :0]).contiguous(), sigma.contiguous()
    from . import triplane_triton

    return triplane_triton.decode(planes, layers, points, how, want_rgb)


@torch.library.custom_op("eg3d::triplane_decode_backward", mutates_args=())
@on_its_device
def decode_backward(
    g_rgb: Tensor | None,
    g_sigma: Tensor,
    planes: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    points: Tensor,
    axes: Sequence[int],
    sizes: Sequence[int],
    scale: float,
    precision: str,
    activation: str,
    colouring: str,
    needed: Sequence[bool],
) -> list[Tensor]:
    """Gradients of planes, w1, b1, w2, b2 and points; empty tensors for those not needed, except
    that those of the layers come together. Without `g_rgb` colours do not count. Kernels only."""
    from . import triplane_triton

    layers = (w1, b1, w2, b2)
    how = How(tuple(axes), tuple(sizes), scale, precision, activation, colouring)
    return triplane_triton.decode_gradients(g_rgb, g_sigma, planes, layers, points, how, needed)


def decode_plain(
    planes: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    points: Tensor,
    how: How,
) -> tuple[Tensor, Tensor]:
    """The twin of `decode`: (colours [N, Q, K], densities [N, Q])."""
    points = points * how.scale
    features = 0
    axes = zip(how.axes[::2], how.axes[1::2], strict=True)
    for plane, (column, row) in zip(unpacked(planes, how), axes, strict=True):
        at = torch.stack([points[..., column], points[..., row]], dim=-1)
        found = F.grid_sample(plane.to(points.dtype), at.unsqueeze(1), align_corners=False)
        features = features + found.squeeze(2).transpose(1, 2)
    out = F.linear(ACTIVATIONS[how.activation](F.linear(features, w1, b1)), w2, b2)
    return COLOURINGS[how.colouring](out[..., 1:]), out[..., 0]


def unpacked(planes: Tensor, how: How) -> list[Tensor]:
    """Packed planes [N, T, C] -> each as [N, C, H, W]."""
    sides = list(zip(how.sizes[::2], how.sizes[1::2], strict=True))
    parts = planes.split([width * height for width, height in sides], dim=1)
    return [
        part.unflatten(1, (height, width)).permute(0, 3, 1, 2)
        for part, (width, height) in zip(parts, sides, strict=True)
    ]


def plain_gradients(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor | None]:
    """Gradients of those inputs of a plain function that are needed, which can be differentiated
    again where gradients are being recorded."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views: the same tensors as far as an outer derivative goes, others for this one.
        inputs = [x.view_as(x) if again else x.detach() for x in inputs]
        wanted = [x for x, need in zip(inputs, needed, strict=True) if need]
        if not again:
            for x in wanted:
                x.requires_grad_()
        outputs = function(*inputs)
        found = torch.autograd.grad(outputs, wanted, grads, create_graph=again, allow_unused=True)
    found = iter(found)
    return [next(found) if need else None for need in needed]


@decode.register_fake
def _(planes, w1, b1, w2, b2, points, *how):
    want_rgb = how[-1]
    n, count = points.shape[:2]
    rgb = points.new_empty(n, count if want_rgb else 0, w2.shape[0] - 1)
    return rgb, points.new_empty(n, count)


@decode_backward.register_fake
def _(g_rgb, g_sigma, planes, w1, b1, w2, b2, points, *how):
    return empty_gradients((planes, w1, b1, w2, b2, points), how[-1])


def empty_gradients(inputs: Sequence[Tensor], needed: Sequence[bool]) -> list[Tensor]:
    """Room for gradients of planes, four layers' tensors and what follows, as `needed` says."""
    needed = [needed[0], *[any(needed[1:5])] * 4, *needed[5:]]
    return [
        x.new_empty(x.shape if need else 0, dtype=torch.float32)
        for x, need in zip(inputs, needed, strict=True)
    ]


def as_needed(
    found: Sequence[Tensor], inputs: Sequence[Tensor], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients in the dtypes of their inputs, None for those not needed."""
    return [
        g.to(x.dtype) if need else None for g, x, need in zip(found, inputs, needed, strict=True)
    ]


def _save(ctx, inputs, output) -> None:
    tensors, (axes, sizes, *rest, _) = inputs[:6], inputs[6:]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)
    ctx.how = How(tuple(axes), tuple(sizes), *rest)


def _gradients(ctx, g_rgb, g_sigma):
    inputs, needed = ctx.saved_tensors, list(ctx.needs_input_grad[:6])
    if g_rgb is not None and g_rgb.numel() == 0:
        g_rgb = None
    if g_sigma is None:
        g_sigma = torch.zeros_like(inputs[5][..., 0])
    if torch.is_grad_enabled() or not use_triton(inputs[0]):
        first = 0 if g_rgb is not None else 1
        found = plain_gradients(
            lambda *inputs: decode_plain(*inputs, ctx.how)[first:],
            inputs,
            needed,
            (g_rgb, g_sigma)[first:],
        )
    else:
        found = decode_backward(g_rgb, g_sigma, *inputs, *ctx.how, needed)
        found = as_needed(found, inputs, needed)
    return *found, *[None] * (1 + len(ctx.how))


decode.register_autograd(_gradients, setup_context=_save)
