"""Watches for NaN and infinity without waiting for the device within an iteration."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from torch_utils import misc, training_stats

SHOWN = 4


class NonFiniteError(ArithmeticError):
    """Numbers of training that are not finite; the message names what and where."""


class StepCheck(NamedTuple):
    """What was not finite in one step, as booleans on the device that computed it."""

    losses: dict[str, Tensor]  # [] by the name of the loss function
    gradients: Tensor  # [P], one a parameter


def not_finite(tensors: list[Tensor]) -> Tensor:
    """Which of some float tensors hold a NaN or an infinity: [len(tensors)] booleans."""
    # x * 0 is 0 or NaN, and never overflows. The maximum norm takes 7 times as long on a CPU.
    return torch.stack(torch._foreach_norm(torch._foreach_mul(tensors, 0.0))).isnan()


def gradient_norms(params: list[Tensor]) -> Tensor:
    """The length of each parameter's gradient, 0 without one: float32 [len(params)].

    Not finite where an element is not, and from elements of 1e19 on, whose squares are too large.
    """
    having = [i for i, p in enumerate(params) if p.grad is not None]
    norms = torch.zeros(len(params), device=params[0].device)
    if having:
        index = misc.constant(having, dtype=torch.int64, device=norms.device)
        found = torch.stack(torch._foreach_norm([params[i].grad for i in having]))
        norms = norms.index_copy(0, index, found.to(torch.float32))
    return norms


def require_finite(networks: Mapping[str, torch.nn.Module]) -> None:
    """Raises NonFiniteError naming the tensors of the networks that are not finite, if any."""
    for name, network in networks.items():
        named = [
            (key, tensor)
            for key, tensor in misc.named_params_and_buffers(network)
            if tensor.is_floating_point() and tensor.numel() > 0
        ]
        flags = not_finite([tensor for _, tensor in named]).tolist()
        bad = [key for (key, _), flag in zip(named, flags, strict=True) if flag]
        if bad:
            raise NonFiniteError(f"weights of {name} are not finite: {_listed(bad)}")


class Guard:
    """Counts, phase by phase, the steps of a tick that were not finite.

    Args:
        names: by phase, the names of the parameters that its steps train.
        limit: bad steps in a tick; more end the run.
    """

    def __init__(self, names: Mapping[str, list[str]], limit: int):
        self.names = dict(names)
        self.limit = limit
        self.counts: dict[str, dict[str, Tensor]] = {}

    def add(self, phase: str, check: StepCheck) -> None:
        """Counts one step; reads nothing from the device."""
        bad = torch.stack([*check.losses.values(), check.gradients.any()]).any()
        flags = {f"loss {name}": flag for name, flag in check.losses.items()}
        flags |= {"gradients": check.gradients, "steps": bad}
        counts = self.counts.setdefault(phase, {})
        for name, flag in flags.items():
            if name in counts:  # Perhaps restored, then still on the CPU.
                counts[name] = counts[name].to(flag.device, non_blocking=True) + flag
            else:
                counts[name] = flag.to(torch.int64)

    def report(self) -> list[str]:
        """A line for each phase with bad steps since the last call; then counting begins anew.

        Reports their number as `Progress/nonfinite_steps`. Raises NonFiniteError when the limit is
        exceeded.
        """
        lines, total = [], 0
        for phase, counts in self.counts.items():
            numbers = {name: count.tolist() for name, count in counts.items()}
            if numbers["steps"]:
                total += numbers["steps"]
                lines.append(self._line(phase, numbers))
        self.counts.clear()
        training_stats.report0("Progress/nonfinite_steps", total)
        if total > self.limit:
            raise NonFiniteError(
                f"{total} steps of a tick were not finite, --nan-limit={self.limit}: "
                + "; ".join(lines)
            )
        return lines

    def state_dict(self) -> dict:
        """The counts so far."""
        return {
            phase: {name: count.cpu() for name, count in counts.items()}
            for phase, counts in self.counts.items()
        }

    def load_state_dict(self, state: dict) -> None:
        """Goes on from counts that `state_dict` returned."""
        self.counts = {phase: dict(counts) for phase, counts in state.items()}

    def _line(self, phase: str, numbers: dict) -> str:
        what = [
            f"{name} in {count}"
            for name, count in numbers.items()
            if name.startswith("loss ") and count
        ]
        bad = [n for n, c in zip(self.names[phase], numbers["gradients"], strict=True) if c]
        if bad:
            what.append(f"gradients of {_listed(bad)} in up to {max(numbers['gradients'])}")
        return f"{phase}: {numbers['steps']} steps were not finite ({', '.join(what)})"


def _listed(names: list[str]) -> str:
    rest = len(names) - SHOWN
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {rest} more" if rest > 0 else shown
