"""Iterations of training as its loop takes them, phase by phase or many in a row."""

from collections.abc import Callable
from fractions import Fraction

import torch

import dnnlib
from benchmarks.iteration import Iterations
from benchmarks.launches import Traffic
from benchmarks.protocol.ways import GRAPH, Way, refuse
from torch_utils.graphs import cuda_recorder
from torch_utils.memory_count import LiveBytes
from training.config import TrainingConfig
from training.image_source import make_source
from training.micro_batches import Reals, draw_batches, seed_everything, split_reals
from training.phase_graphs import PhaseGraphs
from training.phases import add_gradients, run_phase, update_ema
from training.schedules import ema_beta
from training.world import World

LATE = 10_000_000  # images seen: no schedule moves any more


class Loop(Iterations):
    """Iterations late in a run. Nothing waits for the device within them."""

    def __init__(self, config: TrainingConfig, device: torch.device, way: Way):
        training_set = dnnlib.util.construct_class_by_name(**config.training_set_kwargs)
        seed_everything(config.random_seed)
        source = make_source(training_set, device, "ram", workers=0, verbose=False)
        super().__init__(config, World(device=device), source, training_set)
        self.device = device
        self.add = add_gradients
        if way.implementation == GRAPH:
            record = cuda_recorder(device)
            self.add = PhaseGraphs(self.loss.at, record, self.tracked, say=refuse).add_gradients
        for G in (self.G, self.networks["G_ema"]):
            G.neural_rendering_resolution = self.loss.at(LATE).rendering_resolution

    def reals(self) -> list[Reals]:
        """The next real images. Raises ArithmeticError where a step before was not finite."""
        self.guard.report()
        return self._next()

    def step(self, number: int, reals: list[Reals]) -> None:
        """The step of a phase, with random numbers of its own."""
        phase, seed = self.phases[number], (self.config.random_seed, self.number, number)
        batches = draw_batches(reals, self.cameras, self.G.z_dim, seed, self.ends)
        check = run_phase(phase, batches, LATE, self.world, self.tracked, self.add)
        self.guard.add(phase.name, check)
        self.number += 1

    def average(self) -> None:
        """Moves the average of the weights."""
        sizes = (self.config.batch_size, self.config.ema_kimg, self.config.ema_rampup)
        update_ema(self.networks["G_ema"], self.G, ema_beta(LATE, *sizes))

    def iterate(self, iterations: int) -> None:
        """Iterations, in the first of which all phases have their turn."""
        for index in range(iterations):
            reals = self._next()
            for number, phase in enumerate(self.phases):
                if index % phase.interval == 0:
                    self.step(number, reals)
            self.average()

    def step_all(self, times: int) -> None:
        """Steps of all phases in turns."""
        for _ in range(times):
            for number in range(len(self.phases)):
                self.step(number, self.reals())

    def launches(self) -> float:
        """What a GPU is told to do in an iteration, on an average; on a CPU operators that are no
        views. Raises RuntimeError where there is no way to count them."""
        steps = [(lambda n=n: self.step(n, self._next())) for n in range(len(self.phases))]
        shares = [1 / Fraction(phase.interval) for phase in self.phases]
        counts = [launched(step, self.device) for step in steps]
        together = sum(n * share for n, share in zip(counts, shares, strict=True))
        return float(together + launched(self.average, self.device))

    def peak(self) -> float:
        """The most bytes that tensors take at once in any phase: on a GPU all there are, on a CPU
        those that are made in the step."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.step_all(1)
            return torch.cuda.max_memory_allocated(self.device)
        with LiveBytes() as live:
            self.step_all(1)
        return live.peak

    def _next(self) -> list[Reals]:
        return split_reals(*next(self.data), self.config.batch_gpu, self.world.rank)


def launched(work: Callable[[], object], device: torch.device) -> int:
    """Launches of kernels and graphs by a GPU's profiler; operators on a CPU."""
    if device.type != "cuda":
        with Traffic() as traffic:
            work()
        return traffic.operators
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        work()
        torch.cuda.synchronize(device)
    # cudaLaunchKernel, cuLaunchKernelEx, cudaGraphLaunch, ...
    names = [event.name for event in profile.events()]
    count = sum(name.startswith("cu") and "Launch" in name for name in names)
    if count == 0:
        raise RuntimeError("the profiler of this machine shows no launches")
    return count
