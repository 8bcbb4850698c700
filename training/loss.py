"""The losses of EG3D: non-saturating GAN loss with dual discrimination, R1 on both pictures,
density regularisation (Chan et al. 2022, section 4 and appendix; StyleGAN2, Karras et al. 2020).

A loss yields its terms one after the other; whoever consumes them runs each backward pass before
asking for the next, so that only one graph is alive at a time. It steps, logs and changes nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils import misc
from torch_utils.ops import conv2d_gradfix, upfirdn2d
from training import recomputation, schedules
from training.cameras import split_label
from training.dual_discriminator import filtered_resizing

REG_TYPES = ("l1", "monotonic-detach", "monotonic-fixed")


class Batch(NamedTuple):
    """What one micro-batch of one phase sees. Images in [-1, 1]."""

    real_img: Tensor  # [N, 3, R, R]
    real_c: Tensor  # labels [N, 25 + K]: cameras, and classes where there are K
    gen_z: Tensor  # [N, z_dim]
    gen_c: Tensor  # [N, 25 + K]


class Term(NamedTuple):
    """A part of a phase's loss: its mean is to be minimised. `stats` are values to report."""

    loss: Tensor
    stats: dict[str, Tensor]


class Trainee(NamedTuple):
    """A network that a loss trains: by its main terms, and now and then by its regulariser."""

    name: str
    module: torch.nn.Module
    main: Callable[[Batch, float], Iterator[Term]]
    regulariser: Callable[[Batch, float], Iterator[Term]]


@dataclass(frozen=True)
class Moment:
    """The schedules' values at one moment of training."""

    blur_sigma: float
    swapping_prob: float | None
    rendering_resolution: int


