"""A video of a trained model: a closed camera loop around one or several seeds."""

import click
import torch
from tqdm import tqdm

from dnnlib.util import EasyDict
from eg3d import generate, pictures, video, views
from eg3d.command_line import (
    CONTEXT,
    FiniteFloat,
    GridSize,
    one_line_errors,
    open_model,
    refused,
    shared_options,
)
from eg3d.files import make_folder

_NO_INTERPOLATION = "videos that change from seed to seed are not built yet; leave it out"


@click.command(context_settings=CONTEXT)
@shared_options(default_samples=2.0)
@click.option(
    "--grid", type=GridSize(), help="Columns and rows of seeds.  [default: nearly square]"
)
@click.option(
    "--path",
    type=click.Choice(["orbit", "sway"]),
    default="orbit",
    show_default=True,
    help="All the way around, or around the front as the published videos do.",
)
@click.option("--frames", type=click.IntRange(min=1), default=120, show_default=True)
@click.option(
    "--fps",
    type=FiniteFloat(above=0),
    default=30.0,
    show_default=True,
    help="Frames a second (published videos have 60).",
)
@click.option(
    "--elevation",
    type=FiniteFloat(),
    help="Of the orbit, in degrees.  [default: the middle of the model's range, else 0]",
)
@click.option(
    "--strip",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also write N evenly spaced frames side by side as a PNG.",
)
@refused("--w-frames", f"{_NO_INTERPOLATION} (--frames sets the length)", type=int)
@refused("--num-keyframes", _NO_INTERPOLATION, type=int)
@refused("--shuffle-seed", _NO_INTERPOLATION, type=int)
@refused("--interpolate", _NO_INTERPOLATION, type=str)
@refused("--cfg", "the model says how it was filmed; --fov-deg sets another lens")
@one_line_errors
@torch.inference_mode()
def main(**options):
    """Generate OUTDIR/orbit.mp4 (or sway.mp4). The same options give the same file."""
    opts = EasyDict(options)
    if opts.path == "sway" and opts.elevation is not None:
        raise click.UsageError("--elevation has no effect with --path=sway; leave it out")
    if opts.strip is not None and opts.strip > opts.frames:
        raise click.UsageError(f"--strip={opts.strip}: there are only {opts.frames} frames")
    grid = opts.grid or generate.default_grid(len(opts.seeds))
    generate.check_grid(grid, opts.seeds)
    model, style = open_model(opts)
    if opts.path == "orbit":
        camera = views.orbit(model, opts.frames, opts.elevation, opts.up)
    else:
        camera = views.sway(model, opts.frames, opts.up)

    make_folder(opts.outdir)
    frames = generate.loop_frames(model, opts.seeds, camera, style, grid)
    count, shown = opts.strip or 0, []
    frames = generate.keeping(frames, [i * opts.frames // count for i in range(count)], shown)
    frames = tqdm(frames, total=opts.frames, unit="frame", disable=None)
    video.write_video(opts.outdir / f"{opts.path}.mp4", frames, opts.fps)
    if shown:
        pictures.write_png(opts.outdir / f"{opts.path}_strip.png", pictures.tile(shown, count, 1))


if __name__ == "__main__":
    main()
