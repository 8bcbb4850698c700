"""KID: against a loop, torchmetrics and torch-fidelity, and unbiased."""

import numpy as np
import pytest
import torch

from metrics.kernel_distance import kernel_distance
from tests.metrics.oracles import fidelity_kid, torchmetrics_kid


def rows(count, seed, size=6, shift=0.0):
    random = np.random.RandomState(seed)
    return torch.from_numpy((random.randn(count, size) + shift).astype(np.float32))


def by_loops(real, fake):
    """The unbiased estimate of Gretton et al. 2012, pair by pair."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    real, fake = real.double().numpy(), fake.double().numpy()
    m, n = len(fake), len(real)
    within_fake = sum(k(fake[i], fake[j]) for i in range(m) for j in range(m) if i != j)
    within_real = sum(k(real[i], real[j]) for i in range(n) for j in range(n) if i != j)
    across = sum(k(a, b) for a in fake for b in real)
    return within_fake / (m * (m - 1)) + within_real / (n * (n - 1)) - 2 * across / (m * n)


def test_whole_sets_against_loops():
    real, fake = rows(12, 0), rows(12, 1, shift=0.5)
    found = kernel_distance(real, fake, subsets=1)
    assert found == pytest.approx(by_loops(real, fake), rel=1e-10)
    # whatever the subsets are, they are the whole sets
    assert kernel_distance(real, fake, subsets=4, seed=3) == pytest.approx(found, rel=1e-10)


def test_random_subsets_as_torch_fidelity_draws_them():
    real, fake = rows(90, 2), rows(70, 3, shift=0.3)
    found = kernel_distance(real, fake, subsets=20, subset_size=40, seed=5)
    assert found == pytest.approx(fidelity_kid(real, fake, 20, 40, 5), rel=1e-9)
    assert found != kernel_distance(real, fake, subsets=20, subset_size=40, seed=6)


def test_published_scores_use_100_subsets_of_at_most_1000():
    real, fake = rows(40, 6), rows(15, 7, shift=0.3)
    assert kernel_distance(real, fake) == pytest.approx(fidelity_kid(real, fake, 100, 15, 0))
    real, fake = rows(1010, 8), rows(1005, 9, shift=0.3)
    found = kernel_distance(real, fake, subsets=1)
    assert found == pytest.approx(fidelity_kid(real, fake, 1, 1000, 0), rel=1e-9)


def test_whole_sets_as_torchmetrics_computes_them():
    real, fake = rows(60, 4), rows(60, 5, shift=0.3)
    found = kernel_distance(real, fake, subset_size=60)
    assert found == pytest.approx(torchmetrics_kid(real, fake, 60), rel=1e-4)


def test_it_is_unbiased():
    """Sets of one distribution: zero on average, however small they are."""
    values = [kernel_distance(rows(20, 2 * k), rows(20, 2 * k + 1), subsets=1) for k in range(400)]
    error = np.std(values) / len(values) ** 0.5
    assert abs(np.mean(values)) < 3 * error
    assert np.min(values) < 0 < np.max(values)


def test_order_does_not_matter_and_distance_shows():
    real, fake = rows(50, 0), rows(50, 1)
    swapped = kernel_distance(fake.flip(0), real.flip(0), subsets=1)
    assert kernel_distance(real, fake, subsets=1) == pytest.approx(swapped, rel=1e-9)
    near, far = (kernel_distance(real, fake + shift, subsets=1) for shift in (0.2, 1.0))
    assert far > near > kernel_distance(real, fake, subsets=1)


def test_the_smaller_set_sets_the_size():
    real, fake = rows(500, 0), rows(7, 1)
    assert np.isfinite(kernel_distance(real, fake, subsets=3))


@pytest.mark.parametrize(
    "real, fake, message",
    [
        (rows(5, 0), rows(1, 0), "5 and 1 rows: needs two of each"),
        (rows(5, 0), rows(5, 0, size=3), r"\(5, 6\) and \(5, 3\)"),
        (torch.zeros(4), torch.zeros(4, 1), "must be"),
    ],
)
def test_bad_sets_are_refused(real, fake, message):
    with pytest.raises(ValueError, match=message):
        kernel_distance(real, fake)
