"""The trainings that `benchmarks.parity` compares: the same iterations in several ways."""

import contextlib
import copy
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import torch

import dnnlib
from benchmarks.iteration import Iterations, config_of
from benchmarks.kernel_launches import counted_launches, hurried_interpreter
from metrics.frechet import FeatureStatistics, frechet_distance
from metrics.random_features import RandomConvFeatures
from torch_utils import training_stats
from torch_utils.ops.choice import set_ops, using_ops
from training import setup
from training.config import TrainingConfig
from training.dataset import Dataset
from training.image_source import make_source
from training.micro_batches import draw_batches, seed_everything, split_reals
from training.phases import run_phase, update_ema
from training.schedules import ema_beta
from training.volumetric_rendering.draws import FixedDraws
from training.world import join

WAYS = ("torch", "perturbed", "triton")
COMPARED = r"Loss/[GD]/.*|Loss/r1_penalty|Gradients/norm/.*"  # positive numbers
SMALL = ["--batch=2", "--mbstd-group=2", "--cbase=64", "--cmax=8"]
SMALL += ["--neural_rendering_resolution_initial=4"]
_BATCH = 32


@dataclass(frozen=True)
class Run:
    """What a training did: losses and norms of gradients of each iteration by name, [images shown,
    distance to the real pictures] now and then, launches by kernel."""

    way: str
    seed: int
    values: list[dict[str, float]]
    distances: list[tuple[int, float]]
    launches: dict[str, int]
    seconds: float


class Judge:
    """Fréchet distance of what G_ema makes, from fixed latents and cameras of the data, to all real
    pictures. Pictures are made by the twins whatever G was trained with: the weights are compared.
    """

    def __init__(self, dataset: Dataset, samples: int):
        self._features = RandomConvFeatures()
        real = (torch.from_numpy(dataset[i][0])[None] for i in range(len(dataset)))
        self._real = self._features.statistics(real)
        random = np.random.RandomState(0)
        picks = random.randint(len(dataset), size=samples)
        self._labels = torch.from_numpy(np.stack([dataset.get_label(i) for i in picks]))
        self._random = random.get_state()

    @torch.no_grad()
    def distance(self, G: torch.nn.Module) -> float:
        """Of the model's pictures."""
        random, made = np.random.RandomState(), FeatureStatistics(self._features.size)
        random.set_state(self._random)
        with using_ops("torch"):
            for c in self._labels.to(next(G.parameters()).device).split(_BATCH):
                z = torch.from_numpy(random.randn(len(c), G.z_dim).astype(np.float32)).to(c.device)
                images = G(z, c, noise_mode="const", draws=FixedDraws())["image"]
                made.append(self._features((images * 127.5 + 128).clamp(0, 255).to(torch.uint8)))
        return frechet_distance(made, self._real)


def small(config: TrainingConfig) -> TrainingConfig:
    """The demo preset as small as an interpreter wants it, where no option of train.py reaches."""
    samples = dict(depth_resolution=4, depth_resolution_importance=4)
    G_kwargs = dict(config.G_kwargs, plane_resolution=8)
    G_kwargs["rendering_kwargs"] = dict(G_kwargs["rendering_kwargs"], **samples)
    G_kwargs["sr_kwargs"] = dict(G_kwargs["sr_kwargs"], widths=[8, 8])
    return replace(config, G_kwargs=G_kwargs)


def configure(data: str, way: str, seed: int, full: bool) -> TrainingConfig:
    """The configuration of a run. Raises what `config_of` does."""
    ops = "triton" if way == "triton" else "torch"
    given = ["--cfg=demo", f"--data={data}", f"--seed={seed}", f"--ops={ops}"]
    return config_of(given) if full else small(config_of([*given, *SMALL]))


def perturb(networks: Sequence[torch.nn.Module], size: float, draw: int = 0) -> None:
    """Multiplies every weight by 1 + `size` times a normal number of its own."""
    random = torch.Generator().manual_seed(draw)
    for network in networks:
        for p in network.parameters():
            factor = 1 + size * torch.randn(p.shape, generator=random, dtype=torch.float64)
            p.data.copy_(p.data.double() * factor.to(p.device))


