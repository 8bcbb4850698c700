"""In which order training sees the images, and which process sees which of them."""

from collections.abc import Iterator

import numpy as np


def iteration_indices(
    size: int,
    batch_size: int,
    seed: int,
    start_iteration: int = 0,
    rank: int = 0,
    num_ranks: int = 1,
    batch_gpu: int | None = None,
    window_size: float = 0.5,
    weights: np.ndarray | None = None,
) -> Iterator[list[int]]:
    """For every iteration from number `start_iteration` on, endlessly, one process's images.

    An iteration is the next `batch_size` indices of one sequence, cut into micro-batches of
    `batch_gpu` (default: one for each process). Process `rank` has a block of successive
    micro-batches, so that neither the images of a micro-batch nor its number depend on how many
    processes there are.

    Args:
        size: images of the dataset.
        seed: of the sequence, which `torch_utils.misc.InfiniteSampler` draws too.
        window_size: share of the dataset up to which an image that was seen moves back.
        weights: how often each image is drawn beside the others, float [size], above 0; the
            sequence is then `_weighted_sequence`, and `window_size` has no part in it.

    Raises ValueError where the sizes do not divide or a number is out of its range.
    """
    batch_gpu = batch_gpu or max(batch_size // num_ranks, 1)
    if size < 1 or batch_size < 1 or start_iteration < 0:
        raise ValueError(
            "size and batch_size must be above 0 and start_iteration not below, "
            f"got {size}, {batch_size}, {start_iteration}"
        )
    if batch_size % (batch_gpu * num_ranks):
        raise ValueError(
            f"batch_size is {batch_size}, must be a multiple of "
            f"{num_ranks} processes x batch_gpu={batch_gpu}"
        )
    if not 0 <= rank < num_ranks:
        raise ValueError(f"rank is from 0 to num_ranks-1, got {rank} of {num_ranks}")
    if not 0 <= window_size <= 1:
        raise ValueError(f"window_size is from 0 to 1, got {window_size}")
    start = start_iteration * batch_size
    if weights is None:
        sequence = _sequence(size, seed, int(np.rint(size * window_size)), start)
    else:
        if np.shape(weights) != (size,) or not np.all(np.greater(weights, 0)):
            raise ValueError(f"weights must be {size} numbers above 0")
        sequence = _weighted_sequence(np.asarray(weights, dtype=np.float64), seed, start)
    return _blocks(sequence, batch_size, rank, num_ranks)


def _blocks(
    sequence: Iterator[int], batch_size: int, rank: int, num_ranks: int
) -> Iterator[list[int]]:
    share = batch_size // num_ranks
    while True:
        batch = [next(sequence) for _ in range(batch_size)]
        yield batch[rank * share : (rank + 1) * share]


def _sequence(size: int, seed: int, window: int, start: int) -> Iterator[int]:
    """The indices from number `start` on. Each one that is passed changes places with one of the
    `window` - 1 before it or itself, counted round the end."""
    random = np.random.RandomState(seed)
    order = np.arange(size)
    random.shuffle(order)
    order, positions = order.tolist(), np.arange(size)
    skipped, offset = divmod(start, size)
    if window < 2:  # Nothing moves: all passes are alike.
        skipped = 0
    while True:
        # The same numbers as one draw after the other, in a tenth of the time.
        partners = range(size)
        if window >= 2:
            partners = (positions - random.randint(window, size=size)).tolist()
        if skipped:
            _pass(order, partners)
            skipped -= 1
            continue
        for i, j in enumerate(partners):
            if i >= offset:
                yield order[i]
            order[i], order[j] = order[j], order[i]
        offset = 0


def _weighted_sequence(weights: np.ndarray, seed: int, start: int) -> Iterator[int]:
    """The indices from number `start` on, in passes of as many as there are images.

    In a pass an image comes as often as its share of the weights says, rounded up or down by a
    chance that makes up for it. Passes are independent, so that a far start costs nothing.
    """
    size = len(weights)
    ends = np.cumsum(weights)
    number, offset = divmod(start, size)
    while True:
        random = np.random.RandomState([seed, number])
        marks = (np.arange(size) + random.rand()) * (ends[-1] / size)
        drawn = np.searchsorted(ends, marks, side="right").clip(max=size - 1)
        random.shuffle(drawn)
        yield from drawn[offset:].tolist()
        number, offset = number + 1, 0


def _pass(order: list[int], partners: list[int]) -> None:
    """Goes once through the dataset and gives nothing out."""
    for i, j in enumerate(partners):
        order[i], order[j] = order[j], order[i]
