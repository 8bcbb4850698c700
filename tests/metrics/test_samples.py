"""Latents and picks: functions of a seed and a number, and distributed as they should be."""

from pathlib import Path

import numpy as np
import pytest
import torch

from metrics.errors import MetricError
from metrics.options import MetricOptions
from metrics.samples import latents, open_reals, picks, real_labels, turns
from tests.classes import add_classes
from tests.tiny import tiny_generator


@pytest.mark.parametrize("part", [range(0, 1), range(60, 70), range(63, 64), range(130, 200)])
def test_a_picture_has_its_numbers_whatever_else_is_drawn(part):
    every = range(200)
    assert torch.equal(latents(part, 5, seed=3), latents(every, 5, seed=3)[part.start : part.stop])
    assert np.array_equal(picks(part, 9, seed=3), picks(every, 9, seed=3)[part.start : part.stop])


def test_seeds_differ_and_latents_are_not_the_picks():
    assert not torch.equal(latents(range(9), 4, 0), latents(range(9), 4, 1))
    assert not np.array_equal(picks(range(30), 50, 0), picks(range(30), 50, 1))


def test_distributions():
    z = latents(range(4000), 8)
    assert z.dtype == torch.float32 and z.mean().abs() < 0.02 and (z.std() - 1).abs() < 0.02
    covariance = torch.cov(z.T) - torch.eye(8)
    assert covariance.abs().max() < 0.1
    counts = np.bincount(picks(range(9000), 3), minlength=3)
    assert len(counts) == 3 and abs(counts / 9000 - 1 / 3).max() < 0.02


def test_nothing_is_nothing():
    assert latents(range(0), 4).shape == (0, 4) and picks(range(5, 5), 3).shape == (0,)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_turns_cover_everything_once_in_order(ranks):
    G = torch.nn.Linear(1, 1)
    shares = [list(turns(23, 4, MetricOptions(G, num_gpus=ranks, rank=r))) for r in range(ranks)]
    assert [r.start for r in shares[0][:2]] == [0, 4 * ranks]
    together = sorted((part for share in shares for part in share), key=lambda part: part.start)
    assert [i for part in together for i in part] == list(range(23))
    assert all(len(part) == 4 for part in together[:-1])


def test_labels_have_the_classes_of_the_network(cars, tmp_path):
    """As many as it was trained with, or one line says what is there and what would be right."""
    path = tmp_path / "cars.zip"
    path.write_bytes(Path(cars["path"]).read_bytes())
    add_classes(path)
    kwargs = dict(cars, path=str(path), use_classes=True)
    labels = real_labels(MetricOptions(tiny_generator(classes=3), dataset_kwargs=kwargs))
    assert labels.shape == (70, 28)
    assert labels[:, 25:].argmax(1).tolist() == [i % 3 for i in range(70)]
    with pytest.raises(MetricError, match="cars: .* has 3 classes, the network .* with 4; must"):
        real_labels(MetricOptions(tiny_generator(classes=4), dataset_kwargs=kwargs))


def test_all_real_pictures_unmirrored(cars):
    options = MetricOptions(tiny_generator(), dataset_kwargs=dict(cars, xflip=True, max_size=5))
    assert len(open_reals(options)) == 70
    labels = real_labels(options)
    assert labels.shape == (70, 25) and torch.equal(labels, real_labels(options))
