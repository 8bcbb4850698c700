"""The mathematics of augmentation, without randomness (Karras et al. 2020, StyleGAN2-ADA,
appendix B): homogeneous matrices, and how they, filters and masks act on batches of pictures.

Values come as [N, 1] or [N, 2] tensors, one row for each picture; matrices as [N, 3, 3] (plane) or
[N, 4, 4] (colour). Everything is differentiable any number of times in the pictures.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils import misc
from torch_utils.ops import conv2d_gradfix, resampling, upfirdn2d

# Low-pass taps of the orthogonal wavelets symlet 6 and symlet 2 (Daubechies 1992).
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057),
    *(-0.048311742585633, 0.4910559419267466, 0.787641141030194),
    *(0.3379294217276218, -0.07263752278646252, -0.021060292512300564),
    *(0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)

# Generators of rotations: in the plane, and of colours about the grey axis v = (1, 1, 1) / sqrt(3).
PLANE = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 0]])
GREY = np.pad([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], (0, 1)) / 3**0.5
# Projections of a colour onto the grey axis, and onto what is orthogonal to it.
LUMA = np.pad(np.full([3, 3], 1 / 3), (0, 1))
CHROMA = np.diag([1, 1, 1, 0]) - LUMA

# Expected power of natural pictures in the four bands of the filter bank, low to high.
_BAND_POWER = np.array([10, 1, 1, 1]) / 13


# -- Matrices ------------------------------------------------------------------------------------


def translation(offsets: Tensor) -> Tensor:
    """Matrices [N, d+1, d+1] that move by `offsets` [N, d]."""
    size = offsets.shape[1]
    moved = F.pad(offsets[:, :, None], (size, 0, 0, 1))
    return misc.constant(np.eye(size + 1), device=offsets.device) + moved


def scaling(factors: Tensor) -> Tensor:
    """Matrices [N, d+1, d+1] that multiply the coordinates by `factors` [N, d]."""
    return torch.diag_embed(F.pad(factors, (0, 1), value=1.0))


def rotation(angle: Tensor, generator: np.ndarray) -> Tensor:
    """Rotations by `angle` [N, 1] radians: cos P + sin K + (I - P) (Rodrigues), with the generator
    K and the projection P = -K^2 onto the plane that turns."""
    angle = angle[:, :, None]
    projection = -generator @ generator
    turning, turned, fixed = (
        misc.constant(matrix, device=angle.device)
        for matrix in (projection, generator, np.eye(len(generator)) - projection)
    )
    return angle.cos() * turning + angle.sin() * turned + fixed


def stretch_along(projection: np.ndarray, excess: Tensor) -> Tensor:
    """I + excess * projection: stretches that part of a vector by 1 + `excess` [N, 1]."""
    eye = misc.constant(np.eye(len(projection)), device=excess.device)
    return eye + excess[:, :, None] * misc.constant(projection, device=excess.device)


# -- Geometry ------------------------------------------------------------------------------------


def warp(images: Tensor, inverse: Tensor, taps: Tensor) -> Tensor:
    """Resamples `images` [N, C, H, W]: the output at pixel x shows the input at `inverse` x.

    Args:
        inverse: [N, 3, 3], in pixels from the centre of the picture, x to the right, y down.
        taps: [k] orthogonal low-pass filter, with which the picture is enlarged twofold before and
            reduced after bilinear sampling. The identity so stays the identity.

    Beyond its borders a picture goes on as its mirror image. The widths of the borders depend on
    the matrices, so the host waits here for a GPU.
    """
    height, width = images.shape[2:]
    reach = len(taps) // 4
    left, top, right, bottom = _margins(inverse, width, height, reach)
    images = resampling.mirrored(images, (left, right, top, bottom))
    images = upfirdn2d.upsample2d(images, taps, up=2)

    # Grid coordinates run from -1 to 1. Twofold enlargement moves the centre by half a new pixel.
    shape = (2 * (height + 2 * reach), 2 * (width + 2 * reach))
    to_input = _axes_map(
        (4 / images.shape[3], (left - right - 0.5) * 2 / images.shape[3]),
        (4 / images.shape[2], (top - bottom - 0.5) * 2 / images.shape[2]),
    )
    from_output = _axes_map((shape[1] / 4, 0.25), (shape[0] / 4, 0.25))
    theta = to_input.to(inverse.device) @ inverse @ from_output.to(inverse.device)
    grid = F.affine_grid(theta[:, :2], [*images.shape[:2], *shape], align_corners=False)
    images = resampling.grid_sample(images, grid)
    return upfirdn2d.downsample2d(images, taps, down=2, padding=-2 * reach, flip_filter=True)


def _margins(inverse: Tensor, width: int, height: int, reach: int) -> list[int]:
    """Pixels [left, top, right, bottom] that a batch needs beyond its pictures' borders."""
    x, y = (width - 1) / 2, (height - 1) / 2
    corners = [[-x, x, x, -x], [-y, -y, y, y], [1, 1, 1, 1]]
    seen = inverse[:, :2] @ misc.constant(corners, device=inverse.device)
    furthest = torch.cat([-seen, seen], dim=1).amax(dim=(0, 2))
    limits = misc.constant([width - 1, height - 1] * 2, device=inverse.device)
    needed = furthest + misc.constant([2 * reach - x, 2 * reach - y] * 2, device=inverse.device)
    return needed.clamp(min=0).minimum(limits).ceil().int().tolist()


