"""Phases: who is trained by which terms, how often, and how one step is taken."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

import dnnlib
from torch_utils import training_stats
from training import schedules
from training.guard import StepCheck, bad_gradients
from training.loss import Batch, StyleGAN2Loss, Term

LossFunction = Callable[[Batch, float], Iterator[Term]]


@dataclass(frozen=True)
class Phase:
    """Terms `losses` train `module` every `interval` iterations, weighted by that interval."""

    name: str
    module: torch.nn.Module
    opt: torch.optim.Optimizer
    losses: tuple[LossFunction, ...]
    interval: float

    def trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The parameters that have any elements, with their names."""
        return [(name, p) for name, p in self.module.named_parameters() if p.numel() > 0]


def make_phases(
    loss: StyleGAN2Loss,
    G_opt_kwargs: dict,
    D_opt_kwargs: dict,
    G_reg_interval: float | None,
    D_reg_interval: float | None,
) -> list[Phase]:
    """The phases Gmain, Greg, Dmain, Dreg; without an interval one phase `both` in their place.

    The two phases of a network share one optimizer (lazy regularisation, StyleGAN2 appendix B).
    """
    table = [
        ("G", loss.G, G_opt_kwargs, (loss.generator, loss.density), G_reg_interval),
        ("D", loss.D, D_opt_kwargs, (loss.discriminator, loss.r1), D_reg_interval),
    ]
    phases = []
    for name, module, opt_kwargs, (main, regulariser), interval in table:
        settings = schedules.lazy_optimizer_kwargs(opt_kwargs, interval)
        params = [p for p in module.parameters() if p.numel() > 0]
        opt = dnnlib.util.construct_class_by_name(params, **settings)
        if interval is None:
            phases.append(Phase(f"{name}both", module, opt, (main, regulariser), 1))
        else:
            phases.append(Phase(f"{name}main", module, opt, (main,), 1))
            phases.append(Phase(f"{name}reg", module, opt, (regulariser,), interval))
    return phases


def run_phase(phase: Phase, batches: list[Batch], nimg: float) -> StepCheck:
    """Accumulates the gradients of all micro-batches and takes one optimizer step.

    Gradients add up over micro-batches; what a term reports goes to `training_stats`. Returns what
    was not finite; such gradients are replaced, see `clean_gradients`.
    """
    phase.opt.zero_grad(set_to_none=True)
    phase.module.requires_grad_(True)
    bad_losses: dict[str, torch.Tensor] = {}
    for batch in batches:
        for losses in phase.losses:
            for term in losses(batch, nimg):
                (term.loss.mean() * phase.interval).backward()
                for name, value in term.stats.items():
                    training_stats.report(name, value.detach())
                bad = ~term.loss.detach().isfinite().all()
                name = losses.__name__
                bad_losses[name] = bad | bad_losses[name] if name in bad_losses else bad
    phase.module.requires_grad_(False)
    bad = bad_gradients([p for _, p in phase.trained()])
    clean_gradients(phase.module)
    phase.opt.step()
    return StepCheck(bad_losses, bad)


def clean_gradients(module: torch.nn.Module) -> None:
    """Replaces NaN by 0 and infinities by +-1e5 in all gradients, as one flat vector."""
    params = [p for p in module.parameters() if p.grad is not None and p.numel() > 0]
    if not params:
        return
    flat = torch.cat([p.grad.flatten() for p in params])
    flat.nan_to_num_(nan=0.0, posinf=1e5, neginf=-1e5)
    for param, grad in zip(params, flat.split([p.numel() for p in params]), strict=True):
        param.grad = grad.view_as(param)


def make_ema(G: torch.nn.Module) -> torch.nn.Module:
    """A copy of G that will average its weights."""
    return copy.deepcopy(G).eval().requires_grad_(False)


@torch.no_grad()
def update_ema(G_ema: torch.nn.Module, G: torch.nn.Module, beta: float) -> None:
    """Moves the average towards G's parameters, `beta` of it staying; copies buffers."""
    torch._foreach_lerp_(list(G_ema.parameters()), list(G.parameters()), 1 - beta)
    for average, current in zip(G_ema.buffers(), G.buffers(), strict=True):
        average.copy_(current)
    G_ema.neural_rendering_resolution = G.neural_rendering_resolution
    G_ema.rendering_kwargs = dict(G.rendering_kwargs)
