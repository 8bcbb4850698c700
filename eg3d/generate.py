"""What the generating commands make: rows of views, grids of seeds, frames of a loop."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from eg3d import pictures
from eg3d.errors import InputError
from eg3d.model import Model
from eg3d.scene import Rendering, Scene
from training.cameras import Camera
from training.volumetric_rendering.options import RenderingOptions

MODES = ("image", "image_raw", "image_depth")


@dataclass(frozen=True)
class Style:
    """How seeds become pictures.

    mode: one of MODES; psi, cutoff: truncation; resolution: of the volume rendering, default the
    model's; samples: multiple of the model's samples along a ray.
    """

    mode: str = "image"
    psi: float = 1.0
    cutoff: int | None = None
    resolution: int | None = None
    samples: float = 1.0

    def check(self, model: Model) -> None:
        """Raises InputError where the renderer would refuse the number of samples."""
        names = ("depth_resolution", "depth_resolution_importance")
        kwargs = model.rendering_kwargs
        counts = {name: int(kwargs[name] * self.samples) for name in names}
        try:
            RenderingOptions.from_kwargs({**kwargs, **counts})
        except ValueError as error:
            raise InputError(f"{self.samples:g} times the model's samples: {error}") from error

    def scenes(self, model: Model, seeds: Sequence[int]) -> Scene:
        """The scenes of some seeds."""
        return model.scenes(seeds, self.psi, self.cutoff)

    def render(self, model: Model, scene: Scene, camera: Camera) -> np.ndarray:
        """uint8 [N, H, W, 3]; scenes and cameras as of `Scene.render`."""
        samples = None if self.samples == 1 else self.samples
        return self._pixels(model, scene.render(camera, self.resolution, samples))

    def _pixels(self, model: Model, rendering: Rendering) -> np.ndarray:
        if self.mode == "image_depth":
            return pictures.depth_to_uint8(rendering.depth, *model.depth_range)
        return pictures.to_uint8(rendering.image if self.mode == "image" else rendering.raw)


def views_row(model: Model, seed: int, camera: Camera, style: Style) -> np.ndarray:
    """One seed from N cameras side by side, uint8 [H, N * W, 3]."""
    views = style.render(model, style.scenes(model, [seed]), camera)
    return pictures.tile(views, len(views), 1)


def one_view_each(
    model: Model, seeds: Sequence[int], camera: Camera, style: Style
) -> Iterator[np.ndarray]:
    """Each seed from its own camera (or all from the only one), one by one, uint8 [H, W, 3]."""
    if len(camera) not in (1, len(seeds)):
        raise InputError(f"{len(camera)} cameras for {len(seeds)} seeds: must be 1 or as many")
    for index, seed in enumerate(seeds):
        own = camera[index if len(camera) > 1 else 0]
        yield style.render(model, style.scenes(model, [seed]), own)[0]


def loop_frames(
    model: Model, seeds: Sequence[int], camera: Camera, style: Style, grid: tuple[int, int]
) -> Iterator[np.ndarray]:
    """One frame for each camera: a grid (columns, rows) of all seeds, uint8 [H, W, 3]."""
    scene = style.scenes(model, seeds)
    for index in range(len(camera)):
        yield pictures.tile(style.render(model, scene, camera[index]), *grid)


def keeping(
    frames: Iterable[np.ndarray], indices: Sequence[int], kept: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """The same frames; those with the given indices are also appended to `kept` on their way."""
    for index, frame in enumerate(frames):
        if index in indices:
            kept.append(frame)
        yield frame


def reals_and_fakes(
    reals: np.ndarray, fakes: Sequence[np.ndarray], grid: tuple[int, int], source: str
) -> np.ndarray:
    """Two grids (columns, rows): real images uint8 [N, C, H, W] left, [H, W, 3] fakes right.

    Raises InputError, naming the `source` of the real images, where the two differ in size.
    """
    reals = reals.transpose(0, 2, 3, 1)
    if reals.shape[3] == 1:
        reals = reals.repeat(3, axis=3)
    if reals.shape[1:] != fakes[0].shape:
        theirs, ours = (f"{a[1]}x{a[0]}" for a in (reals.shape[1:], fakes[0].shape))
        raise InputError(f"{source}: images are {theirs}; must be {ours}, as the model's pictures")
    gap = max(reals.shape[2] // 8, 2)
    return pictures.beside(pictures.tile(reals, *grid), pictures.tile(fakes, *grid), gap)


def check_grid(grid: tuple[int, int], seeds: Sequence[int]) -> None:
    """Raises InputError unless the seeds fill the grid (columns, rows)."""
    columns, rows = grid
    if columns * rows != len(seeds):
        raise InputError(
            f"a grid of {columns}x{rows} has {columns * rows} cells, but there are {len(seeds)} "
            "seeds: numbers must agree"
        )


def default_grid(count: int) -> tuple[int, int]:
    """The most nearly square (columns, rows) that `count` pictures fill, columns >= rows."""
    rows = max(r for r in range(1, int(count**0.5) + 1) if count % r == 0)
    return count // rows, rows
