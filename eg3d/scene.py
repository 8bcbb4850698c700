"""Scenes: what a generator makes of latents once, to be rendered from many cameras."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from training.cameras import Camera
from training.volumetric_rendering.draws import Draws, FixedDraws

# Sample points rendered at a time, which bounds memory: about 1 GB.
_POINTS_AT_ONCE = 1 << 21

Samples = float | tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Rendering:
    """Pictures of N views: image [N, 3, R, R] and, at the rendering resolution h, raw [N, 3, h, h],
    both nominally in [-1, 1]; depth [N, 1, h, h], distance along the ray in world units; opacity
    [N, 1, h, h] in [0, 1]."""

    image: torch.Tensor
    raw: torch.Tensor
    depth: torch.Tensor
    opacity: torch.Tensor

    def __len__(self) -> int:
        return self.image.shape[0]

    def to(self, *args, **kwargs) -> "Rendering":
        """On another device or in another dtype; arguments as of torch.Tensor.to."""
        return self._each(lambda tensor: tensor.to(*args, **kwargs))

    def _each(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Rendering":
        return Rendering(*(function(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Scene:
    """N scenes: feature planes [N, 3, 32, H, W], the latents ws [N, L, w_dim] they were made from
    (super-resolution needs them too), and the generator. A value: nothing changes it."""

    planes: torch.Tensor
    ws: torch.Tensor
    generator: torch.nn.Module

    def __post_init__(self):
        if self.planes.ndim != 5 or self.ws.ndim != 3 or len(self.planes) != len(self.ws):
            raise ValueError(
                f"scene: planes of shape {tuple(self.planes.shape)} and ws of shape "
                f"{tuple(self.ws.shape)}; must be [N, 3, 32, H, W] and [N, L, w_dim]"
            )

    @classmethod
    def of(cls, generator: torch.nn.Module, ws: torch.Tensor, noise_mode: str = "const") -> "Scene":
        """The scenes of latents ws [N, L, w_dim]; noise_mode 'const', 'none' or 'random'."""
        return cls(generator.planes(ws, noise_mode=noise_mode), ws, generator)

    def __len__(self) -> int:
        return self.planes.shape[0]

    def __getitem__(self, index: int | slice) -> "Scene":
        """Some of the scenes, as scenes: an integer gives N = 1."""
        if isinstance(index, int):
            index = range(len(self))[index]
            index = slice(index, index + 1)
        return Scene(self.planes[index], self.ws[index], self.generator)

    def render(
        self,
        camera: Camera,
        resolution: int | None = None,
        samples: Samples = None,
        draws: Draws | None = None,
        chunk: int | None = None,
    ) -> Rendering:
        """Renders N scenes from N cameras, N from 1, or 1 from N.

        Gradients flow to planes, ws and camera where they are enabled.

        Args:
            resolution: side h of the volume rendering; default the generator's own.
            samples: a multiple of the generator's samples along a ray, or (coarse, fine).
            draws: the renderer's random numbers; default `FixedDraws()`, so that the same call
                gives the same picture.
            chunk: views rendered at a time, default as memory allows. `GivenDraws` with a number
                for each ray need chunk=N.
        """
        count = self._views(camera)
        options = _with_samples(self.generator.rendering_kwargs, samples)
        side = resolution or self.generator.neural_rendering_resolution
        chunk = chunk or _views_at_once(side, options)
        label = camera.label().to(self.planes).expand(count, -1)
        planes = self.planes.expand(count, *self.planes.shape[1:])
        ws = self.ws.expand(count, *self.ws.shape[1:])
        draws = FixedDraws() if draws is None else draws
        parts = []
        for start in range(0, count, chunk):
            part = slice(start, start + chunk)
            out = self.generator.render(planes[part], ws[part], label[part], side, draws, options)
            names = ("image", "image_raw", "image_depth", "image_opacity")
            parts.append([out[name] for name in names])
        if len(parts) == 1:
            return Rendering(*parts[0])
        return Rendering(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _views(self, camera: Camera) -> int:
        scenes, cameras = len(self), len(camera)
        if cameras == 0 or (scenes != cameras and 1 not in (scenes, cameras)):
            raise ValueError(
                f"{scenes} scenes and {cameras} cameras: numbers must agree, or one of them be 1"
            )
        return max(scenes, cameras)


def _with_samples(options: dict, samples: Samples) -> dict:
    """Rendering options with other numbers of samples."""
    names = ("depth_resolution", "depth_resolution_importance")
    if samples is None:
        return options
    if not isinstance(samples, tuple):
        samples = tuple(int(options[name] * samples) for name in names)
    return {**options, **dict(zip(names, samples, strict=True))}


def _views_at_once(side: int, options: dict) -> int:
    samples = options["depth_resolution"] + options["depth_resolution_importance"]
    return max(_POINTS_AT_ONCE // max(side * side * samples, 1), 1)
