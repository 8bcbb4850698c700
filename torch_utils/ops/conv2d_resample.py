"""Convolution joined with up- or down-sampling (Karras et al., StyleGAN2, appendix B)."""

import torch

from . import conv2d_gradfix, upfirdn2d_ops
from .epilogue import Epilogue
from .upfirdn2d import Padding, _get_filter_size, _parse_padding, upfirdn2d

__all__ = ["conv2d_resample"]


def conv2d_resample(
    x: torch.Tensor,
    w: torch.Tensor,
    f: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
    epilogue: Epilogue | None = None,
) -> torch.Tensor:
    """Convolves `x` [N, I, H, W] with `w` [O, I/groups, kh, kw], resampling before and after.

    The meaning: insert up-1 zeros after every pixel, pad, filter with `f` (gain up^2, only if
    up > 1), convolve without padding, filter with `f` and keep every `down`-th pixel (only if
    down > 1). `padding` refers to the up-sampled image; what centres the filters is added to it.
    `flip_weight` correlates, as torch does; otherwise `w` is truly convolved. `f` comes from
    `upfirdn2d.setup_filter`, None is the identity. `epilogue` is applied to the result, in the same
    pass as the filter where that comes last. Returns [N, O, H', W'] in the dtype of `x`;
    differentiable any number of times in `x` and `w`. Raises ValueError for bad arguments.

    The order of the steps is chosen for cost: 1x1 kernels see the smaller image, others stride.
    """
    _check(x, w, up, down, groups)
    pads = _total_padding(f, up, down, padding)
    if up > 1 and down == 1 and max(w.shape[2:]) > 1:
        x, rest = _transposed_convolution(x, w, up, pads, groups, flip_weight)
        return _filter_and_finish(x, f, rest, up**2, flip_filter, epilogue)
    x = _resampled(x, w, f, up, down, pads, groups, flip_weight, flip_filter)
    return x if epilogue is None else epilogue(x)


def _resampled(x, w, f, up, down, pads, groups, flip_weight, flip_filter) -> torch.Tensor:
    pointwise = max(w.shape[2:]) == 1
    if pointwise and up == 1 and down > 1:
        x = upfirdn2d(x, f, down=down, padding=pads, flip_filter=flip_filter)
        return _convolve(x, w, groups, flip_weight)
    if pointwise and up > 1 and down == 1:
        x = _convolve(x, w, groups, flip_weight)
        return upfirdn2d(x, f, up=up, padding=pads, gain=up**2, flip_filter=flip_filter)
    if up > 1:
        x, rest = _transposed_convolution(x, w, up, pads, groups, flip_weight)
        x = upfirdn2d(x, f, padding=rest, gain=up**2, flip_filter=flip_filter)
        return upfirdn2d(x, f, down=down, flip_filter=flip_filter)
    if down > 1:
        x = upfirdn2d(x, f, padding=pads, flip_filter=flip_filter)
        return _convolve(x, w, groups, flip_weight, stride=down)
    px0, px1, py0, py1 = pads
    if px0 == px1 and py0 == py1 and min(px0, py0) >= 0:
        return _convolve(x, w, groups, flip_weight, padding=(py0, px0))
    return _convolve(torch.nn.functional.pad(x, pads), w, groups, flip_weight)


def _check(x: torch.Tensor, w: torch.Tensor, up: int, down: int, groups: int) -> None:
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(f"x and w must be 4-D, got {list(x.shape)} and {list(w.shape)}")
    if x.dtype != w.dtype:
        raise ValueError(f"x is {x.dtype}, w is {w.dtype}: they must agree")
    if not all(isinstance(n, int) and n >= 1 for n in (up, down, groups)):
        raise ValueError(f"up, down and groups are integers from 1, got {up}, {down}, {groups}")
    if x.shape[1] != w.shape[1] * groups:
        raise ValueError(f"x {list(x.shape)} does not fit w {list(w.shape)} in {groups} groups")


def _total_padding(f, up: int, down: int, padding: Padding) -> list[int]:
    """[x0, x1, y0, y1]: the caller's padding plus what centres the filters of both resamplings."""
    pads = list(_parse_padding(padding))
    for axis, taps in enumerate(_get_filter_size(f)):
        if up > 1:
            pads[2 * axis] += (taps + up - 1) // 2
            pads[2 * axis + 1] += (taps - up) // 2
        if down > 1:
            pads[2 * axis] += (taps - down + 1) // 2
            pads[2 * axis + 1] += (taps - down) // 2
    return pads


def _convolve(x, w, groups: int, flip_weight: bool, stride=1, padding=0) -> torch.Tensor:
    if not flip_weight and max(w.shape[2:]) > 1:
        w = w.flip((2, 3))
    return conv2d_gradfix.conv2d(x, w, stride=stride, padding=padding, groups=groups)


def _transposed_convolution(x, w, up, pads, groups, flip_weight) -> tuple[torch.Tensor, list[int]]:
    """Zero insertion and `w` as one convolution, and the padding for the filter that comes after.

    Filtering commutes with convolving, so the filter may come last and the inserted zeros need
    never be multiplied.
    """
    kh, kw = w.shape[2:]
    inputs = w.shape[1]
    # [g*O', I', kh, kw] -> [g*I', O', kh, kw]: the layout of transposed convolutions.
    w = w.unflatten(0, (groups, -1)).transpose(1, 2).reshape(groups * inputs, -1, kh, kw)
    if flip_weight:
        w = w.flip((2, 3))
    # A transposed convolution starts k-1 pixels before a valid one and ends k-up after it.
    rest = [
        pads[0] - (kw - 1),
        pads[1] - (kw - up),
        pads[2] - (kh - 1),
        pads[3] - (kh - up),
    ]
    # Margins that the filter would crop need not be computed at all.
    crop = [max(min(-rest[2 * axis], -rest[2 * axis + 1]), 0) for axis in range(2)]
    x = conv2d_gradfix.conv_transpose2d(x, w, stride=up, padding=(crop[1], crop[0]), groups=groups)
    return x, [r + crop[i // 2] for i, r in enumerate(rest)]


def _filter_and_finish(
    x, f, pads: list[int], gain: float, flip_filter: bool, epilogue: Epilogue | None
) -> torch.Tensor:
    """`epilogue(upfirdn2d(x, f, ...))`, as one operator where there is a kernel for it."""
    joinable = upfirdn2d_ops.fits(x, _get_filter_size(f), (1, 1), (1, 1))
    if epilogue is not None and f is not None and f.ndim == 2 and joinable:
        width = upfirdn2d_ops.output_size(x.shape[3], f.shape[1], 1, 1, *pads[:2])
        height = upfirdn2d_ops.output_size(x.shape[2], f.shape[0], 1, 1, *pads[2:])
        if min(height, width) > 0 and epilogue.fused(x, height, width):
            return upfirdn2d_ops.fir_epilogue(
                x, f, pads, not flip_filter, gain, *epilogue.operands()
            )
    x = upfirdn2d(x, f, padding=pads, gain=gain, flip_filter=flip_filter)
    return x if epilogue is None else epilogue(x)
