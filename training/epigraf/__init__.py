"""EpiGRAF (Skorokhodov et al. 2022, arXiv 2206.10535): a tri-plane generator without
super-resolution, trained on patches of its pictures."""

import click

from training.method import Importer, Method

_WEIGHT = click.FloatRange(min=0)
_SHARE = click.FloatRange(min=0, max=1)
_DISTRIBUTIONS = ("beta", "uniform", "discrete_uniform", "whole")
_CAMERAS = ("data", "uniform", "normal", "hybrid", "truncated_gaussian", "spherical_uniform")

METHOD = Method(
    name="epigraf",
    title="a radiance field at full resolution, trained patch by patch (Skorokhodov et al. 2022)",
    cfgs=("ffhq", "cats", "plants", "food", "demo"),
    parts="training.epigraf.method",
    options=(
        ("--patch_resolution", click.IntRange(min=8), 64, "Side of a patch in pixels"),
        (
            "--patch_distribution",
            click.Choice(_DISTRIBUTIONS),
            "beta",
            "Of the patches' scales; whole: coarse pictures alone",
        ),
        ("--patch_min_scale", _SHARE, None, "Least scale  [default: that of whole pixels]"),
        (
            "--patch_anneal_kimg",
            click.IntRange(min=0),
            10000,
            "Until patches are at their smallest",
        ),
        (
            "--patch_grouping",
            click.Choice(["strided", "contiguous"]),
            "strided",
            "Who shares a patch: those that minibatch deviation compares; or as published",
        ),
        ("--background", click.Choice(["none", "plane", "sphere"]), "none", "Behind the volume"),
        ("--disc_pose_cond", bool, False, "Tell D the cameras"),
        ("--disc_pose_drop", _SHARE, 0.5, "Probability that D is not told a number of them"),
        (
            "--disc_pose_drop_kind",
            click.Choice(["element", "sample"]),
            "element",
            "Not a number, or none of a picture's numbers",
        ),
        ("--camera_dist", click.Choice(_CAMERAS), "data", "Of generated pictures' cameras"),
        ("--density_noise", _WEIGHT, 1.0, "Noise on raw densities at first"),
        ("--density_noise_fade_kimg", click.IntRange(min=0), 5000, "Its fade"),
    ),
    ignored=frozenset(
        (
            *("neural_rendering_resolution_initial", "neural_rendering_resolution_final"),
            *("neural_rendering_resolution_fade_kimg", "sr_noise_mode", "sr_num_fp16_res"),
            *("sr_module", "density_reg", "density_reg_every", "density_reg_p_dist", "reg_type"),
            *("decoder_lr_mul", "plane_axes", "aware3d", "disc_c_noise", "c_scale"),
            "cuda_graphs",
        )
    ),
    classes={
        "training.epigraf.generator": ("EpigrafGenerator",),
        "training.epigraf.encoders": ("FourierEncoder1d", "ScalarEncoder1d"),
        "training.epigraf.mapping": ("PoseMappingNetwork",),
        "training.epigraf.decoder": ("LinearRGBDecoder", "EncodedRGBDecoder"),
        "training.epigraf.discriminator": ("PatchDiscriminator", "PatchDiscriminatorBlock"),
        "training.epigraf.background_network": (
            "BackgroundINR",
            "BackgroundBlock",
            "BackgroundLayer",
        ),
    },
    plain_classes={"PlaneBackbone": "training.epigraf.generator"},
    importers=(
        Importer("Generator", "synthesis.tri_plane_", "training.epigraf.published:generator"),
        Importer("Discriminator", "scalar_enc.", "training.epigraf.published:discriminator"),
    ),
)
