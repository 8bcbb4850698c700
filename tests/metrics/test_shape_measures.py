"""Shapes of many samples, against `training.health` itself, block by block."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from metrics import samples
from metrics.options import MetricOptions, unnoticed
from metrics.samples import in_order, latents, picks, real_labels
from metrics.shape_measures import shape_measures
from tests.tiny import tiny_generator
from training.health import NAMES, Health


def in_ranks(monkeypatch, count, compute):
    """What compute(rank) returns in each of `count` processes, which are played by threads."""
    shares, barrier, this = [None] * count, threading.Barrier(count, timeout=60), threading.local()

    def gather(share, num_processes):
        assert num_processes == count
        shares[this.rank] = share()
        barrier.wait()
        found = list(shares)
        barrier.wait()
        return found

    def run(rank):
        this.rank = rank
        with torch.no_grad():
            return compute(rank)

    with monkeypatch.context() as patch, ThreadPoolExecutor(count) as pool:
        patch.setattr(samples, "in_all_processes", gather)
        return list(pool.map(run, range(count)))


def solid_generator(bias=8.0):
    """With a surface that its cameras, 2 away from the origin, see."""
    G = tiny_generator()
    G.rendering_kwargs.update(ray_start=1.35, ray_end=2.65)
    with torch.no_grad():
        G.decoder.net[2].bias[0] = bias
    return G


def options(cars, G=None, **more):
    return MetricOptions(G or solid_generator(), dataset_kwargs=cars, **more)


def measure(cars, samples=16, **more):
    opts = options(cars, **more)
    with unnoticed(opts):
        return shape_measures(opts, samples)


def test_as_health_measures_each_block(cars):
    opts = options(cars, seed=3)
    labels = real_labels(opts)
    blocks = []
    for block in (range(8), range(8, 16), range(16, 24)):
        z, c = latents(block, opts.G.z_dim, 3), labels[picks(block, len(labels), 3)]
        blocks.append(Health(z, c).measure(opts.G))
    found = measure(cars, 24, seed=3)
    expected = [np.mean([block[name] for block in blocks]) for name in NAMES]
    assert list(found.values()) == pytest.approx(expected, rel=1e-6)
    names = "opacity opaque near depth_spread normal_variance variety view_variety"
    assert list(found) == names.split()
    assert 0.3 < found["opacity"] <= 1 and found["depth_spread"] > 0 and found["variety"] > 0.001


def test_any_number_of_processes_gives_the_same(cars, monkeypatch):
    G = solid_generator()
    one = measure(cars, 24, G=G)

    def in_rank(rank):
        return shape_measures(options(cars, G, num_gpus=2, rank=rank), 24)

    assert in_ranks(monkeypatch, 2, in_rank) == [one, one]


def test_values_by_number_whoever_has_them(monkeypatch, cars):
    given = [{4: "e", 0: "a"}, {}, {2: "c"}]
    found = in_ranks(
        monkeypatch, 3, lambda r: in_order(options(cars, num_gpus=3), lambda: given[r])
    )
    assert found == [["a", "c", "e"]] * 3


@pytest.mark.parametrize("more", [dict(seed=1), dict(G_kwargs=dict(truncation_psi=0.3))], ids=str)
def test_options_change_what_is_measured(cars, more):
    assert measure(cars, 8, **more) != measure(cars, 8)


def test_truncation_makes_identities_alike(cars):
    few, many = (
        measure(cars, 8, G_kwargs=dict(truncation_psi=psi))["variety"] for psi in (0.0, 1.0)
    )
    assert few < 1e-6 < many


def test_an_empty_scene_is_finite(cars):
    found = measure(cars, 8, G=solid_generator(bias=-50.0))
    assert found["opaque"] == found["depth_spread"] == found["normal_variance"] == 0
    assert found["opacity"] < 1e-6 and all(map(np.isfinite, found.values()))


@pytest.mark.parametrize("samples", [0, 12])
def test_samples_are_whole_blocks(cars, samples):
    with pytest.raises(ValueError, match=f"samples is {samples}, must be a multiple of 8"):
        measure(cars, samples)
