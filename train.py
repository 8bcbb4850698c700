#!/usr/bin/env python3
"""Trains a tri-plane GAN: `python train.py --cfg=demo --data=cars.zip --outdir=runs`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import click
from click.core import ParameterSource

from training import methods

MACHINES = ("1x24gb", "1x80gb", "4x24gb", "4x80gb", "8x24gb", "8x80gb")
OPS = ("auto", "torch", "triton")
REBALANCE = ("yaw", "weights")
RECOMPUTE = ("none", "renderer", "renderer+sr")
PLANE_AXES = ("legacy", "orthogonal", "cyclic")
REG_TYPES = ("l1", "l1-alt", "monotonic-detach", "monotonic-fixed", "total-variation")


class _SizeOrAuto(click.ParamType):
    """A number from 1 on, or `auto`."""

    name = "integer|auto"

    def convert(self, value, param, ctx):
        return value if value == "auto" else POSITIVE.convert(value, param, ctx)


POSITIVE = click.IntRange(min=1)
NATURAL = click.IntRange(min=0)
SEED = click.IntRange(min=0, max=2**31 - 1)
WEIGHT = click.FloatRange(min=0)
SHARE = click.FloatRange(min=0, max=1)


def _metrics(ctx, param, value: str) -> list[str]:
    if value.lower() in ("", "none"):
        return []
    return [name.strip() for name in value.split(",")]


def _add_options(groups):
    """Click options from a table of (name, type, default, help) rows."""

    def decorate(function):
        for name, kind, default, text in reversed(groups):
            settings = dict(type=kind, default=default, help=text)
            settings["show_default"] = default is not None
            function = click.option(name, **settings)(function)
        return function

    return decorate


REQUIRED = [
    ("--gpus", POSITIVE, None, "Number of processes, one a device  [required; demo knows it]"),
    ("--batch", POSITIVE, None, "Total batch of an iteration  [required; demo knows it]"),
    ("--gamma", WEIGHT, None, "Weight of the R1 penalty  [required; demo knows it]"),
]
FEATURES = [
    ("--cond", bool, True, "Use the labels"),
    ("--cond_classes", bool, False, "Use the classes beside the labels, too"),
    ("--mirror", bool, False, "Add the mirrored images, with mirrored cameras"),
    (
        "--rebalance",
        click.Choice(REBALANCE),
        None,
        "Draw rare poses more often: by yaw, or weights",
    ),
    ("--aug", click.Choice(["noaug", "ada", "fixed"]), "noaug", "Augmentation"),
    ("--resume", str, None, "Snapshot to start from; or latest: newest run; none: a new run"),
    ("--freezed", NATURAL, 0, "First layers of D that are not trained (Freeze-D)"),
    ("--p", SHARE, 0.2, "Probability of --aug=fixed"),
    ("--target", SHARE, 0.6, "Target of --aug=ada"),
    ("--ada-kimg", POSITIVE, None, "Its speed: kimg in which p can grow by 1  [default: 500]"),
    ("--preset", click.Choice(MACHINES), None, "Sizes that fit a machine: GPUs x memory of each"),
    ("--batch-gpu", _SizeOrAuto(), None, "Micro-batch, auto: what fits  [default: batch / gpus]"),
    ("--recompute", click.Choice(RECOMPUTE), "none", "Parts to compute twice, to save memory"),
    ("--cbase", POSITIVE, 32768, "Channels times resolution"),
    ("--cmax", POSITIVE, 512, "Most channels of a layer"),
    ("--glr", WEIGHT, 0.0025, "Learning rate of G"),
    ("--dlr", WEIGHT, 0.002, "Learning rate of D"),
    ("--map-depth", POSITIVE, 2, "Layers of G's mapping network"),
    ("--mbstd-group", POSITIVE, 4, "Group size of minibatch standard deviation"),
]
RUN = [
    ("--desc", str, None, "Suffix of the run directory's name"),
    ("--kimg", POSITIVE, 25000, "Length in thousands of real images"),
    ("--tick", POSITIVE, 4, "Thousands of images between status lines"),
    ("--snap", POSITIVE, 50, "Ticks between snapshots"),
    ("--detector", str, None, "Inception for metrics: TorchScript file or address"),
    ("--pr-detector", str, None, "VGG16 for metrics, likewise"),
    ("--wandb", str, None, "Project of Weights & Biases to write to, or entity/project"),
    ("--launch", click.Choice(["here", "slurm"]), "here", "slurm: submit the command by submitit"),
    ("--launch-options", str, None, "With --launch=slurm: nodes=2,gpus_per_node=8,…"),
    ("--seed", SEED, 0, "Random seed"),
    ("--checkpoint-minutes", WEIGHT, 10, "Minutes between checkpoints, 0: one a tick"),
    ("--nan-limit", NATURAL, 100, "Steps of a tick that may have a NaN or infinity"),
    ("--nobench", bool, False, "Switch cuDNN's autotuner off"),
    ("--workers", POSITIVE, 3, "Data loading processes per device"),
    ("--cache", click.Choice(["none", "ram", "gpu"]), "none", "Where decoded images are kept"),
    ("--tf32", bool, False, "Faster float32 products on a GPU, with mantissas of 10 bits"),
    ("--deterministic", bool, False, "The same sums each time on a GPU, slower"),
    ("--compile", click.Choice(["none", "generator"]), "none", "Compile networks (torch.compile)"),
    ("--cuda_graphs", bool, False, "Repeat recorded phases on a GPU, once schedules stand still"),
    ("--ops", click.Choice(OPS), "auto", "Operators: kernels of Triton on a GPU, or plain torch"),
]
RENDERING = [
    ("--neural_rendering_resolution_initial", POSITIVE, 64, "Side of the rendering at first"),
    ("--neural_rendering_resolution_final", POSITIVE, None, "Side after the fade"),
    ("--neural_rendering_resolution_fade_kimg", NATURAL, 1000, "Length of the fade"),
    ("--blur_fade_kimg", POSITIVE, 200, "Fade of the blur, times batch / 32"),
    ("--gen_pose_cond", bool, False, "Condition the generator on cameras"),
    ("--c-scale", WEIGHT, 1, "Factor on the label of G's mapping"),
    ("--c-noise", WEIGHT, 0, "No effect; accepted for old scripts"),
    ("--gpc_reg_prob", WEIGHT, 0.5, "Probability of swapping the conditioning camera"),
    ("--gpc_reg_fade_kimg", NATURAL, 1000, "Its fade from 1"),
    ("--disc_c_noise", WEIGHT, 0, "Noise on D's label, in standard deviations"),
    ("--sr_noise_mode", click.Choice(["random", "none"]), "none", "Noise in super-resolution"),
    ("--resume_blur", bool, False, "Keep blur and swapping fades when resuming"),
    ("--sr_num_fp16_res", NATURAL, 4, "Above 0: super-resolution in half precision"),
    ("--g_num_fp16_res", NATURAL, 0, "Backbone resolutions in half precision"),
    ("--d_num_fp16_res", NATURAL, 4, "D's resolutions in half precision"),
    ("--sr_first_cutoff", click.IntRange(min=2), 2, "No effect; accepted for old scripts"),
    ("--sr_first_stopband", click.FloatRange(min=2), 2**2.1, "No effect; as above"),
    ("--style_mixing_prob", SHARE, 0, "Probability of mixing two latents"),
    ("--sr-module", str, None, "Dotted class name of another super-resolution"),
    ("--density_reg", WEIGHT, 0.25, "Weight of the density regulariser"),
    ("--density_reg_every", click.FloatRange(min=1), 4, "Iterations between its steps"),
    ("--density_reg_p_dist", WEIGHT, 0.004, "Standard deviation of its displacements"),
    ("--reg_type", click.Choice(REG_TYPES), "l1", "Kind of density regulariser"),
    ("--decoder_lr_mul", WEIGHT, 1, "Learning rate multiplier of the decoder"),
    ("--aware3d", bool, False, "Let the planes exchange features while they are made"),
    ("--plane_axes", click.Choice(PLANE_AXES), "legacy", "Axes of the planes"),
]
OF_METHODS = [row for method in methods.all_methods().values() for row in method.options]


EPILOG = """The same command goes on where it was stopped or killed. Exit status: 0 at the end of
the run, 75 after SIGTERM or Ctrl-C (a checkpoint was written), 1 for an error, 2 for a wrong
option."""


@click.command(
    epilog=EPILOG,
    context_settings=dict(token_normalize_func=lambda name: name.replace("_", "-")),
)
@click.option("--outdir", required=True, help="Parent of run directories")
@click.option("--cfg", type=click.Choice(methods.cfgs()), required=True, help="Preset")
@click.option("--data", required=True, help="Dataset: folder, zip or tar shards")
@click.option(
    "--metrics",
    callback=_metrics,
    default="fid50k_full",
    show_default=True,
    help="Comma list of metrics at snapshots, or none",
)
@click.option(
    "--method",
    type=click.Choice(list(methods.all_methods())),
    default=methods.DEFAULT,
    show_default=True,
    help="What is trained",
)
@click.option("-n", "--dry-run", is_flag=True, help="Print the options and stop")
@_add_options(REQUIRED + FEATURES + RUN + RENDERING + OF_METHODS)
@click.pass_context
def main(ctx: click.Context, **options) -> None:
    """Trains a tri-plane GAN from posed photographs (docs/datasets.md says what a dataset is).

    Option names may be written with dashes or underscores. --cfg=demo needs --outdir and --data
    only and runs on a CPU.
    """
    from training import cluster, local_processes
    from training.config import describe
    from training.launch import launch
    from training.stopping import EXIT_STATUS
    from training.world import join

    given = {
        name
        for name in options
        if ctx.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)
    }
    with _errors_of_one_line():
        if options["launch"] == "slurm" and not options["dry_run"]:
            click.echo(_submitted(options, given))
            return
        ranks = cluster.rank_from_environment()
        if ranks is not None and not options["dry_run"]:
            ctx.exit(_train_as_one_of(ranks, options, given))
        choice = _chosen_run(options, given)
        if choice.notice:
            click.echo(choice.notice)
        if options["dry_run"]:
            click.echo(f"{describe(choice.config)}\nDry run; exiting.")
        elif choice.finished:
            return
        elif choice.config.num_gpus == 1:
            ctx.exit(0 if launch(choice.config, choice.lock, join()) else EXIT_STATUS)
        else:
            if choice.lock is not None:
                choice.lock.release()  # The first of the processes takes it.
            status, signal = local_processes.run(choice.config.num_gpus, __file__, sys.argv[1:])
            ctx.exit(EXIT_STATUS if status and signal else status)


def _chosen_run(options: dict, given: set[str]):
    """The run that the command means, its options checked against the data."""
    from metrics.metric_main import require_valid_metric
    from training import config as configuration
    from training import hardware, runs
    from training.dataset import ImageFolderDataset
    from training.estimate import auto_batch_gpu
    from training.sampling_weights import sampling_weights

    training_set = ImageFolderDataset(
        path=options["data"], use_labels=True, use_classes=options["cond_classes"]
    )
    options = hardware.with_hardware(options, given, training_set.resolution)
    opts = configuration.with_preset(options, given)
    automatic = opts.batch_gpu == "auto"
    opts.batch_gpu = None if automatic else opts.batch_gpu
    for name in opts.metrics:
        require_valid_metric(name)
    for line in configuration.idle_options(opts, given):
        click.echo(line, err=True)
    config = configuration.build_config(opts, training_set)
    sampling_weights(training_set, config.rebalance)  # What is wrong with them shows now.
    keep = automatic or "batch_gpu" not in given
    choice = runs.choose(config, opts.resume, keep_batch_gpu=keep)
    if automatic and choice.lock is None and not choice.finished:  # a new run
        size = auto_batch_gpu(choice.config, training_set)
        choice = replace(choice, config=replace(choice.config, batch_gpu=size))
    return choice


def _submitted(options: dict, given: set[str]) -> str:
    """Submits the command to Slurm, after a check: what is wrong shows now, not hours later."""
    from training import cluster

    choice = _chosen_run(options, given)
    if choice.lock is not None:
        choice.lock.release()
    gpus, workers, outdir = choice.config.num_gpus, options["workers"], options["outdir"]
    settings = cluster.launch_settings(options["launch_options"], gpus, workers)
    job = cluster.submit_slurm(sys.argv, outdir, settings)
    return f"Submitted as job {job}; its output: {outdir}/slurm/{job}"


def _train_as_one_of(ranks, options: dict, given: set[str]) -> int:
    """Trains as one of the processes that a launcher has started; returns the exit status.

    The first one decides what is trained; where it cannot, the others end without a word.
    """
    from training.launch import launch
    from training.stopping import EXIT_STATUS
    from training.world import join, leave

    ranks.announce()
    world = join(ranks.rank, ranks.world_size, ranks.local_rank)
    choice = None
    try:
        if world.is_first:
            options = dict(options, gpus=ranks.world_size)
            choice = _chosen_run(options, given | {"gpus"})
            if choice.notice:
                click.echo(choice.notice)
    finally:
        config, finished = world.share(choice and (choice.config, choice.finished)) or (None, True)
    if finished:
        return 0 if config else 1
    done = launch(config, choice and choice.lock, world)
    leave()
    return 0 if done else EXIT_STATUS


@contextmanager
def _errors_of_one_line() -> Iterator[None]:
    """What a user can mend becomes one line; log.txt has the traceback."""
    import torch

    from metrics.metric_main import MetricError
    from training.checkpoints import CheckpointError
    from training.cluster import ClusterError
    from training.config import OptionError
    from training.dataset import DatasetError
    from training.guard import NonFiniteError

    try:
        yield
    except (OptionError, CheckpointError, ClusterError, NonFiniteError) as error:
        raise click.ClickException(str(error)) from None
    except MetricError as error:
        raise click.ClickException(f"--metrics: {error}") from None
    except DatasetError as error:
        raise click.ClickException(f"--data: {error}") from None
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        raise click.ClickException(f"use a smaller --batch-gpu: {reason}") from None
    except OSError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
