"""The parts of Mimic3D as a method of training, see `training.method`.

Stage 1 trains the 2D branch: EG3D whose planes know of each other. Stage 2 starts from its snapshot
(`--resume`) and trains both branches.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import dnnlib
from training import eg3d_method, presets
from training.mimic3d import METHOD
from training.mimic3d.perceptual_file import RANDOM, load_distance
from training.option_checks import OptionError
from training.presets import Preset

__all__ = ["PRESETS", "check", "settings"]

NONE = "none"  # a value of --lpips
SMALLEST = 16  # windows that five levels of VGG16 leave something of
D_REG_INTERVAL = 16
DENSITY_SPREAD = {1: 0.004, 2: 0.002}  # --density_reg_p_dist by stage


def _preset(cfg: str, generator: Mapping[str, Any] = MappingProxyType({}), **options) -> Preset:
    """That of EG3D with other defaults: `options`, what Mimic3D is, and for its generator."""
    base = presets.PRESETS[cfg]
    common = dict(gen_pose_cond=True, aware3d=True, plane_axes="cyclic", density_reg_p_dist=None)
    return replace(
        base,
        options={**base.options, **common, **options},
        generator={**base.generator, **generator},
    )


_MACHINE = dict(gpus=8, batch=32)
PRESETS = {
    "ffhq": _preset("ffhq", gamma=1.0, **_MACHINE),
    "afhq": _preset("afhq", gamma=5.0, aug="ada", **_MACHINE),
    "shapenet": _preset("shapenet", gamma=1.0, **_MACHINE),
    # A short training: it starts from planes of EG3D's size, those of the published start are ten
    # times as large and the scene was empty after 2 kimg.
    "demo": _preset("demo", dict(aware3d_init=0.4)),
}


def check(opts: dnnlib.EasyDict, training_set) -> None:
    """Raises OptionError for options that do not belong to the stage, or not together."""
    if opts.stage == 1:
        for flag, _, default, _ in METHOD.options[1:]:
            name = flag.removeprefix("--")
            if opts[name] != default:
                raise OptionError(f"{flag}={opts[name]}: is for --stage=2")
        return
    if not opts.aware3d:
        raise OptionError(
            "--aware3d=False: the finer planes of --stage=2 are made of planes that know of each "
            "other; leave it True"
        )
    if opts.lpips is None:
        raise OptionError(
            "--lpips: --stage=2 needs a perceptual distance: weights of LPIPS on VGG16 or a "
            f"TorchScript module; {RANDOM} for an untrained network, {NONE} to do without"
        )
    side, full = opts.neural_rendering_resolution_initial, training_set.resolution
    if not SMALLEST <= side <= full or side & (side - 1):
        raise OptionError(
            f"--neural_rendering_resolution_initial={side}: is the side of D_patch's windows too, "
            f"so it must be a power of two from {SMALLEST} to {full}"
        )


def settings(opts: dnnlib.EasyDict, preset: Preset, training_set) -> dict[str, Any]:
    """Networks, optimizers and losses of the stage, as fields of `TrainingConfig`."""
    if opts.density_reg_p_dist is None:
        opts = dnnlib.EasyDict(opts, density_reg_p_dist=DENSITY_SPREAD[opts.stage])
    fields = eg3d_method.settings(opts, preset, training_set)
    if opts.stage == 1:
        return fields
    G_kwargs = dict(
        fields["G_kwargs"],
        class_name="training.mimic3d.generator.DualTriPlaneGenerator",
        depth_guided_sample=opts.depth_guided_sample,
    )
    D_patch = dict(
        kwargs=_patch_discriminator(opts, fields["D_kwargs"]),
        opt_kwargs=eg3d_method.adam(opts.dlr),
        reg_interval=D_REG_INTERVAL,
    )
    loss = dict(fields["loss_kwargs"], **_loss(opts, training_set.resolution))
    return dict(fields, G_kwargs=G_kwargs, loss_kwargs=loss, extra_networks=dict(D_patch=D_patch))


def _patch_discriminator(opts: dnnlib.EasyDict, D_kwargs: dict) -> dict[str, Any]:
    """D's settings for windows of the size of raw pictures, without a label."""
    kind = "DualDiscriminator" if opts.dual_patch else "SingleDiscriminator"
    return dict(
        D_kwargs,
        class_name=f"training.dual_discriminator.{kind}",
        c_dim=0,
        img_resolution=opts.neural_rendering_resolution_initial,
        img_channels=3,
        block_kwargs={},
        disc_c_noise=0,
    )


def _loss(opts: dnnlib.EasyDict, resolution: int) -> dict[str, Any]:
    """Class of the loss and the arguments of stage 2; opens the file of `--lpips`."""
    source = None if opts.lpips == NONE else opts.lpips
    patch_gan = opts.patch_gan
    if patch_gan is None:
        patch_gan = 0.1 if resolution >= 512 else 0.2
    return dict(
        class_name="training.mimic3d.loss.Mimic3DLoss",
        lpips=source,
        lpips_sha256=None if source is None else load_distance(source).sha256,
        patch_gan=patch_gan,
        r1_gamma_patch=opts.gamma if opts.gamma_patch is None else opts.gamma_patch,
        feat_match=opts.feat_match,
        detail_reg=opts.detail_reg,
    )