def _axes_map(x: tuple[float, float], y: tuple[float, float]) -> Tensor:
    """The 3 x 3 matrix of (factor, offset) for either axis."""
    return torch.tensor([[x[0], 0, x[1]], [0, y[0], y[1]], [0, 0, 1]])


# -- Colour, frequencies, corruption -------------------------------------------------------------


def recolour(images: Tensor, matrix: Tensor) -> Tensor:
    """Applies colour matrices [N, 4, 4] to [N, C, H, W]: RGB, two RGB pictures or grey (C=1).

    A grey value is taken for a grey colour, and the result's channels are averaged. Raises
    ValueError for other numbers of channels.
    """
    count, channels, height, width = images.shape
    if channels not in (1, 3, 6):
        raise ValueError(
            f"colour augmentation needs 1, 3 or 6 channels (grey, RGB, two RGB), not {channels}"
        )
    if channels == 1:
        rows = matrix[:, :3].mean(dim=1)
        factor, offset = rows[:, :3].sum(dim=1), rows[:, 3]
        return images * factor[:, None, None, None] + offset[:, None, None, None]
    colours = images.reshape(count, channels // 3, 3, height * width)
    colours = matrix[:, None, :3, :3] @ colours + matrix[:, None, :3, 3:]
    return colours.reshape(images.shape)


def filter_bank() -> Tensor:
    """[4, 43] symmetric filters, low to high frequencies, that add up to a unit impulse."""
    low = np.array(SYM2)
    high = low * (-1.0) ** np.arange(len(low))
    low, high = (np.convolve(taps, taps[::-1]) / 2 for taps in (low, high))
    bank = np.eye(4, 1)
    for row in range(1, 4):
        spread = np.zeros([4, 2 * bank.shape[1] - 1])
        spread[:, ::2] = bank
        bank = np.stack([np.convolve(taps, low) for taps in spread])
        start = (bank.shape[1] - len(high)) // 2
        bank[row, start : start + len(high)] += high
    return torch.from_numpy(bank).float()


def normalized_gain(gain: Tensor) -> Tensor:
    """Scales band gains [N, 4] so that natural pictures keep their expected power."""
    power = misc.constant(_BAND_POWER, device=gain.device)
    return gain / (power * gain.square()).sum(dim=1, keepdim=True).sqrt()


def amplify_bands(images: Tensor, gain: Tensor, bank: Tensor) -> Tensor:
    """Multiplies the bands of each picture of [N, C, H, W] by its `gain` [N, 4], in x and in y.

    Raises ValueError for pictures that are too small to be mirrored at their borders.
    """
    count, channels, height, width = images.shape
    reach = bank.shape[1] // 2
    if min(height, width) <= reach:
        raise ValueError(f"imgfilter needs more than {reach} pixels a side, not {width} x {height}")
    kernel = (gain @ bank).repeat_interleave(channels, dim=0)[:, None, None, :]
    planes = images.reshape(1, count * channels, height, width)
    planes = resampling.mirrored(planes, (reach,) * 4)
    for weight in (kernel, kernel.transpose(2, 3)):
        planes = conv2d_gradfix.conv2d(planes, weight, groups=count * channels)
    return planes.reshape(images.shape)


def cut_out(images: Tensor, size: Tensor, centre: Tensor) -> Tensor:
    """Blackens (0) a square of `size` [N, 1] around `centre` [N, 2] (x, y), in picture widths."""
    outside = []
    for axis, pixels in enumerate(reversed(images.shape[2:])):
        place = (torch.arange(pixels, device=images.device) + 0.5) / pixels
        outside.append((place - centre[:, axis : axis + 1]).abs() >= size / 2)
    in_x, in_y = outside
    return images * (in_x[:, None, None, :] | in_y[:, None, :, None])
