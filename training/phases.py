"""Phases: who is trained by which terms, how often, and how one step is taken."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

import dnnlib
from torch_utils import training_stats
from training import schedules
from training.guard import StepCheck, gradient_norms
from training.loss import Batch, Term, Trainee
from training.world import ALONE, World

LossFunction = Callable[[Batch, float], Iterator[Term]]


@dataclass(frozen=True)
class Phase:
    """Terms `losses` train `module` every `interval` iterations, weighted by that interval."""

    name: str
    module: torch.nn.Module
    opt: torch.optim.Optimizer
    losses: tuple[LossFunction, ...]
    interval: float

    @property
    def network(self) -> str:
        """The name of what it trains: G of Gmain."""
        return self.name.removesuffix("main").removesuffix("reg").removesuffix("both")

    def trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The parameters that have any elements, with their names."""
        return [(name, p) for name, p in self.module.named_parameters() if p.numel() > 0]

    @cached_property
    def params(self) -> list[torch.nn.Parameter]:
        """The parameters of `trained`."""
        return [p for _, p in self.trained()]

    def requires_grad_(self, value: bool) -> None:
        """Switches gradients of the parameters on or off."""
        for param in self.params:
            param.requires_grad_(value)


def make_phases(
    trainees: Sequence[Trainee],
    optimizers: Mapping[str, dict],
    intervals: Mapping[str, float | None],
) -> list[Phase]:
    """The phases of what a loss trains: Gmain, Greg, Dmain, Dreg, ...; for a network without an
    interval one phase `both` in place of two.

    The two phases of a network share one optimizer (lazy regularisation, StyleGAN2 appendix B).

    Args:
        optimizers: class and arguments by the name of the network.
        intervals: iterations between the steps of its regulariser.
    """
    phases = []
    for name, module, main, regulariser in trainees:
        interval = intervals[name]
        settings = schedules.lazy_optimizer_kwargs(optimizers[name], interval)
        real = next(module.parameters()).device.type in ("cpu", "cuda")
        if settings["class_name"] == "torch.optim.Adam" and real:
            settings = dict(settings, fused=True)  # one operation for all parameters
        params = [p for p in module.parameters() if p.numel() > 0]
        opt = dnnlib.util.construct_class_by_name(params, **settings)
        if interval is None:
            phases.append(Phase(f"{name}both", module, opt, (main, regulariser), 1))
        else:
            phases.append(Phase(f"{name}main", module, opt, (main,), 1))
            phases.append(Phase(f"{name}reg", module, opt, (regulariser,), interval))
    return phases


class Findings(NamedTuple):
    """What a micro-batch gives besides gradients: values to report, and by the names of the loss
    functions whether something of theirs is not finite."""

    stats: list[tuple[str, torch.Tensor]]
    bad: dict[str, torch.Tensor]


GradientAdder = Callable[[Phase, Batch, float], Findings]


def add_gradients(phase: Phase, batch: Batch, nimg: float) -> Findings:
    """Adds the gradients of one micro-batch to those of the phase's parameters."""
    stats, bad = [], {}
    for losses in phase.losses:
        for term in losses(batch, nimg):
            (term.loss.mean() * phase.interval).backward()
            stats += [(name, value.detach()) for name, value in term.stats.items()]
            flag, name = ~term.loss.detach().isfinite().all(), losses.__name__
            bad[name] = flag | bad[name] if name in bad else flag
    return Findings(stats, bad)


def run_phase(
    phase: Phase,
    batches: Iterable[Batch],
    nimg: float,
    world: World = ALONE,
    tracked: Sequence[torch.Tensor] = (),
    add: GradientAdder = add_gradients,
) -> StepCheck:
    """Takes one optimizer step by the mean gradient of all micro-batches of all processes.

    Returns what was not finite; such gradients are replaced: NaN by 0, infinities by +-1e5. What a
    term reports goes to `training_stats`.

    Args:
        batches: this process's micro-batches, as many in every process.
        tracked: tensors that a micro-batch moves, such as the tracked mean of w; they move by the
            mean of what each micro-batch alone would do, so that it does not matter who sees which.
        add: `add_gradients`, or what does the same quicker, see `training.phase_graphs`.
    """
    phase.opt.zero_grad(set_to_none=True)
    phase.requires_grad_(True)
    before = [tensor.clone() for tensor in tracked]
    moved = [torch.zeros_like(tensor) for tensor in tracked]
    bad_losses: dict[str, torch.Tensor] = {}
    count = 0
    for batch in batches:
        stats, bad = add(phase, batch, nimg)
        for name, value in stats:
            training_stats.report(name, value)
        for name, flag in bad.items():
            bad_losses[name] = flag | bad_losses[name] if name in bad_losses else flag
        for tensor, start, sum_ in zip(tracked, before, moved, strict=True):
            sum_ += tensor - start
            tensor.copy_(start)
        count += 1
    phase.requires_grad_(False)

    # One exchange for everything: gradients, what was tracked, and what was not finite.
    params = [p for p in phase.params if p.grad is not None]
    flags = [flag.to(torch.float32) for flag in bad_losses.values()]
    mean = _mean([p.grad for p in params], [*moved, *flags], world, count * world.size)
    for param, grad in zip(params, mean.gradients, strict=True):
        param.grad = grad
    shifts, flags = mean.rest[: len(tracked)], mean.rest[len(tracked) :]
    for tensor, shift in zip(tracked, shifts, strict=True):
        tensor += shift
    norms = gradient_norms(phase.params)
    training_stats.report(f"Gradients/norm/{phase.name}", norms.norm())
    bad = ~norms.isfinite()
    if bad.device.type != "cpu" or bad.any():  # A GPU would have to be waited for.
        for block in mean.blocks:
            block.nan_to_num_(nan=0.0, posinf=1e5, neginf=-1e5)
    phase.opt.step()
    return StepCheck(dict(zip(bad_losses, [flag > 0 for flag in flags], strict=True)), bad)


class _Mean(NamedTuple):
    gradients: list[torch.Tensor]
    rest: list[torch.Tensor]
    blocks: list[torch.Tensor]  # of memory that the gradients lie in


def _mean(
    gradients: list[torch.Tensor], rest: list[torch.Tensor], world: World, count: int
) -> _Mean:
    """The sums over all processes, divided by `count`."""
    tensors = [*gradients, *rest]
    if not tensors or (count == 1 and tensors[0].device.type == "cpu"):
        return _Mean(gradients, rest, gradients)  # On a CPU the copy costs more than it saves.
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    world.add_up(flat)
    flat /= count
    sizes = [tensor.numel() for tensor in tensors]
    views = [v.view_as(t) for v, t in zip(flat.split(sizes), tensors, strict=True)]
    end = sum(sizes[: len(gradients)])
    return _Mean(views[: len(gradients)], views[len(gradients) :], [flat[:end]])


def make_ema(G: torch.nn.Module) -> torch.nn.Module:
    """A copy of G that will average its weights."""
    return copy.deepcopy(G).eval().requires_grad_(False)


@torch.no_grad()
def update_ema(G_ema: torch.nn.Module, G: torch.nn.Module, beta: float) -> None:
    """Moves the average towards G's parameters, `beta` of it staying; copies buffers."""
    torch._foreach_lerp_(list(G_ema.parameters()), list(G.parameters()), 1 - beta)
    torch._foreach_copy_(list(G_ema.buffers()), list(G.buffers()))
    G_ema.neural_rendering_resolution = G.neural_rendering_resolution
    G_ema.rendering_kwargs = dict(G.rendering_kwargs)
