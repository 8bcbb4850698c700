"""From the options of `train.py` to the complete, validated configuration of a run."""

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import dnnlib
from training.augment import AUGMENT_PRESETS
from training.option_checks import (
    OptionError,
    check_batch,
    check_data,
    check_values,
    superresolution_module,
)
from training.presets import PRESETS
from training.synthesis import block_channels

FADES = ("blur_init_sigma", "gpc_reg_fade_kimg")  # of the loss; 0: none
RESUME_WORDS = ("latest", "none")
ADA_KIMG = 500
NO_EFFECT = ("c_noise", "sr_first_cutoff", "sr_first_stopband")


@dataclass
class TrainingConfig:
    """Everything `training_loop` needs; written to training_options.json.

    `metric_networks` has the sources of detectors by role; `image_grid` is the (columns, rows) of
    the sample pictures, by default as many as fill 8K. `ada_target` adapts the strength of
    augmentation, which begins at `augment_p`. `rebalance` is of
    `training.sampling_weights.sampling_weights`.
    """

    run_dir: str
    training_set_kwargs: dict
    data_loader_kwargs: dict
    G_kwargs: dict
    D_kwargs: dict
    G_opt_kwargs: dict
    D_opt_kwargs: dict
    loss_kwargs: dict
    metrics: list[str] = field(default_factory=list)
    metric_networks: dict | None = None
    random_seed: int = 0
    num_gpus: int = 1
    batch_size: int = 4
    batch_gpu: int = 4
    ema_kimg: float = 10
    ema_rampup: float | None = 0.05
    G_reg_interval: float | None = None
    D_reg_interval: float | None = 16
    augment_kwargs: dict | None = None
    augment_p: float = 0
    ada_target: float | None = None
    ada_interval: int = 4
    ada_kimg: float = ADA_KIMG
    resume_pkl: str | None = None
    total_kimg: int = 25000
    kimg_per_tick: int = 4
    image_snapshot_ticks: int = 50
    network_snapshot_ticks: int = 50
    cudnn_benchmark: bool = True
    cache: str = "none"
    tf32: bool = False
    deterministic: bool = False
    compile: str = "none"
    ops: str = "auto"
    wandb: str | None = None
    checkpoint_minutes: float = 10
    nan_limit: int = 100
    image_grid: list[int] | None = None
    rebalance: str | None = None


def with_preset(options: dict, given: set[str]) -> dnnlib.EasyDict:
    """Fills in what the preset `options['cfg']` knows better than the general defaults.

    Args:
        options: all options of the command by name, defaults included.
        given: names of those that the user set.
    """
    preset = PRESETS[options["cfg"]]
    chosen = {k: v for k, v in preset.options.items() if k not in given}
    merged = dnnlib.EasyDict(options, **chosen)
    for name in ("gpus", "batch", "gamma"):
        if merged[name] is None:
            raise OptionError(f"--{name} is required with --cfg={merged.cfg}")
    return merged


def idle_options(opts: dnnlib.EasyDict, given: set[str]) -> list[str]:
    """A line for each option that the user set (`given`) and that changes nothing."""
    needs = {
        "--aug=fixed": (opts.aug == "fixed", ["p"]),
        "--aug=ada": (opts.aug == "ada", ["target", "ada_kimg"]),
        "--launch=slurm": (opts.launch == "slurm", ["launch_options"]),
        "--resume with a snapshot": (starting_snapshot(opts) is not None, ["resume_blur"]),
        "--gen_pose_cond=True": (
            opts.gen_pose_cond,
            ["gpc_reg_prob", "gpc_reg_fade_kimg", "c_scale"],
        ),
        "--neural_rendering_resolution_final": (
            opts.neural_rendering_resolution_final is not None,
            ["neural_rendering_resolution_fade_kimg"],
        ),
        "--density_reg above 0": (opts.density_reg > 0, ["density_reg_every", "reg_type"]),
        "--reg_type=l1 and --density_reg above 0": (
            opts.density_reg > 0 and opts.reg_type == "l1",
            ["density_reg_p_dist"],
        ),
    }
    idle = {name: "accepted for old scripts" for name in NO_EFFECT}
    for partner, (present, names) in needs.items():
        if not present:
            idle |= {name: f"needs {partner}" for name in names}
    return [f"--{name}: has no effect; {idle[name]}" for name in idle if name in given]


def starting_snapshot(opts: dnnlib.EasyDict) -> str | None:
    """The file or web address of `--resume`, None where that is unset or one of its words."""
    return None if opts.resume in RESUME_WORDS else opts.resume


