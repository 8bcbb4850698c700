"""From the options of `train.py` to the complete, validated configuration of a run."""

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import dnnlib
from training import methods
from training.augment import AUGMENT_PRESETS
from training.option_checks import OptionError, check_batch, check_data, check_values
from training.presets import Preset

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
    `training.sampling_weights.sampling_weights`. `extra_networks` has those that are trained
    besides G and D, by name: `kwargs` (class and arguments), `opt_kwargs` and `reg_interval`.
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
    cuda_graphs: bool = False
    ops: str = "auto"
    wandb: str | None = None
    checkpoint_minutes: float = 10
    nan_limit: int = 100
    image_grid: list[int] | None = None
    rebalance: str | None = None
    method: str = methods.DEFAULT
    extra_networks: dict = field(default_factory=dict)

    @property
    def optimizers(self) -> dict[str, dict]:
        """The optimizer's class and arguments of each network that is trained."""
        extra = {name: settings["opt_kwargs"] for name, settings in self.extra_networks.items()}
        return dict(G=self.G_opt_kwargs, D=self.D_opt_kwargs, **extra)

    @property
    def reg_intervals(self) -> dict[str, float | None]:
        """Iterations between the steps of each network's regulariser, see `make_phases`."""
        extra = {name: settings["reg_interval"] for name, settings in self.extra_networks.items()}
        return dict(G=self.G_reg_interval, D=self.D_reg_interval, **extra)


def preset_of(options: dict) -> Preset:
    """What `options['method']` knows as `options['cfg']`. Raises OptionError."""
    method = methods.all_methods()[options["method"]]
    if options["cfg"] not in method.cfgs:
        raise OptionError(
            f"--cfg={options['cfg']}: is no preset of --method={method.name}, which has "
            f"{', '.join(method.cfgs)}"
        )
    return methods.parts(method.name).PRESETS[options["cfg"]]


def with_preset(options: dict, given: set[str]) -> dnnlib.EasyDict:
    """Fills in what the preset `options['cfg']` knows better than the general defaults.

    Args:
        options: all options of the command by name, defaults included.
        given: names of those that the user set.
    """
    preset = preset_of(options)
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
    for method in methods.all_methods().values():
        if method.name == opts.method:
            idle |= {name: f"--method={method.name} has no use for it" for name in method.ignored}
        else:
            idle |= {name: f"needs --method={method.name}" for name in method.own_options}
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
    preset, parts = preset_of(opts), methods.parts(opts.method)
    method = methods.all_methods()[opts.method]
    check_data(opts, training_set, preset)
    parts.check(opts, training_set)
    fields = dict(
        run_dir=next_run_dir(opts, training_set.name),
        training_set_kwargs=dict(
            class_name="training.dataset.ImageFolderDataset",
            path=str(opts.data),
            use_labels=True,
            max_size=len(training_set),
            xflip=opts.mirror,
            resolution=training_set.resolution,
            random_seed=opts.seed,
            **({"use_classes": True} if opts.cond_classes else {}),
        ),
        data_loader_kwargs=dict(pin_memory=True, prefetch_factor=2, num_workers=opts.workers),
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
        cuda_graphs=opts.cuda_graphs and "cuda_graphs" not in method.ignored,
        ops=opts.ops,
        wandb=opts.wandb,
        checkpoint_minutes=opts.checkpoint_minutes,
        nan_limit=opts.nan_limit,
        rebalance=opts.rebalance,
        method=opts.method,
    )
    own = parts.settings(opts, preset, training_set)
    config = TrainingConfig(**{**fields, **own, **preset.run})
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
    """<outdir>/<next number>[-<method>]-<cfg>-<data>-gpus<G>-batch<B>-gamma<gamma>[-<desc>]."""
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
    parts = [] if opts.method == methods.DEFAULT else [opts.method]
    parts += [opts.cfg, dataset_name, f"gpus{opts.gpus}", f"batch{opts.batch}"]
    parts += [f"gamma{opts.gamma:g}"] + ([opts.desc] if opts.desc else [])
    return str(outdir / f"{max(taken, default=-1) + 1:05d}-{'-'.join(parts)}")


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