@dataclass
class Trainings:
    """Makes runs. All of one seed part from the same state, which the twins have trained.

    Args:
        data: path of the dataset.
        full: the demo preset as it is; else `small`.
        warmup: iterations before the ways part.
        iterations: what is compared; None: as many as the preset has.
        points: how often to look at the distance, the last time at the end.
        rounding: relative size of the change of weights in the way `perturbed`.
    """

    data: str
    full: bool
    warmup: int
    iterations: int | None
    judge: Judge
    points: int
    rounding: float
    _states: dict[int, dict] = field(default_factory=dict)

    def run(self, way: str, seed: int, draw: int = 0) -> Run:
        """One training; `draw` chooses the change of weights. Raises what `config_of` does."""
        config, world, start = configure(self.data, way, seed, self.full), join(), time.time()
        setup.set_arithmetic(config)
        seed_everything(config.random_seed)
        training_set = dnnlib.util.construct_class_by_name(**config.training_set_kwargs)
        with (
            closing(make_source(training_set, world.device, workers=0)) as source,
            counted_launches() as launches,
        ):
            work = Iterations(config, world, source, training_set)
            self._warm_up(work, seed)
            if way == "perturbed":
                perturb([work.networks[name] for name in ("G", "D")], self.rounding, draw)
            values, distances = self._measure(work)
        set_ops(None)
        return Run(way, seed, values, distances, dict(launches), time.time() - start)

    def _warm_up(self, work: Iterations, seed: int) -> None:
        """Brings new networks into the state where the ways part; trains them to it once a seed."""
        if seed in self._states:
            _restore(work, self._states[seed], self.warmup)
            return
        with using_ops("torch"):
            for _ in range(self.warmup):
                step(work)
        self._states[seed] = copy.deepcopy(_state(work))

    def _measure(self, work: Iterations) -> tuple[list[dict[str, float]], list[tuple[int, float]]]:
        """`values` and `distances` of a run from here on."""
        config, values, distances = work.config, [], []
        count = self.iterations or round(config.total_kimg * 1000 / config.batch_size)
        looks = {round(count * (k + 1) / self.points) for k in range(self.points)}
        collector = training_stats.Collector(COMPARED, keep_previous=False)
        interpreted = config.ops == "triton" and work.world.device.type == "cpu"
        with hurried_interpreter() if interpreted else contextlib.nullcontext():
            while len(values) < count:
                step(work)
                collector.update()
                reported = [name for name in collector.names() if collector.num(name)]
                values.append({name: collector[name] for name in reported})
                if len(values) in looks:
                    images = work.number * config.batch_size
                    distances.append((images, self.judge.distance(work.networks["G_ema"])))
        return values, distances


def step(work: Iterations) -> None:
    """An iteration as the training loop makes it: of the phases whose turn it is."""
    config, nimg = work.config, work.number * work.config.batch_size
    work.G.neural_rendering_resolution = work.loss.at(nimg).rendering_resolution
    reals = split_reals(*next(work.data), config.batch_gpu, work.world.rank)
    for k, phase in enumerate(work.phases):
        if work.number % phase.interval == 0:
            seed = (config.random_seed, work.number, k)
            batches = draw_batches(reals, work.cameras, work.G.z_dim, seed, work.ends)
            run_phase(phase, batches, nimg, work.world, work.tracked)
    beta = ema_beta(nimg, config.batch_size, config.ema_kimg, config.ema_rampup)
    update_ema(work.networks["G_ema"], work.G, beta)
    work.number += 1


def _state(work: Iterations) -> dict[str, dict]:
    """Of all that a step changes; random numbers and data follow from the iteration's number."""
    parts = dict(work.networks, **{phase.name: phase.opt for phase in work.phases})
    return {name: part.state_dict() for name, part in parts.items()}


def _restore(work: Iterations, state: dict[str, dict], number: int) -> None:
    for phase in work.phases:
        phase.opt.load_state_dict(copy.deepcopy(state[phase.name]))
    for name, network in work.networks.items():
        network.load_state_dict(state[name])
    while work.number < number:
        next(work.data)
        work.number += 1
