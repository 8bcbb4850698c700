"""Pictures and shapes of a trained model: several views of each seed, or one grid of all seeds."""

from pathlib import Path

import click
import torch
from tqdm import tqdm

from dnnlib.util import EasyDict
from eg3d import generate, latents, pictures, shape_files, views
from eg3d.command_line import (
    CONTEXT,
    FiniteFloat,
    GridSize,
    Panels,
    one_line_errors,
    open_model,
    shared_options,
)
from eg3d.errors import InputError
from eg3d.files import make_folder
from training.dataset import ImageFolderDataset
from training.image_grid import choose_images

# The published script takes them with a dot.
_SHAPE_FORMATS = [*shape_files.FORMATS, *(f".{ending}" for ending in shape_files.FORMATS)]
_PUBLISHED_FORMATS = ("mrc", "ply")


@click.command(context_settings=CONTEXT)
@shared_options(default_samples=1.0, many_mixed=True)
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
@click.option(
    "--vis",
    type=Panels(),
    metavar="LIST",
    help="Some of image,raw,depth,normals: *_depth.png, ...  [default: --image-mode alone]",
)
@click.option(
    "--grid",
    type=GridSize(),
    help="Write one grid.png with one view of each seed; with --mix, a row for each of the seeds.",
)
@click.option(
    "--grid-views",
    type=click.Choice(["front", "random"]),
    help="Views of the grid; random ones depend on the seed only.  [default: front]",
)
@click.option(
    "--data", metavar="ZIP|DIR", help="Real images beside the grid: reals left, fakes right."
)
@click.option(
    "--save-latents", is_flag=True, help="Also write seed0000.npz, ...: see --projected-w."
)
@click.option("--shapes", type=bool, default=False, help="Also write seed0000.mrc, ...: the shape.")
@click.option("--shape-res", type=click.IntRange(min=2), help="Points a side.  [default: 512]")
@click.option(
    "--shape-format",
    type=click.Choice(_SHAPE_FORMATS),
    metavar="|".join(shape_files.FORMATS),
    help="Density on a grid (mrc), or a mesh of its surface.  [default: mrc]",
)
@click.option(
    "--shape-space",
    type=click.Choice(["voxels", "world"]),
    help="As published, or upright in world units.  [default: voxels for mrc and ply]",
)
@click.option(
    "--shape-level",
    type=FiniteFloat(),
    help="Density of the surface.  [default: 10 in voxels, else that which pictures show]",
)
@click.option(
    "--shape-simplify", type=click.IntRange(min=4), metavar="N", help="Reduce meshes to N faces."
)
@click.option(
    "--shape-border",
    type=click.FloatRange(0, 0.5, max_open=True),
    help="Share of the side to leave empty at each face.  [default: the model's, else 30/256]",
)
@one_line_errors
@torch.inference_mode()
def main(**options):
    """Generate pictures. The same options give the same files.

    Without --grid, each seed becomes OUTDIR/seed0000.png with its views side by side. Their cameras
    are in OUTDIR/cameras.json.
    """
    opts = EasyDict(options)
    _check_combination(opts)
    given = views.from_file(opts.cameras) if opts.cameras else None
    model, style = open_model(opts)
    camera = given.to(model.device) if opts.cameras else _cameras(opts, model)
    reals = choose_images(ImageFolderDataset(opts.data), *opts.grid)[0] if opts.data else None
    make_folder(opts.outdir)
    views.to_file(opts.outdir / "cameras.json", camera)
    if opts.grid:
        _write_grid(opts, model, style, camera, reals)
    else:
        _write_rows(opts, model, style, camera)


