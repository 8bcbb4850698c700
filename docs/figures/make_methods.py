"""Draws what the methods make of one data set, from a run of each.

python -m docs.figures.make_methods --run=eg3d=DIR --run=epigraf=DIR --run=mimic3d=DIR \
    [--dest=docs/figures]

Each row is a method; one with branches has a row for each, named at its left.
"""

import math
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageDraw

import eg3d
from benchmarks.common import named_runs
from benchmarks.methods import variants
from dnnlib.util import replacing
from docs.figures.make_gallery import SIDE, depth_tiles, tiles
from eg3d import pictures, views
from training.cameras import Camera

SEEDS = (3, 5, 8, 13, 21, 34, 55, 89)
PSI = 0.8
YAWS = (-60, -30, 0, 30, 60)  # degrees
SWEEP = 30  # degrees to both sides, of the epipolar strip
MOST_BYTES = 150_000
_GAP = 6

Models = list[tuple[str, eg3d.Model]]


def cameras(model: eg3d.Model, degrees: list[float] | tuple[float, ...]) -> Camera:
    """Cameras at these yaws, as high as the middle of what the model has seen."""
    elevation = sum(model.rendering_kwargs.get("camera_elevation_degrees", (0.0,))) / 2
    # `orbit_position` takes its vertical angle by area: the height grows evenly with it.
    pitch = -math.pi / 2 * math.sin(math.radians(elevation))
    return views.turned(model, [(math.radians(yaw), pitch) for yaw in degrees])


def epipolar(model: eg3d.Model, seed: int, steps: int, height: float = 0.5) -> np.ndarray:
    """One line of pixels of the picture while the camera moves past, uint8 [steps, R, 3].

    What is fixed in the scene draws a smooth curve; texture that sticks to the screen draws
    vertical lines, and flicker breaks.

    height: of the line, as a share of the picture from above.
    """
    scene = model.scenes([seed], psi=PSI)
    path = cameras(model, np.linspace(-SWEEP, SWEEP, steps).tolist())
    shown = pictures.to_uint8(scene.render(path).image)
    return shown[:, int(height * shown.shape[1])]


def named(text: str, row: list[np.ndarray]) -> np.ndarray:
    """Tiles side by side, at their left the name of the row."""
    height = row[0].shape[0]
    label = Image.new("RGB", (SIDE, height), "white")
    ImageDraw.Draw(label).text((4, height // 2 - 6), text, fill="black")
    return np.concatenate([np.asarray(label), *row], axis=1)


def sheet(models: Models, make: Callable[[eg3d.Model], list[np.ndarray]]) -> np.ndarray:
    """A row of tiles for each model, under each other."""
    return np.concatenate([named(name, make(model)) for name, model in models])


def strips(models: Models, seed: int, steps: int) -> np.ndarray:
    """The epipolar strips of all models side by side, under their names."""
    columns = []
    for name, model in models:
        strip = Image.fromarray(epipolar(model, seed, steps))
        scale = max(2 * SIDE // strip.width, 1)  # whole pixels: nothing is smoothed
        size = strip.width * scale, strip.height * max(2 * SIDE // steps, 1)
        picture = Image.new("RGB", (size[0] + _GAP, size[1] + 16), "white")
        ImageDraw.Draw(picture).text((2, 2), name, fill="black")
        picture.paste(strip.resize(size, Image.Resampling.NEAREST), (0, 16))
        columns.append(np.asarray(picture))
    most = max(column.shape[0] for column in columns)
    pad = [np.pad(c, ((0, most - len(c)), (0, 0), (0, 0)), constant_values=255) for c in columns]
    return np.concatenate(pad, axis=1)


def save(path: Path, picture: np.ndarray) -> Path:
    """As PNG, or where that is larger than MOST_BYTES, as JPEG; the file that was written."""
    pictures.write_png(path.with_suffix(".png"), picture)
    written = path.with_suffix(".png")
    if written.stat().st_size > MOST_BYTES:
        written.unlink()
        written = path.with_suffix(".jpg")
        for quality in (92, 85, 75, 60):
            with replacing(written) as temporary:
                Image.fromarray(picture).save(temporary, format="JPEG", quality=quality)
            if written.stat().st_size <= MOST_BYTES:
                break
    click.echo(f"wrote {written} ({written.stat().st_size / 1000:.0f} kB)")
    return written


@torch.inference_mode()
def draw(models: Models, dest: Path, seed: int, steps: int) -> None:
    """All figures: samples, their depth, views around one, and the strips."""

    def front(model: eg3d.Model) -> eg3d.Rendering:
        return model.scenes(SEEDS, psi=PSI).render(cameras(model, [YAWS[1]]))

    def around(model: eg3d.Model) -> list[np.ndarray]:
        return tiles(model.scenes([seed], psi=PSI).render(cameras(model, YAWS)).image)

    dest.mkdir(parents=True, exist_ok=True)
    save(dest / "methods_samples", sheet(models, lambda model: tiles(front(model).image)))
    save(dest / "methods_depth", sheet(models, lambda model: depth_tiles(model, front(model))))
    save(dest / "methods_views", sheet(models, around))
    save(dest / "methods_epipolar", strips(models, seed, steps))


@click.command()
@click.option(
    "--run", "runs", multiple=True, required=True, callback=named_runs, help="NAME=DIR or NAME=FILE"
)
@click.option("--dest", type=click.Path(path_type=Path), default=Path("docs/figures"))
@click.option("--seed", type=click.IntRange(min=0), default=SEEDS[0], show_default=True)
@click.option("--steps", type=click.IntRange(min=2), default=96, show_default=True)
def main(runs: dict[str, Path], dest: Path, seed: int, steps: int) -> None:
    """Draws samples, depth, views and epipolar strips of runs of several methods."""
    try:
        loaded = [(name, eg3d.load(path, device="cpu")) for name, path in runs.items()]
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    draw([each for name, model in loaded for each in variants(name, model)], dest, seed, steps)


if __name__ == "__main__":
    main()
