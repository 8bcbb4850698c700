"""How alike two pictures are, pixel by pixel (PSNR) and in their local structure (SSIM)."""

import torch
import torch.nn.functional as F
from torch import Tensor

_WINDOW, _SIGMA = 11, 1.5  # pixels: the Gaussian window of Wang et al. 2004, section III.B
_K1, _K2 = 0.01, 0.03


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio in dB, float64 [N], of pictures [N, C, H, W].

    Over the pixels where mask [N, 1, H, W] is set, by default all, and over all channels. Infinite
    where these are identical, NaN where the mask is empty. Values lie data_range apart at most.
    """
    mask = _checked(a, b, mask)
    squares = (a.double() - b.double()).square().mean(1, keepdim=True)
    return 10 * torch.log10(data_range**2 / _masked_mean(squares, mask))


def ssim(a: Tensor, b: Tensor, mask: Tensor | None = None, data_range: float = 1.0) -> Tensor:
    """Structural similarity (Wang et al. 2004, equation 13), float64 [N], of pictures [N, C, H, W].

    Gaussian windows of 11 x 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03, population covariances.
    Averaged over the windows that lie in the picture, whose middle is where mask [N, 1, H, W] is
    set, by default everywhere, and over channels, which are compared one by one. 1 for identical
    pictures, NaN where no such middle is set. Equals skimage's structural_similarity with
    gaussian_weights=True and use_sample_covariance=False. Raises ValueError for smaller pictures.
    """
    mask = _checked(a, b, mask)
    if min(a.shape[2:]) < _WINDOW:
        raise ValueError(
            f"ssim: pictures of {a.shape[2]} x {a.shape[3]} pixels; must have at least "
            f"{_WINDOW} x {_WINDOW}"
        )
    a, b = a.double(), b.double()
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    variance_a = _window_mean(a * a) - mean_a**2
    variance_b = _window_mean(b * b) - mean_b**2
    covariance = _window_mean(a * b) - mean_a * mean_b
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    rim = _WINDOW // 2
    similarity = (luminance * structure).mean(1, keepdim=True)
    return _masked_mean(similarity, mask[:, :, rim:-rim, rim:-rim])


def _checked(a: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
    """The mask, bool [N, 1, H, W]; ValueError unless all shapes agree."""
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(
            f"pictures of shapes {tuple(a.shape)} and {tuple(b.shape)}; must be the same "
            "[N, C, H, W]"
        )
    expected = (len(a), 1, *a.shape[2:])
    if mask is None:
        return torch.ones(expected, dtype=torch.bool, device=a.device)
    if mask.shape != expected:
        raise ValueError(f"mask of shape {tuple(mask.shape)}; must be {expected}")
    return mask.bool()


def _window_mean(values: Tensor) -> Tensor:
    """Means [N, C, H - 10, W - 10] of [N, C, H, W] under the Gaussian window."""
    offsets = torch.arange(_WINDOW, dtype=values.dtype, device=values.device) - _WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    planes = values.flatten(0, 1).unsqueeze(1)
    planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return planes.unflatten(0, values.shape[:2]).squeeze(2)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Means [N] of values [N, 1, H, W] where mask is set; NaN where it nowhere is."""
    # Selected, not multiplied: what is not seen may be anything, NaN included.
    return torch.where(mask, values, 0).flatten(1).sum(1) / mask.flatten(1).sum(1)
