"""Scenes: what a generator makes of latents once, to be rendered from many cameras."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch

from eg3d.errors import InputError
from eg3d.volume import Volume, default_border, density_volume
from training.cameras import Camera
from training.surfaces import OPAQUE, surface_normals, surface_points
from training.triplane import rays_at_once
from training.volumetric_rendering.draws import Draws, FixedDraws
from training.volumetric_rendering.renderer import TriPlaneField

# Sample points rendered at a time, which bounds memory: about 1 GB.
_POINTS_AT_ONCE = 1 << 21

Samples = float | tuple[int, int] | None

if TYPE_CHECKING:  # it takes a second to import
    import trimesh


@dataclass(frozen=True, eq=False)
class Rendering:
    """Pictures of N views: image [N, 3, R, R] and, at the rendering resolution h, raw [N, 3, h, h],
    both nominally in [-1, 1]; features [N, 32, h, h], which super-resolution starts from; depth
    [N, 1, h, h], distance along the ray in world units; opacity [N, 1, h, h] in [0, 1]; normals
    [N, 3, h, h], unit vectors in the world, from the depth, zero where there is no surface."""

    image: torch.Tensor
    raw: torch.Tensor
    features: torch.Tensor
    depth: torch.Tensor
    opacity: torch.Tensor
    normals: torch.Tensor

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
    (super-resolution needs them too), the generator, and the noise mode that planes are made with.
    A value: nothing changes it."""

    planes: torch.Tensor
    ws: torch.Tensor
    generator: torch.nn.Module
    noise_mode: str = "const"

    def __post_init__(self):
        if self.planes.ndim != 5 or self.ws.ndim != 3 or len(self.planes) != len(self.ws):
            raise ValueError(
                f"scene: planes of shape {tuple(self.planes.shape)} and ws of shape "
                f"{tuple(self.ws.shape)}; must be [N, 3, 32, H, W] and [N, L, w_dim]"
            )

    @classmethod
    def of(cls, generator: torch.nn.Module, ws: torch.Tensor, noise_mode: str = "const") -> "Scene":
        """The scenes of latents ws [N, L, w_dim]; noise_mode 'const', 'none' or 'random'."""
        return cls(generator.planes(ws, noise_mode=noise_mode), ws, generator, noise_mode)

    def __len__(self) -> int:
        return self.planes.shape[0]

    def __getitem__(self, index: int | slice) -> "Scene":
        """Some of the scenes, as scenes: an integer gives N = 1."""
        if isinstance(index, int):
            index = range(len(self))[index]
            index = slice(index, index + 1)
        return replace(self, planes=self.planes[index], ws=self.ws[index])

    def complete(self, options: Mapping[str, Any] | None = None) -> "Scene":
        """The same scenes with all planes that rendering by `options` needs, or, without, anything:
        a generator that leaves a choice makes those of what it shows.

        `render`, `field` and what follows from them do this themselves, anew each time: keep the
        result to look often at what was not shown when the scenes were made.
        """
        planes = self.generator.complete(self.planes, self.ws, options, noise_mode=self.noise_mode)
        return self if planes is self.planes else replace(self, planes=planes)

    def render(
        self,
        camera: Camera,
        resolution: int | None = None,
        samples: Samples = None,
        draws: Draws | None = None,
        chunk: int | None = None,
    ) -> Rendering:
        """Renders N scenes from N cameras, N from 1, or 1 from N.

        Gradients flow to planes, ws and camera where they are enabled. Raises ValueError where
        numbers do not agree or a camera's are not finite.

        Args:
            resolution: side h of the volume rendering; default the generator's own for what it
                shows.
            samples: a multiple of the generator's samples along a ray, or (coarse, fine).
            draws: the renderer's random numbers; default `FixedDraws()`, so that the same call
                gives the same picture.
            chunk: views rendered at a time, default as memory allows. `GivenDraws` with a number
                for each ray need chunk=N.
        """
        self.check(camera)
        return render_views(self, camera, resolution, samples, draws, chunk)

    @property
    def field(self) -> TriPlaneField:
        """The N scenes as a function of world points; nothing is drawn at random."""
        options = {**self.generator.rendering_kwargs, "density_noise": 0.0}
        return self.generator.field(self.complete().planes, options)

    def density(self, points: torch.Tensor) -> torch.Tensor:
        """Raw density, before the softplus, at world points [N or 1, P, 3] -> [N, P, 1]."""
        return self._query(points, "sigma")

    def colors(self, points: torch.Tensor) -> torch.Tensor:
        """Colours at world points [N or 1, P, 3] -> [N, P, 3] in [0, 1]: those of raw pictures."""
        colors = self._query(points, "rgb")[..., :3]
        if self.generator.rendering_kwargs.get("ray_marcher") == "classic":
            colors = (colors + 1) / 2  # it does not map them to the pictures' range
        return colors.clamp(0, 1)

    def volume(
        self,
        resolution: int = 256,
        border: float | None = None,
        memory_mb: float | None = None,
    ) -> Volume:
        """Raw density on a grid of resolution^3 points from face to face of the box; N = 1.

        border and memory_mb as of `eg3d.volume.density_volume`; default the model's border, see
        `eg3d.volume.default_border`. Raises InputError.
        """
        options = self.generator.rendering_kwargs
        if border is None:
            border = default_border(options)
        volume = density_volume(self.field, resolution, border, memory_mb)
        names = ("density_bias", "clamp_mode")
        return replace(volume, **{name: options[name] for name in names if name in options})

    def mesh(
        self, resolution: int = 256, border: float | None = None, **options
    ) -> "trimesh.Trimesh":
        """The surface in world units with the colours of its vertices; N = 1.

        options: those of `Volume.mesh`; colors=None leaves the colours out. Raises NoSurfaceError
        where there is no surface, InputError.
        """
        scene = self.complete()
        return scene.volume(resolution, border).mesh(**{"colors": scene.colors, **options})

    def _query(self, points: torch.Tensor, name: str) -> torch.Tensor:
        if points.ndim != 3 or points.shape[2] != 3 or len(points) not in (1, len(self)):
            raise ValueError(
                f"points of shape {tuple(points.shape)} for {len(self)} scenes; must be [N, P, 3]"
            )
        points = points.to(self.planes).expand(len(self), -1, -1)
        field, most = self.field, max(_POINTS_AT_ONCE // len(self), 1)
        parts = [field(part, None, name == "rgb")[name] for part in points.split(most, dim=1)]
        return torch.cat(parts, dim=1)

    def check(self, camera: Camera) -> None:
        """Raises ValueError where numbers of scenes and cameras do not go together, InputError
        where a camera's numbers are not finite."""
        scenes, cameras = len(self), len(camera)
        if cameras == 0 or (scenes != cameras and 1 not in (scenes, cameras)):
            raise ValueError(
                f"{scenes} scenes and {cameras} cameras: numbers must agree, or one of them be 1"
            )
        if not camera.label().isfinite().all():
            raise InputError("camera: its numbers are not all finite")


def render_views(
    scene: Scene,
    camera: Camera,
    resolution: int | None = None,
    samples: Samples = None,
    draws: Draws | None = None,
    chunk: int | None = None,
) -> Rendering:
    """`Scene.render` without its check, which waits for a GPU."""
    count = max(len(scene), len(camera))
    options = _with_samples(scene.generator.rendering_kwargs, samples)
    side = resolution or scene.generator.usual_side(options)
    rays = rays_at_once(options, _POINTS_AT_ONCE)
    chunk = chunk or max(rays // side**2, 1)
    rays = None if rays >= side**2 else rays
    label = camera.label().to(scene.planes).expand(count, -1)
    planes = scene.complete(options).planes
    planes = planes.expand(count, *planes.shape[1:])
    ws = scene.ws.expand(count, *scene.ws.shape[1:])
    draws = FixedDraws() if draws is None else draws
    parts = []
    for start in range(0, count, chunk):
        part = slice(start, start + chunk)
        out = scene.generator.render(
            planes[part], ws[part], label[part], side, draws, options, chunk=rays
        )
        parts.append(_rendering(out, Camera.from_label(label[part])))
    if len(parts) == 1:
        return parts[0]
    each = ((getattr(part, field.name) for part in parts) for field in fields(Rendering))
    return Rendering(*(torch.cat(tuple(tensors)) for tensors in each))


def _rendering(out: dict[str, torch.Tensor], camera: Camera) -> Rendering:
    """What the generator's `render` returned for N views from N cameras."""
    depth, opacity = out["image_depth"], out["image_opacity"]
    normals, _ = surface_normals(surface_points(depth, camera), opacity > OPAQUE)
    raw, features = out["image_raw"], out["image_features"]
    return Rendering(out["image"], raw, features, depth, opacity, normals)


def _with_samples(options: dict, samples: Samples) -> dict:
    """Rendering options with other numbers of samples."""
    names = ("depth_resolution", "depth_resolution_importance")
    if samples is None:
        return options
    if not isinstance(samples, tuple):
        samples = tuple(int(options[name] * samples) for name in names)
    return {**options, **dict(zip(names, samples, strict=True))}
