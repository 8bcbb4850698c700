"""The order of the images: the sampler's, cut alike for any number of processes, and resumed."""

import time
from itertools import islice

import pytest

from torch_utils.misc import InfiniteSampler
from training.index_order import iteration_indices


@pytest.mark.parametrize("size, window_size", [(1, 0.5), (7, 0.5), (50, 0.5), (50, 1), (50, 0.02)])
def test_the_sequence_is_the_samplers(size, window_size):
    sampler = InfiniteSampler(range(size), seed=5, window_size=window_size)
    expected = list(islice(sampler, 600))
    batches = islice(iteration_indices(size, 6, 5, batch_gpu=3, window_size=window_size), 100)
    assert sum(batches, []) == expected


@pytest.mark.parametrize("window_size", [0, 0.3])
def test_it_goes_on_anywhere(window_size):
    def order(start=0):
        return iteration_indices(20, 8, 1, start, batch_gpu=2, window_size=window_size)

    whole = list(islice(order(), 40))
    assert len({tuple(batch) for batch in whole}) > 4
    for start in (1, 2, 3, 5, 20, 33):
        assert list(islice(order(start), 5)) == whole[start : start + 5]


def test_processes_share_the_micro_batches_of_one():
    def micro_batches(ranks, batch_gpu=2):
        orders = [iteration_indices(30, 8, 3, 2, r, ranks, batch_gpu) for r in range(ranks)]
        for shares in islice(zip(*orders, strict=True), 9):
            indices = sum(shares, [])
            yield [indices[k : k + batch_gpu] for k in range(0, 8, batch_gpu)]

    alone = list(micro_batches(1))
    assert alone == list(micro_batches(2)) == list(micro_batches(4))
    sampler = islice(InfiniteSampler(range(30), seed=3), 16, 24)
    assert sum(alone[0], []) == list(sampler)
    second = next(iteration_indices(30, 8, 3, 2, 1, 4, 2))
    assert second == alone[0][1]


def test_without_batch_gpu_a_process_has_one_micro_batch():
    assert len(next(iteration_indices(30, 8, 0, rank=1, num_ranks=2))) == 4


def test_a_far_start_is_quick():
    start = time.process_time()
    next(iteration_indices(1000, 10, 0, 100_000, batch_gpu=10))
    assert time.process_time() - start < 0.5  # One draw at a time takes 2 seconds and more.


@pytest.mark.parametrize(
    "bad, match",
    [
        (dict(size=0), "size"),
        (dict(batch_size=0), "batch_size"),
        (dict(start_iteration=-1), "start_iteration"),
        (dict(batch_gpu=3), "8, must be a multiple of 2 processes x batch_gpu=3"),
        (dict(batch_gpu=8), "8, must be a multiple of 2 processes x batch_gpu=8"),
        (dict(num_ranks=16), "8, must be a multiple of 16 processes x batch_gpu=1"),
        (dict(rank=2), "got 2 of 2"),
        (dict(rank=-1), "got -1 of 2"),
        (dict(window_size=1.5), "got 1.5"),
    ],
)
def test_what_does_not_divide_is_refused_at_once(bad, match):
    with pytest.raises(ValueError, match=match):
        iteration_indices(**{**dict(size=9, batch_size=8, seed=0, num_ranks=2), **bad})
