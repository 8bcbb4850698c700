"""What the generating commands share: option types, options, errors in one line."""

import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dnnlib.util import EasyDict, set_offline
from eg3d.errors import InputError
from eg3d.generate import MODES, Style
from eg3d.model import Model, load
from training.network_files import NetworkFileError

_SEED = re.compile(r"(\d+)(?:-(\d+))?")
_GRID = re.compile(r"(\d+)[x,](\d+)")
_MOST_SEEDS = 1_000_000

# Dashes and underscores are the same in option names and choices: published names have both.
CONTEXT = {"token_normalize_func": lambda token: token.replace("_", "-"), "max_content_width": 100}


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
            if last >= 2**32:
                self.fail(f"seed {last} is too large, the largest is {2**32 - 1}", param, ctx)
            if len(seeds) + last - first >= _MOST_SEEDS:
                self.fail(f"more than {_MOST_SEEDS} seeds", param, ctx)
            seeds += range(first, last + 1)
        return seeds


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


def refused(name: str, reason: str, **settings: Any) -> Callable:
    """An option that published commands have and this one does not: an error if it asks for more
    than false."""

    def check(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            raise click.UsageError(f"{name}: {reason}", ctx)

    return click.option(
        name, hidden=True, expose_value=False, default=None, callback=check, **settings
    )


def _note_reload(ctx: click.Context, param: click.Parameter, value: bool | None) -> None:
    if value:
        click.echo("--reload-modules: not needed, networks always run the installed code", err=True)


_SHARED = [
    click.option(
        "--network",
        required=True,
        metavar="PATH|URL",
        help="Snapshot (.pkl, .safetensors) or run directory; its G_ema is used.",
    ),
    click.option(
        "--trust",
        is_flag=True,
        help="Unpickle the file, for classes of your own; it may run any code.",
    ),
    click.option(
        "--offline", is_flag=True, help="Download nothing; use what was downloaded before."
    ),
    click.option("--seeds", type=SeedList(), required=True, help="Such as 0-7,12."),
    click.option("--outdir", type=click.Path(path_type=Path), required=True, metavar="DIR"),
    click.option(
        "--trunc",
        type=FiniteFloat(),
        default=1.0,
        show_default=True,
        help="Truncation psi: below 1 more typical, less varied.",
    ),
    click.option(
        "--trunc-cutoff",
        type=click.IntRange(min=0),
        help="Truncate only the first N layers (published models have 14).  [default: all]",
    ),
    click.option(
        "--fov-deg",
        type=FiniteFloat(above=0),
        help="Diagonal field of view.  [default: the model's own, else 18.837]",
    ),
    click.option(
        "--image-mode",
        type=click.Choice(MODES),
        default="image",
        show_default=True,
        help="Final picture, before super-resolution, or depth (near is white).",
    ),
    click.option(
        "--nrr",
        type=click.IntRange(min=1),
        help="Side of the volume rendering.  [default: the model's own]",
    ),
    click.option(
        "--up",
        type=click.Choice(["y", "z"]),
        help="Axis of the model's world that points up.  [default: y]",
    ),
    click.option("--device", help="Such as cpu or cuda:1.  [default: a GPU if there is one]"),
    click.option(
        "--reload-modules",
        type=bool,
        hidden=True,
        expose_value=False,
        default=None,
        callback=_note_reload,
    ),
    refused("--shapes", "exporting shapes is not built yet; leave it out", type=bool),
]


def shared_options(default_samples: float) -> Callable:
    """Decorator with the options of all generating commands; those differ in the samples."""
    samples = click.option(
        "--sample-mult",
        type=FiniteFloat(above=0),
        default=default_samples,
        show_default=True,
        help="Samples along a ray, as a multiple of the model's.",
    )

    def decorate(function: Callable) -> Callable:
        for option in reversed([*_SHARED, samples]):
            function = option(function)
        return function

    return decorate


def one_line_errors(function: Callable) -> Callable:
    """Decorator: errors about input and files end the command with status 1 and one line."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (InputError, NetworkFileError, OSError) as error:
            raise click.ClickException(str(error)) from error

    return guarded


def open_model(options: EasyDict) -> tuple[Model, Style]:
    """The model and the style that the shared options ask for, checked against each other."""
    if options.offline:
        set_offline(True)
    model = load(options.network, device=options.device, trust=options.trust)
    if options.fov_deg is not None:
        model = model.with_fov(options.fov_deg)
    cutoff = options.trunc_cutoff
    if cutoff is not None and cutoff > model.num_ws:
        click.echo(
            f"--trunc-cutoff={cutoff}: the model has {model.num_ws} layers, all are truncated",
            err=True,
        )
    style = Style(options.image_mode, options.trunc, cutoff, options.nrr, options.sample_mult)
    style.check(model)
    return model, style
