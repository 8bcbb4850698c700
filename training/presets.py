"""The presets of `train.py --cfg`: how each data set is rendered, and what else it wants."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Preset:
    """`rendering` goes to `rendering_kwargs`; `options` are other defaults for the command's
    options; `generator`, `superresolution`, `loss` and `run` (fields of `TrainingConfig`) are
    settings that no option reaches. `std_of_every_channel` shows the discriminator the minibatch
    standard deviation of each channel in place of their mean: a mean over all channels hardly sees
    that all cars have one colour, since they are seen from all sides."""

    rendering: dict
    options: dict = field(default_factory=dict)
    generator: dict = field(default_factory=dict)
    superresolution: dict = field(default_factory=dict)
    loss: dict = field(default_factory=dict)
    run: dict = field(default_factory=dict)
    std_of_every_channel: bool = False


_FACES = dict(
    depth_resolution=48,
    depth_resolution_importance=48,
    ray_start=2.25,
    ray_end=3.3,
    box_warp=1,
    avg_camera_radius=2.7,
    avg_camera_focal=4.2647,
)

PRESETS = {
    "ffhq": Preset(dict(_FACES, avg_camera_pivot=[0, 0, 0.2])),
    "afhq": Preset(dict(_FACES, avg_camera_pivot=[0, 0, -0.06])),
    "shapenet": Preset(
        dict(
            depth_resolution=64,
            depth_resolution_importance=64,
            ray_start=0.1,
            ray_end=2.6,
            box_warp=1.6,
            white_back=True,
            avg_camera_radius=1.7,
            avg_camera_pivot=[0, 0, 0],
            avg_camera_focal=1.025390625,
            camera_azimuth_degrees=[-180, 180],
        )
    ),
    # Toy cars of 64 x 64 pixels on two CPU cores in minutes: see docs/log.md for what was tried.
    "demo": Preset(
        rendering=dict(
            depth_resolution=10,
            depth_resolution_importance=10,
            ray_start=1.35,
            ray_end=2.65,
            box_warp=1.1,
            white_back=True,
            avg_camera_radius=2.0,
            avg_camera_pivot=[0, 0, 0],
            avg_camera_focal=1.6,
            camera_azimuth_degrees=[-180, 180],
            camera_elevation_degrees=[5, 60],
            shape_border=0,
        ),
        options=dict(
            gpus=1,
            batch=8,
            gamma=10.0,
            kimg=20,
            tick=1,
            snap=2,
            cbase=1024,
            cmax=64,
            glr=0.005,
            dlr=0.004,
            mbstd_group=8,
            workers=1,
            metrics=[],
            neural_rendering_resolution_initial=16,
        ),
        generator=dict(plane_resolution=32),
        superresolution=dict(widths=[64, 32]),
        loss=dict(blur_init_sigma=0),
        run=dict(image_grid=[10, 6]),
        std_of_every_channel=True,
    ),
}

# Super-resolution modules of the published resolutions; other sizes use the general one.
SUPERRESOLUTION_MODULES = {
    128: "training.superresolution.SuperresolutionHybrid2X",
    256: "training.superresolution.SuperresolutionHybrid4X",
    512: "training.superresolution.SuperresolutionHybrid8XDC",
    1024: "training.superresolution.SuperresolutionHybrid16XDC",
}
GENERAL_SUPERRESOLUTION = "training.superresolution.Superresolution"
