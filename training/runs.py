"""Run directories: which one a command means, the lock of whoever trains in it, its options."""

import errno
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dnnlib.util import is_url, replacing
from training.checkpoints import (
    CheckpointError,
    Found,
    images_shown,
    is_intact,
    list_checkpoints,
    read_newest,
)
from training.config import FADES, OptionError, TrainingConfig, as_fine_tune
from training.starting import read_tensors

try:
    import fcntl
except ImportError:  # Windows: runs are not locked.
    fcntl = None

OPTIONS_FILE = "training_options.json"

# What may differ under --resume=latest: nothing that a network's weights depend on.
HARMLESS = {
    *("run_dir", "total_kimg", "kimg_per_tick", "image_snapshot_ticks", "network_snapshot_ticks"),
    *("metrics", "cudnn_benchmark", "checkpoint_minutes", "nan_limit", "image_grid", "num_gpus"),
    *("wandb", "cache", "metric_networks", "cuda_graphs"),
    *("data_loader_kwargs", "training_set_kwargs.path", "loss_kwargs.recompute"),
}

# Options by the settings that they set, where those have other names.
_OPTIONS = {
    "batch_size": "batch",
    "batch_gpu": "batch-gpu",
    "num_gpus": "gpus",
    "random_seed": "seed",
    "metric_networks": "detector",
    "ema_kimg": "batch",
    "r1_gamma": "gamma",
    "G_opt_kwargs.lr": "glr",
    "D_opt_kwargs.lr": "dlr",
    "G_reg_interval": "density_reg_every",
    "augment_kwargs": "aug",
    "augment_p": "p",
    "ada_target": "target",
    "ada_kimg": "ada-kimg",
    "resume_pkl": "resume",
    "xflip": "mirror",
    "max_size": "data",
    "resolution": "data",
    "image_resolution": "data",
    "num_layers": "map-depth",
    "channel_base": "cbase",
    "channel_max": "cmax",
    "mbstd_group_size": "mbstd-group",
    "mbstd_num_channels": "cmax",
    "freeze_layers": "freezed",
    "G_kwargs.num_fp16_res": "g_num_fp16_res",
    "G_kwargs.conv_clamp": "g_num_fp16_res",
    "D_kwargs.num_fp16_res": "d_num_fp16_res",
    "D_kwargs.conv_clamp": "d_num_fp16_res",
    "superresolution_module": "sr-module",
    "superresolution_noise_mode": "sr_noise_mode",
    "c_gen_conditioning_zero": "gen_pose_cond",
}
_SAME_NAMES = {
    *("sr_num_fp16_res", "style_mixing_prob", "gpc_reg_prob", "gpc_reg_fade_kimg", "c_scale"),
    *("density_reg", "density_reg_p_dist", "reg_type", "decoder_lr_mul", "plane_axes"),
    *("rebalance", "disc_c_noise", "blur_fade_kimg", "neural_rendering_resolution_initial"),
    *("neural_rendering_resolution_final", "neural_rendering_resolution_fade_kimg"),
}


class RunLock:
    """The right to train in a run directory, until released (or as a `with`) or the process ends.

    Record locks of POSIX, since a data loading process that outlives its killed parent for some
    seconds would inherit the other kind. They do not keep a process from taking one twice.
    """

    def __init__(self, run_dir: Path, file) -> None:
        self.run_dir = run_dir
        self._file = file

    @classmethod
    def take(cls, run_dir: str | Path) -> "RunLock | None":
        """The lock of a run directory, None if another process has it."""
        run_dir = Path(run_dir)
        file = open(run_dir / ".lock", "a")
        try:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.close()
                return None  # Other errors: a file system without locks.
        return cls(run_dir, file)

    def release(self) -> None:
        """Gives the right back; a second call does nothing."""
        self._file.close()

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True)
class Choice:
    """The run that a command means: its configuration, what to say about it, and its lock, None for
    a run directory that is still to be made. `finished` runs leave nothing to do."""

    config: TrainingConfig
    notice: str = ""
    lock: RunLock | None = None
    finished: bool = False


def choose(config: TrainingConfig, resume: str | None, keep_batch_gpu: bool = False) -> Choice:
    """The run that `config` means, `config.run_dir` being the name for a new one.

    Args:
        resume: `--resume`. "none": a new run. "latest": the newest of the preset that nobody
            trains; raises OptionError if it was made with options that matter and differ. Anything
            else: the newest unfinished one with the same configuration that nobody trains, or a new
            one. The number of processes may differ: it does not matter to the mathematics.
        keep_batch_gpu: a run that goes on keeps its micro-batches, if they can be divided among the
            processes: nobody asked for others.
    """
    if resume == "none":
        return Choice(config)
    find = _latest if resume == "latest" else _same
    return find(config, keep_batch_gpu)


def is_finished(run_dir: Path, total_nimg: float) -> bool:
    """Whether a run's newest good checkpoint has seen all its images."""
    for path in list_checkpoints(run_dir):
        if images_shown(path) < total_nimg:
            return False
        if is_intact(path):
            return True
    return False


def create(run_dir: str | Path) -> RunLock:
    """Makes a new run directory; raises OptionError where that cannot be."""
    run_dir = Path(run_dir)
    try:
        run_dir.mkdir(parents=True)
        lock = RunLock.take(run_dir)
    except FileExistsError:
        lock = None
    except OSError as error:
        raise OptionError(f"--outdir: {run_dir} cannot be made ({error.strerror})") from None
    if lock is None:
        raise OptionError(f"--outdir: {run_dir} was made meanwhile; start again")
    return lock


