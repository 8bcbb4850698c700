"""EpiGRAF's schedules at their ends and between them."""

import pytest

from training import schedules
from training.epigraf.schedules import density_noise, linear_schedule


@pytest.mark.parametrize(
    "nimg, value", [(-5, 2.0), (0, 2.0), (1000, 1.5), (4000, 0.0), (5000, -0.0), (10**9, 0.0)]
)
def test_linear_schedule(nimg, value):
    assert linear_schedule(nimg, 2.0, 0.0, 4) == pytest.approx(value)


def test_no_fade_is_over_at_once():
    assert linear_schedule(0, 2.0, 0.5, 0) == 0.5


def test_density_noise_fades():
    assert [density_noise(n) for n in (0, 2_500_000, 5_000_000)] == [1.0, 0.5, 0.0]
    assert density_noise(100_000, 0.4, 200) == pytest.approx(0.2)


def test_recorded_pose_swapping(conformance):
    """The shared schedule is EpiGRAF's."""
    arrays = conformance("epigraf/patch_sampling")
    for kimg, expected in zip(arrays["kimg"].tolist(), arrays["gpc_spoof_p"].tolist(), strict=True):
        assert schedules.swapping_prob(kimg * 1000, 0.5, 1000) == pytest.approx(expected)
