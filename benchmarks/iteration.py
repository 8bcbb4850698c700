"""What an iteration of training spends on data, networks, gradients, average and statistics.

python -m benchmarks.iteration --cfg=demo --data=cars.zip [other options of train.py]
    [--iterations=20] [--warmup=5] [--threads=2] [--json=out/iteration.json]

Every iteration takes the steps of all phases; what belongs to a phase counts by the share of
iterations that it has in a run. On a GPU the host waits for it wherever one part ends and the next
begins: the parts are true, their sum is more than an undisturbed iteration takes.
"""

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from unittest import mock

import click
import torch

import dnnlib
import train
from benchmarks.common import machine, quartiles, table, write_json
from torch_utils import training_stats
from training import setup
from training.config import TrainingConfig, build_config, with_preset
from training.dataset import ImageFolderDataset
from training.guard import Guard
from training.image_source import ImageSource, make_source
from training.index_order import iteration_indices
from training.micro_batches import draw_batches, running_sum, seed_everything, split_reals
from training.phases import Phase, make_phases, run_phase, update_ema
from training.sampling_weights import sampling_weights
from training.schedules import ema_beta
from training.world import World, join

NETWORKS = ("forward", "backward")  # what the names of the parts inside the networks end with


class Parts:
    """Seconds by part of the work; a part inside another one is not counted in that one."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.weight = 1.0  # of what is counted now
        self._inside: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The `with` block belongs to this part."""
        self._count()
        self._inside.append(name)
        try:
            yield
        finally:
            self._count()
            self._inside.pop()

    def counted(self, name: str, function: Callable) -> Callable:
        """The function, each call of which belongs to this part."""

        @functools.wraps(function)
        def call(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        return call

    def each(self, name: str, items: Iterator) -> Iterator:
        """The items; making them belongs to this part."""
        while True:
            with self.part(name):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def _count(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._inside:
            self.seconds[self._inside[-1]] += (now - self._since) * self.weight
        self._since = now


class Iterations:
    """The iterations of a run without its reports and files, taken apart."""

    def __init__(self, config: TrainingConfig, world: World, source: ImageSource, training_set):
        self.config, self.world = config, world
        self.networks = setup.build_networks(config, training_set, world.device)
        pipe = self.networks.get("augment_pipe")
        self.ada = setup.make_ada(config, pipe)
        self.G = self.networks["G"]
        self.loss = setup.make_loss(config, self.networks)
        self.phases = make_phases(self.loss.trained(), config.optimizers, config.reg_intervals)
        self.tracked = setup.tracked_means(self.networks)
        self.guard = Guard({p.name: [n for n, _ in p.trained()] for p in self.phases}, 0)
        self.cameras = torch.from_numpy(training_set.all_labels()).to(world.device)
        sizes = (len(training_set), config.batch_size, config.random_seed)
        weights = sampling_weights(training_set, config.rebalance)
        self.ends = running_sum(weights)
        order = iteration_indices(*sizes, batch_gpu=config.batch_gpu, weights=weights)
        self.data = source.read(order)
        self.number = 0

    def run(self, parts: Parts) -> dict[str, float]:
        """The next iteration; returns its seconds by part, those of phases weighted."""
        parts.seconds.clear()
        nimg = self.number * self.config.batch_size
        self.G.neural_rendering_resolution = self.loss.at(nimg).rendering_resolution
        with parts.part("data"):
            reals = split_reals(*next(self.data), self.config.batch_gpu, self.world.rank)
        for k, phase in enumerate(self.phases):
            parts.weight = 1 / phase.interval
            seed = (self.config.random_seed, self.number, k)
            batches = draw_batches(reals, self.cameras, self.G.z_dim, seed, self.ends)
            self._step(phase, parts.each("data", batches), nimg, parts)
        parts.weight = 1.0
        with parts.part("average of weights"):
            beta = ema_beta(
                nimg, self.config.batch_size, self.config.ema_kimg, self.config.ema_rampup
            )
            update_ema(self.networks["G_ema"], self.G, beta)
        self.number += 1
        if self.ada is not None:
            with parts.part("statistics"):
                self.ada.after(self.number)
        return dict(parts.seconds)

    def _step(self, phase: Phase, batches: Iterator, nimg: int, parts: Parts) -> None:
        def forward(losses):
            @functools.wraps(losses)
            def terms(*args):
                return parts.each(f"{phase.name} forward", losses(*args))

            return terms

        watched = replace(phase, losses=tuple(forward(losses) for losses in phase.losses))
        backward = parts.counted(f"{phase.name} backward", torch.Tensor.backward)
        report = parts.counted("statistics", training_stats.report)
        with (
            mock.patch.object(torch.Tensor, "backward", backward),
            mock.patch.object(training_stats, "report", report),
            parts.part("gradients and optimizers"),
        ):
            check = run_phase(watched, batches, nimg, self.world, self.tracked)
        with parts.part("statistics"):
            self.guard.add(phase.name, check)


def measure(config: TrainingConfig, iterations: int, warmup: int) -> list[dict[str, float]]:
    """Seconds by part of each of some iterations. Raises ArithmeticError where a step or a weight
    was not finite."""
    world = join()
    setup.set_arithmetic(config)
    seed_everything(config.random_seed)
    training_set = dnnlib.util.construct_class_by_name(**config.training_set_kwargs)
    workers, ahead = (config.data_loader_kwargs[k] for k in ("num_workers", "prefetch_factor"))
    with closing(make_source(training_set, world.device, config.cache, workers, ahead)) as source:
        work, parts = Iterations(config, world, source, training_set), Parts(world.device)
        seconds = [work.run(parts) for _ in range(warmup + iterations)][warmup:]
    work.guard.report()
    return seconds


def summary(seconds: list[dict[str, float]]) -> tuple[list[dict], float]:
    """Rows of milliseconds by part with the share of each, and the share outside the networks."""
    milliseconds = {
        name: quartiles([1000 * s[name] for s in seconds]) for name in sorted(seconds[0])
    }
    whole = sum(row["median"] for row in milliseconds.values())
    rows = [
        {"part": name, **row, "share": row["median"] / whole} for name, row in milliseconds.items()
    ]
    return rows, sum(row["share"] for row in rows if not row["part"].endswith(NETWORKS))


def config_of(arguments: list[str]) -> TrainingConfig:
    """The configuration of a command line of train.py. Raises OptionError, DatasetError and
    click's errors as that does."""
    context = train.main.make_context("train", ["--outdir=.", *arguments])
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    options = with_preset(context.params, given)
    return build_config(options, ImageFolderDataset(options.data, use_labels=True))


@click.command(context_settings=dict(ignore_unknown_options=True))
@click.option("--iterations", type=click.IntRange(min=2), default=20, show_default=True)
@click.option("--warmup", type=click.IntRange(min=0), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: what torch chooses.")
@click.option("--json", "path", help="Also write all measurements to this file.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(iterations, warmup, threads, path, options) -> None:
    """Measures the parts of an iteration of `train.py OPTIONS` in one process."""
    if threads:
        torch.set_num_threads(threads)
    try:
        seconds = measure(config_of(list(options)), iterations, warmup)
    except (OSError, ValueError, ArithmeticError) as error:
        raise click.ClickException(str(error)) from None
    rows, outside = summary(seconds)
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(f"milliseconds of an iteration\n\n{table(rows)}\n")
    click.echo(f"outside the networks: {100 * outside:.1f} % of the time")
    if path:
        write_json(path, outside=outside, rows=rows, seconds=seconds)


if __name__ == "__main__":
    main()
