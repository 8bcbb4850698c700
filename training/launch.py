"""From a chosen run to its end: directory, lock, log file, signals, processes."""

import contextlib
import os
import time
import traceback
from collections.abc import Iterator

import dnnlib
from training import checkpoints, runs
from training.config import TrainingConfig, describe
from training.guard import NonFiniteError
from training.run_description import write_description
from training.stopping import StopSignals
from training.training_loop import training_loop
from training.world import ALONE, World


def launch(config: TrainingConfig, lock: runs.RunLock | None = None, world: World = ALONE) -> bool:
    """Trains in a new run directory, or goes on in the one whose lock is given; output goes to
    log.txt too, and so does the traceback of whatever ends the run early.

    All processes of `world` call it with the same configuration; the lock is the first one's.
    Returns whether the run has come to its end; no: a signal stopped it, after a checkpoint. Raises
    OptionError where the directory cannot be made.
    """
    with _directory(config, lock, world), StopSignals() as stop, _output(config, world) as log:
        start = time.time()
        try:
            found = runs.prepare(config) if world.is_first else None
            path = world.share(found and found.path)
            if path and not world.is_first:
                found = checkpoints.Found(path, checkpoints.read_checkpoint(path))
            if world.is_first:
                write_description(config.run_dir, world.size)
            print(describe(config))
            state = found and found.state
            done = training_loop(config, world, state=state, stop_fn=lambda: stop.received)
        except NonFiniteError as error:
            log.write(traceback.format_exc())
            kept = checkpoints.list_checkpoints(config.run_dir)
            last = f"the last good checkpoint is {kept[0]}" if kept else "no checkpoint exists"
            raise NonFiniteError(f"{error}; {last}") from None
        except BaseException:
            log.write(traceback.format_exc())
            raise
        if done:
            took = dnnlib.util.format_time(time.time() - start)
            print(f"\nDone in {took}: {config.run_dir}")
        elif world.is_first:
            newest = checkpoints.list_checkpoints(config.run_dir)[0].name
            why = stop.received or "a signal to another process"
            print(f"\nStopped by {why}; the same command goes on from {newest}")
    return done


@contextlib.contextmanager
def _directory(config: TrainingConfig, lock: runs.RunLock | None, world: World) -> Iterator[None]:
    """Holds the run directory, made if it is new, for the first process."""
    if not world.is_first:
        world.share(None)  # until it is there
        yield
        return
    with lock or runs.create(config.run_dir) as held:
        checkpoints.remove_leftovers(held.run_dir)
        world.share(None)
        yield


@contextlib.contextmanager
def _output(config: TrainingConfig, world: World) -> Iterator:
    """Yields log.txt, where the first process's output goes too. The others are silent."""
    path = os.path.join(config.run_dir, "log.txt")
    if world.is_first:
        with dnnlib.util.Logger(path, "a", should_flush=True) as log:
            yield log.file
    else:
        with open(path, "a", encoding="utf-8") as log, open(os.devnull, "w") as nowhere:
            with contextlib.redirect_stdout(nowhere):
                yield log
