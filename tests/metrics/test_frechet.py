"""The Fréchet distance against loops, closed forms and scipy's matrix square root."""

import numpy as np
import pytest
import scipy.linalg
import torch

from metrics.frechet import FeatureStatistics, frechet_distance
from tests.metrics import oracles


def correlated(n, size, rank, seed):
    """Rows [n, size] of rank `rank`, with a mean and a scale of their own."""
    random = np.random.RandomState(seed)
    mixing = random.randn(rank, size) * random.uniform(0.5, 2, size)
    return random.randn(n, rank) @ mixing + random.randn(rank) @ mixing


def statistics_of(rows):
    statistics = FeatureStatistics(rows.shape[1])
    statistics.append(rows)
    return statistics


def with_sqrtm(a, b):
    """The formula as it is printed, with the matrix square root itself."""
    shift = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a.T, bias=True), np.cov(b.T, bias=True)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    return shift @ shift + np.trace(cov_a + cov_b - 2 * root.real)


def test_mean_and_covariance_against_a_loop():
    rows = correlated(50, 4, 3, seed=0)
    statistics = statistics_of(rows)
    mean = [sum(row[i] for row in rows) / 50 for i in range(4)]
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-12)
    for i in range(4):
        for j in range(4):
            expected = sum(row[i] * row[j] for row in rows) / 50 - mean[i] * mean[j]
            assert statistics.cov[i, j] == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_covariance_divides_by_the_number_of_rows():
    statistics = statistics_of(np.array([[1.0], [3.0]]))
    assert statistics.mean == [2] and statistics.cov == [[1]]


def test_batches_and_merging_give_what_all_rows_at_once_give():
    rows = correlated(90, 6, 6, seed=1)
    whole, parts, rest = statistics_of(rows), FeatureStatistics(6), FeatureStatistics(6)
    for batch in np.split(rows[:60], [1, 20]):
        parts.append(batch)
    rest.append(torch.from_numpy(rows[60:]))
    parts.merge(rest)
    assert parts.count == whole.count == 90 and rest.count == 30
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.cov, whole.cov, rtol=1e-12, atol=1e-12)


def test_sums_are_exact_where_float32_is_not():
    """A million ones and a one-sided spread of 1e-3 would be lost in float32 sums."""
    statistics = FeatureStatistics(1)
    batch = torch.ones(1000, 1) + 0.001 * (torch.arange(1000) % 2 == 0)[:, None]
    for _ in range(1000):
        statistics.append(batch)
    exact = batch.double().numpy().std() ** 2
    assert statistics.cov[0, 0] == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("ranks", [(12, 12), (5, 12), (5, 4)])
def test_distance_agrees_with_sqrtm(ranks):
    """Also where covariances lack rank."""
    a, b = (correlated(200, 12, rank, seed) for seed, rank in enumerate(ranks))
    distance = frechet_distance(statistics_of(a), statistics_of(b))
    assert distance == pytest.approx(with_sqrtm(a, b), rel=1e-7)


def test_fewer_rows_than_features_agrees_with_sqrtm():
    a, b = correlated(10, 32, 32, seed=2), correlated(15, 32, 32, seed=3)
    distance = frechet_distance(statistics_of(a), statistics_of(b))
    assert distance == pytest.approx(with_sqrtm(a, b), rel=1e-5)


