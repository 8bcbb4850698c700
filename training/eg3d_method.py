"""The parts of EG3D as a method of training: networks and losses from the options of a run.

Other methods start from them, see `training.method`.
"""

from typing import Any

import dnnlib
from training.aware3d import aware3d_resolutions
from training.option_checks import superresolution_module
from training.presets import PRESETS, Preset
from training.synthesis import block_channels
from training.triplane import PLANE_RESOLUTION

__all__ = [
    "PRESETS",
    "adam",
    "check",
    "discriminator_kwargs",
    "generator_kwargs",
    "loss_kwargs",
    "settings",
]


def check(opts: dnnlib.EasyDict, training_set) -> None:
    """Nothing that `training.option_checks` does not check for all methods."""


def settings(opts: dnnlib.EasyDict, preset: Preset, training_set) -> dict[str, Any]:
    """Networks, optimizers and losses, as fields of `TrainingConfig`."""
    return dict(
        G_kwargs=generator_kwargs(opts, preset, training_set.resolution),
        D_kwargs=discriminator_kwargs(opts, preset),
        G_opt_kwargs=adam(opts.glr),
        D_opt_kwargs=adam(opts.dlr),
        loss_kwargs=loss_kwargs(opts, preset),
    )


def adam(lr: float) -> dict[str, Any]:
    """Adam as GANs of this family are trained with, by a learning rate."""
    return dict(class_name="torch.optim.Adam", betas=[0, 0.99], eps=1e-8, lr=lr)


def generator_kwargs(opts: dnnlib.EasyDict, preset: Preset, resolution: int) -> dict[str, Any]:
    """Class and arguments of G; `resolution` is the side of the pictures."""
    channels = dict(channel_base=opts.cbase, channel_max=opts.cmax)
    rendering = dict(
        image_resolution=resolution,
        disparity_space_sampling=False,
        clamp_mode="softplus",
        superresolution_module=superresolution_module(opts, resolution),
        c_gen_conditioning_zero=not opts.gen_pose_cond,
        gpc_reg_prob=opts.gpc_reg_prob if opts.gen_pose_cond else None,
        c_scale=opts.c_scale,
        superresolution_noise_mode=opts.sr_noise_mode,
        density_reg=opts.density_reg,
        density_reg_p_dist=opts.density_reg_p_dist,
        reg_type=opts.reg_type,
        decoder_lr_mul=opts.decoder_lr_mul,
        sr_antialias=True,
        plane_axes=opts.plane_axes,
        **preset.rendering,
    )
    return dict(
        class_name="training.triplane.TriPlaneGenerator",
        z_dim=512,
        w_dim=512,
        mapping_kwargs=dict(num_layers=opts.map_depth),
        **channels,
        fused_modconv_default="inference_only",
        rendering_kwargs=rendering,
        num_fp16_res=opts.g_num_fp16_res,
        conv_clamp=256 if opts.g_num_fp16_res > 0 else None,
        **_stream(opts, preset),
        sr_num_fp16_res=opts.sr_num_fp16_res,
        sr_kwargs=dict(
            **channels, fused_modconv_default="inference_only", **preset.superresolution
        ),
        **preset.generator,
    )


def _stream(opts: dnnlib.EasyDict, preset: Preset) -> dict[str, Any]:
    """The 3D-aware stream of `training.aware3d`, in all resolutions."""
    if not opts.aware3d:
        return {}
    planes = preset.generator.get("plane_resolution", PLANE_RESOLUTION)
    return dict(aware3d_res=aware3d_resolutions(planes))


def discriminator_kwargs(opts: dnnlib.EasyDict, preset: Preset) -> dict[str, Any]:
    """Class and arguments of D."""
    epilogue = dict(mbstd_group_size=opts.mbstd_group)
    if preset.std_of_every_channel:
        epilogue["mbstd_num_channels"] = block_channels(4, opts.cbase, opts.cmax)
    return dict(
        class_name="training.dual_discriminator.DualDiscriminator",
        block_kwargs=dict(freeze_layers=opts.freezed),
        mapping_kwargs={},
        epilogue_kwargs=epilogue,
        channel_base=opts.cbase,
        channel_max=opts.cmax,
        disc_c_noise=opts.disc_c_noise,
        num_fp16_res=opts.d_num_fp16_res,
        conv_clamp=256 if opts.d_num_fp16_res > 0 else None,
    )


def loss_kwargs(opts: dnnlib.EasyDict, preset: Preset) -> dict[str, Any]:
    """Class and arguments of the loss."""
    loss = dict(
        class_name="training.loss.StyleGAN2Loss",
        r1_gamma=opts.gamma,
        style_mixing_prob=opts.style_mixing_prob,
        blur_init_sigma=10,
        blur_fade_kimg=opts.batch * opts.blur_fade_kimg / 32,
        neural_rendering_resolution_initial=opts.neural_rendering_resolution_initial,
        neural_rendering_resolution_final=opts.neural_rendering_resolution_final,
        neural_rendering_resolution_fade_kimg=opts.neural_rendering_resolution_fade_kimg,
        gpc_reg_fade_kimg=opts.gpc_reg_fade_kimg,
        gpc_reg_prob=opts.gpc_reg_prob if opts.gen_pose_cond else None,
        dual_discrimination=True,
        filter_mode="antialiased",
        conditional=opts.cond,
        recompute=opts.recompute,
    )
    return dict(loss, **preset.loss)
