"""What the command lines of the pipelines share."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dataset_preprocessing.cameras.posed import CameraError
from dataset_preprocessing.conversion.convert import ConversionError
from dataset_preprocessing.faces.steps import PreprocessingError, Report, Step, run_step

# Dashes and underscores are the same in option names: the published ones have underscores.
CONTEXT = {"token_normalize_func": lambda token: token.replace("_", "-"), "max_content_width": 100}

PATH = click.Path(path_type=Path)


def workers_option(*names: str, default: int = 1) -> Callable:
    """The option for the number of processes, `--workers` and further names."""
    return click.option(
        "--workers",
        *names,
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help="Processes.",
    )


on_error_option = click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="skip: leave out pictures with problems.",
)
max_images_option = click.option(
    "--max-images", type=click.IntRange(min=1), help="Only the first so many."
)


def errors_as_lines(function: Callable) -> Callable:
    """Decorator: errors about input and files end the command with status 1 and their lines."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (PreprocessingError, CameraError, ConversionError, OSError) as error:
            raise click.ClickException(str(error)) from None

    return guarded


def run_and_tell(step: Step, dest: Path, **options: Any) -> Report:
    """Runs a step as `run_step` does, and says what became of it."""
    report = run_step(step, dest, verbose=True, **options)
    for name, reason in report.left_out.items():
        click.echo(f"left out: {name}: {reason}", err=True)
    there = ", which were there" if report.was_there else ""
    click.echo(f"{dest}: {len(report.made)} files{there}")
    return report
