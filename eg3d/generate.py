"""What the generating commands make: latents and scenes of seeds, pictures of scenes, grids."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from eg3d import latents, pictures
from eg3d.errors import InputError
from eg3d.model import Model
from eg3d.recorded import RecordedRenderings
from eg3d.scene import Rendering, Scene
from training.cameras import Camera
from training.surfaces import normal_picture
from training.volumetric_rendering.draws import FixedDraws, RandomDraws
from training.volumetric_rendering.options import RenderingOptions

PANELS = ("image", "raw", "depth", "normals")
MODES = ("image", "image_raw", "image_depth", "image_normals")
NOISE_MODES = ("const", "none", "random")
JITTERS = ("fixed", "random")


class Mix(NamedTuple):
    """Style mixing: these layers come from other seeds. Each seed is mixed with each other one."""

    seeds: tuple[int, ...]
    layers: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Style:
    """How seeds become scenes, and scenes pictures.

    psi, cutoff: truncation. resolution: of the volume rendering, default the model's. samples:
    multiple of the model's samples along a ray. noise_mode: of the backbone. jitter: positions of
    the samples, 'fixed' in the middle of their intervals or 'random' as in training. mix: layers
    from other seeds. class_index: of all seeds, for a model with classes; default drawn from each.
    projected: latents ws [N, L or 1, w_dim]; seeds are then their numbers. repeat: renders in place
    of the scenes where positions are fixed.
    """

    psi: float = 1.0
    cutoff: int | None = None
    resolution: int | None = None
    samples: float = 1.0
    noise_mode: str = "const"
    jitter: str = "fixed"
    mix: Mix | None = None
    class_index: int | None = None
    projected: torch.Tensor | None = None
    repeat: RecordedRenderings | None = None

    def check(self, model: Model) -> None:
        """Raises InputError for what does not go with the model."""
        names = ("depth_resolution", "depth_resolution_importance")
        kwargs = model.rendering_kwargs
        counts = {name: int(kwargs[name] * self.samples) for name in names}
        try:
            RenderingOptions.from_kwargs({**kwargs, **counts})
        except ValueError as error:
            raise InputError(f"{self.samples:g} times the model's samples: {error}") from error
        if self.mix and max(self.mix.layers) >= model.num_ws:
            raise InputError(
                f"mixed layer {max(self.mix.layers)}: the model has layers 0 to {model.num_ws - 1}"
            )
        model.classes([], self.class_index)
        if self.projected is not None:
            model.check_ws(self.projected)

    def latents(
        self, model: Model, seeds: Sequence[int], camera: Camera | None = None
    ) -> torch.Tensor:
        """ws [N, L, w_dim] of N seeds; with M seeds to mix [N * M, L, w_dim], seed by seed.

        camera: what seeds are conditioned on, default the front.
        """
        if self.projected is not None:
            ws = self.projected[list(seeds)].to(model.device).expand(-1, model.num_ws, -1)
        else:
            ws = self._mapped(model, seeds, camera)
        if self.mix is None:
            return ws
        others = self._mapped(model, self.mix.seeds, camera)
        count = len(ws)
        ws = ws.repeat_interleave(len(others), dim=0)
        return latents.mix(ws, others.repeat(count, 1, 1), self.mix.layers)

    def _mapped(self, model: Model, seeds: Sequence[int], camera: Camera | None) -> torch.Tensor:
        classes = model.classes(seeds, self.class_index)
        return model.mapping(model.latents(seeds), camera, self.psi, self.cutoff, classes)

    def scenes(self, model: Model, seeds: Sequence[int]) -> Scene:
        """The scenes of `latents`."""
        return self.scenes_of(model, self.latents(model, seeds))

    def scenes_of(self, model: Model, ws: torch.Tensor) -> Scene:
        """The scenes of ws [N, L, w_dim]."""
        return model.scenes_of(ws, self.noise_mode)

    def rendering(self, scene: Scene, camera: Camera) -> Rendering:
        """Scenes from cameras as of `Scene.render`."""
        samples = None if self.samples == 1 else self.samples
        if self.repeat is not None and self.jitter == "fixed":
            return self.repeat(scene, camera, self.resolution, samples)
        draws = RandomDraws() if self.jitter == "random" else FixedDraws()
        return scene.render(camera, self.resolution, samples, draws)


def pixels(model: Model, rendering: Rendering, camera: Camera, panel: str) -> np.ndarray:
    """One of PANELS of N views from N cameras or from one, uint8 [N, H, W, 3].

    Depth: near is white, by the model's own range. Normals: right is red, up green, towards the
    camera blue; white where no surface is.
    """
    if panel == "depth":
        return pictures.depth_to_uint8(rendering.depth, *model.depth_range)
    if panel == "normals":
        label = camera.label().expand(len(rendering), -1)
        camera = Camera.from_label(label).to(rendering.depth)
        return pictures.to_uint8(normal_picture(rendering.depth, rendering.opacity, camera))
    return pictures.to_uint8(getattr(rendering, panel))


def named_scenes(model: Model, style: Style, seeds: Sequence[int]) -> Iterator[tuple[str, Scene]]:
    """The scenes of `Style.latents`, one by one, and names for their files: `seed0003`, with styles
    mixed `seed0003_mix0012`, for latents of a file `projected0003`."""
    kind = "seed" if style.projected is None else "projected"
    endings = [f"_mix{other:04d}" for other in style.mix.seeds] if style.mix else [""]
    for seed in seeds:
        each = style.latents(model, [seed]).split(1)
        for ws, ending in zip(each, endings, strict=True):
            yield f"{kind}{seed:04d}{ending}", style.scenes_of(model, ws)


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


def check_grid(grid: tuple[int, int], count: int) -> None:
    """Raises InputError unless so many pictures fill the grid (columns, rows)."""
    columns, rows = grid
    if columns * rows != count:
        raise InputError(
            f"a grid of {columns}x{rows} has {columns * rows} cells, but there are {count} "
            "pictures: numbers must agree"
        )
