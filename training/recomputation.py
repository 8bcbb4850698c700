"""Recomputation of activations: a part of a forward pass keeps its inputs only and runs again when
the backward pass comes to it (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").

The gradients are the same, for memory a part costs its forward pass once more.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils.checkpoint import checkpoint

from training.volumetric_rendering.draws import Draws, RandomDraws, Shape

Result = TypeVar("Result")

# What the values of `--recompute` name: the parts of `TriPlaneGenerator.render` that run again.
CHOICES = {
    "none": frozenset[str](),
    "renderer": frozenset({"renderer"}),
    "renderer+sr": frozenset({"renderer", "sr"}),
}


def parts_of(choice: str) -> frozenset[str]:
    """The parts that a value of `--recompute` names; ValueError for any other text."""
    if choice not in CHOICES:
        raise ValueError(f"recompute must be one of {', '.join(CHOICES)}, not {choice!r}")
    return CHOICES[choice]


def run(
    function: Callable[..., Result], *tensors: torch.Tensor, again: bool, random: bool = False
) -> Result:
    """`function(*tensors)`; if `again`, the backward pass computes what it needs of it anew.

    Where no gradients are recorded this is a plain call. The function must give the same results
    twice, so it may not change its arguments; if it is `random`, torch's global generators are set
    back for the second time.
    """
    if not (again and torch.is_grad_enabled()):
        return function(*tensors)
    return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=random)


def run_drawing(
    function: Callable[..., Result], draws: Draws | None, *tensors: torch.Tensor, again: bool
) -> Result:
    """`function(draws, *tensors)`, as `run`, for a function that takes its numbers from `draws`."""
    if not again:
        return function(draws, *tensors)
    tape = RepeatedDraws(RandomDraws() if draws is None else draws)

    def rewound(*tensors: torch.Tensor) -> Result:
        tape.rewind()
        return function(tape, *tensors)

    return run(rewound, *tensors, again=True)


class RepeatedDraws:
    """The numbers of another source, and after each `rewind` the same ones again.

    A few numbers a sample, kept, cost less than states of generators, and also repeat a source with
    a generator of its own.
    """

    def __init__(self, source: Draws):
        self._source = source
        self._kept: list[torch.Tensor] = []
        self._position = 0

    def rewind(self) -> None:
        """Begins again with the first numbers."""
        self._position = 0

    def coarse(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """As the source's `coarse`."""
        return self._next(self._source.coarse, shape, like)

    def fine(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """As the source's `fine`."""
        return self._next(self._source.fine, shape, like)

    def noise(self, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        """As the source's `noise`."""
        return self._next(self._source.noise, shape, like)

    def _next(self, draw, shape: Shape, like: torch.Tensor) -> torch.Tensor:
        if self._position == len(self._kept):
            self._kept.append(draw(shape, like))
        self._position += 1
        return self._kept[self._position - 1]
