import math

import pytest

from training import schedules


def test_blur_fades_linearly_to_nothing():
    assert schedules.blur_sigma(0, 10, 200) == 10
    assert schedules.blur_sigma(50_000, 10, 200) == pytest.approx(7.5)
    assert schedules.blur_sigma(200_000, 10, 200) == 0
    assert schedules.blur_sigma(0, 10, 0) == 0


def test_blur_taps_are_a_normalised_symmetric_bell():
    taps = schedules.blur_taps(2.0)
    assert len(taps) == 13 and sum(taps) == pytest.approx(1)
    assert taps == taps[::-1]
    assert taps[8] / taps[6] == pytest.approx(0.5)  # at k = sigma
    assert schedules.blur_taps(0.3) is None and schedules.blur_taps(0) is None


def test_swapping_fades_from_one():
    assert schedules.swapping_prob(0, 0.5, 1000) == 1
    assert schedules.swapping_prob(500_000, 0.5, 1000) == 0.75
    assert schedules.swapping_prob(2_000_000, 0.5, 1000) == 0.5
    assert schedules.swapping_prob(0, 0.5, 0) == 0.5
    assert schedules.swapping_prob(0, None, 1000) is None


def test_rendering_resolution_rounds_half_to_even():
    assert schedules.rendering_resolution(0, 64, None, 0) == 64
    assert schedules.rendering_resolution(0, 64, 128, 0) == 128  # No length: over at once.
    assert schedules.rendering_resolution(500_000, 64, 128, 1000) == 96
    assert schedules.rendering_resolution(500_000, 64, 65, 1000) == 64
    assert schedules.rendering_resolution(500_000, 65, 66, 1000) == 66


def test_ema_has_its_half_life():
    assert schedules.ema_beta(0, 32, 10, 0.05) == 0
    beta = schedules.ema_beta(10**7, 32, 10, 0.05)
    assert beta ** (10_000 / 32) == pytest.approx(0.5)
    assert schedules.ema_beta(1000, 32, 10, 0.05) == pytest.approx(0.5 ** (32 / 50))
    assert schedules.ema_beta(1000, 32, 10, None) == beta


def test_lazy_optimizer_settings():
    settings = dict(lr=0.0025, betas=[0, 0.99], eps=1e-8)
    lazy = schedules.lazy_optimizer_kwargs(settings, 4)
    assert lazy["lr"] == pytest.approx(0.002)
    assert lazy["betas"] == pytest.approx([0, 0.99199197], abs=1e-8)
    assert lazy["eps"] == 1e-8 and settings["lr"] == 0.0025
    assert schedules.lazy_optimizer_kwargs(settings, None) == settings
    sixteenth = schedules.lazy_optimizer_kwargs(dict(lr=0.002, betas=[0, 0.99]), 16)
    assert sixteenth["betas"][1] == pytest.approx(0.99058546, abs=1e-8)
    assert math.isclose(sixteenth["lr"], 0.0018823529, abs_tol=1e-9)


def test_ada_rises_and_falls_by_its_step():
    step = 32 * 4 / 500_000
    assert schedules.ada_p(0.2, 0.7, 0.6, 32, 4, 500) == pytest.approx(0.2 + step)
    assert schedules.ada_p(0.2, 0.5, 0.6, 32, 4, 500) == pytest.approx(0.2 - step)
    assert schedules.ada_p(0.2, 0.6, 0.6, 32, 4, 500) == 0.2
    assert schedules.ada_p(0.2, 0.7, 0.6, 32, 4, 100) == pytest.approx(0.2 + 5 * step)
    p = 0.0
    for _ in range(500_000 // 128):
        p = schedules.ada_p(p, 1.0, 0.6, 32, 4, 500)
    assert p == pytest.approx(1, abs=step)


def test_ada_stays_from_0_on():
    assert schedules.ada_p(0.0001, -1.0, 0.6, 32, 4, 500) == 0
    assert schedules.ada_p(1.2, 1.0, 0.6, 32, 4, 500) > 1.2
    assert schedules.ada_p(0.3, math.nan, 0.6, 32, 4, 500) == 0.3  # Nobody was judged.
