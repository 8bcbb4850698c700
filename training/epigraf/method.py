"""The parts of EpiGRAF as a method of training: presets, networks and losses from options."""

import math
from typing import Any

import numpy as np

import dnnlib
from training.cameras import LABEL_SIZE
from training.eg3d_method import adam
from training.epigraf.cameras import CameraDistribution, check_frustum
from training.epigraf.generator import PLANE_RESOLUTION
from training.epigraf.patches import PatchSampler
from training.option_checks import OptionError
from training.presets import Preset
from training.synthesis import block_channels

OPEN, CLOSED = 1e-3, 1e10  # what the last sample of a ray stands for

_RENDERING = dict(
    depth_resolution=48,
    depth_resolution_importance=48,
    disparity_space_sampling=False,
    ray_marcher="classic",
    clamp_mode="softplus",
    density_bias=0.0,
    depth_jitter="bins",
    importance_smoothing=False,
    plane_align_corners=True,
    superresolution_module=None,
    superresolution_noise_mode="none",
    density_reg=0,
)


def _published(options: dict, **rendering: Any) -> Preset:
    """A published recipe. Distances are in units of the cameras' radius."""
    common = dict(kimg=50000, batch=64, aug="ada", mirror=True, metrics=["fid2k_full"])
    rendering = dict(_RENDERING, **rendering, avg_camera_radius=1.0, avg_camera_pivot=[0, 0, 0])
    generator = dict(plane_resolution=PLANE_RESOLUTION)
    return Preset(rendering, options=dict(common, **options), generator=generator)


_FACES = dict(ray_start=0.88, ray_end=1.12, box_warp=0.4, avg_camera_focal=4.757182)
_THINGS = dict(
    ray_start=0.75,
    ray_end=1.25,
    box_warp=0.95,
    avg_camera_focal=1.866025,
    white_back=True,
    camera_azimuth_degrees=[-180, 180],
)

PRESETS = {
    "ffhq": _published(dict(gamma=0.1, disc_pose_cond=True), **_FACES),
    "cats": _published(dict(gamma=0.05, disc_pose_cond=True), **_FACES),
    "plants": _published(dict(gamma=0.05, camera_dist="spherical_uniform"), **_THINGS),
    "food": _published(dict(gamma=0.05, camera_dist="spherical_uniform"), **_THINGS),
    # Toy cars of 64 x 64 pixels on two CPU cores in minutes, beside that of EG3D: docs/log.md.
    "demo": Preset(
        rendering=dict(
            _RENDERING,
            depth_resolution=10,
            depth_resolution_importance=10,
            ray_start="auto",
            ray_end="auto",
            ray_limits="exact",
            density_bias=-1.0,
            box_warp=0.55,
            avg_camera_radius=1.0,
            avg_camera_pivot=[0, 0, 0],
            avg_camera_focal=1.6,
            camera_azimuth_degrees=[-180, 180],
            camera_elevation_degrees=[5, 60],
            white_back=True,
            last_delta=OPEN,
            empty_depth="ray",
            shape_border=0,
        ),
        options=dict(
            gpus=1,
            batch=8,
            gamma=0.5,
            kimg=20,
            tick=1,
            snap=2,
            cbase=2048,
            cmax=64,
            glr=0.005,
            dlr=0.004,
            mbstd_group=8,
            workers=1,
            metrics=[],
            patch_resolution=32,
            patch_anneal_kimg=30,
            density_noise=0.0,
            disc_pose_cond=True,
            disc_pose_drop=0.0,
        ),
        generator=dict(plane_resolution=64),
        loss=dict(blur_init_sigma=0),
        run=dict(image_grid=[10, 6]),
        std_of_every_channel=True,
    ),
}


def check(opts: dnnlib.EasyDict, training_set) -> None:
    """Raises OptionError for patches that pictures do not have, and for rays that leave the box."""
    side, full = opts.patch_resolution, training_set.resolution
    if side & (side - 1) or side > full:
        raise OptionError(
            f"--patch_resolution={side}: must be a power of two, at most the {full} pixels of the "
            "pictures"
        )
    try:
        if opts.patch_distribution != "whole":
            PatchSampler(**_patches(opts, full)).check_size(side, full)
    except ValueError as error:
        raise OptionError(f"--patch_distribution={opts.patch_distribution}: {error}") from None
    rendering = PRESETS[opts.cfg].rendering
    if _last_delta(opts, rendering) == CLOSED:
        try:
            near, far = rendering["ray_start"], rendering["ray_end"]
            check_frustum(_fov(rendering), near, far, 1.0, rendering["box_warp"] / 2)
        except ValueError as error:
            raise OptionError(f"--cfg={opts.cfg}: {error}") from None


