"""Command line of the cars: python -m dataset_preprocessing.shapenet_cars."""

from pathlib import Path

import click

from dataset_preprocessing.conversion.convert import Recipe, convert
from dataset_preprocessing.faces.archives import unpack_step
from dataset_preprocessing.faces.commands import (
    CONTEXT,
    PATH,
    errors_as_lines,
    max_images_option,
    on_error_option,
    run_and_tell,
    workers_option,
)
from dataset_preprocessing.faces.steps import PreprocessingError
from dataset_preprocessing.shapenet_cars.cars import SIZE, label_cars


@click.command(context_settings=CONTEXT)
@click.option("--source", type=PATH, required=True, help="cars_train.zip, or what it unpacks to.")
@click.option("--dest", type=PATH, default=Path("cars_128.zip"), show_default=True)
@max_images_option
@click.option("--resolution", type=click.IntRange(min=1), default=128, show_default=True)
@click.option(
    "--intrinsics-size",
    type=click.IntRange(min=1),
    default=SIZE,
    show_default=True,
    help="Side in pixels that intrinsics.txt is for.",
)
@workers_option()
@on_error_option
@errors_as_lines
def main(source, dest, max_images, resolution, intrinsics_size, workers, on_error) -> None:
    """Make a dataset of ShapeNet's cars as Scene Representation Networks had them.

    A zip is unpacked beside itself. dataset.json and cameras.json are written into the folder.
    """
    if dest.exists():
        raise PreprocessingError(f"{dest}: is there already; remove it or name another one")
    if source.suffix.lower() == ".zip":
        folder = source.with_suffix("")
        run_and_tell(unpack_step(source), folder, workers=workers)
        source = folder
    count = label_cars(source, intrinsics_size)
    click.echo(f"{source}: {count} labels")
    recipe = Recipe(size=(resolution, resolution), background="white")
    report = convert(source, dest, recipe, max_images, on_error, workers, verbose=True)
    for problem in report.problems:
        click.echo(f"left out: {problem}", err=True)
    click.echo(f"{dest}: {report.written} pictures")


if __name__ == "__main__":
    main()
