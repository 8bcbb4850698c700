"""Metrics of a run's snapshots, computed while it trains. They never stop the run."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dnnlib.util import EasyDict
from metrics.metric_main import MetricUnavailable, calc_metrics, report_metric


class RunMetrics:
    """Computes the metrics of one run, snapshot after snapshot.

    Keeps the statistics of the real pictures, and which metrics were found to be unavailable, to
    say that once only.

    Args:
        names: of metrics, as `metrics.metric_main` knows them.
        training_set_kwargs: the real pictures.
        run_dir: where metric-<name>.jsonl go.
        rank, num_ranks: this process among those of the run; rank 0 prints and writes.
        device: where to compute.
        settings: further fields of `metrics.options.MetricOptions`.
    """

    def __init__(
        self,
        names: Sequence[str],
        training_set_kwargs: Mapping[str, Any],
        run_dir: str | Path,
        rank: int = 0,
        num_ranks: int = 1,
        device: torch.device | str = "cpu",
        **settings: Any,
    ):
        self.names = list(names)
        self.run_dir = Path(run_dir)
        self.options = dict(
            dataset_kwargs=dict(training_set_kwargs),
            rank=rank,
            num_gpus=num_ranks,
            device=torch.device(device),
            memory={},
            **settings,
        )

    def evaluate(self, G: torch.nn.Module, snapshot_name: str) -> dict[str, float]:
        """The values of all metrics that could be computed, by result; to be called in all
        processes.

        Leaves G and the random states as they were. A metric that fails is reported in one line and
        left out; what is no `Exception`, such as Ctrl-C, goes through.

        Args:
            G: the generator of the snapshot, on the device.
            snapshot_name: the snapshot's file in the run directory.
        """
        values: dict[str, float] = {}
        try:
            outcomes = calc_metrics(self.names, G=G, **self.options)
        except Exception as error:
            outcomes = dict.fromkeys(self.names, error)
        for name, outcome in outcomes.items():
            if not isinstance(outcome, Exception):
                outcome = self._reported(outcome, snapshot_name)
            if isinstance(outcome, MetricUnavailable):
                self.names.remove(name)
                self._warn(f"{outcome}; it is skipped in this run")
            elif isinstance(outcome, Exception):
                reason = " ".join(str(outcome).split()) or "no reason given"
                kind = type(outcome).__name__
                self._warn(f"metric {name} failed at {snapshot_name}: {kind}: {reason}")
            else:
                values |= {key: float(value) for key, value in outcome.results.items()}
        return values

    def _reported(self, outcome: EasyDict, snapshot_name: str) -> EasyDict | Exception:
        """The outcome, once the first process has written it; or why it could not."""
        try:
            if self.options["rank"] == 0:
                report_metric(outcome, self.run_dir, self.run_dir / snapshot_name)
            return outcome
        except Exception as error:
            return error

    def _warn(self, text: str) -> None:
        if self.options["rank"] == 0:
            print(f"Warning: {text}", file=sys.stderr, flush=True)