def settings(opts: dnnlib.EasyDict, preset: Preset, training_set) -> dict[str, Any]:
    """Networks, optimizers and losses, as fields of `TrainingConfig`."""
    radius = _radius(training_set)
    return dict(
        G_kwargs=_generator(opts, preset, training_set.resolution, radius),
        D_kwargs=_discriminator(opts, preset, training_set),
        G_opt_kwargs=adam(opts.glr),
        D_opt_kwargs=adam(opts.dlr),
        G_reg_interval=None,
        loss_kwargs=_loss(opts, preset, training_set.resolution, radius),
    )


def _radius(training_set) -> float:
    """The usual distance of the data's cameras from the origin, to three digits."""
    places = training_set.all_labels()[:, [3, 7, 11]]
    return float(f"{np.median(np.linalg.norm(places, axis=1)):.3g}")


def _scaled(rendering: dict, radius: float) -> dict[str, Any]:
    """The preset's lengths, in units of the radius, in the data's."""
    lengths = {k: rendering[k] for k in ("ray_start", "ray_end", "box_warp", "avg_camera_radius")}
    return {k: value if value == "auto" else value * radius for k, value in lengths.items()}


def _fov(rendering: dict) -> float:
    return math.degrees(2 * math.atan(0.5 / rendering["avg_camera_focal"]))


def _last_delta(opts, rendering: dict) -> float:
    """A volume with something behind it must let light through."""
    return rendering.get("last_delta", CLOSED if opts.background == "none" else OPEN)


def _generator(opts, preset: Preset, resolution: int, radius: float) -> dict[str, Any]:
    rendering = dict(
        preset.rendering,
        **_scaled(preset.rendering, radius),
        image_resolution=resolution,
        last_delta=_last_delta(opts, preset.rendering),
        gpc_reg_prob=opts.gpc_reg_prob if opts.gen_pose_cond else None,
    )
    return dict(
        class_name="training.epigraf.generator.EpigrafGenerator",
        z_dim=512,
        w_dim=512,
        mapping_kwargs=dict(
            num_layers=opts.map_depth,
            camera_cond=opts.gen_pose_cond,
            mean_camera_pose=[0.0, math.pi / 2, 0.0],
        ),
        channel_base=opts.cbase,
        channel_max=opts.cmax,
        fused_modconv_default="inference_only",
        rendering_kwargs=rendering,
        background=opts.background,
        num_fp16_res=opts.g_num_fp16_res,
        **preset.generator,
    )


def _discriminator(opts, preset: Preset, training_set) -> dict[str, Any]:
    base, resolution = opts.cbase // 2, training_set.resolution
    epilogue = dict(mbstd_group_size=opts.mbstd_group)
    if preset.std_of_every_channel:
        epilogue["mbstd_num_channels"] = block_channels(4, base, opts.cmax)
    head = dict(
        camera_cond=opts.disc_pose_cond,
        camera_cond_drop_p=opts.disc_pose_drop,
        camera_cond_drop=opts.disc_pose_drop_kind,
    )
    return dict(
        class_name="training.epigraf.discriminator.PatchDiscriminator",
        c_dim=training_set.label_dim - LABEL_SIZE,  # classes; cameras are angles to it
        img_resolution=opts.patch_resolution,
        num_additional_start_blocks=int(math.log2(resolution / opts.patch_resolution)),
        channel_base=base,
        channel_max=opts.cmax,
        num_fp16_res=opts.d_num_fp16_res,
        head_kwargs=head,
        block_kwargs=dict(freeze_layers=opts.freezed),
        epilogue_kwargs=epilogue,
    )


def _loss(opts, preset: Preset, resolution: int, radius: float) -> dict[str, Any]:
    cameras = None
    if opts.camera_dist != "data":
        fov = _fov(preset.rendering)
        cameras = dict(vars(CameraDistribution(opts.camera_dist)), radius=radius, fov=fov)
    whole = opts.patch_distribution == "whole"
    loss = dict(
        class_name="training.epigraf.loss.EpigrafLoss",
        r1_gamma=opts.gamma,
        style_mixing_prob=opts.style_mixing_prob,
        blur_init_sigma=10,
        blur_fade_kimg=opts.batch * opts.blur_fade_kimg / 64,
        gpc_reg_fade_kimg=opts.gpc_reg_fade_kimg,
        gpc_reg_prob=opts.gpc_reg_prob if opts.gen_pose_cond else None,
        conditional=opts.cond,
        recompute=opts.recompute,
        patch_resolution=opts.patch_resolution,
        patches=None if whole else _patches(opts, resolution),
        density_noise_initial=opts.density_noise,
        density_noise_fade_kimg=opts.density_noise_fade_kimg,
        cameras=cameras,
    )
    return dict(loss, **preset.loss)


def _patches(opts, resolution: int) -> dict[str, Any]:
    least = opts.patch_min_scale
    return dict(
        distribution=opts.patch_distribution,
        min_scale=opts.patch_resolution / resolution if least is None else least,
        anneal_kimg=opts.patch_anneal_kimg,
        group_size=opts.mbstd_group,
        grouping=opts.patch_grouping,
    )