def test_independent_features_have_a_closed_form():
    """Covariances that commute: sum over features of (difference of means)^2 + that of the
    standard deviations."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    a = corners * [1, 2, 3] + [0, 1, 0]
    b = corners * [4, 2, 0] + [5, 1, 1]
    distance = frechet_distance(statistics_of(a), statistics_of(b))
    assert distance == pytest.approx((25 + 0 + 1) + (9 + 0 + 9), rel=1e-12)


@pytest.mark.parametrize("rank", [12, 4])
def test_axioms(rank):
    """Zero to itself, the same both ways, squared under scaling, blind to shifts of both."""
    a, b = correlated(100, 12, rank, seed=0), correlated(100, 12, 12, seed=1)
    there = frechet_distance(statistics_of(a), statistics_of(b))
    assert there > 1
    assert frechet_distance(statistics_of(a), statistics_of(a)) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(statistics_of(b), statistics_of(a)) == pytest.approx(there, rel=1e-6)
    scaled = frechet_distance(statistics_of(3 * a), statistics_of(3 * b))
    assert scaled == pytest.approx(9 * there, rel=1e-6)
    moved = frechet_distance(statistics_of(a + 2), statistics_of(b + 2))
    assert moved == pytest.approx(there, rel=1e-6)


def test_as_others_compute_it():
    """torch-fidelity's formula on the same moments; torchmetrics', which divides by n - 1."""
    a, b = (torch.from_numpy(correlated(80, 10, 10, seed)) for seed in (3, 4))
    found = frechet_distance(statistics_of(a), statistics_of(b))
    assert found == pytest.approx(oracles.fidelity_fid(a, b), rel=1e-9)
    unbiased = oracles.fidelity_fid(a, b, n_minus_1=True)
    assert oracles.torchmetrics_fid(a, b) == pytest.approx(unbiased, rel=1e-4)


def test_halves_of_a_large_set_are_near():
    rows = correlated(20_000, 8, 8, seed=5)
    halves = statistics_of(rows[::2]), statistics_of(rows[1::2])
    spread = np.trace(halves[0].cov)
    assert frechet_distance(*halves) < 1e-3 * spread


def test_saved_sums_are_the_same(tmp_path):
    statistics = statistics_of(correlated(30, 5, 5, seed=6))
    np.savez(tmp_path / "a.npz", **statistics.state())
    with np.load(tmp_path / "a.npz") as file:
        found = FeatureStatistics.from_state(file)
    assert found.count == 30 and np.array_equal(found.cov, statistics.cov)
    found.append(np.ones((1, 5)))
    assert found.count == 31 and statistics.count == 30
    assert not np.array_equal(found.mean, statistics.mean)


def test_a_state_that_is_none_is_refused():
    state = statistics_of(correlated(30, 5, 5, seed=6)).state()
    broken = [
        ("sum", None, "lack sum"),
        ("sum", state["sum"][:4], r"\(4,\) and \(5, 5\), must be"),
        ("products", state["sum"], r"\(5,\) and \(5,\), must be"),
        ("products", state["products"].astype(np.float32), "finite float64"),
        ("sum", state["sum"] * np.nan, "finite float64"),
        ("count", np.array(-1), "count is -1, must be"),
        ("count", np.array(1.5), "count is 1.5, must be"),
        ("count", np.array([3]), r"count is \[3\], must be"),
    ]
    for name, array, message in broken:
        bad = {k: v for k, v in {**state, name: array}.items() if v is not None}
        with pytest.raises(ValueError, match=message):
            FeatureStatistics.from_state(bad)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_same_batches_give_the_same_bits_on_their_device(device):
    rows = torch.from_numpy(correlated(500, 64, 64, seed=7)).to(device, torch.float32)
    first, second = FeatureStatistics(64), FeatureStatistics(64)
    for statistics in (first, second):
        for batch in rows.split(64):
            statistics.append(batch)
    assert first._sum.device == first._products.device == rows.device
    assert first._sum.dtype == first._products.dtype == torch.float64
    assert np.array_equal(first.mean, second.mean) and np.array_equal(first.cov, second.cov)
    backwards = statistics_of(rows.flip(0).cpu())
    np.testing.assert_allclose(first.mean, backwards.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(first.cov, backwards.cov, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize(
    "rows, message",
    [
        (np.zeros(3), r"shape \(3,\), must be \[n, 3\]"),
        (np.zeros((2, 4)), r"shape \(2, 4\), must be \[n, 3\]"),
        (np.array([[0, np.nan, 0]]), "not finite"),
    ],
)
def test_bad_features_are_refused_and_not_counted(rows, message):
    statistics = FeatureStatistics(3)
    with pytest.raises(ValueError, match=message):
        statistics.append(rows)
    assert statistics.count == 0


def test_what_cannot_be_compared_is_refused():
    two, three = statistics_of(np.zeros((1, 2))), statistics_of(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="2 and of 3"):
        frechet_distance(two, three)
    with pytest.raises(ValueError, match="of 3 features, must be of 2"):
        two.merge(three)
    with pytest.raises(ValueError, match="no features"):
        frechet_distance(two, FeatureStatistics(2))
    with pytest.raises(ValueError, match="is 0, must be at least 1"):
        FeatureStatistics(0)
