"""Command line of the cats: python -m dataset_preprocessing.afhq."""

from pathlib import Path

import click

from dataset_preprocessing.afhq.cats import cats_step, hosted_labels, labels_of_rotations
from dataset_preprocessing.conversion.convert import Recipe, convert
from dataset_preprocessing.faces.commands import (
    CONTEXT,
    PATH,
    errors_as_lines,
    on_error_option,
    run_and_tell,
    workers_option,
)
from dataset_preprocessing.faces.steps import PreprocessingError


@click.command(context_settings=CONTEXT)
@click.argument("inzip", type=PATH)
@click.argument("outzip", type=PATH, default=Path("processed_afhq.zip"))
@click.option("--labels", type=PATH, default="dataset.json", help="The hosted labels.")
@click.option("--cameras", type=PATH, help="Rotations {stem: 3 x 3} instead of labels.")
@workers_option()
@on_error_option
@errors_as_lines
def main(inzip, outzip, labels, cameras, workers, on_error) -> None:
    """Make the dataset OUTZIP of the cats in AFHQ's INZIP, with mirror images, 512 x 512.

    The folder OUTZIP_pictures, without .zip, is what it is made from, and can be removed then.
    """
    if outzip.suffix.lower() != ".zip" or outzip.exists():
        raise PreprocessingError(f"{outzip}: must be the name of a .zip that is not there yet")
    by_stem = hosted_labels(labels) if cameras is None else labels_of_rotations(cameras)
    folder = outzip.with_name(f"{outzip.stem}_pictures")
    run_and_tell(cats_step(inzip, by_stem), folder, workers=workers, on_error=on_error)
    recipe = Recipe(size=(512, 512))
    written = convert(folder, outzip, recipe, workers=workers, verbose=True).written
    click.echo(f"{outzip}: {written} pictures")


if __name__ == "__main__":
    main()
