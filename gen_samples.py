"""Pictures of a trained model: several views of each seed, or one grid of all seeds."""

from pathlib import Path

import click
import torch
from tqdm import tqdm

from dnnlib.util import EasyDict
from eg3d import generate, pictures, views
from eg3d.command_line import (
    CONTEXT,
    GridSize,
    one_line_errors,
    open_model,
    refused,
    shared_options,
)
from eg3d.files import make_folder
from training.dataset import ImageFolderDataset
from training.image_grid import choose_images

_NO_CLASSES = "models are conditioned on cameras, not classes; leave it out"
_NO_SHAPES = "exporting shapes is not built yet; leave it out"


@click.command(context_settings=CONTEXT)
@shared_options(default_samples=1.0)
@click.option(
    "--views",
    metavar="NAME",
    help="Views of each seed: published (three), front, or orbit:N.  [default: published]",
)
@click.option(
    "--cameras",
    type=click.Path(path_type=Path),
    metavar="JSON",
    help="Views from a file instead: a list of camera labels of 25 numbers.",
)
@click.option("--grid", type=GridSize(), help="Write one grid.png with one view of each seed.")
@click.option(
    "--grid-views",
    type=click.Choice(["front", "random"]),
    help="Views of the grid; random ones depend on the seed only.  [default: front]",
)
@click.option(
    "--data", metavar="ZIP|DIR", help="Real images beside the grid: reals left, fakes right."
)
@refused("--class", _NO_CLASSES, type=int)
@refused("--shape-res", _NO_SHAPES, type=int)
@refused("--shape-format", _NO_SHAPES)
@one_line_errors
@torch.inference_mode()
def main(**options):
    """Generate pictures. The same options give the same files.

    Without --grid, each seed becomes OUTDIR/seed0000.png with its views side by side.
    """
    opts = EasyDict(options)
    _check_combination(opts)
    given = views.from_file(opts.cameras) if opts.cameras else None
    model, style = open_model(opts)
    if opts.grid:
        _write_grid(opts, model, style, given)
    else:
        _write_rows(opts, model, style, given)


def _check_combination(opts):
    """Options that would have no effect are errors, and so are seeds that do not fill the grid."""
    wrong = [
        (
            opts.views and opts.cameras,
            "--views has no effect with --cameras; leave one of them out",
        ),
        (opts.views and opts.grid, "--views has no effect with --grid; use --grid-views"),
        (opts.up and opts.cameras, "--up has no effect with --cameras; leave one of them out"),
        (opts.grid_views and not opts.grid, "--grid-views needs --grid"),
        (opts.grid_views and opts.cameras, "--grid-views has no effect with --cameras"),
        (opts.data and not opts.grid, "--data needs --grid"),
        (opts.data and opts.image_mode != "image", "--data goes with --image-mode=image only"),
    ]
    for is_wrong, message in wrong:
        if is_wrong:
            raise click.UsageError(message)
    if opts.grid:
        generate.check_grid(opts.grid, opts.seeds)


def _write_rows(opts, model, style, given):
    camera = given or views.named(model, opts.views or "published", opts.up)
    make_folder(opts.outdir)
    for seed in tqdm(opts.seeds, unit="seed", disable=None):
        row = generate.views_row(model, seed, camera, style)
        pictures.write_png(opts.outdir / f"seed{seed:04d}.png", row)


def _write_grid(opts, model, style, given):
    if given is not None:
        camera = given
    elif opts.grid_views == "random":
        camera = views.random_views(model, opts.seeds, opts.up)
    else:
        camera = views.front(model, opts.up)
    reals = choose_images(ImageFolderDataset(opts.data), *opts.grid)[0] if opts.data else None
    make_folder(opts.outdir)
    fakes = generate.one_view_each(model, opts.seeds, camera, style)
    fakes = list(tqdm(fakes, total=len(opts.seeds), unit="seed", disable=None))
    if reals is None:
        picture = pictures.tile(fakes, *opts.grid)
    else:
        picture = generate.reals_and_fakes(reals, fakes, opts.grid, opts.data)
    pictures.write_png(opts.outdir / "grid.png", picture)


if __name__ == "__main__":
    main()
