"""One pass over each set of pictures: what is collected, how often, and what is remembered."""

import io
import sys

import numpy as np
import pytest
import torch

from metrics import collecting
from metrics.collecting import FeatureRows, Reals, Want, collect
from metrics.errors import MetricError
from metrics.fakes import Fakes
from metrics.frechet import FeatureStatistics
from metrics.options import MetricOptions, unnoticed
from tests.metrics.tiny_detectors import TinyInception
from tests.tiny import tiny_generator
from training.dataset import DatasetError, ImageFolderDataset

FEATURES = TinyInception().eval().requires_grad_(False)


def options(cars, networks, **more):
    more = dict(dict(dataset_kwargs=cars, networks=networks, batch=16), **more)
    return MetricOptions(tiny_generator(), **more)


def gather(opts, *wants):
    with unnoticed(opts):
        return list(collect(opts, wants).values())


def rows_of(cars, **choice):
    """Features of all real pictures at once, read one by one."""
    data = ImageFolderDataset(cars["path"], **choice)
    pictures = torch.from_numpy(np.stack([data[i][0] for i in range(len(data))]))
    return FEATURES(pictures, return_features=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_real_features_in_order(cars, networks, workers):
    (found,) = gather(
        options(cars, networks, workers=workers), Want(Reals(), "inception", keep="all")
    )
    assert isinstance(found, FeatureRows) and found.count == 70
    torch.testing.assert_close(found.rows, rows_of(cars))


def test_moments_probabilities_and_numbers_of_pictures(cars, networks):
    wants = [
        Want(Reals(), "inception"),
        Want(Reals(), "inception", 20),
        Want(Reals(), "inception", 20, "probabilities", "all"),
        Want(Reals(), "vgg16", 1000, keep="all"),
    ]
    whole, part, classes, all_rows = gather(options(cars, networks), *wants)
    expected = rows_of(cars).double()
    assert isinstance(whole, FeatureStatistics) and whole.count == 70 and part.count == 20
    np.testing.assert_allclose(whole.mean, expected.mean(0).numpy(), rtol=1e-5)
    np.testing.assert_allclose(part.mean, expected[:20].mean(0).numpy(), rtol=1e-5)
    assert classes.rows.shape == (20, 7) and torch.allclose(classes.rows.sum(1), torch.ones(20))
    assert all_rows.count == 70


def test_which_real_pictures(cars, networks):
    """Mirrored copies where the training had them, a sample at random."""
    trained = dict(cars, xflip=True, max_size=9, random_seed=4)
    wants = [Want(s, "inception", keep="all") for s in (Reals(), Reals(True), Reals(sample=12))]
    every, mirrored, some = gather(options(trained, networks), *wants)
    torch.testing.assert_close(every.rows, rows_of(cars))
    torch.testing.assert_close(mirrored.rows, rows_of(cars, xflip=True))
    torch.testing.assert_close(some.rows, rows_of(cars, max_size=12))


def test_each_set_is_generated_once_for_all(cars, networks, monkeypatch):
    made = []
    original = collecting.generate

    def counted(options, source, part):
        made.append((source, part))
        return original(options, source, part)

    monkeypatch.setattr(collecting, "generate", counted)
    wants = [
        Want(Fakes(), "inception", 20),
        Want(Fakes(), "inception", 9, keep="all"),
        Want(Fakes(), "inception", 20, "probabilities", "all"),
        Want(Fakes(condition="fixed"), "inception", 4),
    ]
    found = gather(options(cars, networks), *wants, wants[0])
    assert [part for part in found] and [f.count for f in found] == [20, 9, 20, 4]
    assert made == [
        (Fakes(), range(0, 16)),
        (Fakes(), range(16, 20)),
        (Fakes(condition="fixed"), range(0, 4)),
    ]


def test_fewer_pictures_are_the_first_of_more(cars, networks):
    many, few = gather(
        options(cars, networks),
        Want(Fakes(), "inception", 16, keep="all"),
        Want(Fakes(), "inception", 7, keep="all"),
    )
    assert torch.equal(many.rows[:7], few.rows)


@pytest.mark.parametrize("keep", ["moments", "all"])
def test_real_pictures_are_read_once(cars, networks, monkeypatch, keep):
    """Within a run from memory, later from disk; without either, and for others, again."""
    want = Want(Reals(), "inception", keep=keep)
    opts = options(cars, networks)
    (first,) = gather(opts, want)

    def read(*args):
        raise OSError("read again")

    def value(found):
        return found.rows.tolist() if keep == "all" else found.cov.tolist()

    monkeypatch.setattr(collecting, "_real_batches", read)
    assert gather(opts, want) == [first]  # the very same
    (again,) = gather(options(cars, networks), want)
    assert value(again) == value(first) and again.count == 70
    for other in (
        options(cars, networks, cache=False),
        options(cars, dict(networks, inception="randconv112")),
    ):
        (failed,) = gather(other, want)
        assert isinstance(failed, OSError)


def test_what_cannot_be_had_spoils_nothing_else(cars, networks):
    wants = [Want(Reals(), "inception"), Want(Fakes(), "inception", 3)]
    real, fake = gather(options(dict(cars, resolution=64), networks), *wants)
    assert isinstance(real, DatasetError) and isinstance(fake, DatasetError)
    opts = options(cars, networks, cameras="none such")
    real, fake = gather(opts, wants[0], Want(Fakes("distribution"), "inception", 3))
    assert real.count == 70 and isinstance(fake, MetricError)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_for_a_terminal_and_who_wants_it(cars, networks, monkeypatch):
    for verbose, file, shown in (
        (False, Terminal(), False),
        (True, io.StringIO(), False),
        (True, Terminal(), True),
    ):
        monkeypatch.setattr(sys, "stderr", file)
        gather(options(cars, networks, verbose=verbose), Want(Fakes(), "inception", 20))
        assert ("generated pictures: 100%" in file.getvalue()) == shown
