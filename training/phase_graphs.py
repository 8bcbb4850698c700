"""Phases of training as CUDA graphs: the thousands of launches of a micro-batch become one."""

import sys
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from torch_utils import graphs
from training.loss import Batch
from training.phases import Findings, Phase, add_gradients

# Micro-batches that are computed plainly before a phase is recorded: schedules may turn out to be
# moving.
PLAIN_FIRST = 3
# How far the gradients of a first repetition may be from plain ones, as a share of their norm.
# Sums whose order is not fixed differ by less than a thousandth, in half precision too.
TOLERANCE = 0.01

Gradients = list[Tensor | None]


def print_to_stderr(line: str) -> None:
    """At once."""
    print(line, file=sys.stderr, flush=True)


class PhaseGraphs:
    """Does what `add_gradients` does, by repeating recordings where it can.

    A recording keeps what schedules gave for it. So a phase is recorded when these have stood still
    for a while, and forgotten when they move: during the fades of a run everything is plain.

    Args:
        moment_of: the schedules' values at a number of images, `at` of a loss.
        record: see `torch_utils.graphs`.
        tracked: tensors that micro-batches move, see `run_phase`.
        say: is told, once a phase, why it is not recorded.
    """

    def __init__(
        self,
        moment_of: Callable[[float], object],
        record: graphs.Recorder,
        tracked: Sequence[Tensor] = (),
        say: Callable[[str], None] = print_to_stderr,
    ):
        self._moment_of = moment_of
        self._record = record
        self._tracked = tracked
        self._say = say
        self._phases: dict[str, tuple[object, graphs.Repeated]] = {}
        self._refused: set[str] = set()

    def add_gradients(self, phase: Phase, batch: Batch, nimg: float) -> Findings:
        """Adds the gradients of one micro-batch to those of the phase's parameters."""
        if phase.name in self._refused:
            return add_gradients(phase, batch, nimg)
        moment = (self._moment_of(nimg), [(x.shape, x.dtype) for x in batch])
        known, repeated = self._phases.get(phase.name, (None, None))
        if known != moment:
            repeated = self._repeated(phase, nimg)
            self._phases[phase.name] = (moment, repeated)
        gradients, findings = repeated(*batch)
        _add(phase, gradients)
        return Findings(findings.stats, graphs.clones(findings.bad))

    def _repeated(self, phase: Phase, nimg: float) -> graphs.Repeated:
        def refused(problem: str) -> None:
            self._refused.add(phase.name)
            self._say(f"{phase.name} runs without a CUDA graph: {problem}")

        work = partial(_own_gradients, phase, nimg)
        return graphs.Repeated(work, self._record, PLAIN_FIRST, _difference, self._tracked, refused)


def _own_gradients(phase: Phase, nimg: float, *batch: Tensor) -> tuple[Gradients, Findings]:
    """The gradients of one micro-batch alone."""
    earlier = _take(phase)
    try:
        findings = add_gradients(phase, Batch(*batch), nimg)
        return _take(phase), findings
    finally:
        for p, gradient in zip(phase.params, earlier, strict=True):
            p.grad = gradient


def _take(phase: Phase) -> Gradients:
    gradients = [p.grad for p in phase.params]
    for p in phase.params:
        p.grad = None
    return gradients


def _add(phase: Phase, gradients: Gradients) -> None:
    """Adds to what is there; `gradients` themselves are left alone."""
    for p, gradient in zip(phase.params, gradients, strict=True):
        if gradient is not None:
            p.grad = gradient.clone() if p.grad is None else p.grad.add_(gradient)


def _difference(repeated: tuple[Gradients, Findings], plain: tuple[Gradients, Findings]) -> str:
    """What is wrong with repeated gradients. Those that are not finite prove nothing and are let
    pass."""
    found, exact = repeated[0], plain[0]
    if [g is None for g in found] != [g is None for g in exact]:
        return "its repetition has gradients of other parameters"
    there = [k for k, g in enumerate(exact) if g is not None]
    if not there:
        return ""
    share = graphs.share_off([found[k] for k in there], [exact[k] for k in there])
    return f"its repetition is {100 * share:.1f} % off" if share > TOLERANCE else ""
