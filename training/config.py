"""From the options of `train.py` to the complete, validated configuration of a run."""

import json
import math
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import dnnlib
from training.augment import AUGMENT_PRESETS
from training.loss import REG_TYPES
from training.presets import GENERAL_SUPERRESOLUTION, PRESETS, SUPERRESOLUTION_MODULES
from training.synthesis import block_channels
from training.triplane import PLANE_RESOLUTION

FADES = ("blur_init_sigma", "gpc_reg_fade_kimg")  # of the loss; 0: none
RESUME_WORDS = ("latest", "none")
NO_EFFECT = ("c_noise", "sr_first_cutoff", "sr_first_stopband")


class OptionError(ValueError):
    """An option that cannot be used; the message names it and says what would be right."""


@dataclass
class TrainingConfig:
    """Everything `training_loop` needs; written to training_options.json.

    `image_grid` is the (columns, rows) of the sample pictures, by default as many as fill 8K.
    `ada_target` adapts the strength of augmentation, which begins at `augment_p`.
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
    ada_kimg: float = 500
    resume_pkl: str | None = None
    total_kimg: int = 25000
    kimg_per_tick: int = 4
    image_snapshot_ticks: int = 50
    network_snapshot_ticks: int = 50
    cudnn_benchmark: bool = True
    checkpoint_minutes: float = 10
    nan_limit: int = 100
    image_grid: list[int] | None = None


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
        "--aug=ada": (opts.aug == "ada", ["target"]),
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


def check_supported(opts: dnnlib.EasyDict) -> None:
    """Raises OptionError for options whose part is not built, or whose value makes no sense."""
    missing = {
        "gpus": (opts.gpus > 1, "training in several processes is not built yet: use --gpus=1"),
        "metrics": (bool(opts.metrics), "metrics are not built yet: use --metrics=none"),
    }
    for name, (asked, message) in missing.items():
        if asked:
            value = ",".join(opts.metrics) if name == "metrics" else opts[name]
            raise OptionError(f"--{name}={value}: {message}")
    for name, value in opts.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise OptionError(f"--{name}={value}: must be a finite number")
    if opts.reg_type not in REG_TYPES:
        raise OptionError(
            f"--reg_type={opts.reg_type}: no such regulariser exists; use {', '.join(REG_TYPES)}"
        )
    if opts.gpc_reg_prob > 1:
        raise OptionError(f"--gpc_reg_prob={opts.gpc_reg_prob}: must be from 0 to 1")
    if opts.density_reg_every % 1:
        raise OptionError(
            f"--density_reg_every={opts.density_reg_every}: must be a whole number of iterations"
        )
    if opts.desc and re.search(r"[/\\\x00]", opts.desc):
        raise OptionError(f"--desc={opts.desc}: becomes part of a folder's name: leave slashes out")
    if opts.decoder_lr_mul <= 0:
        raise OptionError(f"--decoder_lr_mul={opts.decoder_lr_mul}: must be above 0")
    if not opts.cond:
        raise OptionError("--cond=False: a tri-plane generator needs the cameras: use --cond=True")


def starting_snapshot(opts: dnnlib.EasyDict) -> str | None:
    """The file or web address of `--resume`, None where that is unset or one of its words."""
    return None if opts.resume in RESUME_WORDS else opts.resume


def check_batch(opts: dnnlib.EasyDict) -> int:
    """The micro-batch of one device; raises OptionError where the sizes do not divide."""
    if opts.batch % opts.gpus:
        raise OptionError(f"--batch={opts.batch}: must be a multiple of --gpus={opts.gpus}")
    batch_gpu = opts.batch_gpu or opts.batch // opts.gpus
    if opts.batch % (opts.gpus * batch_gpu):
        raise OptionError(
            f"--batch={opts.batch}: must be a multiple of --gpus={opts.gpus} x "
            f"--batch-gpu={batch_gpu}"
        )
    if batch_gpu % opts.mbstd_group:
        raise OptionError(
            f"--batch-gpu={batch_gpu}: must be a multiple of --mbstd-group={opts.mbstd_group}"
        )
    return batch_gpu


def check_data(opts: dnnlib.EasyDict, training_set) -> None:
    """Raises OptionError unless the dataset has cameras and pictures that the networks can make."""
    where = f"--data={opts.data}"
    if not training_set.has_labels:
        raise OptionError(f"{where}: has no cameras (dataset.json); training needs them")
    if training_set.label_dim != 25:
        raise OptionError(f"{where}: labels have {training_set.label_dim} numbers, a camera has 25")
    if training_set.num_channels != 3:
        raise OptionError(f"{where}: pictures need 3 channels, RGB")
    side = training_set.resolution
    if not 32 <= side <= 1024 or side & (side - 1):
        raise OptionError(
            f"{where}: pictures have {side} pixels a side; must be a power of two from 32 to 1024"
        )
    planes = PRESETS[opts.cfg].generator.get("plane_resolution", PLANE_RESOLUTION)
    if opts.cbase < max(side, planes):
        raise OptionError(
            f"--cbase={opts.cbase}: leaves no channels where pictures or planes are "
            f"{max(side, planes)} wide; must be at least that"
        )


def superresolution_module(opts: dnnlib.EasyDict, resolution: int) -> str:
    """Dotted class name of the super-resolution; raises OptionError if there is none of the name,
    or it makes pictures of another size."""
    if opts.sr_module is None:
        return SUPERRESOLUTION_MODULES.get(resolution, GENERAL_SUPERRESOLUTION)
    try:
        module = dnnlib.util.get_obj_by_name(opts.sr_module)
    except (ImportError, AttributeError) as error:
        raise OptionError(
            f"--sr-module={opts.sr_module}: cannot be imported ({error}); "
            f"give a class such as {GENERAL_SUPERRESOLUTION}"
        ) from None
    layout = getattr(module, "layout", None)
    if layout is not None and layout.img_resolution != resolution:
        raise OptionError(
            f"--sr-module={opts.sr_module}: makes pictures of {layout.img_resolution} pixels, the "
            f"dataset has {resolution}; {GENERAL_SUPERRESOLUTION} makes any size"
        )
    return opts.sr_module


def build_config(opts: dnnlib.EasyDict, training_set) -> TrainingConfig:
    """The configuration of a run over `training_set` (an opened dataset with labels).

    The run directory is named, not created.
    """
    check_supported(opts)
    batch_gpu = check_batch(opts)
    check_data(opts, training_set)
    preset = PRESETS[opts.cfg]
    config = TrainingConfig(
        run_dir=next_run_dir(opts, training_set.name),
        training_set_kwargs=dict(
            class_name="training.dataset.ImageFolderDataset",
            path=str(opts.data),
            use_labels=opts.cond,
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
        random_seed=opts.seed,
        num_gpus=opts.gpus,
        batch_size=opts.batch,
        batch_gpu=batch_gpu,
        ema_kimg=opts.batch * 10 / 32,
        G_reg_interval=opts.density_reg_every if opts.density_reg > 0 else None,
        augment_kwargs=_augment_kwargs(opts),
        augment_p=opts.p if opts.aug == "fixed" else 0,
        ada_target=opts.target if opts.aug == "ada" else None,
        total_kimg=opts.kimg,
        kimg_per_tick=opts.tick,
        image_snapshot_ticks=opts.snap,
        network_snapshot_ticks=opts.snap,
        cudnn_benchmark=not opts.nobench,
        checkpoint_minutes=opts.checkpoint_minutes,
        nan_limit=opts.nan_limit,
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
    return replace(
        config, resume_pkl=str(snapshot), ada_kimg=100, ema_rampup=None, loss_kwargs=loss
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
    )
    return dict(loss, **preset.loss)


def _augment_kwargs(opts) -> dict | None:
    if opts.aug == "noaug":
        return None
    return dict(class_name="training.augment.AugmentPipe", **AUGMENT_PRESETS["bgc"])


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