def _check_combination(opts):
    """Options that would have no effect are errors, and so are seeds that do not fill the grid."""
    of_shapes = [name for name in opts if name.startswith("shape_") and opts[name] is not None]
    of_meshes = [name for name in ("shape_level", "shape_simplify") if opts[name] is not None]
    wrong = [
        (
            opts.views and opts.cameras,
            "--views has no effect with --cameras; leave one of them out",
        ),
        (opts.views and opts.grid, "--views has no effect with --grid; use --grid-views"),
        (
            opts.up and opts.cameras and not opts.shapes,
            "--up has no effect with --cameras; leave one of them out",
        ),
        (
            opts.vis and opts.image_mode != "image",
            "--image-mode has no effect with --vis; leave one of them out",
        ),
        (opts.grid_views and not opts.grid, "--grid-views needs --grid"),
        (opts.grid_views and opts.cameras, "--grid-views has no effect with --cameras"),
        (opts.data and not opts.grid, "--data needs --grid"),
        (
            opts.data and _panels(opts) != ("image",),
            "--data goes with final pictures only; leave --image-mode and --vis out",
        ),
        (of_shapes and not opts.shapes, f"{_option(of_shapes)} needs --shapes=True"),
        (
            of_meshes and _shape_format(opts) == "mrc",
            f"{_option(of_meshes)} is of meshes; add --shape-format=ply or another",
        ),
    ]
    for is_wrong, message in wrong:
        if is_wrong:
            raise click.UsageError(message)
    if opts.grid:
        generate.check_grid(opts.grid, len(opts.seeds) * _mixed(opts))


def _option(names):
    return "--" + names[0].replace("_", "-") if names else ""


def _panels(opts):
    return opts.vis or (opts.image_mode.removeprefix("image_"),)


def _shape_format(opts):
    return (opts.shape_format or "mrc").removeprefix(".")


def _mixed(opts):
    """Pictures of each seed."""
    return len(opts.mix.seeds) if opts.mix else 1


def _cameras(opts, model):
    if not opts.grid:
        return views.named(model, opts.views or "published", opts.up)
    if opts.grid_views == "random":
        seeds = [seed for seed in opts.seeds for _ in range(_mixed(opts))]
        return views.random_views(model, seeds, opts.up)
    return views.front(model, opts.up)


def _write_rows(opts, model, style, camera):
    for name, scene in _scenes(opts, model, style):
        rendering = style.rendering(scene, camera)
        for panel in _panels(opts):
            row = generate.pixels(model, rendering, camera, panel)
            _write_picture(opts, name, panel, pictures.tile(row, len(row), 1))


def _write_grid(opts, model, style, camera, reals):
    count = len(opts.seeds) * _mixed(opts)
    if len(camera) not in (1, count):
        raise InputError(f"{len(camera)} cameras for {count} pictures: must be 1 or as many")
    cells = {panel: [] for panel in _panels(opts)}
    for index, (_, scene) in enumerate(_scenes(opts, model, style)):
        own = camera[index if len(camera) > 1 else 0]
        rendering = style.rendering(scene, own)
        for panel, fakes in cells.items():
            fakes.append(generate.pixels(model, rendering, own, panel)[0])
    for panel, fakes in cells.items():
        if reals is None:
            picture = pictures.tile(fakes, *opts.grid)
        else:
            picture = generate.reals_and_fakes(reals, fakes, opts.grid, opts.data)
        _write_picture(opts, "grid", panel, picture)


def _scenes(opts, model, style):
    """Names and scenes; their latents and shapes are written on the way."""
    scenes = generate.named_scenes(model, style, opts.seeds)
    total = len(opts.seeds) * _mixed(opts)
    for name, scene in tqdm(scenes, total=total, unit="scene", disable=None):
        if opts.save_latents:
            latents.write_ws(opts.outdir / f"{name}.npz", scene.ws)
        if opts.shapes:
            _write_shape(opts, name, scene)
        yield name, scene


def _write_picture(opts, name, panel, picture):
    ending = f"_{panel}" if opts.vis and panel != "image" else ""
    pictures.write_png(opts.outdir / f"{name}{ending}.png", picture)


def _write_shape(opts, name, scene):
    ending = _shape_format(opts)
    space = opts.shape_space or ("voxels" if ending in _PUBLISHED_FORMATS else "world")
    wanted = {"border": opts.shape_border, "level": opts.shape_level, "up": opts.up}
    wanted["simplify"] = opts.shape_simplify
    shape_files.write_shape(
        scene,
        opts.outdir / f"{name}.{ending}",
        opts.shape_res or 512,
        published=space == "voxels",
        **{name: value for name, value in wanted.items() if value is not None},
    )


if __name__ == "__main__":
    main()
