"""The Inception score: closed forms, torchmetrics and torch-fidelity."""

import numpy as np
import pytest
import torch

from metrics.inception_score import inception_score
from tests.metrics.oracles import fidelity_is, torchmetrics_is


def logits(count, classes=7, seed=0):
    random = np.random.RandomState(seed)
    return torch.from_numpy((3 * random.randn(count, classes)).astype(np.float32))


@pytest.mark.parametrize("count, splits", [(200, 10), (57, 5), (30, 1)])
def test_as_torch_fidelity_computes_it(count, splits):
    values = logits(count)
    found = inception_score(values.softmax(1), splits)
    assert found == pytest.approx(fidelity_is(values, splits), rel=1e-5)


def test_as_torchmetrics_computes_it():
    """In one part: it shuffles the rows, and its deviation is that of a sample."""
    values = logits(120)
    mean, _ = inception_score(values.softmax(1), 1)
    assert mean == pytest.approx(torchmetrics_is(values, 1)[0], rel=1e-4)


def test_closed_forms():
    sure = torch.eye(5).repeat(8, 1)  # each class equally often, without doubt
    assert inception_score(sure, 1) == pytest.approx((5, 0))
    assert inception_score(sure, 8) == pytest.approx((5, 0))
    assert inception_score(torch.full([40, 5], 0.2)) == pytest.approx((1, 0))
    assert inception_score(sure[:1].repeat(40, 1)) == pytest.approx((1, 0))  # always one class


def test_deviation_is_that_of_the_parts():
    parts = [torch.eye(4), torch.eye(4)[:1].repeat(4, 1)]  # scores 4 and 1
    assert inception_score(torch.cat(parts), 2) == pytest.approx((2.5, 1.5))


def test_fewer_pictures_than_parts_are_refused():
    with pytest.raises(ValueError, match="3 pictures cannot be split into 10 parts"):
        inception_score(torch.full([3, 2], 0.5))
