"""Phases of training as CUDA graphs: the thousands of launches of a micro-batch become one."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from torch_utils import graphs
from training.loss import Batch
from training.phases import Findings, Phase, add_gradients

# Micro-batches of a phase that are computed plainly before it is recorded: kernels are compiled and
# chosen in them, constants are made, and schedules may turn out to be moving.
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
        self._known: dict[str, _Known] = {}

    def add_gradients(self, phase: Phase, batch: Batch, nimg: float) -> Findings:
        """Adds the gradients of one micro-batch to those of the phase's parameters."""
        moment = (self._moment_of(nimg), [(x.shape, x.dtype) for x in batch])
        known = self._known.setdefault(phase.name, _Known(moment))
        if known.moment != moment:
            known.moment, known.calls, known.recorded = moment, 0, None
        known.calls += 1
        if known.refused or known.calls <= PLAIN_FIRST:
            return add_gradients(phase, batch, nimg)
        if known.recorded is None:
            gradients, findings = self._record_phase(known, phase, batch, nimg)
        else:
            gradients, findings = known.recorded(*batch)
        _add(phase, gradients)
        return Findings(findings.stats, graphs.clones(findings.bad))

    def _record_phase(
        self, known: "_Known", phase: Phase, batch: Batch, nimg: float
    ) -> tuple[Gradients, Findings]:
        """Records a phase if the recording does what the plain way does, whose results it
        returns."""
        devices = [batch.gen_z.device] if batch.gen_z.is_cuda else []
        with torch.random.fork_rng(devices):
            plain, findings = _own_gradients(phase, nimg, *batch)
        moved = graphs.clones(list(self._tracked))
        try:
            work = partial(_own_gradients, phase, nimg)
            known.recorded = graphs.Recorded(work, batch, self._record)
            problem = _difference(known.recorded(*batch)[0], plain)
        except RuntimeError as error:  # what PyTorch raises where something cannot be recorded
            problem = str(error).strip().partition("\n")[0]
        for tensor, value in zip(self._tracked, moved, strict=True):
            tensor.copy_(value)
        if problem:
            known.recorded, known.refused = None, True
            self._say(f"{phase.name} runs without a CUDA graph: {problem}")
        return plain, findings


@dataclass
class _Known:
    """What is known of a phase since its schedules moved last, and whether it can be recorded."""

    moment: object
    calls: int = 0
    recorded: graphs.Recorded | None = None
    refused: bool = False


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


def _difference(repeated: Gradients, plain: Gradients) -> str:
    """What is wrong with repeated gradients; nothing: ''. Gradients that are not finite prove
    nothing and are let pass."""
    if [g is None for g in repeated] != [g is None for g in plain]:
        return "its repetition has gradients of other parameters"
    pairs = [(r, p) for r, p in zip(repeated, plain, strict=True) if p is not None]
    if not pairs:
        return ""
    error = torch.stack([(r - p).norm() for r, p in pairs]).norm()
    share = (error / torch.stack([p.norm() for _, p in pairs]).norm()).item()
    return f"its repetition is {100 * share:.1f} % off" if share > TOLERANCE else ""
