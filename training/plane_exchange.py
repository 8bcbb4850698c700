"""Three feature planes that know of each other (Mimic3D, Chen et al. 2023, section 3.3).

The planes are xy, yz and zx, named by width and height: P_xy[c, y, x], P_yz[c, z, y] and
P_zx[c, x, z]. So the height of each is the width of the next one in the circle, which is all that
the exchange of features has to know.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.epilogue import Epilogue
from training.layers import demodulation, modulated_conv2d

STRIP = 4  # pixels across


def aware3d(x: Tensor) -> Tensor:
    """What each point of a plane can know of the other two: means over the axis that it lacks.

    x [3 N, C, H, H], a plane an item, those of a sample in a row -> [3 N, 3 C, H, H]: for each
    plane its own features and those means, always in the order xy, yz, zx.
    """
    planes = x.unflatten(0, (-1, 3))
    of_next, of_after = _means(planes)
    circles = (
        planes,
        of_next.expand_as(planes).roll(-1, dims=1),
        of_after.expand_as(planes).roll(-2, dims=1),
    )
    slots = [circles[(slot - plane) % 3][:, plane] for plane in range(3) for slot in range(3)]
    return torch.stack(slots, dim=1).reshape(len(x), -1, *x.shape[2:])


def _means(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Of planes [N, 3, C, H, H] what the ones before, and the ones two before them, get to know:
    [N, 3, C, H, 1], a function of the width here, which is the height there, and [N, 3, C, 1, H].
    """
    return planes.mean(dim=3).unsqueeze(4), planes.mean(dim=4).unsqueeze(3)


def aware3d_attention(x: Tensor) -> Tensor:
    """As `aware3d` with attention in place of means: each point asks the line of points that the
    other plane has for it, by the products of their features.

    [3 N, C, H, H] -> [3 N, 3 C, H, H]; here a plane itself comes first, then the next ones.
    """
    planes = x.unflatten(0, (-1, 3))
    # [N, 3, height, width, C]: one axis numbers the lines, the other one the points of a line.
    rows, columns = planes.permute(0, 1, 3, 4, 2), planes.permute(0, 1, 4, 3, 2)
    of_next, of_after = columns.roll(-1, dims=1), rows.roll(-2, dims=1)
    from_next = F.scaled_dot_product_attention(rows, of_next, of_next, scale=1)
    from_after = F.scaled_dot_product_attention(columns, of_after, of_after, scale=1)
    found = [planes, from_next.permute(0, 1, 4, 2, 3), from_after.permute(0, 1, 4, 3, 2)]
    return torch.cat(found, dim=2).flatten(0, 1)


def attention_conv2d(x: Tensor, weight: Tensor, styles: Tensor, **options) -> Tensor:
    """`modulated_conv2d` of `aware3d_attention`: x [3 N, C, H, H], weight [O, 3 C, k, k], styles
    [3 N, 3 C]; options as of `modulated_conv2d`."""
    return modulated_conv2d(aware3d_attention(x), weight, styles, **options)


def aware3d_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    up: int = 1,
    padding: int = 0,
    resample_filter: Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    fused_modconv: bool = True,
    epilogue: Epilogue | None = None,
) -> Tensor:
    """`modulated_conv2d(aware3d(x), weight, styles, ...)`, for a third of the work and memory.

    Means are constant along an axis, and so is what a convolution makes of them, save close to the
    border: it is enough to convolve narrow strips of them, whose inner part is then drawn out.

    Args:
        x: [3 N, C, H, H], a plane an item.
        weight: [O, 3 C, k, k], float32.
        styles: [3 N, 3 C], float32.
        others: as of `modulated_conv2d`; no batch of planes is one where `fused_modconv` matters.

    Returns:
        [3 N, O, H up, H up] in the dtype of `x`.
    """
    if x.dtype == torch.float16 or not _strips_suffice(weight, up, resample_filter):
        options = dict(up=up, padding=padding, resample_filter=resample_filter)
        options.update(demodulate=demodulate, flip_weight=flip_weight, epilogue=epilogue)
        return modulated_conv2d(aware3d(x), weight, styles, **options)
    count, channels, side, _ = x.shape
    outputs = weight.shape[0]
    planes = x.reshape(-1, 3, channels, side, side)
    styles_to_from = styles.reshape(-1, 3, 3, channels)  # of plane i for what comes of plane j
    # A group of channels for each plane that something comes of.
    weights = weight.unflatten(1, (3, channels)).transpose(0, 1).flatten(0, 1).to(x.dtype)

    def convolved(source: Tensor, ahead: int) -> Tensor:
        """What all planes get of those `ahead` of them, [N, 3 O, H', W'], from what these give."""
        styles = styles_to_from.roll(ahead, dims=1).diagonal(dim1=1, dim2=2).transpose(1, 2)
        y = conv2d_resample(
            (source * styles[..., None, None].to(x.dtype)).flatten(1, 2),
            weights,
            resample_filter,
            up=up,
            padding=padding,
            groups=3,
            flip_weight=flip_weight,
        )
        return y.roll(-ahead * outputs, dims=1) if ahead else y

    of_next, of_after = _means(planes)
    strip = min(STRIP, side)
    y = convolved(planes, 0)
    y = y + _drawn_out(convolved(of_next.expand(-1, -1, -1, -1, strip), 1), 3, side * up)
    y = y + _drawn_out(convolved(of_after.expand(-1, -1, -1, strip, -1), 2), 2, side * up)
    scale = demodulation(weight, styles) if demodulate else None
    return replace(epilogue or Epilogue(), scale=scale)(y.reshape(count, outputs, *y.shape[2:]))


def _strips_suffice(weight: Tensor, up: int, resample_filter: Tensor | None) -> bool:
    """Whether the middle of a strip is free of the border's influence."""
    reach = weight.shape[-1] // 2
    if up > 1 and resample_filter is not None:
        reach += resample_filter.shape[-1] // 2
    return reach < STRIP // 2 * up


def _drawn_out(x: Tensor, dim: int, size: int) -> Tensor:
    """`x` with what is in the middle of an axis repeated until that has the size."""
    half = x.shape[dim] // 2
    if x.shape[dim] == size:
        return x
    first, last = x.split(half, dim)
    shape = [*x.shape]
    shape[dim] = size - 2 * half
    return torch.cat([first, first.narrow(dim, half - 1, 1).expand(shape), last], dim)
