"""Mimic3D (Chen et al. 2023): a 3D branch that learns from the 2D branch of an EG3D model."""

import click

from training.method import Importer, Method

_WEIGHT = click.FloatRange(min=0)

METHOD = Method(
    name="mimic3d",
    title="pictures rendered at full resolution that imitate super-resolution (Chen et al. 2023)",
    cfgs=("ffhq", "afhq", "shapenet", "demo"),
    parts="training.mimic3d.method",
    options=(
        ("--stage", click.IntRange(1, 2), 1, "1: the 2D branch; 2: both, from a snapshot of 1"),
        (
            "--lpips",
            str,
            None,
            "Distance of the branches: LPIPS weights, TorchScript, random, none",
        ),
        (
            "--patch_gan",
            _WEIGHT,
            None,
            "Weight of D_patch  [default: 0.1 from 512 pixels, else 0.2]",
        ),
        ("--gamma_patch", _WEIGHT, None, "R1 weight of D_patch  [default: as --gamma]"),
        ("--dual_patch", bool, False, "D_patch also sees the raw picture"),
        ("--feat_match", _WEIGHT, 0, "Weight of D_patch seeing both branches alike"),
        ("--detail_reg", _WEIGHT, 0, "Weight of the size of the residual planes"),
        ("--depth_guided_sample", _WEIGHT, 0, "Look so far around the 2D branch's surface; 0: off"),
    ),
    classes={"training.mimic3d.generator": ("DualTriPlaneGenerator",)},
    importers=tuple(
        Importer(name, "triplane_channels", f"training.mimic3d.published:{function}")
        for name, function in (
            ("DualTriPlaneGenerator", "dual_generator"),
            ("TriPlaneGenerator", "generator"),
        )
    ),
)
