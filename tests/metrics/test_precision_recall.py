"""Precision and recall: against loops and torch-fidelity, and what they are to tell."""

import numpy as np
import pytest
import torch

from metrics.precision_recall import precision_recall
from tests.metrics.oracles import fidelity_precision_recall


def rows(count, seed, size=8, shift=0.0, scale=1.0):
    """Values that half precision holds exactly, so that rounding plays no part."""
    random = np.random.RandomState(seed)
    values = random.randn(count, size) * scale + shift
    return torch.from_numpy(values.astype(np.float16).astype(np.float32))


def by_loops(real, fake, k):
    def share(manifold, probes):
        manifold, probes = manifold.double().numpy(), probes.double().numpy()
        radii = [sorted(np.linalg.norm(manifold - row, axis=1))[k] for row in manifold]
        hits = [
            any(np.linalg.norm(probe - row) <= r for row, r in zip(manifold, radii, strict=True))
            for probe in probes
        ]
        return np.mean(hits)

    return share(real, fake), share(fake, real)


@pytest.mark.parametrize("block", [10_000, 17, 5])
def test_against_loops_whatever_the_blocks(block):
    real, fake = rows(60, 0), rows(45, 1, shift=0.4, scale=0.8)
    expected = by_loops(real, fake, 3)
    assert 0 < expected[0] < 1 and 0 < expected[1] < 1
    assert precision_recall(real, fake, block=block) == pytest.approx(expected)


@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_as_torch_fidelity_computes_it(neighbours):
    real, fake = rows(200, 2), rows(150, 3, shift=0.3, scale=0.7)
    found = precision_recall(real, fake, neighbours)
    assert found == pytest.approx(fidelity_precision_recall(real, fake, neighbours), rel=1e-4)


def test_few_good_pictures_and_many_bad_ones():
    """A narrow set is precise and covers little; a wide one covers all and often misses."""
    real = rows(300, 4)
    precise = precision_recall(real, rows(300, 6, scale=0.3))
    wide = precision_recall(real, rows(300, 5, scale=3))
    assert precise[0] > 0.9 and precise[1] < 0.5
    assert wide[0] < 0.5 and wide[1] > 0.9
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, real + 100) == (0, 0)


def test_order_does_not_matter():
    real, fake = rows(40, 0), rows(40, 1, shift=0.5)
    order = torch.from_numpy(np.random.RandomState(0).permutation(40))
    assert precision_recall(real[order], fake.flip(0)) == precision_recall(real, fake)


def test_features_are_rounded_to_half_precision():
    """Points that only float32 can tell apart: there the fake is thrice too far from all."""
    real = torch.tensor([[1.0], [1.00001], [1.00002]])
    fake = torch.tensor([[1.00005]]).repeat(3, 1)
    assert by_loops(real, fake, 1) == (0, 0)
    assert precision_recall(real, fake, neighbours=1) == (1, 1)


@pytest.mark.parametrize(
    "real, fake, message",
    [
        (rows(3, 0), rows(9, 1), "3 rows have no 3 neighbours"),
        (rows(9, 0), rows(3, 1), "3 rows have no 3 neighbours"),
        (rows(9, 0), rows(9, 1, size=3), r"\(9, 8\) and \(9, 3\)"),
        (rows(9, 0), torch.full([9, 8], 1e5), "not finite in half precision"),
        (rows(9, 0) * np.nan, rows(9, 1), "not finite in half precision"),
    ],
)
def test_bad_sets_are_refused(real, fake, message):
    with pytest.raises(ValueError, match=message):
        precision_recall(real, fake)
