"""Types of options of the commands: a text becomes a value, or an error in one line."""

import math
import re
from typing import Any

import click
import torch

from eg3d import latents
from eg3d.errors import InputError
from eg3d.generate import PANELS, Mix

_SEED = re.compile(r"(\d+)(?:-(\d+))?")
_GRID = re.compile(r"(\d+)[x,](\d+)")
_MOST_SEEDS = 1_000_000


class SeedList(click.ParamType):
    """`0-3,7` as [0, 1, 2, 3, 7]: numbers and inclusive ranges, in the order given."""

    name = "seeds"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:
        """The seeds, or click's one-line error."""
        if isinstance(value, list):
            return value
        seeds = []
        for part in value.split(","):
            match = _SEED.fullmatch(part.strip())
            if match is None:
                self.fail(f"{part!r} is neither a number nor a range such as 0-7", param, ctx)
            first, last = int(match[1]), int(match[2] or match[1])
            if first > last:
                self.fail(f"range {part!r} runs backwards; write {last}-{first}", param, ctx)
            if last > latents.MOST_SEED:
                self.fail(
                    f"seed {last} is too large, the largest is {latents.MOST_SEED}", param, ctx
                )
            if len(seeds) + last - first >= _MOST_SEEDS:
                self.fail(f"more than {_MOST_SEEDS} seeds", param, ctx)
            seeds += range(first, last + 1)
        return seeds


class Layers(click.ParamType):
    """`7:8-13` as a Mix: layers 8 to 13 of seed 7; with `many`, also of several seeds."""

    name = "mix"

    def __init__(self, many: bool):
        self.many = many

    def convert(self, value: Any, param: Any, ctx: Any) -> Mix:
        """The seeds and layers, or click's one-line error."""
        if isinstance(value, Mix):
            return value
        parts = value.split(":")
        if len(parts) != 2:
            self.fail(f"{value!r} must be a seed and layers, such as 7:8-13", param, ctx)
        seeds, layers = (SeedList().convert(part, param, ctx) for part in parts)
        if len(seeds) > 1 and not self.many:
            self.fail(f"{value!r} must name one seed, such as 7:8-13", param, ctx)
        return Mix(tuple(seeds), tuple(layers))


class Latents(click.ParamType):
    """The latents of an .npz file."""

    name = "npz"

    def convert(self, value: Any, param: Any, ctx: Any) -> torch.Tensor:
        """ws [N, L, w_dim], or click's one-line error."""
        if isinstance(value, torch.Tensor):
            return value
        try:
            return latents.read_ws(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


class Panels(click.ParamType):
    """`image,depth` as ('image', 'depth')."""

    name = "panels"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """The names, or click's one-line error."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in value.split(","))
        for name in names:
            if name not in PANELS or names.count(name) > 1:
                self.fail(f"{value!r} must be some of {', '.join(PANELS)}", param, ctx)
        return names


class GridSize(click.ParamType):
    """`4x2` or `4,2` as (4, 2): columns, rows."""

    name = "WxH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Columns and rows, or click's one-line error."""
        if isinstance(value, tuple):
            return value
        match = _GRID.fullmatch(value.strip())
        if match is None or not int(match[1]) or not int(match[2]):
            self.fail(f"{value!r} must be columns x rows, such as 4x2", param, ctx)
        return int(match[1]), int(match[2])


class FiniteFloat(click.ParamType):
    """A number that is not nan or infinite; above a limit if one is given."""

    name = "float"

    def __init__(self, above: float = -math.inf):
        self.above = above

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """The number, or click's one-line error."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number <= self.above:
            limit = "" if self.above == -math.inf else f" above {self.above:g}"
            self.fail(f"{value!r} must be a finite number{limit}", param, ctx)
        return number
