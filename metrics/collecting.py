"""What metrics want to know of sets of pictures, gathered in one pass over each set.

A metric says which features of which pictures it wants (`Want`); `collect` reads or generates each
set once for all metrics. Processes take turns at batches and exchange features, which every process
then adds up in the order of the pictures: sums have the same bits for any number of processes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tqdm

import dnnlib
from metrics import real_statistics
from metrics.detectors import Detector, load_detector
from metrics.fakes import Fakes, generate
from metrics.frechet import FeatureStatistics
from metrics.options import MetricOptions
from metrics.processes import in_all_processes, in_step
from metrics.samples import turns
from training.dataset import Dataset
from training.image_source import make_source


@dataclass(frozen=True)
class Reals:
    """Pictures of the data set: all files, or `sample` of them chosen at random; mirrored copies
    too where `as_trained` and the training had them."""

    as_trained: bool = False
    sample: int | None = None


@dataclass(frozen=True)
class Want:
    """Output 'features' or 'probabilities' of the detector with a role, for the first `count`
    pictures (None: all) of a set; `keep` their 'moments' or 'all' rows."""

    source: Reals | Fakes
    detector: str
    count: int | None = None
    output: str = "features"
    keep: str = "moments"


class FeatureRows:
    """Features [n, size] that arrive in batches, kept as float32 on the CPU."""

    def __init__(self, size: int):
        self.size = size
        self.count = 0
        self._parts: list[torch.Tensor] = []

    def append(self, features: torch.Tensor) -> None:
        """Adds a batch [n, size]."""
        self._parts.append(features.to("cpu", torch.float32))
        self.count += len(features)

    @property
    def rows(self) -> torch.Tensor:
        """All of them, float32 [count, size]."""
        return torch.cat(self._parts) if self._parts else torch.zeros(0, self.size)

    def state(self) -> dict[str, np.ndarray]:
        """As an array, to be saved."""
        return {"rows": self.rows.numpy()}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> "FeatureRows":
        """From what `state` returned."""
        rows = torch.from_numpy(state["rows"])
        found = cls(rows.shape[1])
        found.append(rows)
        return found


Collected = FeatureStatistics | FeatureRows
_KINDS: dict[str, type[Collected]] = {"moments": FeatureStatistics, "all": FeatureRows}


def collect(options: MetricOptions, wants: Iterable[Want]) -> dict[Want, Collected | Exception]:
    """What is wanted, from one pass over each set of pictures; to be called in all processes.

    Real sets are looked up in `options.memory` and on disk first. Where a set cannot be read or
    generated, the exception that says why takes the place of what was wanted of it.
    """
    wants = list(dict.fromkeys(wants))
    found: dict[Want, Collected | Exception] = {}
    for source in dict.fromkeys(want.source for want in wants):
        mine = [want for want in wants if want.source == source]
        gather = _collect_reals if isinstance(source, Reals) else _collect_fakes
        try:
            found |= gather(options, source, mine)
        except Exception as error:
            found |= dict.fromkeys(mine, error)
    return found


def detector_of(options: MetricOptions, role: str) -> Detector:
    """The detector with a role, 'randconv112' included. Raises MetricError."""
    if role == "randconv112":
        return load_detector("inception", role, options.device)
    return load_detector(role, options.networks.get(role), options.device)


def reals_kwargs(options: MetricOptions, source: Reals) -> dict[str, Any]:
    """How the data set is opened for some real pictures."""
    kwargs = dict(options.dataset_kwargs, max_size=source.sample, random_seed=0, use_labels=False)
    if not source.as_trained:
        kwargs["xflip"] = False
    return kwargs


# -- Real pictures ---------------------------------------------------------------------------------


def _collect_reals(
    options: MetricOptions, source: Reals, wants: Sequence[Want]
) -> dict[Want, Collected]:
    kwargs = reals_kwargs(options, source)

    def key(want: Want) -> str:
        detector = detector_of(options, want.detector)
        return real_statistics.cache_key(kwargs, detector, want.output, want.keep, want.count)

    keys = in_step(lambda: {want: key(want) for want in wants}, options.num_gpus)
    found = {want: _remembered(options, want, keys[want]) for want in wants}
    missing = [want for want in wants if found[want] is None]
    if missing:
        dataset = in_step(lambda: dnnlib.util.construct_class_by_name(**kwargs), options.num_gpus)
        read = _real_batches(options, dataset)
        found |= _pass_over(options, missing, len(dataset), read, "real pictures")
        dataset.close()
    for want in missing:
        options.memory[keys[want]] = found[want]
        if options.cache and options.rank == 0:
            real_statistics.save(keys[want], found[want].state())
    return found


def _remembered(options: MetricOptions, want: Want, key: str) -> Collected | None:
    """What an earlier call has collected, if all processes have it."""
    if key not in options.memory and options.cache:
        state = real_statistics.load(key)
        if state is not None:
            options.memory[key] = _KINDS[want.keep].from_state(state)
    everywhere = in_all_processes(lambda: key in options.memory, options.num_gpus)
    return options.memory[key] if all(everywhere) else None


def _real_batches(
    options: MetricOptions, dataset: Dataset
) -> Callable[[int], Iterator[torch.Tensor]]:
    def read(total: int) -> Iterator[torch.Tensor]:
        indices = (list(part) for part in turns(total, options.batch, options))
        with closing(make_source(dataset, options.device, workers=options.workers)) as source:
            for images, _ in source.read(indices):
                yield images

    return read


# -- Generated pictures ----------------------------------------------------------------------------


def _collect_fakes(
    options: MetricOptions, source: Fakes, wants: Sequence[Want]
) -> dict[Want, Collected]:
    total = max(want.count for want in wants)

    def read(total: int) -> Iterator[torch.Tensor]:
        for part in turns(total, options.batch, options):
            yield generate(options, source, part)

    return _pass_over(options, wants, total, read, "generated pictures")


# -- A pass ----------------------------------------------------------------------------------------


def _pass_over(
    options: MetricOptions,
    wants: Sequence[Want],
    available: int,
    read: Callable[[int], Iterator[torch.Tensor]],
    title: str,
) -> dict[Want, Collected]:
    """What is wanted of a set with `available` pictures; read(n) gives this process's turns at the
    first n of them, uint8 [batch, C, H, W]."""
    detectors = in_step(
        lambda: {want.detector: detector_of(options, want.detector) for want in wants},
        options.num_gpus,
    )
    limits = {want: min(want.count or available, available) for want in wants}
    outputs = dict.fromkeys((want.detector, want.output) for want in wants)
    total, found = max(limits.values()), {}
    several = options.num_gpus > 1

    def seen(images: torch.Tensor | None) -> dict[tuple[str, str], torch.Tensor]:
        if images is None:
            return {}
        rows = {key: getattr(detectors[key[0]], key[1])(images) for key in outputs}
        return {key: value.cpu() for key, value in rows.items()} if several else rows

    shown = options.verbose and options.rank == 0
    bar = tqdm.tqdm(total=total, desc=title, unit="img", disable=None if shown else True)
    with bar, closing(read(total)) as batches:
        for _ in range(0, total, options.batch * options.num_gpus):
            parts = in_all_processes(lambda: seen(next(batches, None)), options.num_gpus)
            for part in filter(None, parts):
                for want in wants:
                    rows = part[want.detector, want.output].to(options.device)
                    _append(found, want, rows, limits[want])
            bar.update(min(options.batch * options.num_gpus, total - bar.n))
    return found


def _append(found: dict[Want, Collected], want: Want, rows: torch.Tensor, limit: int) -> None:
    if want not in found:
        found[want] = _KINDS[want.keep](rows.shape[1])
    room = limit - found[want].count
    if room > 0:
        found[want].append(rows[:room])
