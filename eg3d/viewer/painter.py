"""A state becomes a picture: latents, planes, volume rendering, pixels; planes are kept."""

import contextlib
import copy
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eg3d import filming, generate
from eg3d.model import Model
from eg3d.scene import Scene
from eg3d.viewer import layers, viewpoint
from eg3d.viewer.blending import latents_of
from eg3d.viewer.layers import Layer, Statistics
from eg3d.viewer.state import ViewState
from training.cameras import Camera

_SCENES_KEPT = 4
_FEWEST_SAMPLES = 4  # what the fine pass needs
_SMALLEST = 8

# What planes depend on, besides the network and the label that latents are conditioned on.
_OF_PLANES = ("seed", "dx", "dy", "blend_seed", "blend", "mix_seed", "mix_layers", "psi", "cutoff")
_OF_PLANES += ("noise", "noise_seed", "full_precision")


class Detail(NamedTuple):
    """How finely to draw, as shares of what the state asks for: side of the volume rendering, and
    samples along a ray; and whether super-resolution follows, or just an enlargement."""

    resolution: float = 1.0
    samples: float = 1.0
    refine: bool = True


FULL = Detail()


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture uint8 [H, W, 3], the seconds that its parts took, whether planes were made for it,
    and of layers what there are and the statistics of the one shown."""

    pixels: np.ndarray
    seconds: dict[str, float] = field(default_factory=dict)
    new_planes: bool = False
    layers: tuple[Layer, ...] = ()
    statistics: Statistics | None = None


class Painter:
    """Draws states, for one user at a time, and keeps the scenes of the last ones."""

    def __init__(self):
        self._scenes: OrderedDict[tuple, Scene] = OrderedDict()
        self._layers: tuple[torch.nn.Module, tuple[Layer, ...]] | None = None

    @torch.inference_mode()
    def paint(self, model: Model, state: ViewState, detail: Detail = FULL) -> Picture:
        """The picture of a state. Raises InputError, and what torch raises."""
        with _repeatable(model, state.noise_seed):
            return self._paint(viewpoint.with_lens(model, state), state, detail)

    def _paint(self, model: Model, state: ViewState, detail: Detail) -> Picture:
        if state.layer:
            return self._layer(model, state)
        seconds: dict[str, float] = {}
        with _timed(seconds, "planes"):
            scene, made = self.scene(model, state)
            _finish(model)
        if state.view == "planes":
            return Picture(plane_norms(scene), seconds, made)
        with _timed(seconds, "rendering"):
            camera = viewpoint.camera(model, state)
            shown = showing(model, state)
            refine = state.view == "image" and _refines(shown, detail)
            seen = shown if refine else _enlarging(shown)
            seen = filming.following(_precise(seen, state), camera)
            scene = replace(scene, generator=seen.generator)
            rendering = scene.render(
                camera, side(model, state, detail), samples(model, state, detail)
            )
            _finish(model)
        with _timed(seconds, "pixels"):
            pixels = generate.pixels(seen, rendering, camera, state.view)[0]
        return Picture(pixels, seconds, made)

    @torch.inference_mode()
    def scene(self, model: Model, state: ViewState) -> tuple[Scene, bool]:
        """The scene of a state, and whether it was made now or kept from before; `model` with the
        lens that the state asks for."""
        conditioning = viewpoint.conditioning(model, state)
        key = (id(model.generator), tuple(conditioning.label().flatten().tolist()))
        key += tuple(getattr(state, name) for name in _OF_PLANES)
        scene = self._scenes.pop(key, None) if state.cache_planes else None
        made = scene is None
        if made:
            scene = _make_scene(model, state, conditioning)
        scene = scene.complete(showing(model, state).rendering_kwargs)
        # The scene holds the generator, whose id is therefore not given to another one meanwhile.
        self._scenes[key] = scene
        while len(self._scenes) > _SCENES_KEPT:
            self._scenes.popitem(last=False)
        return scene, made

    def all_layers(self, model: Model, state: ViewState) -> tuple[Layer, ...]:
        """Every layer of the model that gives out pictures, from one complete pass."""
        if self._layers is None or self._layers[0] is not model.generator:
            found, _ = layers.capture(model.generator, partial(_pass, model, state))
            self._layers = (model.generator, tuple(found))
        return self._layers[1]

    def _layer(self, model: Model, state: ViewState) -> Picture:
        seconds: dict[str, float] = {}
        with _timed(seconds, "layer"):
            found = self.all_layers(model, state)
            _, values = layers.capture(model.generator, partial(_pass, model, state), state.layer)
            pixels, statistics = layers.picture(values, state)
        return Picture(pixels, seconds, True, found, statistics)


def showing(model: Model, state: ViewState) -> Model:
    """The model that shows what the state chooses; what the model has not is left out."""
    own = model.choices
    return model.showing(**{name: v for name, v in state.chosen if v in own.get(name, ())})


def side(model: Model, state: ViewState, detail: Detail = FULL) -> int:
    """Side of the volume rendering."""
    full = state.resolution or showing(model, state).generator.usual_side()
    return max(round(full * detail.resolution), min(_SMALLEST, full))


def samples(model: Model, state: ViewState, detail: Detail = FULL) -> tuple[int, int]:
    """Samples along a ray: coarse, fine."""
    own = (model.rendering_kwargs[f"depth_resolution{part}"] for part in ("", "_importance"))
    wanted = zip(own, (state.coarse, state.fine), strict=True)
    return tuple(
        max(int(count * share * detail.samples), min(_FEWEST_SAMPLES, count))
        for count, share in wanted
    )


def plane_norms(scene: Scene) -> np.ndarray:
    """The norms over channels of the three planes of N = 1, side by side, uint8 [H, 3 W, 3]; the
    same scale for all."""
    norms = scene.planes[0].float().norm(dim=1)
    grey = (norms / norms.max().clamp(min=1e-8) * 255).byte().cpu().numpy()
    row = np.concatenate(list(grey), axis=1)
    return np.repeat(row[..., None], 3, axis=2)


def _make_scene(model: Model, state: ViewState, conditioning: Camera) -> Scene:
    ws = latents_of(model, state, conditioning)
    return replace(_precise(model, state).scenes_of(ws, state.noise), generator=model.generator)


def _pass(model: Model, state: ViewState) -> None:
    """One pass through all networks, with nothing kept."""
    camera = viewpoint.camera(model, state)
    scene = _make_scene(model, state, viewpoint.conditioning(model, state)).complete()
    generator = filming.following(_precise(showing(model, state), state), camera).generator
    scene = replace(scene, generator=generator)
    scene.render(camera, side(model, state), samples(model, state))


class _Enlargement(torch.nn.Module):
    """In place of super-resolution: the raw picture, enlarged."""

    def __init__(self, side: int, input_resolution: int):
        super().__init__()
        self._side, self.input_resolution = side, input_resolution

    def forward(self, raw: Tensor, features: Tensor, ws: Tensor, **options: object) -> Tensor:
        """raw [N, 3, h, h] -> [N, 3, side, side]"""
        return F.interpolate(raw, self._side, mode="bilinear")


def _enlarging(model: Model) -> Model:
    """The model without super-resolution; other pictures than the final one are the same."""
    generator = copy.copy(model.generator)
    sr = generator.superresolution
    if sr is None:
        return model
    enlargement = _Enlargement(model.img_resolution, sr.input_resolution)
    generator._modules = dict(generator._modules, superresolution=enlargement)
    return replace(model, generator=generator)


def _refines(model: Model, detail: Detail) -> bool:
    """Whether super-resolution follows. What is a final picture at the usual side is none of its
    inputs where it is drawn more coarsely."""
    final = model.generator.usual_side() == model.img_resolution
    return detail.refine and (detail.resolution == 1 or not final)


def _precise(model: Model, state: ViewState) -> Model:
    """The model, in float32 throughout if the state asks for it; the weights are shared."""
    if not state.full_precision:
        return model
    generator = copy.copy(model.generator)
    generator.planes = partial(generator.planes, force_fp32=True)
    generator.render = partial(generator.render, force_fp32=True)
    return replace(model, generator=generator)


def _finish(model: Model) -> None:
    """Waits for the device, so that times are those of the parts."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


@contextlib.contextmanager
def _repeatable(model: Model, seed: int) -> Iterator[None]:
    """What draws random numbers inside draws the same ones each time."""
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
