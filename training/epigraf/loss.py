"""The losses of EpiGRAF (Skorokhodov et al. 2022, section 3.2): a non-saturating GAN of patches.

Generated and real pictures are seen through patches of random scales and places. A patch travels
with its pictures as their entry 'view', so that the discriminator is told what it sees.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from training import schedules
from training.cameras import split_label
from training.epigraf.cameras import (
    CameraDistribution,
    angles_from_label,
    label_from_angles,
    sample_angles,
)
from training.epigraf.patches import PatchSampler
from training.epigraf.schedules import density_noise
from training.loss import (
    Batch,
    Moment,
    StyleGAN2Loss,
    Term,
    blurred,
    scores,
    squared_gradients,
    with_swapped_cameras,
)
from training.views import PatchView, View


@dataclass(frozen=True)
class EpigrafMoment(Moment):
    """`density_noise`: standard deviation on raw densities; `nimg` says which patches are drawn."""

    density_noise: float
    nimg: float


class EpigrafLoss(StyleGAN2Loss):
    """The terms `generator`, `discriminator` and `r1`, on patches.

    Args:
        G, D: an `EpigrafGenerator` and a `PatchDiscriminator`.
        patch_resolution: side of a patch in pixels.
        patches: options of `PatchSampler`; None: whole pictures as their patches of scale 1.
        density_noise_initial, density_noise_fade_kimg: see `schedules.density_noise`.
        cameras: `radius`, `fov` and a `CameraDistribution`, which the generated pictures' cameras
            are drawn from; None: those of the data set.
        kwargs: those of `StyleGAN2Loss`.
    """

    def __init__(
        self,
        G: torch.nn.Module,
        D: torch.nn.Module,
        augment_pipe: torch.nn.Module | None = None,
        patch_resolution: int = 64,
        patches: dict | None = None,
        density_noise_initial: float = 1.0,
        density_noise_fade_kimg: float = 5000,
        cameras: dict | None = None,
        **kwargs,
    ):
        super().__init__(G, D, augment_pipe, **kwargs)
        self.patch_resolution = patch_resolution
        self.patches = None if patches is None else PatchSampler(**patches)
        self.density_noise = (density_noise_initial, density_noise_fade_kimg)
        settings = dict(cameras or {})
        self.lens = (settings.pop("radius", 1.0), settings.pop("fov", 12.0))
        self.cameras = None if cameras is None else CameraDistribution(**settings)

    def at(self, nimg: float) -> EpigrafMoment:
        """The schedules after `nimg` real images."""
        return EpigrafMoment(
            schedules.blur_sigma(nimg, self.blur_init_sigma, self.blur_fade_kimg),
            schedules.swapping_prob(nimg, *self.gpc),
            self.G.img_resolution,
            density_noise(nimg, *self.density_noise),
            nimg,
        )

    def example(self, pictures: dict[str, Tensor], c: Tensor) -> list:
        """What D would be called with for G's pictures and labels c."""
        return self._told_of(self._cut(pictures["image"], self._whole(len(c), c.device)), c)

    # -- The terms -------------------------------------------------------------------------------

    def generator(self, batch: Batch, nimg: float) -> Iterator[Term]:
        """Main term of G: the discriminator is to take its patches for real ones."""
        return super().generator(self._seen(batch), nimg)

    def discriminator(self, batch: Batch, nimg: float) -> Iterator[Term]:
        """Main terms of D, generated patches and then real ones. Updates G's tracked mean w."""
        return super().discriminator(self._seen(batch), nimg)

    def r1(self, batch: Batch, nimg: float) -> Iterator[Term]:
        """R1 penalty of D on real patches, before blur and augmentation."""
        if self.r1_gamma == 0:
            return
        moment = self.at(nimg)
        real = self._real(batch, moment)
        real["image"] = real["image"].detach().requires_grad_(True)
        logits = self._judge(real, batch.real_c, moment)
        penalty = squared_gradients(logits, [real["image"]])
        loss = penalty * (self.r1_gamma / 2)
        stats = {"Loss/r1_penalty": penalty, "Loss/D/reg": loss}
        yield Term(loss, {**scores("real", logits), **stats})

    # -- Their parts -----------------------------------------------------------------------------

    def _seen(self, batch: Batch) -> Batch:
        """The batch with other cameras for the generated pictures, where they are distributed."""
        if self.cameras is None:
            return batch
        old, classes = split_label(batch.gen_c)
        angles = sample_angles(len(old), self.cameras, old.device)
        camera = label_from_angles(angles, *self.lens)
        return batch._replace(gen_c=torch.cat([camera, classes], dim=1))

    def _view(self, count: int, moment: EpigrafMoment, device: torch.device) -> PatchView:
        if self.patches is None:
            return self._whole(count, device)
        return self.patches.sample(count, moment.nimg, self.patch_resolution, device)

    def _whole(self, count: int, device: torch.device) -> PatchView:
        ones = torch.ones([count, 2], device=device)
        return PatchView(ones, torch.zeros_like(ones), self.patch_resolution)

    @staticmethod
    def _cut(images: Tensor, view: View) -> dict:
        return {"image": view.crop(images), "view": view}

    def _generate(self, batch: Batch, moment: EpigrafMoment, update_emas: bool = False) -> dict:
        c = batch.gen_c
        ws = self._latents(batch, moment, update_emas)
        view = self._view(len(c), moment, c.device)
        picture = self.G.render(
            self.G.planes(ws, update_emas=update_emas),
            ws,
            c,
            options=dict(self.G.rendering_kwargs, density_noise=moment.density_noise),
            recompute=self.recompute,
            view=view,
        )
        return {"image": picture["image"], "view": view}

    def _latents(self, batch: Batch, moment: Moment, update_emas: bool = False) -> Tensor:
        """As of `StyleGAN2Loss`, but cameras that are not swapped are not hidden: G's mapping does
        not look at them unless it is told to."""
        z, c = batch.gen_z, batch.gen_c
        condition = c
        if moment.swapping_prob is not None:
            gate = torch.rand((len(c), 1), device=c.device) < moment.swapping_prob
            condition = with_swapped_cameras(c, gate)
        ws = self.G.mapping(z, condition, update_emas=update_emas)
        return self._mix_styles(ws, z, condition)

    def _real(self, batch: Batch, moment: EpigrafMoment) -> dict:
        images = batch.real_img
        return self._cut(images, self._view(len(images), moment, images.device))

    def _judge(self, images: dict, c: Tensor, moment: Moment, update_emas: bool = False) -> Tensor:
        patch = blurred(images["image"], moment.blur_sigma)
        if self.augment_pipe is not None:
            patch = self.augment_pipe(patch)
        return self.D(*self._told_of({**images, "image": patch}, c), update_emas=update_emas)

    def _told_of(self, images: dict, c: Tensor) -> list:
        """D's arguments: patches, classes, angles, scales and offsets."""
        view = images["view"]
        camera, class_label = split_label(self._told(c))
        angles = angles_from_label(camera)
        return [{"image": images["image"]}, class_label, angles, view.scales, view.offsets]
