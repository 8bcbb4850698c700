"""Inversion: the latents, and where asked the camera and the noise, that make a given picture.

The optimisation is that of StyleGAN2's projector (Karras et al. 2020, appendix D): Adam from the
mean latent, with a learning rate that rises and falls, and noise on the latents that dies away.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from eg3d.camera_offsets import moved
from eg3d.errors import InputError
from eg3d.likeness import Likeness, Perceptual
from eg3d.model import Model
from eg3d.noise_maps import NoiseMaps, autocorrelation, noise_maps, normalize, with_noise
from eg3d.pose_search import find_camera
from eg3d.scene import Scene
from training.cameras import Camera

SPACES = ("w", "w+")
MEAN_OF = 10_000  # latents that the mean and the spread of w are taken of
_MAPPED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Options:
    """How a picture is inverted. Raises InputError.

    space: 'w', one latent for all layers, or 'w+', one for each. optimise_pose, optimise_noise:
    look for the camera and for the backbone's noise maps too. rate, pose_rate: the highest learning
    rates, of latents and noise, and of the camera in radians and world units; they rise over the
    share ramp_up of all steps and fall over the last ramp_down. latent_noise: standard deviation of
    the noise on w, as a multiple of w's own; it is gone after the share latent_noise_until.
    noise_weight: of the noise maps' autocorrelation. seed: of all that is random.
    """

    space: str = "w"
    steps: int = 500
    optimise_pose: bool = False
    optimise_noise: bool = False
    rate: float = 0.1
    pose_rate: float = 0.01
    ramp_up: float = 0.05
    ramp_down: float = 0.25
    latent_noise: float = 0.05
    latent_noise_until: float = 0.75
    noise_weight: float = 1e5
    seed: int = 0

    def __post_init__(self):
        if self.space not in SPACES:
            raise InputError(f"space {self.space!r}: must be {' or '.join(SPACES)}")
        if self.steps < 1:
            raise InputError(f"{self.steps} steps of inversion: must be 1 or more")

    def rate_share(self, step: int) -> float:
        """Share of the highest learning rates at a step: a linear rise, the fall of a cosine."""
        rise = min((step + 1) / max(self.ramp_up * self.steps, 1), 1.0)
        left = min((self.steps - step) / max(self.ramp_down * self.steps, 1), 1.0)
        return rise * (0.5 - 0.5 * math.cos(math.pi * left))

    def latent_noise_at(self, step: int) -> float:
        """Standard deviation of the noise on w at a step, as a multiple of w's own."""
        left = 1 - step / max(self.latent_noise_until * self.steps, 1)
        return self.latent_noise * max(left, 0.0) ** 2


@dataclass(frozen=True, eq=False)
class Step:
    """What a step of an optimisation saw: its number from 0, its picture [1, 3, R, R], and by name
    the terms of its loss and 'psnr' in dB."""

    index: int
    image: torch.Tensor
    losses: dict[str, float]

    @classmethod
    def of(
        cls, index: int, image: torch.Tensor, terms: dict[str, torch.Tensor], likeness: Likeness
    ) -> "Step":
        """The step that saw these terms, with the PSNR of its picture."""
        losses = {name: term.item() for name, term in terms.items()}
        return cls(index, image.detach(), {**losses, "psnr": likeness.psnr(image)})


Callback = Callable[[Step], None]


@dataclass(frozen=True, eq=False)
class Inversion:
    """What was found: latents ws [1, L, w_dim], the camera (N = 1), noise maps by their names in
    the generator (none unless optimised), and the losses of each step."""

    ws: torch.Tensor
    camera: Camera
    noise: NoiseMaps = field(default_factory=dict)
    losses: tuple[dict[str, float], ...] = ()

    def model(self, model: Model) -> Model:
        """The model with these noise maps; the same model where there are none."""
        return with_noise(model, self.noise) if self.noise else model

    def scene(self, model: Model) -> Scene:
        """The scene that was found, N = 1."""
        return self.model(model).scenes_of(self.ws)


@torch.no_grad()
def mean_latent(model: Model, seed: int = 0) -> tuple[torch.Tensor, float]:
    """Mean [1, 1, w_dim] of w over 10,000 seeded latents, conditioned on the frontal camera, of all
    classes alike, and the root of w's mean squared distance from it."""
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(MEAN_OF, model.generator.z_dim, generator=random).to(model.device)
    w = torch.cat([_mapped(model, part)[:, :1] for part in z.split(_MAPPED_AT_ONCE)])
    mean = w.mean(0, keepdim=True)
    return mean, (w - mean).square().sum(2).mean().sqrt().item()


