"""The metrics by name: which exist, how one is computed, what is written about it.

A metric is a function of `MetricOptions` that returns numbers by name; `register_metric` makes it
known under its own name. Where several processes compute, what one of them alone may fail at goes
through `metrics.processes.in_all_processes`.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dnnlib.util import EasyDict, format_time
from metrics.options import MetricOptions, unnoticed
from metrics.processes import in_all_processes
from metrics.randconv_distance import distance_to_real_pictures

__all__ = [
    "MetricError",
    "MetricOptions",
    "MetricUnavailable",
    "calc_metric",
    "is_valid_metric",
    "list_valid_metrics",
    "register_metric",
    "report_metric",
    "require_valid_metric",
]


class MetricError(ValueError):
    """A metric that does not exist or cannot be computed; the message names it and says why."""


class MetricUnavailable(MetricError):
    """A metric that exists, but not here: something that it needs is missing."""


Metric = Callable[[MetricOptions], Mapping[str, float]]

_METRICS: dict[str, Metric] = {}

# Published names without a meaning for a picture that is rendered from a camera.
_INAPPLICABLE = {
    "ppl": "path lengths are those of generators without cameras",
    "eqt": "the equivariance of StyleGAN3, whose input can be moved",
    "eqr": "the equivariance of StyleGAN3, whose input can be turned",
}


def register_metric(function: Metric) -> Metric:
    """Makes a metric known under the function's name; usable as a decorator."""
    _METRICS[function.__name__] = function
    return function


def is_valid_metric(metric: str) -> bool:
    """Whether there is a metric of that name; it may still be unavailable here."""
    return metric in _METRICS


def list_valid_metrics() -> list[str]:
    """The names of all metrics."""
    return list(_METRICS)


def require_valid_metric(metric: str) -> None:
    """Raises MetricError unless there is a metric of that name."""
    if is_valid_metric(metric):
        return
    for start, reason in _INAPPLICABLE.items():
        if metric.startswith(start):
            raise MetricError(f"metric {metric} does not apply to this model: {reason}")
    known = ", ".join(list_valid_metrics())
    raise MetricError(f"no metric is called {metric!r}; there are {known}")


def calc_metric(metric: str, **options: Any) -> EasyDict:
    """Computes a metric, in all processes at once where there are several.

    Args:
        options: fields of `metrics.options.MetricOptions`. G and the random states are left as they
            were.

    Returns `results` by name, `metric`, `total_time` in seconds, `total_time_str`, `num_gpus`, with
    the same results in all processes. Raises MetricError, and whatever the metric raises.
    """
    require_valid_metric(metric)
    opts = MetricOptions(**options)
    start = time.time()
    # Rank 0 decides, since the last digits may differ between devices.
    with unnoticed(opts):
        results = in_all_processes(lambda: dict(_METRICS[metric](opts)), opts.num_gpus)[0]
    seconds = time.time() - start
    return EasyDict(
        results=EasyDict(results),
        metric=metric,
        total_time=seconds,
        total_time_str=format_time(seconds),
        num_gpus=opts.num_gpus,
    )


def report_metric(
    result_dict: Mapping[str, Any],
    run_dir: str | Path | None = None,
    snapshot_pkl: str | Path | None = None,
) -> None:
    """Prints what `calc_metric` returned as a line of JSON, and appends it to
    `run_dir`/metric-<name>.jsonl if that folder is there. What is not finite is written as null.

    Args:
        snapshot_pkl: the file that was measured; written relative to `run_dir`.
    """
    if run_dir is not None and snapshot_pkl is not None:
        snapshot_pkl = os.path.relpath(snapshot_pkl, run_dir)
    snapshot = None if snapshot_pkl is None else str(snapshot_pkl)
    results = {name: _finite(value) for name, value in result_dict["results"].items()}
    line = dict(result_dict, results=results, snapshot_pkl=snapshot, timestamp=time.time())
    text = json.dumps(line, allow_nan=False)
    print(text, flush=True)
    if run_dir is not None and Path(run_dir).is_dir():
        _append_line(Path(run_dir, f"metric-{result_dict['metric']}.jsonl"), text)


def _finite(value: float) -> float | None:
    value = float(value)
    return value if math.isfinite(value) else None


def _append_line(path: Path, text: str) -> None:
    """Adds a line by one write, so that no reader and no other writer sees half of one."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    with open(descriptor, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        cut_short = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"  # by a full disk
        file.write(("\n" if cut_short else "").encode() + text.encode() + b"\n")
        os.fsync(descriptor)


@register_metric
def fd2k_randconv112(options: MetricOptions) -> dict[str, float]:
    """Fréchet distance of 2,000 pictures in features of fixed random convolutions: for watching one
    model learn, without a trained detector. Not comparable with published scores."""
    return {"fd2k_randconv112": distance_to_real_pictures(options, num_fakes=2000)}


def _register_unbuilt(names: list[str]) -> None:
    def unbuilt(name: str) -> Metric:
        def metric(options: MetricOptions) -> dict[str, float]:
            raise MetricUnavailable(f"metric {name} is not built yet")

        metric.__name__ = name
        return metric

    for name in names:
        register_metric(unbuilt(name))


_register_unbuilt(
    ["fid50k_full", "kid50k_full", "pr50k3_full", "is50k", "fid50k", "kid50k", "pr50k3"]
)
