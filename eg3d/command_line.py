"""What the generating commands share: options, the model they ask for, errors in one line."""

import functools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import torch

from dnnlib.util import EasyDict, set_offline
from eg3d.errors import InputError
from eg3d.generate import JITTERS, MODES, NOISE_MODES, Style
from eg3d.model import Model, load
from eg3d.option_types import FiniteFloat, GridSize, Latents, Layers, Panels, SeedList
from torch_utils.ops import choice
from torch_utils.ops.conv2d_gradfix import bfloat16_convolutions, has_bfloat16
from training.network_files import NetworkFileError

__all__ = [
    "CONTEXT",
    "FiniteFloat",
    "GridSize",
    "bf16_option",
    "choice_options",
    "Panels",
    "one_line_errors",
    "open_model",
    "ops_option",
    "shared_options",
    "showing",
    "side_by_side",
    "without_effect",
]

# Dashes and underscores are the same in option names and choices: published names have both.
CONTEXT = {"token_normalize_func": lambda token: token.replace("_", "-"), "max_content_width": 100}


_SEEDS_SAID = 8  # whose classes a line names


def without_effect(name: str, reason: str, **settings: Any) -> Callable:
    """An option that published commands have and that does nothing here: a line says so."""

    def note(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            click.echo(f"{name}: {reason}", err=True)

    return click.option(
        name, hidden=True, expose_value=False, default=None, callback=note, **settings
    )


def _choose_ops(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    problem = choice.why_not_triton() if value == "triton" else None
    if problem:
        raise click.BadParameter(f"{problem}; auto uses what there is", ctx, param)
    choice.set_ops(value)


ops_option = click.option(
    "--ops",
    type=click.Choice(choice.CHOICES),
    envvar="EG3D_OPS",
    show_envvar=True,
    expose_value=False,
    callback=_choose_ops,
    help="Operators: kernels of Triton on a GPU, or plain PyTorch.  [default: auto]",
)


def _round_convolutions(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not has_bfloat16():
        raise click.BadParameter("this CPU has no bfloat16 arithmetic", ctx, param)
    ctx.with_resource(bfloat16_convolutions(value))


bf16_option = click.option(
    "--bf16",
    is_flag=True,
    expose_value=False,
    callback=_round_convolutions,
    help="Convolutions in bfloat16 on a CPU that has it: faster, colours off by about 1 in 255.",
)

_BOTH = "both"  # branches side by side, where a command can show that


def _choices(both: bool = False) -> list[Callable]:
    branch = click.option(
        "--branch",
        type=click.Choice(["2d", "3d", "detail", *[_BOTH] * both]),
        help="Which branch of a model with two"
        + ", or 2d beside 3d" * both
        + ".  [default: the model's, 2d]",
    )
    layers = click.option(
        "--layers",
        type=click.Choice(["all", "foreground", "background"]),
        help="Of a model with a background.  [default: the model's, all]",
    )
    return [branch, layers]


def choice_options(function: Callable) -> Callable:
    """Decorator: the options that say what a model shows that leaves a choice."""
    for option in reversed(_choices()):
        function = option(function)
    return function


def showing(model: Model, options: Mapping[str, Any]) -> Model:
    """The model that shows what the options of `choice_options` ask for, but for both branches:
    see `side_by_side`. Raises InputError."""
    asked = {name: options[name] for name in ("branch", "layers")}
    return model.showing(**{k: None if v == _BOTH else v for k, v in asked.items()})


def side_by_side(model: Model, options: Mapping[str, Any]) -> list[Model]:
    """The model, or with --branch=both as what shows its 2D and what shows its 3D branch. Raises
    InputError where it has no branches."""
    if options["branch"] != _BOTH:
        return [model]
    if "branch" not in model.choices:
        raise InputError(f"--branch={_BOTH}: this model leaves no choice of branch; leave it out")
    return [model.showing(branch=branch) for branch in ("2d", "3d")]


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
    click.option("--seeds", type=SeedList(), help="Such as 0-7,12."),
    click.option(
        "--projected-w",
        type=Latents(),
        metavar="NPZ",
        help="Latents w [N, L, w_dim] of a file instead of seeds, as projections write them.",
    ),
    click.option(
        "--class",
        "class_index",
        type=click.IntRange(min=0),
        metavar="N",
        help="Class of all seeds, of a model with classes.  [default: one drawn from each seed]",
    ),
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
        "--noise-mode",
        type=click.Choice(NOISE_MODES),
        default="const",
        show_default=True,
        help="Noise of the backbone: always the same, none, or another for each scene.",
    ),
    click.option(
        "--jitter",
        type=click.Choice(JITTERS),
        default="fixed",
        show_default=True,
        help="Samples in the middle of their intervals, or anywhere in them: grainy, flickers.",
    ),
    click.option(
        "--fov-deg",
        type=FiniteFloat(above=0),
        help="Diagonal field of view.  [default: the model's own, else 18.837]",
    ),
    click.option(
        "--hfov-deg", type=FiniteFloat(above=0), help="Field of view from left to right instead."
    ),
    click.option(
        "--image-mode",
        type=click.Choice(MODES),
        default="image",
        show_default=True,
        help="Final picture, before super-resolution, depth (near is white), or normals.",
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
    ops_option,
    bf16_option,
    without_effect(
        "--reload-modules",
        "not needed, networks always run the installed code",
        type=bool,
    ),
]


def shared_options(
    default_samples: float, many_mixed: bool = False, both_branches: bool = False
) -> Callable:
    """Decorator with the options of all generating commands.

    These differ in the samples, in whether --mix takes several seeds, and in whether --branch takes
    both. `seeds` are the numbers of the latents where these come from a file.
    """
    samples = click.option(
        "--sample-mult",
        type=FiniteFloat(above=0),
        default=default_samples,
        show_default=True,
        help="Samples along a ray, as a multiple of the model's.",
    )
    mix = click.option(
        "--mix",
        type=Layers(many_mixed),
        metavar="SEEDS:LAYERS" if many_mixed else "SEED:LAYERS",
        help="Style mixing: these layers come from another seed, such as 7:8-13."
        + " Of several each is mixed with each of --seeds." * many_mixed,
    )

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def with_seeds(**options: Any) -> Any:
            _check_shared(options)
            if options["projected_w"] is not None:
                options["seeds"] = list(range(len(options["projected_w"])))
            return function(**options)

        for option in reversed([*_SHARED, *_choices(both_branches), mix, samples]):
            with_seeds = option(with_seeds)
        return with_seeds

    return decorate


def _check_shared(options: dict[str, Any]) -> None:
    """Options that would have no effect are errors."""
    from_file = options["projected_w"] is not None
    truncates = options["trunc"] != 1 or options["trunc_cutoff"] is not None
    wrong = [
        (options["seeds"] is None and not from_file, "give --seeds or --projected-w"),
        (
            options["seeds"] is not None and from_file,
            "--seeds and --projected-w: leave one of them out",
        ),
        (
            from_file and truncates and options["mix"] is None,
            "--trunc has no effect on --projected-w; leave it out",
        ),
        (
            from_file and options["class_index"] is not None and options["mix"] is None,
            "--class has no effect on --projected-w; leave it out",
        ),
        (
            options["fov_deg"] is not None and options["hfov_deg"] is not None,
            "--fov-deg and --hfov-deg: leave one of them out",
        ),
    ]
    for is_wrong, message in wrong:
        if is_wrong:
            raise click.UsageError(message)


def one_line_errors(function: Callable) -> Callable:
    """Decorator: errors about input and files end the command with status 1 and one line; warnings
    are one line, without the place in the code."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *place: click.echo(message, err=True)
                return function(*args, **kwargs)
        except (InputError, NetworkFileError, OSError) as error:
            raise click.ClickException(str(error)) from error

    return guarded


def _class_index(model: Model, options: EasyDict) -> int | None:
    """The class that --class asks for; None where seeds have their own, or models have no classes,
    which a line says."""
    index, count = options.class_index, model.num_classes
    if index is not None and count == 0:
        click.echo("--class: this model has no classes", err=True)
        return None
    if index is None and count > 0 and options.projected_w is None:
        seeds = options.seeds[:_SEEDS_SAID]
        drawn = zip(seeds, model.classes(seeds), strict=True)
        said = ", ".join(f"{kind} (seed {seed})" for seed, kind in drawn)
        more = ", ..." * (len(options.seeds) > len(seeds))
        click.echo(
            f"classes drawn from the seeds, --class=0 to {count - 1}: {said}{more}", err=True
        )
    return index


def open_model(options: EasyDict) -> tuple[Model, Style]:
    """The model and the style that the shared options ask for, checked against each other."""
    if options.offline:
        set_offline(True)
    torch.manual_seed(0)  # Random noise and jitter repeat, too.
    model = load(options.network, device=options.device, trust=options.trust)
    model = showing(model, options)
    if options.fov_deg is not None:
        model = model.with_fov(options.fov_deg)
    if options.hfov_deg is not None:
        model = model.with_fov(options.hfov_deg, "width")
    cutoff = options.trunc_cutoff
    if cutoff is not None and cutoff > model.num_ws:
        click.echo(
            f"--trunc-cutoff={cutoff}: the model has {model.num_ws} layers, all are truncated",
            err=True,
        )
    style = Style(
        psi=options.trunc,
        cutoff=cutoff,
        resolution=options.nrr,
        samples=options.sample_mult,
        noise_mode=options.noise_mode,
        jitter=options.jitter,
        mix=options.mix,
        class_index=_class_index(model, options),
        projected=options.projected_w,
    )
    style.check(model)
    return model, style
