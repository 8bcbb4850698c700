"""Videos of a trained model: a camera path around seeds, or from seed to seed."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import torch
from tqdm import tqdm

from dnnlib.util import EasyDict
from eg3d import filming, generate, latent_paths, pictures, trajectories, video
from eg3d.command_line import (
    CONTEXT,
    FiniteFloat,
    GridSize,
    Panels,
    one_line_errors,
    open_model,
    shared_options,
    side_by_side,
)
from eg3d.files import make_folder
from eg3d.recorded import RecordedRenderings
from eg3d.shape_files import FORMATS

# The published scripts write shape formats with a dot.
SHAPE_FORMATS = [*FORMATS, *(f".{name}" for name in FORMATS)]
# Focal lengths of the published videos, in image widths.
PUBLISHED_FOCALS = {"FFHQ": 4.2647, "AFHQ": 4.2647, "Shapenet": 1.7074}


@click.command(context_settings=CONTEXT)
@shared_options(default_samples=2.0, both_branches=True)
@click.option(
    "--grid", type=GridSize(), default=(1, 1), help="Columns and rows of cells.  [default: 1x1]"
)
@click.option(
    "--num-keyframes",
    type=click.IntRange(min=1),
    metavar="K",
    help="Seeds that each cell goes through, repeated as needed.  [default: seeds / cells]",
)
@click.option(
    "--w-frames",
    type=click.IntRange(min=1),
    help="Frames from one keyframe to the next.  [default: 120]",
)
@click.option("--frames", type=click.IntRange(min=1), help="Frames in all, instead of --w-frames.")
@click.option("--shuffle-seed", type=click.IntRange(0, 2**32 - 1), help="Shuffles the seeds.")
@click.option(
    "--interpolate",
    type=bool,
    default=True,
    show_default=True,
    help="False: one video for each seed, OUTDIR/SEED.mp4.",
)
@click.option(
    "--interpolation",
    type=click.Choice(latent_paths.INTERPOLATIONS),
    default="camera",
    show_default=True,
    help="What follows the path: the view, the label that conditions the latents, or both.",
)
@click.option(
    "--path",
    type=click.Choice(trajectories.NAMES),
    help="Camera path.  [default: orbit where the model saw all sides, else the published sway]",
)
@click.option(
    "--cameras",
    type=click.Path(path_type=Path),
    metavar="JSON",
    help="Path through keyframes instead: labels, or azimuth, elevation, radius, fov.",
)
@click.option(
    "--elevation",
    type=FiniteFloat(),
    help="Of the orbit, in degrees.  [default: the middle of the model's range, else 0]",
)
@click.option(
    "--cfg", type=click.Choice(list(PUBLISHED_FOCALS), case_sensitive=False), hidden=True
)  # The model says how it was filmed; published commands name it.
@click.option(
    "--vis",
    type=Panels(),
    metavar="LIST",
    help="Side by side: image,depth,normals,raw.  [default: --image-mode alone]",
)
@click.option(
    "--fps",
    type=FiniteFloat(above=0),
    default=30.0,
    show_default=True,
    help="Frames a second (published videos have 60).",
)
@click.option(
    "--format",
    "ending",
    type=click.Choice(video.FORMATS),
    default="mp4",
    show_default=True,
    help="png: a folder with a file for each frame.",
)
@click.option(
    "--strip",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also write N evenly spaced frames side by side as a PNG.",
)
@click.option(
    "--cuda-graphs",
    type=bool,
    default=False,
    show_default=True,
    help="On a GPU, record how a frame is rendered and repeat it.",
)
@click.option("--shapes", type=bool, default=False, help="Also write the shape of each new scene.")
@click.option("--shape-res", type=click.IntRange(min=2), help="Points a side.  [default: 512]")
@click.option(
    "--shape-format",
    type=click.Choice(SHAPE_FORMATS),
    metavar="|".join(FORMATS),
    help="As of gen_samples.py.  [default: ply]",
)
@one_line_errors
@torch.inference_mode()
def main(**options):
    """Generate OUTDIR/orbit.mp4 (or sway.mp4, ...): a camera path around the seeds of a grid.

    With more seeds than cells, cells go from seed to seed: OUTDIR/interpolation.mp4. The same
    options give the same file.
    """
    opts = EasyDict(options)
    _check_combination(opts)
    deal = partial(
        latent_paths.deal,
        grid=opts.grid,
        keyframes=opts.num_keyframes,
        shuffle_seed=opts.shuffle_seed,
    )
    if opts.interpolate:
        videos = {None: deal(opts.seeds)}
    else:
        videos = {str(seed): deal([seed]) for seed in opts.seeds}
    keyframes = next(iter(videos.values())).shape[1]
    count = opts.frames or keyframes * (opts.w_frames or 120)
    if opts.strip and opts.strip > count:
        raise click.UsageError(f"--strip={opts.strip}: there are only {count} frames")

    model, style = open_model(opts)
    if opts.cuda_graphs:
        style = replace(style, repeat=RecordedRenderings())
    if opts.cfg:
        model = _with_focal(model, PUBLISHED_FOCALS[opts.cfg])
    models = side_by_side(model, opts)
    name, camera = _camera_path(opts, model, count)
    name = "interpolation" if keyframes > 1 else name
    for stem, seeds in videos.items():
        # Scenes of the last one have what any of them shows.
        takes = latent_paths.takes(models[-1], style, seeds, camera, opts.interpolation)
        _write(opts, models, style, takes, opts.outdir / (stem or name), count)


def _check_combination(opts):
    """Options that would have no effect are errors."""
    wrong = [
        (opts.frames and opts.w_frames, "--frames and --w-frames: leave one of them out"),
        (opts.path and opts.cameras, "--path has no effect with --cameras; leave one of them out"),
        (
            opts.elevation is not None and opts.cameras,
            "--elevation has no effect with --cameras; leave one of them out",
        ),
        (
            opts.shuffle_seed is not None and not opts.interpolate,
            "--shuffle-seed has no effect with --interpolate=False; leave one of them out",
        ),
        (
            opts.cfg and (opts.fov_deg or opts.hfov_deg),
            "--cfg sets the lens, and so does --fov-deg or --hfov-deg; leave one of them out",
        ),
        (
            opts.vis and opts.image_mode != "image",
            "--image-mode has no effect with --vis; leave one of them out",
        ),
        (
            (opts.shape_res or opts.shape_format) and not opts.shapes,
            "--shape-res and --shape-format need --shapes=True",
        ),
    ]
    for is_wrong, message in wrong:
        if is_wrong:
            raise click.UsageError(message)


def _with_focal(model, focal):
    lens = model.intrinsics.clone()
    lens[0, 0] = lens[1, 1] = focal
    return replace(model, intrinsics=lens)


def _camera_path(opts, model, count):
    """The name of the path and its cameras."""
    if opts.cameras:
        return "cameras", trajectories.from_file(model, opts.cameras, count, opts.up)
    name = opts.path or trajectories.default_name(model)
    return name, trajectories.named(model, name, count, opts.elevation, opts.up)


def _write(opts, models, style, takes, stem, count):
    model, *beside = models
    path = stem if opts.ending == "png" else stem.with_name(f"{stem.name}.{opts.ending}")
    video.check(path, opts.fps)
    make_folder(opts.outdir)
    if opts.shapes:
        ending = (opts.shape_format or "ply").removeprefix(".")
        takes = filming.with_shapes(takes, stem, opts.shape_res or 512, ending, opts.up or "y")
    panels = opts.vis or (opts.image_mode.removeprefix("image_"),)
    frames = (filming.picture(model, style, *take, opts.grid, panels, beside) for take in takes)
    strip = opts.strip or 0
    shown = []
    frames = generate.keeping(frames, [i * count // strip for i in range(strip)], shown)
    frames = tqdm(frames, path.name, count, unit="frame", disable=None)
    video.write_video(path, frames, opts.fps)
    if shown:
        pictures.write_png(f"{stem}_strip.png", pictures.tile(shown, strip, 1))


if __name__ == "__main__":
    main()
