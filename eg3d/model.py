"""A trained model: latents, cameras that suit it, and the scenes it makes."""

import copy
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import torch

from eg3d import latents
from eg3d.cameras import FOV_to_intrinsics, canonical_camera, horizontal_fov_to_intrinsics
from eg3d.errors import InputError, SnapshotError
from eg3d.loading import load_network
from eg3d.scene import Scene
from training.cameras import Camera

# Checkpoints that do not say with what lens they were trained: the published diagonal field of
# view, nearly that of FFHQ and AFHQ. Released ShapeNet models want 45 (scripts) or 69.188 (data).
DEFAULT_FOV_DEGREES = 18.837
DEFAULT_RADIUS = 2.7
_SCENES_AT_ONCE = 8
_MEAN_OF = 256  # latents whose mean truncation of a class moves towards, as EpiGRAF's


@dataclass(frozen=True, eq=False)
class Model:
    """A tri-plane generator and the lens [3, 3] that its cameras get.

    The lens is that of the training cameras where the checkpoint names its focal length
    (`avg_camera_focal` in rendering_kwargs, in image widths), else 18.837 degrees across the
    diagonal; `with_fov` gives the same model with another one.
    """

    generator: torch.nn.Module
    intrinsics: torch.Tensor

    @classmethod
    def of(cls, generator: torch.nn.Module) -> "Model":
        """The model of a generator, with the lens that the generator asks for."""
        device = next(generator.parameters()).device
        focal = generator.rendering_kwargs.get("avg_camera_focal")
        lens = FOV_to_intrinsics(DEFAULT_FOV_DEGREES, device=device)
        if focal is not None:
            lens[0, 0] = lens[1, 1] = focal
        return cls(generator, lens)

    def with_fov(self, degrees: float, across: str = "diagonal") -> "Model":
        """The same model with a lens of this field of view. Raises InputError.

        across: 'diagonal', as the published scripts measure it, or 'width'; see `FOV_to_intrinsics`
        and `horizontal_fov_to_intrinsics`.
        """
        if not 0 < degrees < 180:
            raise InputError(f"field of view of {degrees:g} degrees: must be between 0 and 180")
        makers = {"diagonal": FOV_to_intrinsics, "width": horizontal_fov_to_intrinsics}
        if across not in makers:
            raise InputError(f"field of view across {across!r}: must be diagonal or width")
        return replace(self, intrinsics=makers[across](degrees, device=self.device))

    @property
    def choices(self) -> Mapping[str, tuple[str, ...]]:
        """What the model can show, as names of choices and their values, the usual one first: such
        as the branches of a generator that has two. Most models have none."""
        return self.generator.own_choices

    def showing(self, **chosen: str | None) -> "Model":
        """The same model, which shows these values of its `choices`, such as branch='3d'; None
        leaves a choice as it is. Raises InputError."""
        chosen = {name: value for name, value in chosen.items() if value is not None}
        for name, value in chosen.items():
            values = self.choices.get(name, ())
            if not values:
                raise InputError(
                    f"{name} {value!r}: this model leaves no choice of {name}; leave it out"
                )
            if value not in values:
                raise InputError(f"{name} {value!r}: this model has {', '.join(values)}")
        if not chosen:
            return self
        generator = copy.copy(self.generator)  # The weights are shared.
        generator.rendering_kwargs = {**self.rendering_kwargs, **chosen}
        return replace(self, generator=generator)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.intrinsics.device

    @property
    def img_resolution(self) -> int:
        """Side of the final pictures."""
        return self.generator.img_resolution

    @property
    def rendering_kwargs(self) -> Mapping[str, Any]:
        """The generator's own rendering options."""
        return self.generator.rendering_kwargs

    @property
    def num_ws(self) -> int:
        """Number of latents L in ws [N, L, w_dim]: one for each layer of the backbone."""
        return self.generator.backbone.num_ws

    @property
    def w_dim(self) -> int:
        """Length of a latent w."""
        return self.generator.w_dim

    @property
    def radius(self) -> float:
        """Distance of the model's usual cameras from the world origin."""
        return self.rendering_kwargs.get("avg_camera_radius", DEFAULT_RADIUS)

    @property
    def pivot(self) -> Sequence[float]:
        """The world point [3] that the model's usual cameras look at."""
        return self.rendering_kwargs.get("avg_camera_pivot", (0.0, 0.0, 0.0))

    @property
    def camera(self) -> Camera:
        """The frontal camera, N = 1: latents are conditioned on it."""
        return canonical_camera(self.rendering_kwargs, self.intrinsics)

    @property
    def depth_range(self) -> tuple[float, float]:
        """Nearest and farthest depth that a picture of this model can show, in world units."""
        near, far = self.rendering_kwargs["ray_start"], self.rendering_kwargs["ray_end"]
        if isinstance(near, str):
            reach = self.rendering_kwargs["box_warp"] * math.sqrt(3) / 2
            near, far = max(self.radius - reach, 0.0), self.radius + reach
        return float(near), float(far)

    def latents(self, seeds: Sequence[int]) -> torch.Tensor:
        """z [N, z_dim] of seeds 0 .. 2^32 - 1: see `eg3d.latents.from_seeds`."""
        return latents.from_seeds(seeds, self.generator.z_dim).to(self.device)

    @property
    def num_classes(self) -> int:
        """How many classes the model was trained with, numbers from 0 on; 0 for most models."""
        return self.generator.class_dim

    def classes(self, seeds: Sequence[int], class_index: int | None = None) -> list[int] | None:
        """The class of each seed: `class_index`, or one drawn from the seed; None for a model
        without classes. Raises InputError."""
        if class_index is not None:
            self._check_class(class_index)
            return [class_index] * len(seeds)
        if self.num_classes == 0:
            return None
        return latents.classes_from_seeds(seeds, self.num_classes)

    def mapping(
        self,
        z: torch.Tensor,
        camera: Camera | None = None,
        psi: float = 1.0,
        cutoff: int | None = None,
        classes: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """z [N, z_dim] -> ws [N, L, w_dim].

        Args:
            camera: what to condition on, N or 1 cameras; default the frontal one.
            psi: 1 changes nothing, 0 gives the mean latent (truncation), that of the class where
                there are classes.
            cutoff: truncate only the first so many of the L latents; default all.
            classes: N or 1 numbers of classes; default the model's usual one.

        Raises InputError.
        """
        if not math.isfinite(psi):
            raise InputError(f"truncation psi is {psi}: must be a finite number")
        if cutoff is not None and cutoff < 0:
            raise InputError(f"truncation cutoff is {cutoff}: must be 0 or more")
        label = (self.camera if camera is None else camera).label().to(z.device)
        label = label.expand(len(z), -1)
        if classes is None and self.num_classes > 0:
            classes = [self.rendering_kwargs.get("class_index", 0)]
        if classes is None:
            return self.generator.mapping(z, label, truncation_psi=psi, truncation_cutoff=cutoff)
        for index in classes:
            self._check_class(index)
        rows = torch.eye(self.num_classes).to(label)[list(classes)].expand(len(z), -1)
        ws = self.generator.mapping(z, torch.cat([label, rows], dim=1))
        return ws if psi == 1 else self._truncated(ws, classes, psi, cutoff)

    def class_mean(self, class_index: int) -> torch.Tensor:
        """The mean latent [w_dim] of a class: of 256 seeded latents, conditioned on the front."""
        random = torch.Generator().manual_seed(0)
        z = torch.randn(_MEAN_OF, self.generator.z_dim, generator=random).to(self.device)
        return self.mapping(z, classes=[class_index])[:, 0].mean(0)

    def _truncated(
        self, ws: torch.Tensor, classes: Sequence[int], psi: float, cutoff: int | None
    ) -> torch.Tensor:
        """ws [N, L, w_dim] moved towards the means of their classes, N or 1."""
        means = {index: self.class_mean(index) for index in set(classes)}
        centre = torch.stack([means[index] for index in classes])[:, None]
        first, rest = ws.tensor_split([self.num_ws if cutoff is None else cutoff], dim=1)
        return torch.cat([torch.lerp(centre.expand_as(first), first, psi), rest], dim=1)

    def _check_class(self, index: int) -> None:
        if self.num_classes == 0:
            raise InputError(f"class {index}: this model has no classes; leave it out")
        if not 0 <= index < self.num_classes:
            raise InputError(f"class {index}: this model has classes 0 to {self.num_classes - 1}")

    def scenes(
        self,
        seeds: Sequence[int] | None = None,
        psi: float = 1.0,
        cutoff: int | None = None,
        *,
        z: torch.Tensor | None = None,
        ws: torch.Tensor | None = None,
        noise_mode: str = "const",
        class_index: int | None = None,
    ) -> Scene:
        """The scenes of one of these: some seeds, z [N, z_dim], or ws [N, L, w_dim].

        psi and cutoff as of `mapping`, for seeds and z; noise_mode as of `scenes_of`; class_index:
        of a model with classes, default drawn from each seed, and the usual one for z.
        """
        if sum(given is not None for given in (seeds, z, ws)) != 1:
            raise InputError("scenes: give one of seeds, z and ws")
        if ws is not None:
            if psi != 1 or cutoff is not None or class_index is not None:
                raise InputError("psi, cutoff and class_index have no effect on ws; leave them out")
            return self.scenes_of(ws, noise_mode)
        if seeds is not None:
            z, classes = self.latents(seeds), self.classes(seeds, class_index)
        else:
            classes = None if class_index is None else [class_index]
        return self.scenes_of(self.mapping(z, psi=psi, cutoff=cutoff, classes=classes), noise_mode)

    def scene(
        self,
        seed: int,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise_mode: str = "const",
        class_index: int | None = None,
    ) -> Scene:
        """The scene of one seed, N = 1."""
        return self.scenes([seed], psi, cutoff, noise_mode=noise_mode, class_index=class_index)

    def scenes_of(self, ws: torch.Tensor, noise_mode: str = "const") -> Scene:
        """The scenes of latents ws [N, L or 1, w_dim]; one for all layers may stand for L.

        noise_mode: of the backbone, 'const' (always the same noise), 'none' or 'random'.
        Raises InputError.
        """
        self.check_ws(ws)
        ws = ws.to(self.device).expand(-1, self.num_ws, -1)
        parts = [Scene.of(self.generator, part, noise_mode) for part in ws.split(_SCENES_AT_ONCE)]
        if len(parts) == 1:
            return parts[0]
        return replace(parts[0], planes=torch.cat([part.planes for part in parts]), ws=ws)

    def check_ws(self, ws: torch.Tensor) -> None:
        """Raises InputError unless ws are [N, L or 1, w_dim]."""
        if ws.ndim != 3 or ws.shape[1] not in (1, self.num_ws) or ws.shape[2] != self.w_dim:
            raise InputError(
                f"latents ws of shape {list(ws.shape)}: must be [N, {self.num_ws}, {self.w_dim}]"
            )


def load(
    path_or_url: str | os.PathLike | BinaryIO,
    network: str = "G_ema",
    device: str | torch.device | None = None,
    trust: bool = False,
) -> Model:
    """Opens a snapshot (.pkl) or a file in the plain format (.safetensors); runs nothing of it.

    Args:
        path_or_url: also an open file, or a run directory, which stands for its newest snapshot.
        network: 'G_ema', the averaged weights, or 'G'.
        device: default a GPU if there is one.
        trust: unpickle a file of your own that has classes of your own; it may run any code.

    Raises SnapshotError and InputError, each with one line that says what is wrong.
    """
    device = pick_device(device)
    generator = load_network(path_or_url, network, trust)
    if not (hasattr(generator, "planes") and hasattr(generator, "render")):
        kind = type(generator).__name__
        raise SnapshotError(f"{path_or_url}: {network} is a {kind}, not a tri-plane generator")
    return Model.of(generator.to(device))


def pick_device(name: str | torch.device | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {str(name)!r} cannot be used: {reason}") from error
    return device
