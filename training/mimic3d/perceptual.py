"""LPIPS 0.1 on VGG16: how different two pictures look (Zhang et al. 2018, "The Unreasonable
Effectiveness of Deep Features as a Perceptual Metric")."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each level of VGG16; a maximum over 2 x 2 lies between levels
UNTRAINED_WIDTHS = (16, 32, 64, 64, 64)
# Colours of [-1, 1] become those that VGG16 was trained with.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class PerceptualDistance(torch.nn.Module):
    """Pictures a, b [N, 3, H, W] in [-1, 1] -> distances [N, 1, 1, 1]; H and W are at least 16.

    Args:
        convolutions: the 13 weights [out, in, 3, 3] and biases [out] in the order of the network.
        weights: of each of the 5 levels, one weight a channel.

    Nothing here is trained. Raises ValueError where the sizes do not fit one another.
    """

    def __init__(self, convolutions: Sequence[tuple[Tensor, Tensor]], weights: Sequence[Tensor]):
        super().__init__()
        expected = (sum(CONVOLUTIONS), len(CONVOLUTIONS))
        if (len(convolutions), len(weights)) != expected:
            raise ValueError(
                f"needs {expected[0]} convolutions and {expected[1]} linear weights, found "
                f"{len(convolutions)} and {len(weights)}"
            )
        channels = 3
        for i, (weight, bias) in enumerate(convolutions):
            if weight.shape[1:] != (channels, 3, 3) or bias.shape != weight.shape[:1]:
                shapes = f"{list(weight.shape)} and {list(bias.shape)}"
                raise ValueError(
                    f"convolution {i} has weights and biases {shapes}; must be "
                    f"[out, {channels}, 3, 3] and [out]"
                )
            channels = len(bias)
            self.register_buffer(f"weight{i}", weight.float())
            self.register_buffer(f"bias{i}", bias.float())
        last = 0
        for level, (count, linear) in enumerate(zip(CONVOLUTIONS, weights, strict=True)):
            last += count
            channels = len(convolutions[last - 1][1])
            if linear.numel() != channels:
                raise ValueError(
                    f"linear weights {level} are {linear.numel()}, not {channels} as the level has "
                    "channels"
                )
            self.register_buffer(f"linear{level}", linear.float().reshape(1, channels, 1, 1))
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1))

    def features(self, images: Tensor) -> list[Tensor]:
        """Pictures -> of each level the last features [N, C, H / 2^level, ...], of unit length over
        the channels."""
        x = (images - self.shift) / self.scale
        levels, i = [], 0
        for level, count in enumerate(CONVOLUTIONS):
            if level > 0:
                x = F.max_pool2d(x, 2)
            for _ in range(count):
                weight, bias = getattr(self, f"weight{i}"), getattr(self, f"bias{i}")
                x = F.conv2d(x, weight, bias, padding=1).relu()
                i += 1
            levels.append(unit_length(x))
        return levels

    def per_level(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Each level's part [N, 1, 1, 1] of the distance."""
        pairs = zip(self.features(a), self.features(b), strict=True)
        return [
            (getattr(self, f"linear{level}") * (one - other).square())
            .sum(dim=1, keepdim=True)
            .mean(dim=(2, 3), keepdim=True)
            for level, (one, other) in enumerate(pairs)
        ]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] in [-1, 1] -> distances [N, 1, 1, 1]."""
        return sum(self.per_level(a, b))


def untrained_distance(seed: int = 0) -> PerceptualDistance:
    """A narrow network of the same layout that has learned nothing: weights at random (He et al.
    2015), all channels alike. It knows edges and colours at five scales and no objects; for trials
    without anybody's weights."""
    generator = torch.Generator().manual_seed(seed)
    convolutions, channels = [], 3
    for count, width in zip(CONVOLUTIONS, UNTRAINED_WIDTHS, strict=True):
        for _ in range(count):
            weight = torch.randn((width, channels, 3, 3), generator=generator)
            gain = (2 / (9 * channels)) ** 0.5
            convolutions.append((weight * gain, torch.zeros(width)))
            channels = width
    levels = len(CONVOLUTIONS)
    return PerceptualDistance(
        convolutions, [torch.full((width,), 1 / levels) for width in UNTRAINED_WIDTHS]
    )


def unit_length(x: Tensor, eps: float = 1e-10) -> Tensor:
    """Features [N, C, H, W] scaled to length 1 over the channels; 0 where all are 0."""
    # The inner term keeps the gradient finite where all features of a place are 0.
    length = (x.square().sum(dim=1, keepdim=True) + eps).sqrt()
    return x / (length + eps)
