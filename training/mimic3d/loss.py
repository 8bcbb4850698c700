"""The losses of Mimic3D (Chen et al. 2023, "Mimic3D: Thriving 3D-Aware GANs via 3D-to-2D
Imitation").

Two branches render the same scene: the 2D branch coarsely, with super-resolution of its pictures,
as EG3D; the 3D branch windows of the final picture directly, at full resolution. What the 3D branch
renders is to look like the same window of the other branch's picture, which does not move towards
it, and like a window of some real picture.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training import schedules
from training.dual_discriminator import DualDiscriminator, filtered_resizing
from training.loss import (
    Batch,
    Moment,
    StyleGAN2Loss,
    Term,
    Trainee,
    blurred,
    scores,
    squared_gradients,
)
from training.mimic3d.perceptual import unit_length
from training.mimic3d.perceptual_file import load_distance
from training.option_checks import OptionError
from training.views import WindowView, random_windows

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PatchMoment(Moment):
    """`blur_sigma_raw`: further blur of the raw real pictures that a dual D_patch sees."""

    blur_sigma_raw: float


class Mimic3DLoss(StyleGAN2Loss):
    """The terms of both branches: `generator` for G, `density` on both sets of its planes;
    `discriminator` and `r1` for D, which sees the 2D branch alone; `patch_discriminator` and
    `patch_r1` for D_patch.

    Args:
        G: a `DualTriPlaneGenerator`.
        D_patch: discriminator, without a label, of windows of the size of its pictures. A dual one
            also sees the window of the raw picture, enlarged.
        lpips: the distance between the branches, of weight 1: a file, see `perceptual_file`, or a
            function of pictures a, b [N, 3, n, n] -> [N, ...]; None for none.
        lpips_sha256: what the file must have, None for any.
        patch_gan: weight of D_patch's judgement.
        r1_gamma_patch: weight of D_patch's R1 penalty, 0 for none.
        feat_match: weight of the difference between what D_patch's blocks make of the branches.
        detail_reg: weight of the mean size of the residual planes.
        blur_init_sigma_patch: further blur of raw real pictures in front of a dual D_patch; fades
            as `blur_init_sigma` does.
        kwargs: those of `StyleGAN2Loss`.
    """

    def __init__(
        self,
        G: torch.nn.Module,
        D: torch.nn.Module,
        D_patch: torch.nn.Module,
        augment_pipe: torch.nn.Module | None = None,
        lpips: str | Distance | None = None,
        lpips_sha256: str | None = None,
        patch_gan: float = 0.1,
        r1_gamma_patch: float = 1,
        feat_match: float = 0,
        detail_reg: float = 0,
        blur_init_sigma_patch: float = 0,
        **kwargs,
    ):
        super().__init__(G, D, augment_pipe, **kwargs)
        self.D_patch = D_patch
        self.dual_patches = isinstance(D_patch, DualDiscriminator)
        self.distance = lpips
        if isinstance(lpips, str):
            self.distance = _distance_of(lpips, lpips_sha256, next(G.parameters()).device)
        self.patch_gan = patch_gan
        self.r1_gamma_patch = r1_gamma_patch
        self.feat_match = feat_match
        self.detail_reg = detail_reg
        self.blur_init_sigma_patch = blur_init_sigma_patch

    def at(self, nimg: float) -> PatchMoment:
        """The schedules after `nimg` real images."""
        sigma = schedules.blur_sigma(nimg, self.blur_init_sigma_patch, self.blur_fade_kimg)
        return PatchMoment(**vars(super().at(nimg)), blur_sigma_raw=sigma)

    def trained(self) -> tuple[Trainee, ...]:
        """What is trained by which terms, in the order of an iteration."""
        patches = Trainee("D_patch", self.D_patch, self.patch_discriminator, self.patch_r1)
        return (*super().trained(), patches)

    # -- The terms -------------------------------------------------------------------------------

    def generator(self, batch: Batch, nimg: float) -> Iterator[Term]:
        """Main terms of G, all in one, since they go back through the same planes."""
        moment = self.at(nimg)
        ws = self._latents(batch, moment)
        planes = self.G.planes(ws, branch="3d")
        pictures = self._render(planes, ws, batch.gen_c, moment)
        logits = self._judge(pictures, batch.gen_c, moment)
        loss = F.softplus(-logits)
        terms = [Term(loss, {**scores("fake", logits), "Loss/G/loss": loss})]
        (window,) = self._windows(batch)
        patches = self.G.windows(
            planes, ws, batch.gen_c, window, pictures, recompute=self.recompute
        )
        terms += self._imitation(patches, moment)
        if self.detail_reg > 0:
            size = self.G.plane_sets(planes)[1].abs().mean() * self.detail_reg
            terms.append(Term(size, {"Loss/G/detail_reg": size}))
        stats = {name: value for term in terms for name, value in term.stats.items()}
        yield Term(torch.stack([term.loss.mean() for term in terms]).sum(), stats)

    def _imitation(self, patches: dict[str, Tensor], moment: PatchMoment) -> Iterator[Term]:
        """How far windows of the 3D branch are from those of the 2D branch and from real ones."""
        rendered, target = patches["patch_image_raw"], patches["patch_image"]
        if self.distance is not None:
            distance = self.distance(rendered, target)
            yield Term(distance, {"Loss/G/lpips": distance})
        if self.feat_match > 0:
            logits, difference = self._compare(patches)
            difference = difference * self.feat_match
            yield Term(difference, {"Loss/G/feat": difference})
        else:
            shown = self._prepare_patches(rendered, patches["patch_image_gr"], moment)
            logits = self.D_patch(shown, None)
        loss = F.softplus(-logits) * self.patch_gan
        yield Term(loss, {**scores("patch_fake", logits), "Loss/G/patch": loss})

    def patch_discriminator(self, batch: Batch, nimg: float) -> Iterator[Term]:
        """Main terms of D_patch, rendered windows and then real ones."""
        moment = self.at(nimg)
        real_window, fake_window = self._windows(batch, times=2)
        logits = self.D_patch(self._fake_patches(batch, moment, fake_window), None)
        loss_fake = F.softplus(logits)
        yield Term(loss_fake, scores("patch_fake", logits))

        logits = self.D_patch(self._real_patches(batch, moment, real_window), None)
        loss_real = F.softplus(-logits)
        total = loss_fake.detach() + loss_real
        yield Term(loss_real, {**scores("patch_real", logits), "Loss/D_patch/loss": total})

    def patch_r1(self, batch: Batch, nimg: float) -> Iterator[Term]:
        """R1 penalty of D_patch on real windows, for its actual inputs, as `r1`."""
        if self.r1_gamma_patch == 0:
            return
        (window,) = self._windows(batch)
        real = self._real_patches(batch, self.at(nimg), window)
        real = {name: image.detach().requires_grad_(True) for name, image in real.items()}
        penalty = squared_gradients(self.D_patch(real, None), list(real.values()))
        loss = penalty * (self.r1_gamma_patch / 2)
        yield Term(loss, {"Loss/patch_r1_penalty": penalty, "Loss/D_patch/reg": loss})

    # -- Their parts -----------------------------------------------------------------------------

    def _render(
        self, planes: Tensor, ws: Tensor, c: Tensor, moment: PatchMoment
    ) -> dict[str, Tensor]:
        """The pictures of the 2D branch."""
        options = self.G.of_branch("2d")
        side = moment.rendering_resolution
        return self.G.render(planes, ws, c, side, options=options, recompute=self.recompute)

    def _generate(self, batch: Batch, moment: PatchMoment, update_emas: bool = False) -> dict:
        ws = self._latents(batch, moment, update_emas)
        planes = self.G.planes(ws, update_emas, branch="2d")
        return self._render(planes, ws, batch.gen_c, moment)

    def _windows(self, batch: Batch, times: int = 1) -> list[WindowView]:
        """Random windows of D_patch's size in each picture of the batch, `times` over."""
        side, full = self.D_patch.img_resolution, self.G.img_resolution
        corners = random_windows(times * len(batch.gen_z), side, full, batch.gen_z.device)
        return [WindowView(part, side, full) for part in corners.chunk(times)]

    def _fake_patches(
        self, batch: Batch, moment: PatchMoment, window: WindowView
    ) -> dict[str, Tensor]:
        """What D_patch sees of generated pictures; no gradient leads to G."""
        with torch.no_grad():
            ws = self._latents(batch, moment)
            planes, c = self.G.planes(ws, branch="3d"), batch.gen_c
            pictures = self._render(planes, ws, c, moment) if self.dual_patches else None
            patches = self.G.windows(planes, ws, c, window, pictures)
        return self._prepare_patches(
            patches["patch_image_raw"], patches.get("patch_image_gr"), moment
        )

    def _real_patches(
        self, batch: Batch, moment: PatchMoment, window: WindowView
    ) -> dict[str, Tensor]:
        """What D_patch sees of real pictures."""
        patch, raw = window.crop(batch.real_img), None
        if self.dual_patches:
            raw = blurred(self._real(batch, moment)["image_raw"], moment.blur_sigma_raw)
            raw = window.crop(filtered_resizing(raw, self.G.img_resolution, self.resample_filter))
        return self._prepare_patches(patch, raw, moment)

    def _prepare_patches(
        self, patch: Tensor, raw: Tensor | None, moment: PatchMoment
    ) -> dict[str, Tensor]:
        """Windows blurred and augmented as whole pictures are. The raw picture's stays as it is."""
        patch = blurred(patch, moment.blur_sigma)
        if self.augment_pipe is not None:
            patch = self.augment_pipe(patch)
        return {"image": patch, "image_raw": raw} if self.dual_patches else {"image": patch}

    def _compare(self, patches: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """D_patch's logits [N, 1] of the rendered windows, and how differently its blocks see those
        of the 2D branch, [N]. Neither is blurred or augmented."""
        raw = patches["patch_image_gr"]

        def seen(name: str) -> tuple[Tensor, list[Tensor]]:
            pair = {"image": patches[name], "image_raw": raw}
            return self.D_patch(pair, None, return_features=True)

        logits, features = seen("patch_image_raw")
        with torch.no_grad():
            _, targets = seen("patch_image")
        differences = (
            (unit_length(one.float()) - unit_length(other.float())).square().mean(dim=(1, 2, 3))
            for one, other in zip(features, targets, strict=True)
        )
        return logits, sum(differences)


def _distance_of(source: str, sha256: str | None, device: torch.device) -> torch.nn.Module:
    loaded = load_distance(source, device)
    if sha256 is not None and loaded.sha256 != sha256:
        raise OptionError(
            f"--lpips={source}: has changed since the run began: its SHA-256 is {loaded.sha256}, "
            f"was {sha256}"
        )
    return loaded.module
