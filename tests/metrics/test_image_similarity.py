"""PSNR and SSIM against scikit-image, and what masks leave out."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from metrics.image_similarity import psnr, ssim


def pair(shape=(3, 3, 24, 31), seed=0, noise=0.1):
    """Smooth pictures in [0, 1], and the same with noise that grows from picture to picture."""
    random = np.random.RandomState(seed)
    wave = np.add.outer(np.arange(shape[2]) * 0.4, np.arange(shape[3]) * 0.3)
    a = 0.5 + 0.4 * np.sin(wave + random.rand(*shape[:2], 1, 1) * 6)
    growing = noise * np.arange(1, shape[0] + 1).reshape(-1, 1, 1, 1)
    return torch.from_numpy(a), torch.from_numpy(a + growing * random.randn(*shape))


def similarity_map(a, b, data_range):
    """scikit-image's SSIM of each window [H, W], the mean over channels."""
    _, full = structural_similarity(
        a.numpy(),
        b.numpy(),
        channel_axis=0,
        data_range=data_range,
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
    )
    return full.mean(0)


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_as_scikit_image(data_range):
    a, b = (x * data_range for x in pair())
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        noise = peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=data_range)
        assert psnr(a, b, data_range=data_range)[i].item() == pytest.approx(noise, abs=1e-9)
        expected = similarity_map(x, y, data_range)[5:-5, 5:-5].mean()
        assert ssim(a, b, data_range=data_range)[i].item() == pytest.approx(expected, abs=1e-9)


def test_pictures_in_single_precision_are_compared_in_double():
    """Nearly constant ones, whose variance float32 would lose: they are equal up to their mean."""
    a, b = torch.full((1, 1, 16, 16), 0.9), torch.full((1, 1, 16, 16), 0.9 + 1e-4)
    x, y = a.double().mean().item(), b.double().mean().item()
    expected = (2 * x * y + 1e-4) / (x * x + y * y + 1e-4)
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-12)
    assert psnr(a, b).item() == pytest.approx(-20 * math.log10(y - x), abs=1e-9)


def test_only_what_the_mask_shows_counts():
    a, b = pair()
    mask = torch.from_numpy(np.random.RandomState(1).rand(3, 1, 24, 31) < 0.3)
    for i in range(3):
        rows, columns = np.nonzero(mask[i, 0].numpy())
        error = (a[i, :, rows, columns] - b[i, :, rows, columns]).square().mean().item()
        found = psnr(a, b, mask)[i].item()
        assert found == pytest.approx(-10 * math.log10(error), abs=1e-9)
        inner = [(r, c) for r, c in zip(rows, columns, strict=True) if 5 <= r < 19 and 5 <= c < 26]
        expected = np.mean([similarity_map(a[i], b[i], 1.0)[place] for place in inner])
        assert ssim(a, b, mask)[i].item() == pytest.approx(expected, abs=1e-9)


def test_what_is_masked_may_be_anything():
    a, b = pair()
    mask = torch.zeros(3, 1, 24, 31, dtype=torch.bool)
    mask[:, :, :, :10] = True
    spoilt = b.clone()
    spoilt[:, :, :, 20:] = math.nan
    assert torch.equal(psnr(a, spoilt, mask), psnr(a, b, mask))
    assert torch.equal(ssim(a, spoilt, mask), ssim(a, b, mask))
    assert psnr(a, spoilt).isnan().all() and ssim(a, spoilt).isnan().all()


def test_identical_pictures_and_empty_masks():
    a, b = pair()
    assert (psnr(a, a) == math.inf).all()
    assert torch.allclose(ssim(a, a), torch.ones(3, dtype=torch.float64), atol=1e-12)
    mask = torch.ones(3, 1, 24, 31, dtype=torch.bool)
    mask[1] = False
    mask[2, :, 5:-5, 5:-5] = False  # nothing but the rim, where no window has its middle
    assert psnr(a, b, mask).isnan().tolist() == [False, True, False]
    assert ssim(a, b, mask).isnan().tolist() == [False, True, True]


def test_noise_costs_and_pictures_keep_apart():
    a, b = pair()
    for measure in (psnr, ssim):
        values = measure(a, b)
        assert values[0] > values[1] > values[2]
        assert torch.equal(measure(a[1:2], b[1:2])[0], values[1])
        assert torch.allclose(measure(a, b), measure(b, a), rtol=1e-12)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_bad_input_is_named(measure):
    a, b = pair()
    with pytest.raises(ValueError, match=r"\(3, 3, 24, 31\) and \(3, 3, 24, 30\)"):
        measure(a, b[..., :-1])
    with pytest.raises(ValueError, match=r"mask of shape \(3, 24, 31\); must be \(3, 1, 24, 31\)"):
        measure(a, b, torch.ones(3, 24, 31))
    with pytest.raises(ValueError, match=r"must be the same \[N, C, H, W\]"):
        measure(a[0], b[0])


def test_pictures_smaller_than_a_window():
    small = torch.zeros(1, 3, 8, 16)
    with pytest.raises(ValueError, match="8 x 16 pixels; must have at least 11 x 11"):
        ssim(small, small)
    assert psnr(small, small + 0.1).item() == pytest.approx(20, abs=1e-4)
