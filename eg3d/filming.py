"""What a video shows of scenes: pictures side by side, and shapes on the way."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image

from dnnlib.util import replacing
from eg3d import generate, pictures
from eg3d.files import make_folder
from eg3d.generate import Style
from eg3d.model import Model
from eg3d.scene import Scene
from eg3d.shape_files import write_shape
from training.cameras import Camera

# Rays of models with limits of their own start at least so far from the camera.
_NEAREST = 0.01


def picture(
    model: Model,
    style: Style,
    scene: Scene,
    camera: Camera,
    grid: tuple[int, int],
    panels: Sequence[str] = ("image",),
    beside: Sequence[Model] = (),
) -> np.ndarray:
    """All scenes as a grid (columns, rows) from one camera, N = 1; uint8 [H, W, 3].

    Several panels (`eg3d.generate.PANELS`) are grids side by side, of the size of the largest.
    Those of models `beside`, which show the same scenes otherwise, follow.
    """
    shown = []
    for seen in (following(each, camera) for each in (model, *beside)):
        rendering = style.rendering(replace(scene, generator=seen.generator), camera)
        shown += [generate.pixels(seen, rendering, camera, panel) for panel in panels]
    side = max(len(cells[0]) for cells in shown)
    return np.concatenate([pictures.tile(_enlarged(cells, side), *grid) for cells in shown], axis=1)


def following(model: Model, camera: Camera) -> Model:
    """The model as a camera at another distance sees it, N = 1: where rays have limits, these move
    along, so that they enclose the same part of the world as at the model's usual distance."""
    distance = camera.cam2world[0, :3, 3].norm().item()
    shift = distance - model.radius
    if abs(shift) < 1e-4 * model.radius:
        return model
    options = {**model.rendering_kwargs, "avg_camera_radius": distance}
    if not isinstance(options["ray_start"], str):
        options["ray_start"] = max(options["ray_start"] + shift, _NEAREST)
        options["ray_end"] += shift
    generator = copy.copy(model.generator)  # The weights are shared.
    generator.rendering_kwargs = options
    return replace(model, generator=generator)


def with_shapes(
    takes: Iterable[tuple[Scene, Camera]], stem: Path, resolution: int, ending: str, up: str = "y"
) -> Iterator[tuple[Scene, Camera]]:
    """The same takes; on their way STEM_shapes/FRAME_shape_CELL is written of each scene that is a
    new one, and at the end STEM_trajectory.npy: poses [frames * cells, 4, 4], frame by frame.

    Meshes (.ply) and volumes (.mrc) are as the published script writes them, others are upright;
    up: of `write_shape`.
    """
    folder = make_folder(f"{stem}_shapes")
    poses, last = [], None
    for index, (scene, camera) in enumerate(takes):
        for cell in range(len(scene) if scene is not last else 0):
            path = folder / f"{index:04d}_shape_{cell}.{ending}"
            write_shape(scene[cell], path, resolution, published=ending in ("ply", "mrc"), up=up)
        last = scene
        poses += [camera.cam2world[0].cpu().numpy()] * len(scene)
        yield scene, camera
    with replacing(f"{stem}_trajectory.npy") as temporary, open(temporary, "wb") as file:
        np.save(file, np.stack(poses))


def _enlarged(cells: np.ndarray, side: int) -> np.ndarray:
    """[N, h, h, 3] -> [N, side, side, 3]"""
    if cells.shape[1] == side:
        return cells
    sizes = ((side, side), PIL.Image.Resampling.BILINEAR)
    return np.stack([np.asarray(PIL.Image.fromarray(cell).resize(*sizes)) for cell in cells])
