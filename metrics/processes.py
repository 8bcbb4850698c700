"""Computing the same thing in several processes without one waiting forever for another."""

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


class OtherProcessError(RuntimeError):
    """Another process could not do its part; the message says which and why."""


def in_all_processes(compute: Callable[[], Result], num_processes: int = 1) -> list[Result]:
    """What `compute()` returns in each process of the default process group, by rank.

    To be called by all of them. An exception in one is raised in all: as it is where it happened,
    as OtherProcessError elsewhere; so nobody waits for results that never come.

    Args:
        num_processes: 1 needs no process group.
    """
    if num_processes == 1:
        return [compute()]
    result, failure = None, None
    try:
        result = compute()
    except Exception as error:
        failure = error
    text = None if failure is None else f"{type(failure).__name__}: {failure}"
    gathered: list = [None] * num_processes
    torch.distributed.all_gather_object(gathered, (result, text))
    if failure is not None:
        raise failure
    for rank, (_, text) in enumerate(gathered):
        if text is not None:
            raise OtherProcessError(f"in process {rank}: {text}")
    return [result for result, _ in gathered]


def in_step(compute: Callable[[], Result], num_processes: int = 1) -> Result:
    """What `compute()` returns here, once all processes are done with it; where one of them fails,
    all do, as of `in_all_processes`. The results themselves stay where they are."""
    kept: list[Result] = []
    in_all_processes(lambda: kept.append(compute()), num_processes)
    return kept[0]
