"""Rows of the protocol's table: a figure with its quartiles and all that it depends on, or the
reason why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.common import quartiles


@dataclass(frozen=True)
class Row:
    """One figure. `flop` and `bytes` are of one call, `seconds` the median that it took, where the
    figure is made of a time; `plain` is the same figure by the plain operators; `floor` is what the
    device's arithmetic or memory allows at best and `target` what is to be reached, in `unit`."""

    benchmark: str
    part: str
    implementation: str
    device: str
    precision: str
    batch: int | None = None
    unit: str = ""
    figures: Sequence[float] = ()
    seconds: float | None = None
    flop: float | None = None
    bytes: float | None = None
    floor: float | None = None
    target: float | None = None
    plain: float | None = None
    note: str = ""

    @property
    def spread(self) -> dict[str, float | None]:
        """Lower quartile, median and upper quartile; all None where there is no figure."""
        names = ("lower", "median", "upper")
        if len(self.figures) < 2:
            return dict.fromkeys(names, self.figures[0] if self.figures else None)
        found = quartiles(list(self.figures))
        return {name: found[name] for name in names}

    @property
    def median(self) -> float | None:
        """The figure."""
        return self.spread["median"]

    def cells(self) -> dict[str, object]:
        """The row as the table and the JSON file have it: the same columns for all rows."""
        rates = [
            amount / self.seconds / unit if amount and self.seconds else None
            for amount, unit in ((self.flop, 1e12), (self.bytes, 1e9))
        ]
        return {
            **{name: getattr(self, name) for name in ("benchmark", "part", "implementation")},
            **{name: getattr(self, name) for name in ("device", "precision", "batch")},
            "median": self.median,
            "unit": self.unit,
            "lower": self.spread["lower"],
            "upper": self.spread["upper"],
            "repeats": len(self.figures),
            "TFLOP/s": rates[0],
            "GB/s": rates[1],
            "floor": self.floor,
            "target": self.target,
            "plain": self.plain,
            "note": self.note,
        }

    def line(self) -> str:
        """The row as it is printed when it comes."""
        where = ", ".join(
            [self.part, self.implementation, self.precision]
            + ([] if self.batch is None else [f"batch {self.batch}"])
        )
        if self.median is None:
            return f"{self.benchmark} {where}: {self.note}"
        lower, median, upper = (_short(x) for x in self.spread.values())
        note = f"; {self.note}" if self.note else ""
        return f"{self.benchmark} {where}: {median} {self.unit} ({lower} to {upper}){note}"


def _short(x: float) -> str:
    return f"{x:.4g}" if abs(x) < 1e4 else f"{x:.0f}"
