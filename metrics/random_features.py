"""Features of small pictures without trained weights: `randconv112`, to watch a toy model learn.

Convolutions with random weights respond to colours, edges and textures at three scales; averaged
over the picture they see blur, noise, wrong colours and missing variety, though not what is in the
picture. Scores are comparable with each other only, never with published FID.
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F

from metrics.frechet import FeatureStatistics

WIDTHS = (16, 32, 64)
SMALLEST = 18  # side in pixels that leaves something for the last convolution
_SEED = 0
_SLOPE = 0.2


class RandomConvFeatures:
    """Pictures uint8 [n, 3, H, W], or grey [n, 1, H, W], of at least 18 x 18 pixels -> float32
    [n, 112], on the pictures' device.

    Three layers of 3 x 3 convolution and leaky ReLU, with average pooling to half the size between
    them; the features are the means over the picture of what leaves each leaky ReLU. Weights come
    from NumPy's frozen `RandomState(0)`, so the features are the same everywhere and always; their
    scale keeps the variance of values in [-1, 1] (He et al. 2015).
    """

    name = f"randconv{sum(WIDTHS)}"
    size = sum(WIDTHS)

    def __init__(self):
        random = np.random.RandomState(_SEED)
        self._weights = []
        for inputs, outputs in zip((3, *WIDTHS), WIDTHS, strict=False):
            weight = random.randn(outputs, inputs, 3, 3) * np.sqrt(2 / (inputs * 9))
            self._weights.append(torch.from_numpy(weight.astype(np.float32)))

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        _check(images)
        x = images.float().expand(-1, 3, -1, -1) / 127.5 - 1
        means = []
        for weight in self._weights:
            x = F.avg_pool2d(x, 2) if means else x
            x = F.leaky_relu(F.conv2d(x, weight.to(x.device)), _SLOPE)
            means.append(x.mean((2, 3)))
        return torch.cat(means, dim=1)

    def statistics(self, batches: Iterable[torch.Tensor]) -> FeatureStatistics:
        """Mean and covariance of the features of batches of pictures."""
        statistics = FeatureStatistics(self.size)
        for images in batches:
            statistics.append(self(images))
        return statistics


def _check(images: torch.Tensor) -> None:
    shape = tuple(images.shape)
    right = images.ndim == 4 and shape[1] in (1, 3) and min(shape[2:]) >= SMALLEST
    if images.dtype != torch.uint8 or not right:
        raise ValueError(
            f"pictures are {images.dtype} of shape {shape}; must be torch.uint8 [n, 1 or 3, H, W] "
            f"of at least {SMALLEST} x {SMALLEST} pixels"
        )
