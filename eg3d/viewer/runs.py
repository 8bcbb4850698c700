"""A training that is under way: its newest snapshot and its curves, read from its files."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

EVERY = 3.0  # seconds
STATISTICS = "training_stats.jsonl"
_X = "Progress/kimg"


def newest_snapshot(run: Path) -> str | None:
    """Path of the newest snapshot, None where there is none yet."""
    found = sorted(run.glob("network-snapshot-*.pkl"))
    return str(found[-1]) if found else None


def curves(run: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{name: (kimg, mean)} of every statistic that the run has written so far."""
    points: dict[str, list[tuple[float, float]]] = {}
    try:
        lines = (run / STATISTICS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            entry = json.loads(line)
            kimg = entry[_X]["mean"]
        except (ValueError, KeyError, TypeError):  # The last line may be half written.
            continue
        for name, value in entry.items():
            mean = value.get("mean") if isinstance(value, dict) else None
            if mean is not None:
                points.setdefault(name, []).append((kimg, mean))
    return {name: tuple(np.array(pairs, dtype=float).T) for name, pairs in points.items()}


class Follower:
    """Looks for a newer snapshot now and then, in a thread that `close` ends."""

    def __init__(self, run: Path, found: Callable[[str], None]):
        self._run_dir, self._found = run, found
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eg3d-follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()
        self._thread.join(10)

    def _run(self) -> None:
        last = None
        while not self._closed.is_set():
            snapshot = newest_snapshot(self._run_dir)
            if snapshot is not None and snapshot != last:
                last = snapshot
                self._found(snapshot)
            self._closed.wait(EVERY)