class StyleGAN2Loss:
    """Loss terms of the generator (`generator`, `density`) and discriminator
    (`discriminator`, `r1`).

    Args:
        G, D: generator and discriminator.
        augment_pipe: makes of [N, 6, R, R] the pictures that D sees, see `training.augment`.
        r1_gamma: weight of the R1 penalty, 0 for none.
        style_mixing_prob: probability that a batch mixes the latents of two z.
        blur_init_sigma, blur_fade_kimg: blur in front of D, in pixels, and its fade.
        neural_rendering_resolution_*: side of the raw rendering and its fade.
        gpc_reg_prob, gpc_reg_fade_kimg: pose swapping; None conditions on no camera.
        dual_discrimination: whether R1 covers the raw picture too.
        filter_mode: how real pictures are reduced to raw ones, see `filtered_resizing`.
        conditional: whether D is told the cameras; classes it is told where labels have them.
        recompute: what is computed again in G's backward pass, see `training.recomputation`.
    """

    def __init__(
        self,
        G: torch.nn.Module,
        D: torch.nn.Module,
        augment_pipe: torch.nn.Module | None = None,
        r1_gamma: float = 10,
        style_mixing_prob: float = 0,
        blur_init_sigma: float = 0,
        blur_fade_kimg: float = 0,
        neural_rendering_resolution_initial: int = 64,
        neural_rendering_resolution_final: int | None = None,
        neural_rendering_resolution_fade_kimg: float = 0,
        gpc_reg_fade_kimg: float = 1000,
        gpc_reg_prob: float | None = None,
        dual_discrimination: bool = False,
        filter_mode: str | float = "antialiased",
        conditional: bool = True,
        recompute: str = "none",
    ):
        if gpc_reg_prob is not None and not 0 <= gpc_reg_prob <= 1:
            raise ValueError(f"gpc_reg_prob must be from 0 to 1, not {gpc_reg_prob}")
        rendering = G.rendering_kwargs
        if rendering.get("density_reg", 0) > 0 and rendering["reg_type"] not in REG_TYPES:
            raise ValueError(f"reg_type must be one of {REG_TYPES}, not {rendering['reg_type']!r}")
        self.G = G
        self.D = D
        self.augment_pipe = augment_pipe
        self.r1_gamma = r1_gamma
        self.style_mixing_prob = style_mixing_prob
        self.blur_init_sigma = blur_init_sigma
        self.blur_fade_kimg = blur_fade_kimg
        self.resolution = (
            neural_rendering_resolution_initial,
            neural_rendering_resolution_final,
            neural_rendering_resolution_fade_kimg,
        )
        self.gpc = (gpc_reg_prob, gpc_reg_fade_kimg)
        self.dual_discrimination = dual_discrimination
        self.filter_mode = filter_mode
        self.conditional = conditional
        self.recompute = recomputation.parts_of(recompute)
        device = next(G.parameters()).device
        self.resample_filter = upfirdn2d.setup_filter([1, 3, 3, 1], device=device)

    def at(self, nimg: float) -> Moment:
        """The schedules after `nimg` real images."""
        return Moment(
            schedules.blur_sigma(nimg, self.blur_init_sigma, self.blur_fade_kimg),
            schedules.swapping_prob(nimg, *self.gpc),
            schedules.rendering_resolution(nimg, *self.resolution),
        )

    def trained(self) -> tuple[Trainee, ...]:
        """What is trained by which terms, in the order of an iteration."""
        return (
            Trainee("G", self.G, self.generator, self.density),
            Trainee("D", self.D, self.discriminator, self.r1),
        )

    def example(self, pictures: dict[str, Tensor], c: Tensor) -> list:
        """What D would be called with for G's pictures and labels c."""
        return [pictures, self._told(c)]

    # -- The terms -------------------------------------------------------------------------------

    def generator(self, batch: Batch, nimg: float) -> Iterator[Term]:
        """Main term of G: the discriminator is to take its pictures for real ones."""
        moment = self.at(nimg)
        fake = self._generate(batch, moment)
        logits = self._judge(fake, batch.gen_c, moment)
        loss = F.softplus(-logits)
        yield Term(loss, {**scores("fake", logits), "Loss/G/loss": loss})

    def discriminator(self, batch: Batch, nimg: float) -> Iterator[Term]:
        """Main terms of D, generated pictures and then real ones. Updates G's tracked mean w."""
        moment = self.at(nimg)
        with torch.no_grad():
            fake = self._generate(batch, moment, update_emas=True)
        logits = self._judge(fake, batch.gen_c, moment, update_emas=True)
        loss_fake = F.softplus(logits)
        yield Term(loss_fake, scores("fake", logits))

        logits = self._judge(self._real(batch, moment), batch.real_c, moment)
        loss_real = F.softplus(-logits)
        total = loss_fake.detach() + loss_real
        yield Term(loss_real, {**scores("real", logits), "Loss/D/loss": total})

    def r1(self, batch: Batch, nimg: float) -> Iterator[Term]:
        """R1 penalty of D on real pictures (Mescheder et al. 2018), for D's actual inputs, i.e.
        after blur and augmentation; with dual discrimination the gradients of both pictures count
        alike.

        Judges the real pictures itself, also in a phase that has just done so in `discriminator`.
        """
        if self.r1_gamma == 0:
            return
        moment = self.at(nimg)
        real = self._prepare(self._real(batch, moment), moment)
        real = {name: image.detach().requires_grad_(True) for name, image in real.items()}
        logits = self.D(real, self._told(batch.real_c))
        inputs = list(real.values()) if self.dual_discrimination else [real["image"]]
        penalty = squared_gradients(logits, inputs)
        loss = penalty * (self.r1_gamma / 2)
        stats = {"Loss/r1_penalty": penalty, "Loss/D/reg": loss}
        yield Term(loss, {**scores("real", logits), **stats})

    def density(self, batch: Batch, nimg: float) -> Iterator[Term]:
        """Density regularisation of G (EG3D appendix): nearby points are to have alike densities;
        the monotonic types also want densities that do not fall with depth."""
        options = self.G.rendering_kwargs
        weight = options.get("density_reg", 0)
        if weight == 0:
            return
        kind = options["reg_type"]
        step = options["box_warp"] / 256
        if kind == "l1":
            spread = options["density_reg_p_dist"]
        else:
            behind = misc.constant([0.0, 0.0, -step], device=batch.gen_z.device)
            ws = self._regularised_ws(batch, nimg, mix=False)
            front, back = self._density_pair(ws, 2000, lambda p: p + behind)
            front = front.detach() if kind == "monotonic-detach" else front
            loss = F.relu(front - back).mean() * 10
            yield Term(loss, {"Loss/G/density_monotonic": loss})
            spread = step
        ws = self._regularised_ws(batch, nimg, mix=True)
        here, there = self._density_pair(ws, 1000, lambda p: p + torch.randn_like(p) * spread)
        loss = (here - there).abs().mean() * weight
        yield Term(loss, {"Loss/G/density_reg": loss})

    # -- Their parts -----------------------------------------------------------------------------

    def _generate(self, batch: Batch, moment: Moment, update_emas: bool = False) -> dict:
        return self.G.synthesis(
            self._latents(batch, moment, update_emas),
            batch.gen_c,
            neural_rendering_resolution=moment.rendering_resolution,
            update_emas=update_emas,
            recompute=self.recompute,
        )

    def _latents(self, batch: Batch, moment: Moment, update_emas: bool = False) -> Tensor:
        """ws [N, num_ws, w_dim] of the batch; each picture may be told another one's camera."""
        z, c = batch.gen_z, batch.gen_c
        condition = without_camera(c)
        if moment.swapping_prob is not None:
            gate = torch.rand((c.shape[0], 1), device=c.device) < moment.swapping_prob
            condition = with_swapped_cameras(c, gate)
        ws = self.G.mapping(z, condition, update_emas=update_emas)
        return self._mix_styles(ws, z, c)

    def _mix_styles(self, ws: Tensor, z: Tensor, c: Tensor) -> Tensor:
        """With probability `style_mixing_prob`, replaces the ws from a random layer on."""
        if self.style_mixing_prob == 0:
            return ws
        layers = ws.shape[1]
        cutoff = torch.randint(1, layers, [], device=ws.device)
        mixes = torch.rand([], device=ws.device) < self.style_mixing_prob
        other = self.G.mapping(torch.randn_like(z), c)
        late = torch.arange(layers, device=ws.device) >= torch.where(mixes, cutoff, layers)
        return torch.where(late[:, None], other, ws)

    def _real(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Real pictures with their raw versions; early in training those are blurred too."""
        raw = filtered_resizing(
            batch.real_img,
            size=moment.rendering_resolution,
            f=self.resample_filter,
            filter_mode=self.filter_mode,
        )
        return {"image": batch.real_img, "image_raw": blurred(raw, moment.blur_sigma)}

    def _prepare(self, images: dict[str, Tensor], moment: Moment) -> dict[str, Tensor]:
        """What D sees: the final picture blurred, the raw one as it is; both augmented alike."""
        image, raw = blurred(images["image"], moment.blur_sigma), images["image_raw"]
        if self.augment_pipe is not None:
            channels, size = image.shape[1], image.shape[-1]
            enlarged = filtered_resizing(raw, size, self.resample_filter)
            pair = self.augment_pipe(torch.cat([image, enlarged], dim=1))
            image, enlarged = pair.split(channels, dim=1)
            raw = filtered_resizing(enlarged, raw.shape[-1], self.resample_filter)
        return {"image": image, "image_raw": raw}

    def _judge(self, images: dict, c: Tensor, moment: Moment, update_emas: bool = False) -> Tensor:
        return self.D(self._prepare(images, moment), self._told(c), update_emas=update_emas)

    def _told(self, c: Tensor) -> Tensor:
        """The labels as D gets to see them."""
        return c if self.conditional else without_camera(c)

    def _regularised_ws(self, batch: Batch, nimg: float, mix: bool) -> Tensor:
        """Latents for the density terms; here one gate swaps the cameras of the whole batch."""
        z, c = batch.gen_z, batch.gen_c
        probability = self.at(nimg).swapping_prob
        condition = without_camera(c)
        if probability is not None:
            gate = torch.rand([], device=c.device) < probability
            condition = with_swapped_cameras(c, gate)
        ws = self.G.mapping(z, condition)
        return self._mix_styles(ws, z, c) if mix else ws

    def _density_pair(self, ws: Tensor, count: int, displace) -> tuple[Tensor, Tensor]:
        """Densities [N, count, 1] at random points of [-1, 1]^3 and at the displaced ones."""
        points = torch.rand((ws.shape[0], count, 3), device=ws.device) * 2 - 1
        points = torch.cat([points, displace(points)], dim=1)
        sigma = self.G.sample_mixed(points, torch.randn_like(points), ws)["sigma"]
        return sigma[:, :count], sigma[:, count:]


def without_camera(c: Tensor) -> Tensor:
    """Labels with zeros in place of cameras; classes stay."""
    camera, classes = split_label(c)
    return torch.cat([torch.zeros_like(camera), classes], dim=1)


def with_swapped_cameras(c: Tensor, gate: Tensor) -> Tensor:
    """Labels with the camera of the row before where `gate`, [N, 1] or one for all, is True;
    classes stay."""
    camera, classes = split_label(c)
    return torch.cat([torch.where(gate, camera.roll(1, 0), camera), classes], dim=1)


def squared_gradients(logits: Tensor, images: Sequence[Tensor]) -> Tensor:
    """The squared length [N] of the gradient of logits [N, 1] in images [N, C, H, W], all together;
    can be differentiated in a discriminator's weights."""
    with conv2d_gradfix.no_weight_gradients():
        grads = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return sum(grad.square().sum(dim=(1, 2, 3)) for grad in grads)


def scores(kind: str, logits: Tensor) -> dict[str, Tensor]:
    """What is reported of a discriminator's judgement of 'real' or 'fake' pictures."""
    logits = logits.detach()
    return {f"Loss/scores/{kind}": logits, f"Loss/signs/{kind}": logits.sign()}


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images [N, C, H, W] blurred by `sigma` pixels, see `schedules.blur_taps`."""
    taps = schedules.blur_taps(sigma)
    if taps is None:
        return images
    taps = torch.tensor(taps, pin_memory=images.device.type == "cuda")
    return upfirdn2d.filter2d(images, taps.to(images.device, non_blocking=True))
