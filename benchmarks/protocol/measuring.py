"""A run of the protocol: takes figures one after the other and goes on where one fails."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.protocol import clock
from benchmarks.protocol.clock import Effort, Work
from benchmarks.protocol.inputs import Inputs
from benchmarks.protocol.rows import Row
from benchmarks.protocol.ways import GRAPH, KERNELS, PLAIN, Way

_LONGEST = 200  # characters of an error in a row


@dataclass(frozen=True)
class Case:
    """A figure to take.

    Args:
        part: what is measured.
        prepare: makes the work; what it takes does not count, what it raises is the row's.
        figure: of the seconds of a call; None: calls return their figure.
        count: count arithmetic and traffic, too.
        flop: arithmetic of a call, where it is known.
        effort: in place of the device's usual one.
    """

    part: str
    way: Way
    prepare: Callable[[], Work]
    batch: int | None = None
    unit: str = "ms"
    figure: Callable[[float], float] | None = lambda seconds: 1e3 * seconds
    count: bool = False
    flop: float | None = None
    floor: float | None = None
    target: float | None = None
    effort: Effort | None = None
    note: str = ""


class Protocol:
    """The rows of a run so far, and how the next one is taken.

    Args:
        quick: tiny networks, everything once: whether it runs at all.
        inputs: what data is used.
        say: is told each row as it comes.
        deadline: no row is begun after this moment of `time.monotonic`.
        rows: shared by the runs of one table.
    """

    def __init__(
        self,
        device: torch.device,
        quick: bool,
        inputs: Inputs,
        say: Callable[[str], None],
        deadline: float = math.inf,
        rows: list[Row] | None = None,
    ):
        self.device = device
        self.quick = quick
        self.inputs = inputs
        self.benchmark = ""
        self.rows = [] if rows is None else rows
        self._say = say
        self._deadline = deadline

    @property
    def on_gpu(self) -> bool:
        """Whether sizes are those of a GPU."""
        return self.has_gpu and not self.quick

    @property
    def has_gpu(self) -> bool:
        """Whether the device is one."""
        return self.device.type == "cuda"

    @property
    def full(self) -> bool:
        """Whether networks have their full size."""
        return not self.quick

    @property
    def effort(self) -> Effort:
        """How often figures are taken."""
        if self.quick:
            return replace(clock.ONCE, warmups=clock.GPU.warmups if self.has_gpu else 0)
        return clock.GPU if self.on_gpu else clock.CPU

    def on(self, device: torch.device) -> "Protocol":
        """The same table, filled by another device for the same benchmark."""
        other = Protocol(device, self.quick, self.inputs, self._say, self._deadline, self.rows)
        other.benchmark = self.benchmark
        return other

    def able(self, *ways: Way) -> list[Way]:
        """The ways that the device has; rows say why not of the others."""
        reasons = {way: way.why_not(self.device) for way in ways}
        alike: dict[tuple[str, str], list[str]] = {}
        for way, reason in reasons.items():
            if reason:
                alike.setdefault((way.implementation, reason), []).append(way.precision)
        for (implementation, reason), precisions in alike.items():
            self.leave_out("all", reason, implementation, ", ".join(precisions))
        return [way for way, reason in reasons.items() if not reason]

    def leave_out(
        self, part: str, reason: str, implementation: str = "all", precision: str = "all"
    ) -> Row:
        """A row with a reason in place of a figure."""
        names = (self.benchmark, part, implementation, self.device.type, precision)
        return self.add(Row(*names, note=reason))

    def measure(self, case: Case) -> Row:
        """The row of a figure, or of what went wrong with it."""
        row = self._row(case)
        if time.monotonic() > self._deadline:
            return self.add(replace(row, note="left out: the time is up"))
        try:
            row = self._taken(row, case)
        except Exception as error:  # memory, compilers and drivers fail in ways of their own
            row = replace(row, note=in_one_line(error))
        self._tidy_up()
        return self.add(replace(row, plain=self._plain(row)))

    def record(
        self, part: str, way: Way, batch: int | None, unit: str, figures: Sequence[float]
    ) -> Row:
        """The row of figures that are there."""
        row = self._row(Case(part, way, Work, batch, unit))
        row = replace(row, figures=figures)
        return self.add(replace(row, plain=self._plain(row)))

    def add(self, row: Row) -> Row:
        """Puts a row into the table."""
        self.rows.append(row)
        self._say(row.line())
        return row

    def _row(self, case: Case) -> Row:
        return Row(
            self.benchmark,
            case.part,
            case.way.implementation,
            self.device.type,
            case.way.precision,
            case.batch,
            case.unit,
            floor=case.floor,
            target=case.target,
            flop=case.flop,
            note=case.note,
        )

    def _taken(self, row: Row, case: Case) -> Row:
        effort = self.effort if self.quick else case.effort or self.effort
        with case.way.active():
            work = case.prepare()
            if case.figure is None:
                return replace(row, figures=clock.read(work, effort, self.device))
            seconds = clock.timed(work, effort, self.device)
        if case.count:
            flop, traffic = clock.counted(work, case.way)
            row = replace(row, flop=flop, bytes=traffic)
        figures = [case.figure(s) for s in seconds]
        return replace(row, figures=figures, seconds=statistics.median(seconds))

    def _plain(self, row: Row) -> float | None:
        """The same figure by the plain operators, for rows of kernels."""
        if row.implementation not in (KERNELS, GRAPH):
            return None
        same = ("benchmark", "part", "device", "batch", "unit")
        for precision in (row.precision, "half", "float32"):  # what there is, the nearest first
            for other in self.rows:
                alike = all(getattr(other, name) == getattr(row, name) for name in same)
                if alike and (other.implementation, other.precision) == (PLAIN, precision):
                    return other.median
        return None

    def _tidy_up(self) -> None:
        """Gives back what the last figure held, also after an error."""
        if self.has_gpu:
            gc.collect()
            torch.cuda.empty_cache()


def in_one_line(error: Exception) -> str:
    """What an exception says, shortened."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
