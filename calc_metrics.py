#!/usr/bin/env python3
"""Measures a trained model: `python calc_metrics.py --network=run --metrics=fid50k_full`."""

import os
import sys
from dataclasses import replace

import click

from dnnlib.util import one_line, set_offline
from eg3d.command_line import (
    CONTEXT,
    FiniteFloat,
    choice_options,
    one_line_errors,
    ops_option,
    showing,
)

NATURAL = click.IntRange(min=0)
POSITIVE = click.IntRange(min=1)
EPILOG = """Every line of results says what it depends on. Exit status: 0, or 1 if a metric could
not be computed; the others are there all the same."""


def _names(ctx, param, value: str) -> list[str]:
    names = [name.strip() for name in value.split(",") if name.strip()]
    return [] if names == ["none"] else list(dict.fromkeys(names))


@click.command(context_settings=CONTEXT, epilog=EPILOG)
@click.option("--network", required=True, metavar="PATH|URL", help="Snapshot or run directory.")
@click.option(
    "--metrics",
    callback=_names,
    default="fid50k_full",
    show_default=True,
    help="Comma list, or none; an unknown name lists all of them.",
)
@click.option("--data", metavar="ZIP|DIR", help="Real pictures.  [default: the training's]")
@click.option("--mirror", type=bool, help="With mirrored copies.  [default: as the training]")
@click.option("--gpus", type=POSITIVE, default=1, show_default=True, help="Processes.")
@click.option("--verbose", type=bool, default=True, show_default=True, help="Show the progress.")
@click.option("--detector", metavar="PATH|URL|NAME", help="Inception as TorchScript.")
@click.option("--pr-detector", metavar="PATH|URL|NAME", help="VGG16 for precision and recall.")
@click.option("--face-embedder", metavar="PATH|URL", help="Network for id1k.")
@click.option("--depth-estimator", metavar="PATH|URL", help="Network for depth1k.")
@click.option("--pose-estimator", metavar="PATH|URL", help="Network for pose1k.")
@click.option("--cameras", default="fitted", show_default=True, help="Cameras of fid50k_camera.")
@click.option("--seed", type=NATURAL, default=0, show_default=True, help="Of latents and cameras.")
@click.option("--trunc", type=FiniteFloat(), default=1.0, show_default=True, help="Truncation psi.")
@click.option("--trunc-cutoff", type=NATURAL, help="Truncate only the first N layers.")
@click.option("--nrr", type=POSITIVE, help="Side of the volume rendering.  [default: the model's]")
@choice_options
@click.option("--batch", type=POSITIVE, default=64, show_default=True, help="Of the detector.")
@click.option("--batch-gen", type=POSITIVE, help="Of the generator.  [default: 32, CPU 8]")
@click.option("--workers", type=NATURAL, help="To decode pictures.  [default: 3, at most the CPUs]")
@click.option("--cache", type=bool, default=True, show_default=True, help="Keep real statistics.")
@click.option("--device", help="Such as cpu.  [default: a GPU if there is one]")
@ops_option
@click.option("--trust", is_flag=True, help="Unpickle the file, which may run any code.")
@click.option("--offline", is_flag=True, help="Download nothing.")
@one_line_errors
@click.pass_context
def main(ctx: click.Context, **options) -> None:
    """Measures a trained model's quality. Results are printed, and kept in the run's directory."""
    from training import cluster, local_processes
    from training.world import join, leave

    if options["offline"]:
        set_offline(True)
    ranks = cluster.rank_from_environment()
    if ranks is not None:
        ranks.announce()
        world = join(ranks.rank, ranks.world_size, ranks.local_rank)
        status = _measure(options, world)
        leave()
    elif options["gpus"] == 1:
        status = _measure(options, join())
    else:
        _open(options, "cpu")  # What is wrong shows once, not in every process.
        arguments = sys.argv[1:]
        status, _ = local_processes.run(options["gpus"], __file__, arguments, max_restarts=0)
    ctx.exit(status)


def _open(options: dict, device):
    """What is to be measured. Raises InputError, OSError, click's errors."""
    from eg3d.measuring import open_subject
    from eg3d.model import Model
    from metrics.metric_main import MetricError, require_valid_metric

    try:
        for name in options["metrics"]:
            require_valid_metric(name)
    except MetricError as error:
        raise click.ClickException(f"--metrics: {error}") from None
    names = ("network", "data", "mirror", "trust")
    subject = open_subject(**{name: options[name] for name in names}, device=device)
    return replace(subject, generator=showing(Model.of(subject.generator), options).generator)


def _measure(options: dict, world) -> int:
    """Computes and reports all metrics, as one of the processes of `world`; returns the status."""
    from metrics.detectors import OPTIONS
    from metrics.metric_main import calc_metrics, report_metric

    subject = _open(options, options["device"] or world.device)
    if options["workers"] is None:
        options["workers"] = min(3, os.cpu_count() or 1)
    style = dict(
        truncation_psi=options["trunc"],
        truncation_cutoff=options["trunc_cutoff"],
        neural_rendering_resolution=options["nrr"],
    )
    given = {role: options[name.strip("-").replace("-", "_")] for role, name in OPTIONS.items()}
    outcomes = calc_metrics(
        options["metrics"],
        G=subject.generator,
        G_kwargs={name: value for name, value in style.items() if value is not None},
        dataset_kwargs=subject.dataset_kwargs,
        num_gpus=world.size,
        rank=world.rank,
        networks={role: source for role, source in given.items() if source},
        **{name: options[name] for name in ("cameras", "seed", "batch", "batch_gen", "workers")},
        **{name: options[name] for name in ("cache", "verbose")},
    )
    failed = {name: found for name, found in outcomes.items() if isinstance(found, Exception)}
    if world.is_first:
        for name, found in outcomes.items():
            if name not in failed:
                report_metric(found, subject.run_dir, subject.snapshot)
        for name, error in failed.items():
            click.echo(f"Error: {_one_line(name, error)}", err=True)
    return 1 if failed else 0


def _one_line(name: str, error: Exception) -> str:
    text = one_line(error)
    return text if name in text else f"metric {name}: {text}"


if __name__ == "__main__":
    main()
