"""Command line of the renders: python -m dataset_preprocessing.megascans."""

import click

from dataset_preprocessing.conversion.convert import Recipe, convert
from dataset_preprocessing.faces.commands import (
    CONTEXT,
    PATH,
    errors_as_lines,
    max_images_option,
    on_error_option,
    workers_option,
)
from dataset_preprocessing.faces.steps import PreprocessingError
from dataset_preprocessing.megascans.renders import FOV, label_renders


@click.command(context_settings=CONTEXT)
@click.option("--source", type=PATH, required=True, help="Folder of CLASS/OBJECT/NAME.png.")
@click.option("--dest", type=PATH, required=True, help="The dataset, such as plants_256.zip.")
@max_images_option
@click.option("--resolution", type=click.IntRange(min=1), default=256, show_default=True)
@click.option(
    "--fov",
    type=click.FloatRange(0, 180, min_open=True, max_open=True),
    default=FOV,
    show_default=True,
    help="Field of view of the renders, in degrees.",
)
@click.option(
    "--radius",
    type=click.FloatRange(min=0, min_open=True),
    help="Scale the world to this mean distance of the cameras.  [default: as it is]",
)
@workers_option()
@on_error_option
@errors_as_lines
def main(source, dest, max_images, resolution, fov, radius, workers, on_error) -> None:
    """Make a dataset of what Blender rendered, each picture beside its camera's matrix.

    dataset.json is written into the folder. Transparent parts become white, the middle square is
    cut out.
    """
    if dest.exists():
        raise PreprocessingError(f"{dest}: is there already; remove it or name another one")
    count = label_renders(source, fov, radius)
    click.echo(f"{source}: {count} labels")
    recipe = Recipe("center-crop", (resolution, resolution), background="white", colour="rgb")
    report = convert(source, dest, recipe, max_images, on_error, workers, verbose=True)
    for problem in report.problems:
        click.echo(f"left out: {problem}", err=True)
    click.echo(f"{dest}: {report.written} pictures")


if __name__ == "__main__":
    main()
