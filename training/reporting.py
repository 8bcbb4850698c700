"""What a run writes about itself: the status line, training_stats.jsonl, curves, timings."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

import dnnlib
from torch_utils import training_stats
from training.sinks import TensorBoardSink, WandbSink


class PhaseTimer:
    """Duration of each phase's last execution, without waiting for the GPU until asked."""

    def __init__(self, device: torch.device):
        self.on_gpu = device.type == "cuda"
        self.marks = {}

    def run(self, name: str, function, *args):
        """Returns `function(*args)` and remembers when it started and ended."""
        start = self._mark()
        result = function(*args)
        self.marks[name] = (start, self._mark())
        return result

    def _mark(self):
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def report(self) -> None:
        """Reports `Timing/<phase>` in milliseconds; synchronises with the GPU."""
        for name, (start, end) in self.marks.items():
            if self.on_gpu:
                end.synchronize()
                milliseconds = start.elapsed_time(end)
            else:
                milliseconds = (end - start) * 1000
            training_stats.report0(f"Timing/{name}", milliseconds)


class RunLog:
    """Rank 0's record of a run. Files that are there are continued.

    Args:
        run_dir: where training_stats.jsonl and the TensorBoard events go.
        device: the device whose memory counts.
        total_nimg: images to show in all.
        start_time: when the process began, default now; the first tick's maintenance is since then.
        wandb: the project of Weights & Biases to write to as well, see `sinks.WandbSink`.
        settings: what to show there of the run's configuration.
    """

    def __init__(
        self,
        run_dir: str | Path,
        device: torch.device,
        total_nimg: int,
        start_time: float | None = None,
        wandb: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ):
        self.run_dir = Path(run_dir)
        self.device = device
        self.total_nimg = total_nimg
        self.start_time = self.tick_end = time.time() if start_time is None else start_time
        self.tensorboard = TensorBoardSink(self.run_dir)
        self.sinks = [self.tensorboard]
        if wandb is not None:
            self.sinks.append(WandbSink(self.run_dir, wandb, settings))
        self.next_step = 0  # What TensorBoard has from this step on is to be hidden on resuming.
        self.collector = training_stats.Collector()
        self.jsonl = open(self.run_dir / "training_stats.jsonl", "a", encoding="utf-8")

    def state_dict(self) -> dict:
        """Time spent, sizes of the .jsonl files, statistics shown last."""
        self.jsonl.flush()
        os.fsync(self.jsonl.fileno())
        return dict(
            elapsed=time.time() - self.start_time,
            purge_step=self.next_step,
            sizes={path.name: path.stat().st_size for path in self.run_dir.glob("*.jsonl")},
            collector=self.collector.state_dict(),
        )

    def load_state_dict(self, state: dict) -> None:
        """Goes on from there: takes out of the .jsonl files what was written afterwards."""
        self.start_time = time.time() - state["elapsed"]
        self.next_step = self.tensorboard.purge_step = state["purge_step"]
        self.collector.load_state_dict(state["collector"])
        for path in self.run_dir.glob("*.jsonl"):
            size = state["sizes"].get(path.name, 0)
            if path.stat().st_size > size:
                os.truncate(path, size)

    def begin_tick(self, nimg: int) -> None:
        """Training goes on now, `nimg` images having been shown."""
        self.tick_nimg = nimg
        self.tick_start = time.time()
        self.maintenance = self.tick_start - self.tick_end

    def status(self, tick: int, nimg: int, augment_p: float = 0) -> str:
        """The line of one tick, every figure of it reported as a statistic too."""
        now = time.time()
        seconds = now - self.tick_start
        images = max(nimg - self.tick_nimg, 1)
        rate = images / max(seconds, 1e-9)
        report = training_stats.report0
        gib = 2.0**30
        on_gpu = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self.device) / gib if on_gpu else 0.0
        reserved = torch.cuda.max_memory_reserved(self.device) / gib if on_gpu else 0.0
        eta = dnnlib.util.format_time(max(self.total_nimg - nimg, 0) / rate)
        total = report("Timing/total_sec", now - self.start_time)
        report("Timing/total_hours", total / 3600)
        report("Timing/total_days", total / 86400)
        report("Timing/images_per_sec", rate)
        memory = psutil.Process(os.getpid()).memory_info().rss / gib
        fields = [
            f"tick {report('Progress/tick', tick):<5d}",
            f"kimg {report('Progress/kimg', nimg / 1000):<8.1f}",
            f"time {dnnlib.util.format_time(total):<12s}",
            f"eta {eta:<12s}",
            f"sec/tick {report('Timing/sec_per_tick', seconds):<7.1f}",
            f"sec/kimg {report('Timing/sec_per_kimg', 1000 / rate):<7.2f}",
            f"img/s {rate:<7.1f}",
            f"maintenance {report('Timing/maintenance_sec', self.maintenance):<6.1f}",
            f"cpumem {report('Resources/cpu_mem_gb', memory):<6.2f}",
            f"peakmem {report('Resources/peak_cpu_mem_gb', _peak_memory() / gib):<6.2f}",
            f"gpumem {report('Resources/peak_gpu_mem_gb', peak):<6.2f}",
            f"reserved {report('Resources/peak_gpu_mem_reserved_gb', reserved):<6.2f}",
            f"augment {report('Progress/augment', augment_p):.3f}",
        ]
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        self.tick_end = now
        return " ".join(fields)

    def images(self, grids: dict[str, np.ndarray], nimg: int) -> None:
        """Shows picture grids [H, W, C] uint8 under their names, wherever curves are shown."""
        for sink in self.sinks:
            sink.images(grids, nimg)

    def write(self, nimg: int, extra: Mapping[str, float] | None = None) -> None:
        """One line of training_stats.jsonl, one point of every curve.

        extra: scalars of this tick, to be statistics as well; those that are not finite are left
        out.
        """
        for name, value in (extra or {}).items():
            training_stats.report0(name, value if math.isfinite(value) else [])
        self.collector.update()
        stats = self.collector.as_dict()
        finite = {
            name: {key: v if math.isfinite(v) else None for key, v in value.items()}
            for name, value in stats.items()
        }
        self.jsonl.write(json.dumps(dict(finite, timestamp=time.time())) + "\n")
        self.jsonl.flush()
        means = {name: value["mean"] for name, value in stats.items()}
        for sink in self.sinks:
            sink.scalars(means, nimg, time.time() - self.start_time)
        self.next_step = nimg // 1000 + 1

    def close(self) -> None:
        """Closes the files."""
        self.jsonl.close()
        for sink in self.sinks:
            sink.close()


def _peak_memory() -> int:
    """Most bytes of memory that this process has held at once."""
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process(os.getpid()).memory_info().peak_wset
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