def prepare(config: TrainingConfig) -> Found | None:
    """Records the configuration in the run directory, which the caller has locked; returns the
    checkpoint to go on from, None for the beginning. Says so if there was a beginning already.

    Raises CheckpointError if there are checkpoints and none is good: to begin anew would end them.
    """
    run_dir = Path(config.run_dir)
    begun = (run_dir / OPTIONS_FILE).exists()
    with replacing(run_dir / OPTIONS_FILE) as temporary:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(asdict(config), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
    found = read_newest(run_dir)
    if found is not None:
        kimg = found.state["counters"]["nimg"] / 1000
        print(f"Going on from {found.path} at kimg {kimg:.1f}", flush=True)
    elif list_checkpoints(run_dir):
        raise CheckpointError(
            f"{run_dir}: none of its checkpoints can be used; --resume=none starts a new run"
        )
    elif begun:
        print(f"{run_dir} has no checkpoint yet: it starts from its beginning", flush=True)
        for pattern in ("*.jsonl", "events.out.tfevents.*"):
            for path in run_dir.glob(pattern):
                path.unlink()
    return found


def _in(config: TrainingConfig, run_dir: Path, options: dict, keep_batch_gpu: bool):
    """The configuration for a run that was begun with `options`."""
    kept = options.get("batch_gpu")
    if keep_batch_gpu and kept and config.batch_size % (config.num_gpus * kept) == 0:
        config = replace(config, batch_gpu=kept)
    return replace(config, run_dir=str(run_dir))


def _same(config: TrainingConfig, keep_batch_gpu: bool) -> Choice:
    for run_dir, options in _runs(config):
        going_on = _in(config, run_dir, options, keep_batch_gpu)
        if _differences(_plain(going_on), options, {"run_dir", "num_gpus", "wandb"}):
            continue
        if is_finished(run_dir, config.total_kimg * 1000):
            continue
        lock = RunLock.take(run_dir)
        if lock is None:
            print(f"{run_dir} is being trained by another process", file=sys.stderr)
            continue
        return Choice(going_on, f"{run_dir} is unfinished and goes on", lock)
    snapshot = config.resume_pkl
    if snapshot is not None and not is_url(snapshot) and not Path(snapshot).is_file():
        raise OptionError(
            f"--resume={snapshot}: no such file; give a snapshot (a file or web address), "
            "latest or none"
        )
    if snapshot is not None:
        read_tensors(snapshot)  # What is wrong with it shows before there is a run directory.
    return Choice(config)


def _latest(config: TrainingConfig, keep_batch_gpu: bool) -> Choice:
    for run_dir, options in _runs(config):
        if _preset(run_dir) != _preset(Path(config.run_dir)):
            continue
        lock = RunLock.take(run_dir)
        if lock is None:
            print(f"{run_dir} is being trained by another process", file=sys.stderr)
            continue
        going_on = _in(config, run_dir, options, keep_batch_gpu)
        if options.get("resume_pkl"):
            keeps = all(options["loss_kwargs"].get(k) == config.loss_kwargs[k] for k in FADES)
            going_on = as_fine_tune(going_on, options["resume_pkl"], keeps)
        differing = _differences(_plain(going_on), options, HARMLESS)
        if differing:
            lock.release()
            raise OptionError(
                f"--resume=latest: {run_dir} was made with other options: {', '.join(differing)}"
            )
        finished = is_finished(run_dir, config.total_kimg * 1000)
        notice = f"{run_dir} goes on"
        if finished:
            notice = f"{run_dir} has seen {config.total_kimg} kimg: a larger --kimg would extend it"
        return Choice(going_on, notice, lock, finished)
    return Choice(config, "--resume=latest: there is no run yet; a new one starts")


def _runs(config: TrainingConfig) -> Iterator[tuple[Path, dict]]:
    """The run directories beside `config.run_dir` with their options, newest first."""
    outdir = Path(config.run_dir).parent
    found = []
    for path in outdir.iterdir() if outdir.is_dir() else ():
        number = re.match(r"\d+", path.name)
        if number and path.is_dir():
            found.append((int(number.group()), path.name, path))
    for _, _, path in sorted(found, reverse=True):
        try:
            yield path, json.loads((path / OPTIONS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # It never got as far as to have options.
            continue


def _preset(run_dir: Path) -> str:
    return run_dir.name.split("-")[1]


def _plain(config: TrainingConfig) -> dict:
    """The configuration as it comes back from training_options.json."""
    return json.loads(json.dumps(asdict(config)))


def _differences(wanted: object, found: object, harmless: set[str], path: str = "") -> list[str]:
    """`--option` (or the setting's name where none sets it) of each value that differs."""
    if path in harmless:
        return []
    if isinstance(wanted, dict) and isinstance(found, dict):
        differing = []
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            inner = f"{path}.{key}" if path else key
            differing += _differences(wanted.get(key), found.get(key), harmless, inner)
        return list(dict.fromkeys(differing))
    return [] if wanted == found else [_option(path)]


def _option(path: str) -> str:
    """The name of the option that sets something, as far as one does."""
    leaf = path.split(".")[-1]
    option = _OPTIONS.get(path) or _OPTIONS.get(leaf) or (leaf if leaf in _SAME_NAMES else None)
    return f"--{option}" if option else path
