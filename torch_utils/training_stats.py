"""Statistics of training, gathered on the devices and summed over processes when asked for.

Reporting a value adds its moments (count, sum, sum of squares, and the number of elements that are
not finite) to a counter that stays on the device of the value, so that it never waits for a GPU. A
`Collector` reads the counters.
"""

import math
import re
from typing import Any

import torch

from dnnlib.util import EasyDict

__all__ = [
    "Collector",
    "init_multiprocessing",
    "load_state_dict",
    "report",
    "report0",
    "state_dict",
    "synchronize",
]


class _Registry:
    """The counters of this process, and the sums over all processes up to the last sync."""

    def __init__(self) -> None:
        self.rank = 0
        self.sync_device: torch.device | None = None
        self.synced = False
        self.pending: dict[str, dict[torch.device, torch.Tensor]] = {}
        self.totals: dict[str, torch.Tensor] = {}

    def add(self, name: str, value: Any) -> None:
        """Adds the moments of a value's elements; none at all registers the name."""
        counters = self.pending.setdefault(name, {})
        elements = torch.as_tensor(value).detach().flatten().to(torch.float32)
        if elements.numel() == 0:
            return
        # What is not finite is counted, not added: it would spoil the sums of the whole run.
        finite = elements.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        bad = (finite != elements).to(torch.float32)
        sums = torch.stack([torch.ones_like(finite), finite, finite * finite, bad]).sum(1)
        counter = counters.get(elements.device)
        counters[elements.device] = sums.double() if counter is None else counter + sums

    def state_dict(self) -> dict:
        return dict(
            totals={name: total.clone() for name, total in self.totals.items()},
            pending={
                name: {str(device): counter.cpu() for device, counter in counters.items()}
                for name, counters in self.pending.items()
            },
        )

    def load_state_dict(self, state: dict) -> None:
        self.totals = dict(state["totals"])
        self.pending = {name: {} for name in state["pending"]}
        for name, counters in state["pending"].items():
            for device, counter in counters.items():
                place = torch.device(device if torch.cuda.is_available() else "cpu")
                self.pending[name][place] = counter.to(place)

    def sync(self, names: list[str]) -> dict[str, torch.Tensor]:
        """Moves what is pending for the names into the totals, which it returns.

        With several processes, the names are those that rank 0 asks for: it alone reports how a run
        proceeds.
        """
        self.synced = True
        device = self.sync_device or torch.device("cpu")
        if self.sync_device is not None:
            asked = [names]
            torch.distributed.broadcast_object_list(asked, src=0, device=device)
            names = asked[0]
            for name in names:
                self.pending.setdefault(name, {})
        sums = torch.zeros([len(names), 4], dtype=torch.float64, device=device)
        for row, name in zip(sums, names, strict=True):
            for counter in self.pending[name].values():
                row += counter.to(device)
            self.pending[name].clear()
        if self.sync_device is not None and names:
            torch.distributed.all_reduce(sums)
        for name, row in zip(names, sums.cpu(), strict=True):
            self.totals[name] = self.totals.get(name, torch.zeros_like(row)) + row
        return {name: self.totals[name] for name in names}


_registry = _Registry()


def synchronize() -> None:
    """Adds up over processes what each has reported so far; all must call it. Collectors see it at
    their next update. Of a single process it asks nothing."""
    if _registry.sync_device is not None:
        _registry.sync(sorted(_registry.pending))


def init_multiprocessing(rank: int, sync_device: torch.device | str | None) -> None:
    """Says which process this is, and the device for exchanging sums (None: a single process).

    Call it once, after the process group exists and before any `Collector` is made.
    """
    if _registry.synced:
        raise RuntimeError("init_multiprocessing must be called before statistics are collected")
    _registry.rank = rank
    _registry.sync_device = None if sync_device is None else torch.device(sync_device)


def report(name: str, value: Any) -> Any:
    """Adds every element of a tensor, array, list or number to a statistic; returns `value`.

    An empty value registers the name only. All processes must report the same names.
    """
    _registry.add(name, value)
    return value


def report0(name: str, value: Any) -> Any:
    """Like `report`, but counts only on rank 0; the other processes register the name."""
    _registry.add(name, value if _registry.rank == 0 else [])
    return value


def state_dict() -> dict:
    """All that was reported in this process, as plain containers and tensors."""
    return _registry.state_dict()


def load_state_dict(state: dict) -> None:
    """Replaces all that was reported in this process by what `state_dict` returned. Collectors
    have a state of their own, to be restored as well."""
    _registry.load_state_dict(state)


class Collector:
    """Count, mean and deviation of what was reported between the last two calls of `update`.

    Covers the names that `regex` matches as a whole. A statistic without new values keeps its last
    ones if `keep_previous`. Several collectors do not disturb each other. With several processes,
    all must make and update their collectors at the same points.
    """

    def __init__(self, regex: str = ".*", keep_previous: bool = True):
        self._regex = re.compile(regex)
        self._keep_previous = keep_previous
        self._last: dict[str, torch.Tensor] = {}
        self._moments: dict[str, torch.Tensor] = {}
        self.update()
        self._moments.clear()  # what was reported before this collector existed is not its own

    def names(self) -> list[str]:
        """The names reported so far that match, sorted."""
        return sorted(name for name in _registry.pending if self._regex.fullmatch(name))

    def update(self) -> None:
        """Takes in what was reported since the last call; one exchange between processes."""
        if not self._keep_previous:
            self._moments.clear()
        for name, total in _registry.sync(self.names()).items():
            delta = total - self._last.get(name, torch.zeros_like(total))
            self._last[name] = total
            if delta[0] > 0:
                self._moments[name] = delta

    def num(self, name: str) -> int:
        """How many elements were reported."""
        return int(self._get(name)[0])

    def mean(self, name: str) -> float:
        """The mean, NaN if nothing was reported, or something that is not finite."""
        count, total, _, bad = self._get(name)
        return total / count if count and not bad else math.nan

    def std(self, name: str) -> float:
        """The standard deviation of the population, NaN where the mean is."""
        count, total, squares, bad = self._get(name)
        if count == 0 or bad:
            return math.nan
        if count == 1:
            return 0.0
        variance = squares / count - (total / count) ** 2
        return math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan

    def as_dict(self) -> EasyDict:
        """All statistics as name -> {num, mean, std}."""
        return EasyDict(
            (name, EasyDict(num=self.num(name), mean=self.mean(name), std=self.std(name)))
            for name in self.names()
        )

    def __getitem__(self, name: str) -> float:
        return self.mean(name)

    def state_dict(self) -> dict:
        """The last values, and what was read up to the last call of `update`."""
        return dict(last=dict(self._last), moments=dict(self._moments))

    def load_state_dict(self, state: dict) -> None:
        """Goes on from what `state_dict` returned."""
        self._last, self._moments = dict(state["last"]), dict(state["moments"])

    def _get(self, name: str) -> list[float]:
        if not self._regex.fullmatch(name):
            raise KeyError(f"{name!r} is not collected: it does not match {self._regex.pattern!r}")
        moments = self._moments.get(name)
        return [0.0, 0.0, 0.0, 0.0] if moments is None else moments.tolist()
