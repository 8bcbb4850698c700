#!/usr/bin/env python3
"""Makes a dataset of pictures: `python dataset_tool.py --source=photos --dest=faces.zip`; looks at
one: `python dataset_tool.py inspect --source=faces.zip --dest=page.html`."""

import re
import sys

import click

_SIZE = re.compile(r"(\d+)[x,](\d+)")
_CROP = re.compile(r"(-?\d+),(-?\d+),(\d+),(\d+)")


class _Size(click.ParamType):
    name = "WxH"

    def convert(self, value, param, ctx):
        """`512x512` or `512,512` as (512, 512)."""
        if isinstance(value, tuple):
            return value
        found = _SIZE.fullmatch(value.strip())
        if found is None or not int(found[1]) or not int(found[2]):
            self.fail(f"{value!r} must be width x height, such as 512x512", param, ctx)
        return int(found[1]), int(found[2])


class _Crop(click.ParamType):
    name = "X,Y,W,H"

    def convert(self, value, param, ctx):
        """`10,20,300,300` as (10, 20, 300, 300)."""
        if isinstance(value, tuple):
            return value
        found = _CROP.fullmatch(value.replace(" ", ""))
        if found is None or not int(found[3]) or not int(found[4]):
            self.fail(f"{value!r} must be left, top, width, height in pixels", param, ctx)
        return tuple(int(number) for number in found.groups())


class _Tool(click.Command):
    """The command below, or `inspect` where that is the first word; so the published options stay
    as they are."""

    def main(self, args=None, **extra):
        """Runs the one or the other."""
        words = list(sys.argv[1:] if args is None else args)
        if words[:1] != ["inspect"]:
            return super().main(words, **extra)
        from dataset_preprocessing.inspection.command import main as inspect

        return inspect.main(words[1:], **{**extra, "prog_name": "dataset_tool.py inspect"})


@click.command(cls=_Tool, epilog="`dataset_tool.py inspect --help`: looks at a dataset.")
@click.option(
    "--source",
    required=True,
    metavar="PATH",
    help="Folder or .zip, with a dataset.json of labels; .tar shards; LSUN *_lmdb; "
    "cifar-10-python.tar.gz; train-images-idx3-ubyte.gz.",
)
@click.option(
    "--dest",
    required=True,
    metavar="PATH",
    help="The dataset: .zip, folder, or shards/cars-{000000..000009}.tar.",
)
@click.option("--max-images", type=click.IntRange(min=1), help="Only the first so many.")
@click.option(
    "--transform",
    type=click.Choice(["center-crop", "center-crop-wide"]),
    help="Cut the middle out; needs --resolution.",
)
@click.option("--resolution", type=_Size(), help="Size of the result.  [default: as they are]")
@click.option("--crop", type=_Crop(), help="Rectangle to cut out first; it may reach outside.")
@click.option(
    "--background",
    type=click.Choice(["black", "white"]),
    default="black",
    show_default=True,
    help="Behind transparent parts.",
)
@click.option(
    "--colour",
    type=click.Choice(["auto", "rgb", "grey"]),
    default="auto",
    show_default=True,
    help="auto: grey if all pictures are.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="skip: leave out pictures with problems.",
)
@click.option(
    "--shard-size", type=click.IntRange(min=1), help="Pictures of a shard; --dest is their folder."
)
@click.option(
    "--rebalance", type=click.Choice(["yaw"]), help="Larger weights for views from rare sides."
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True)
def main(source, dest, max_images, transform, resolution, crop, background, colour, **options):
    """Makes a dataset of pictures and their labels, which docs/datasets.md describes.

    Camera labels follow crops. The dataset appears when it is complete; the same command goes on
    where one was interrupted, to the same bytes.
    """
    from dataset_preprocessing.conversion.convert import ConversionError, Recipe, convert

    recipe = Recipe(transform, resolution or (None, None), crop, background, colour)
    try:
        report = convert(source, dest, recipe, max_images, verbose=True, **options)
    except (ConversionError, OSError) as error:
        raise click.ClickException(str(error)) from None
    for problem in report.problems:
        click.echo(f"left out: {problem}", err=True)
    dropped = f", {report.dropped} were too small" if report.dropped else ""
    click.echo(f"{dest}: {report.written} pictures{dropped}")
    if not report.has_labels:
        click.echo("they have no labels: training needs a camera for each", err=True)


if __name__ == "__main__":
    main()