def build_config(opts: dnnlib.EasyDict, training_set) -> TrainingConfig:
    """The configuration of a run over `training_set` (an opened dataset with labels).

    The run directory is named, not created.
    """
    check_values(opts)
    batch_gpu = check_batch(opts)
    check_data(opts, training_set)
    preset = PRESETS[opts.cfg]
    config = TrainingConfig(
        run_dir=next_run_dir(opts, training_set.name),
        training_set_kwargs=dict(
            class_name="training.dataset.ImageFolderDataset",
            path=str(opts.data),
            use_labels=True,
            max_size=len(training_set),
            xflip=opts.mirror,
            resolution=training_set.resolution,
            random_seed=opts.seed,
        ),
        data_loader_kwargs=dict(pin_memory=True, prefetch_factor=2, num_workers=opts.workers),
        G_kwargs=_generator_kwargs(opts, preset, training_set.resolution),
        D_kwargs=_discriminator_kwargs(opts, preset),
        G_opt_kwargs=_adam(opts.glr),
        D_opt_kwargs=_adam(opts.dlr),
        loss_kwargs=_loss_kwargs(opts, preset),
        metrics=list(opts.metrics),
        metric_networks=_metric_networks(opts),
        random_seed=opts.seed,
        num_gpus=opts.gpus,
        batch_size=opts.batch,
        batch_gpu=batch_gpu,
        ema_kimg=opts.batch * 10 / 32,
        G_reg_interval=opts.density_reg_every if opts.density_reg > 0 else None,
        augment_kwargs=_augment_kwargs(opts),
        augment_p=opts.p if opts.aug == "fixed" else 0,
        ada_target=opts.target if opts.aug == "ada" else None,
        ada_kimg=opts.ada_kimg or ADA_KIMG,
        total_kimg=opts.kimg,
        kimg_per_tick=opts.tick,
        image_snapshot_ticks=opts.snap,
        network_snapshot_ticks=opts.snap,
        cudnn_benchmark=not (opts.nobench or opts.deterministic),
        cache=opts.cache,
        tf32=opts.tf32,
        deterministic=opts.deterministic,
        compile=opts.compile,
        ops=opts.ops,
        wandb=opts.wandb,
        checkpoint_minutes=opts.checkpoint_minutes,
        nan_limit=opts.nan_limit,
        rebalance=opts.rebalance,
        **preset.run,
    )
    snapshot = starting_snapshot(opts)
    if snapshot is None:
        return config
    return as_fine_tune(config, snapshot, keep_fades=opts.resume_blur)


def as_fine_tune(config: TrainingConfig, snapshot: str, keep_fades: bool = False) -> TrainingConfig:
    """The configuration of a run that starts from a snapshot: ADA adapts faster, the average of the
    weights has its full length at once, and unless `keep_fades` nothing is blurred or swapped as in
    the beginning of a training."""
    loss = dict(config.loss_kwargs)
    if not keep_fades:
        loss.update(dict.fromkeys(FADES, 0))
    ada_kimg = 100 if config.ada_kimg == ADA_KIMG else config.ada_kimg
    return replace(
        config, resume_pkl=str(snapshot), ada_kimg=ada_kimg, ema_rampup=None, loss_kwargs=loss
    )


def next_run_dir(opts: dnnlib.EasyDict, dataset_name: str) -> str:
    """<outdir>/<next number>-<cfg>-<data>-gpus<G>-batch<B>-gamma<gamma>[-<desc>]."""
    outdir = Path(opts.outdir)
    taken = []
    try:
        if outdir.is_dir():
            numbers = (re.match(r"\d+", d.name) for d in outdir.iterdir() if d.is_dir())
            taken = [int(n.group()) for n in numbers if n]
    except OSError as error:
        raise OptionError(f"--outdir={outdir}: cannot be read ({error.strerror})") from None
    if outdir.exists() and not outdir.is_dir():
        raise OptionError(f"--outdir={outdir}: is a file, must be a folder")
    parts = [opts.cfg, dataset_name, f"gpus{opts.gpus}", f"batch{opts.batch}"]
    parts += [f"gamma{opts.gamma:g}"] + ([opts.desc] if opts.desc else [])
    return str(outdir / f"{max(taken, default=-1) + 1:05d}-{'-'.join(parts)}")


def _adam(lr: float) -> dict:
    return dict(class_name="torch.optim.Adam", betas=[0, 0.99], eps=1e-8, lr=lr)


def _generator_kwargs(opts, preset, resolution: int) -> dict:
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
        sr_num_fp16_res=opts.sr_num_fp16_res,
        sr_kwargs=dict(
            **channels, fused_modconv_default="inference_only", **preset.superresolution
        ),
        **preset.generator,
    )


def _discriminator_kwargs(opts, preset) -> dict:
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


def _loss_kwargs(opts, preset) -> dict:
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


def _augment_kwargs(opts) -> dict | None:
    if opts.aug == "noaug":
        return None
    return dict(class_name="training.augment.AugmentPipe", **AUGMENT_PRESETS["bgc"])


def _metric_networks(opts) -> dict | None:
    found = dict(inception=opts.detector, vgg16=opts.pr_detector)
    return {role: source for role, source in found.items() if source is not None} or None


def describe(config: TrainingConfig) -> str:
    """All options as JSON, and a few lines for people: where, what, how long."""
    data = config.training_set_kwargs
    rows = [
        ("Output directory", config.run_dir),
        ("Number of GPUs", config.num_gpus),
        ("Batch size", f"{config.batch_size} images"),
        ("Training duration", f"{config.total_kimg} kimg"),
        ("Dataset path", data["path"]),
        ("Dataset size", f"{data['max_size']} images"),
        ("Dataset resolution", data["resolution"]),
        ("Dataset labels", data["use_labels"]),
        ("Dataset x-flips", data["xflip"]),
    ]
    lines = [f"{name + ':':<20} {value}" for name, value in rows]
    options = json.dumps(asdict(config), indent=2)
    return "\n".join(["Training options:", options, "", *lines, ""])
