"""Measuring calls: seconds by the device's own clock, arithmetic, and memory traffic."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from benchmarks.launches import Traffic
from benchmarks.protocol.ways import PLAIN, Way


class Work(NamedTuple):
    """What is measured: `run` of what `fresh` has just made, which does not count."""

    run: Callable[[Any], Any]
    fresh: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Effort:
    """How often a figure is taken: `warmups` calls that do not count, then `repeats`, fewer where
    all of them together would take more than `seconds`."""

    warmups: int
    repeats: int
    seconds: float


GPU = Effort(warmups=5, repeats=20, seconds=3)
CPU = Effort(warmups=1, repeats=5, seconds=10)
ONCE = Effort(warmups=0, repeats=1, seconds=0)


def timed(work: Work, effort: Effort, device: torch.device) -> list[float]:
    """Seconds of each repeat. Raises ArithmeticError where results are not finite."""
    return [seconds for seconds, _ in _calls(work, effort, device)]


def read(work: Work, effort: Effort, device: torch.device) -> list[float]:
    """What each repeat returns: numbers that the work measures itself."""
    return [float(result) for _, result in _calls(work, effort, device)]


def _calls(work: Work, effort: Effort, device: torch.device) -> Iterator[tuple[float, Any]]:
    start = time.perf_counter()
    for turn in range(-effort.warmups, effort.repeats):
        inputs = work.fresh()
        seconds, results = _stopped(work.run, inputs, device)
        require_finite(results)
        if turn >= 0:
            yield seconds, results
            if time.perf_counter() - start > effort.seconds:
                return


def _stopped(run: Callable, inputs: Any, device: torch.device) -> tuple[float, Any]:
    """Seconds of a call, and its results. On a GPU from when it is idle to when it is idle again,
    so that the time it waits for the host counts."""
    if device.type != "cuda":
        start = time.perf_counter()
        results = run(inputs)
        return time.perf_counter() - start, results
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    results = run(inputs)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3, results


def require_finite(results: Any) -> None:
    """Raises ArithmeticError where numbers in tensors, arrays, tuples or dicts are not finite."""
    for leaf in pytree.tree_leaves(results):
        if isinstance(leaf, Tensor):
            finite = bool(leaf.isfinite().all())
        else:
            finite = not isinstance(leaf, (float, np.ndarray)) or bool(np.isfinite(leaf).all())
        if not finite:
            raise ArithmeticError("results are not all finite")


def counted(work: Work, way: Way) -> tuple[float, float]:
    """Operations of a call's products and convolutions, counted on the plain operators, into which
    no mode can look when they are kernels; and the bytes that the way's operators read and write,
    each tensor once an operator."""
    # Here: it imports Triton, which tests of kernels have to set up first.
    from torch.utils.flop_counter import FlopCounterMode

    with way.active():
        inputs = work.fresh()
        with Traffic() as traffic:
            work.run(inputs)
    with replace(way, implementation=PLAIN).active():
        inputs = work.fresh()
        with FlopCounterMode(display=False) as flops:
            work.run(inputs)
    return float(flops.get_total_flops()), float(traffic.bytes)