def _mapped(model: Model, z: torch.Tensor) -> torch.Tensor:
    """ws of z [N, z_dim], of all classes in turns where there are some."""
    count = model.num_classes
    return model.mapping(z, classes=[i % count for i in range(len(z))] if count else None)


def invert(
    model: Model,
    image: torch.Tensor,
    camera: Camera,
    options: Options | None = None,
    perceptual: Perceptual | None = None,
    callback: Callback | None = None,
) -> Inversion:
    """Finds what makes the picture [1, 3, R, R], -1 to 1, from the camera (N = 1).

    The model is not changed. On a CPU the same arguments give the same result. Raises InputError.
    """
    options = options or Options()
    image, camera = checked(model, image, camera)
    likeness = Likeness(image, perceptual)
    mean, spread = mean_latent(model, options.seed)
    noise = noise_maps(model) if options.optimise_noise else {}
    model = with_noise(model, noise)
    random = torch.Generator(model.device).manual_seed(options.seed)
    record = []
    with full_precision(model.generator):
        if options.optimise_pose:
            camera = find_camera(model, likeness, mean, camera)
        unknown = _Unknowns(model, mean, camera, noise, options)
        for step in range(options.steps):
            jitter = torch.randn(unknown.w.shape, generator=random, device=model.device)
            ws = unknown.w + jitter * spread * options.latent_noise_at(step)
            picture = model.scenes_of(ws).render(unknown.camera()).image
            terms = likeness.terms(picture)
            loss = sum(terms.values())
            if noise:
                terms["noise"] = autocorrelation(noise.values())
                loss = loss + options.noise_weight * terms["noise"]
            unknown.improve(loss, options.rate_share(step))
            seen = Step.of(step, picture, terms, likeness)
            record.append(seen.losses)
            if callback is not None:
                callback(seen)
    return unknown.found(tuple(record))


class _Unknowns:
    """What is optimised, and how: begins at the mean latent [1, 1, w_dim], a camera and the model's
    noise maps."""

    def __init__(
        self,
        model: Model,
        mean: torch.Tensor,
        camera: Camera,
        noise: NoiseMaps,
        options: Options,
    ):
        self._model, self._start, self._noise = model, camera, noise
        self.w = mean.repeat(1, 1 if options.space == "w" else model.num_ws, 1)
        self._offset = torch.zeros(6, device=model.device)
        groups = [dict(params=[self.w, *noise.values()], highest=options.rate)]
        if options.optimise_pose:
            groups.append(dict(params=[self._offset], highest=options.pose_rate))
        for group in groups:
            for leaf in group["params"]:
                leaf.requires_grad_()
        self._adam = torch.optim.Adam(groups)

    def camera(self) -> Camera:
        """The camera so far."""
        if not self._offset.requires_grad:
            return self._start
        return moved(self._start, self._offset, self._model.pivot)

    def improve(self, loss: torch.Tensor, rate_share: float) -> None:
        """One step of Adam at a share of the highest learning rates."""
        for group in self._adam.param_groups:
            group["lr"] = group["highest"] * rate_share
        self._adam.zero_grad()
        loss.backward()
        self._adam.step()
        normalize(self._noise.values())

    @torch.no_grad()
    def found(self, losses: tuple[dict[str, float], ...]) -> Inversion:
        """The values so far."""
        ws = self.w.detach().repeat(1, self._model.num_ws // self.w.shape[1], 1)
        noise = {name: values.detach() for name, values in self._noise.items()}
        return Inversion(ws, self.camera(), noise, losses)


def checked(model: Model, image: torch.Tensor, camera: Camera) -> tuple[torch.Tensor, Camera]:
    """A target and its camera on the model's device. Raises InputError."""
    side = model.img_resolution
    if image.shape != (1, 3, side, side) or len(camera) != 1:
        raise InputError(
            f"picture of shape {list(image.shape)} and {len(camera)} cameras: must be "
            f"[1, 3, {side}, {side}], as the model's, and 1"
        )
    return image.to(model.device, torch.float32), camera.to(model.device)


@contextmanager
def full_precision(generator: torch.nn.Module) -> Iterator[None]:
    """Keeps a generator out of half precision, in which gradients of single pixels vanish."""
    blocks = [block for block in generator.modules() if getattr(block, "use_fp16", False)]
    for block in blocks:
        block.use_fp16 = False
    try:
        yield
    finally:
        for block in blocks:
            block.use_fp16 = True
