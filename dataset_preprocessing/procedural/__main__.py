"""Command line of the procedural dataset: python -m dataset_preprocessing.procedural."""

import os

import click

from dataset_preprocessing.procedural.categories import ALL, CATEGORIES
from dataset_preprocessing.procedural.writer import make_dataset


@click.command()
@click.option("--dest", required=True, help="Zip file to write.", metavar="ZIP")
@click.option(
    "--category",
    type=click.Choice([*CATEGORIES, ALL]),
    default="cars",
    show_default=True,
    help="all: both in turns, as classes.",
)
@click.option("--num-images", default=2000, show_default=True, help="How many images.")
@click.option("--resolution", default=64, show_default=True, help="Side in pixels, a power of 2.")
@click.option("--seed", default=0, show_default=True, help="Another seed, other pictures.")
@click.option("--views-per-car", default=1, show_default=True, help="Images of each car or chair.")
@click.option("--depth", is_flag=True, help="Also write ZIP_depth.zip: distance along the ray.")
@click.option("--segmentation", is_flag=True, help="Also write ZIP_segmentation.zip: part ids.")
@click.option("--workers", default=os.cpu_count(), help="Processes.  [default: all cores]")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def main(**options) -> None:
    """Render toy cars or chairs into a posed dataset zip, ready for training."""
    try:
        paths = make_dataset(**options)
    except (ValueError, OSError) as error:
        raise click.ClickException(_with_option_names(str(error), options)) from None
    for path in paths:
        click.echo(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")


def _with_option_names(message: str, options: dict) -> str:
    """The message with a leading argument name spelt as its option."""
    name, space, rest = message.partition(" ")
    return f"--{name.replace('_', '-')}{space}{rest}" if name in options else message


if __name__ == "__main__":
    main()
