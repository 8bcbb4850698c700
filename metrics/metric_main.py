"""The metrics by name: which exist, how they are computed, what is written about them.

A metric either compares features of pictures (`metrics.feature_metrics`), or is a function of
`MetricOptions` that returns numbers by name (`metrics.geometry_metrics`); `register_metric` makes
another function known under its own name. Where several processes compute, what one of them alone
may fail at goes through `metrics.processes`.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dnnlib.util import EasyDict, format_time
from metrics.collecting import collect, detector_of
from metrics.errors import MetricError, MetricUnavailable
from metrics.feature_metrics import FEATURE_METRICS, FeatureMetric
from metrics.geometry_metrics import GEOMETRY_METRICS, GeometryMetric
from metrics.options import MetricOptions, unnoticed
from metrics.processes import in_all_processes, in_step
from metrics.provenance import computed, feature_provenance

__all__ = [
    "MetricError",
    "MetricOptions",
    "MetricUnavailable",
    "calc_metric",
    "calc_metrics",
    "is_valid_metric",
    "list_valid_metrics",
    "register_metric",
    "report_metric",
    "require_valid_metric",
]

Metric = Callable[[MetricOptions], Mapping[str, float]]

_METRICS: dict[str, Metric | FeatureMetric] = FEATURE_METRICS | GEOMETRY_METRICS

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
    """Computes one metric; arguments and result as of `calc_metrics`. Raises what it fails with."""
    result = calc_metrics([metric], **options)[metric]
    if isinstance(result, Exception):
        raise result
    return result


def calc_metrics(metrics: Sequence[str], **options: Any) -> dict[str, EasyDict | Exception]:
    """Computes metrics, in all processes at once where there are several; each set of pictures is
    read or generated once for all of them.

    Args:
        options: fields of `metrics.options.MetricOptions`. G and the random states are left as they
            were.

    Returns for each metric `results` by name, `metric`, `total_time` in seconds from the call until
    they were there, `total_time_str`, `num_gpus` and `provenance`, with the same results in all
    processes; or the exception that a metric failed with. Raises MetricError for unknown names.
    """
    for name in metrics:
        require_valid_metric(name)
    opts = MetricOptions(**options)
    start = time.time()
    done: dict[str, EasyDict | Exception] = {}

    def compute(name: str, function: Callable[[], tuple[Mapping, Mapping]]) -> None:
        try:
            # Rank 0 decides, since the last digits may differ between devices.
            results, provenance = in_all_processes(function, opts.num_gpus)[0]
        except Exception as error:
            done[name] = _named(name, error)
            return
        seconds = time.time() - start
        done[name] = EasyDict(
            results=EasyDict(results),
            metric=name,
            total_time=seconds,
            total_time_str=format_time(seconds),
            num_gpus=opts.num_gpus,
            provenance=EasyDict(provenance),
        )

    with unnoticed(opts):
        comparisons = _that_have_a_detector(metrics, opts, done)
        wants = [want for metric in comparisons for want in metric.wants.values()]
        found = collect(opts, wants)
        for metric in comparisons:
            compute(metric.name, lambda metric=metric: _compare(metric, found, opts))
        for name in metrics:
            function = _METRICS[name]
            if not isinstance(function, FeatureMetric):
                compute(name, lambda f=function: _measure(f, opts))
    return {name: done[name] for name in metrics}


def _that_have_a_detector(
    metrics: Sequence[str], options: MetricOptions, done: dict[str, EasyDict | Exception]
) -> list[FeatureMetric]:
    """The metrics of features that can be computed; `done` gets the errors of the others."""
    able = []
    for metric in (_METRICS[name] for name in metrics):
        if isinstance(metric, FeatureMetric):
            try:
                in_step(lambda role=metric.detector: detector_of(options, role), options.num_gpus)
                able.append(metric)
            except Exception as error:
                done[metric.name] = _named(metric.name, error)
    return able


def _named(name: str, error: Exception) -> Exception:
    """What a user can mend says which metric it is about."""
    return type(error)(f"metric {name}: {error}") if isinstance(error, MetricError) else error


def _measure(
    metric: Metric, options: MetricOptions
) -> tuple[Mapping[str, float], Mapping[str, Any]]:
    """Results and provenance of a metric that is a function."""
    results = dict(metric(options))
    said = metric.provenance(options) if isinstance(metric, GeometryMetric) else {}
    return results, said | computed(options)


def _compare(
    metric: FeatureMetric, collected: Mapping, options: MetricOptions
) -> tuple[Mapping[str, float], Mapping[str, Any]]:
    """Results and provenance of a metric of features, in the first process; nothing elsewhere."""
    found = {name: collected[want] for name, want in metric.wants.items()}
    for part in found.values():
        if isinstance(part, Exception):
            raise part
    if options.rank > 0:
        return {}, {}
    results = metric.compute(found["fake"], found.get("real"), options.seed)
    return results, feature_provenance(options, metric, found)


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
