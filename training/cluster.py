"""Running on clusters: the rank that a launcher gave to a process, and jobs submitted to Slurm.

Launchers tell a process its place among the others in environment variables: torchrun (also
torchrun started by Kubeflow or SkyPilot) and Slurm's srun, each by names of its own.
`submit_slurm` goes the other way: it hands the command over to Slurm, which starts it on every GPU
and again after a preemption. docs/cluster.md shows both at work.
"""

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.stopping import EXIT_STATUS

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
OWN_OPTIONS = ("--launch", "--launch-options", "--launch_options")
SIGNAL_SECONDS = 120  # before its end Slurm warns a job, which then writes a checkpoint
COUNTS = ("nodes", "gpus_per_node", "cpus_per_task", "mem_gb", "timeout_min")


class ClusterError(ValueError):
    """A launcher's environment or a submission that cannot be used; the message is one line."""


@dataclass(frozen=True)
class Ranks:
    """This process among all that train together: `rank` of `world_size`, `local_rank` on its
    host; the first process listens at `master_addr`, `master_port`."""

    rank: int
    world_size: int
    local_rank: int
    master_addr: str
    master_port: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ClusterError(
                f"rank {self.rank} of {self.world_size} processes: must be from 0 to one less"
            )

    def announce(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """Sets MASTER_ADDR and MASTER_PORT, where torch.distributed looks for the first process."""
        environ["MASTER_ADDR"] = self.master_addr
        environ["MASTER_PORT"] = str(self.master_port)


# -- Being launched -------------------------------------------------------------------------------


def rank_from_environment(environ: Mapping[str, str] = os.environ) -> Ranks | None:
    """The place that torchrun or srun gave to this process; None where neither started it.

    A single task of srun is None too, and so is the shell of a batch script, which has Slurm's
    variables but is no task of its own. MASTER_ADDR and MASTER_PORT may be set for srun as well.

    Raises:
        ClusterError: for variables that are there in part, or are not numbers.
    """
    if any(name in environ for name in TORCHRUN[:3]):
        return _torchrun(environ)
    if "SLURM_PROCID" in environ and ("SLURM_STEP_ID" in environ or "SLURM_STEPID" in environ):
        return _srun(environ)
    return None


def expand_hosts(text: str) -> list[str]:
    """The hosts of a compressed list: `gpu[003-005,12],login1` -> gpu003, gpu004, gpu005, gpu12,
    login1. Numbers keep their zeros. Raises ClusterError where it is no such list."""
    items = re.findall(r"(?:[^][,]|\[[^][]*\])+", text)
    if not items or ",".join(items) != text:
        raise ClusterError(f"{text!r}: is no list of hosts; one looks like gpu[003-005,12],login1")
    return [host for item in items for host in _expand_item(item, text)]


def _expand_item(item: str, text: str) -> list[str]:
    """The hosts of a part without commas outside of brackets."""
    parts = re.split(r"\[(.*?)\]", item)  # Literal texts; every second one was in brackets.
    choices = [_numbers(p, text) if k % 2 else [p] for k, p in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def _numbers(ranges: str, text: str) -> list[str]:
    """`003-005,12` -> 003, 004, 005, 12."""
    numbers: list[str] = []
    for part in ranges.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        low, high = found.groups() if found else ("1", "0")
        values = range(int(low), int(high or low) + 1)
        if not values:
            raise ClusterError(f"{text!r}: [{ranges}] is no list of numbers such as [003-005,12]")
        numbers += [str(value).zfill(len(low)) for value in values]
    return numbers


def _torchrun(environ: Mapping[str, str]) -> Ranks:
    rank, size, local, port = (
        _number(environ, name, "torchrun") for name in TORCHRUN if name != "MASTER_ADDR"
    )
    return Ranks(rank, size, local, _text(environ, "MASTER_ADDR", "torchrun"), port)


def _srun(environ: Mapping[str, str]) -> Ranks | None:
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    size = _number(environ, tasks, "srun")
    if size == 1:
        return None
    if "MASTER_PORT" in environ:
        port = _number(environ, "MASTER_PORT", "srun")
    else:  # The same for all tasks, another for other jobs, outside of the ephemeral ports.
        port = 15000 + _number(environ, "SLURM_JOB_ID", "srun") % 15000
    hosts = "SLURM_STEP_NODELIST" if "SLURM_STEP_NODELIST" in environ else "SLURM_JOB_NODELIST"
    return Ranks(
        rank=_number(environ, "SLURM_PROCID", "srun"),
        world_size=size,
        local_rank=_number(environ, "SLURM_LOCALID", "srun"),
        master_addr=environ.get("MASTER_ADDR") or expand_hosts(_text(environ, hosts, "srun"))[0],
        master_port=port,
    )


def _text(environ: Mapping[str, str], name: str, launcher: str) -> str:
    if not environ.get(name):
        raise ClusterError(
            f"{name} is not set, though other variables of {launcher} are: "
            f"start with {launcher}, or without any of them"
        )
    return environ[name]


def _number(environ: Mapping[str, str], name: str, launcher: str) -> int:
    text = _text(environ, name, launcher)
    if not re.fullmatch(r"\d+", text):
        raise ClusterError(f"{name}={text}: must be a whole number, as {launcher} sets it")
    return int(text)


# -- Launching ------------------------------------------------------------------------------------


def launch_settings(text: str | None, gpus: int, workers: int = 3) -> dict[str, Any]:
    """The settings of a job from `--launch-options`, e.g. `nodes=2,timeout_min=1440`.

    One task a GPU, the same number on each node. `gpus_per_node=0` asks for no GPUs: tasks then
    train on CPUs. Names with `slurm_` go to submitit as they are.

    Args:
        text: key=value pairs with commas between; `timeout_min` must be among them.
        gpus: `--gpus`, the number of processes in all.
        workers: `--workers`; a task gets a core for each and one for itself, unless
            `cpus_per_task` says otherwise.
    """
    given = dict(_pair(part) for part in (text or "").split(",") if part)
    if "timeout_min" not in given and "slurm_time" not in given:
        raise ClusterError(
            "--launch-options: timeout_min is missing, the minutes after which the job is "
            "requeued: e.g. nodes=2,gpus_per_node=8,timeout_min=1440,slurm_partition=gpu"
        )
    nodes = given.get("nodes", 1)
    if not nodes or gpus % nodes:
        raise ClusterError(f"--launch-options: nodes={nodes} must divide --gpus={gpus}")
    tasks = gpus // nodes
    if given.get("gpus_per_node", tasks) not in (0, tasks):
        raise ClusterError(
            f"--launch-options: nodes={nodes} times gpus_per_node={given['gpus_per_node']} must "
            f"be --gpus={gpus}"
        )
    defaults = dict(
        nodes=nodes,
        gpus_per_node=tasks,
        cpus_per_task=workers + 1,
        slurm_job_name="eg3d",
        slurm_signal_delay_s=SIGNAL_SECONDS,
        slurm_max_num_timeout=100,
    )
    settings = defaults | given | {"tasks_per_node": tasks}
    return {key: value for key, value in settings.items() if (key, value) != ("gpus_per_node", 0)}


def _pair(part: str) -> tuple[str, Any]:
    key, equals, value = part.partition("=")
    key = key.strip()
    if not equals or not value or not (key in COUNTS or key.startswith("slurm_")):
        raise ClusterError(
            f"--launch-options: {part} is not one of {', '.join(COUNTS)}, slurm_… with = and a "
            "value; commas stand between them"
        )
    value = value.strip()
    if re.fullmatch(r"\d+", value):
        return key, int(value)
    if key in COUNTS:
        raise ClusterError(f"--launch-options: {part} must be a whole number")
    return key, {"true": True, "false": False}.get(value.lower(), value)


def submit_slurm(argv: Sequence[str], outdir: str | Path, settings: Mapping[str, Any]) -> str:
    """Submits the command to Slurm, one process a GPU, and returns the number of the job.

    Warned of its end (time limit, preemption), the job writes a checkpoint and is requeued with
    the same command, which goes on from there.

    Args:
        argv: the command as in `sys.argv`: its script, then its arguments. The `--launch` options
            among them are left out of what is submitted.
        outdir: the folder of runs; `slurm/<job>` inside gets what the job prints. All hosts must
            see it under the same path.
        settings: see `launch_settings`.

    Raises:
        ClusterError: without submitit, without Slurm, and for settings that submitit refuses.
    """
    try:
        import submitit
    except ImportError:
        raise ClusterError("--launch=slurm: needs submitit: pip install submitit") from None
    settings = dict(settings)
    timeouts = settings.pop("slurm_max_num_timeout", 100)
    job = TrainingJob(
        command=(sys.executable, os.path.abspath(argv[0]), *_without_launch(argv[1:])),
        folder=os.getcwd(),
        patience=max(settings.get("slurm_signal_delay_s", SIGNAL_SECONDS) - 15, 5),
    )
    root = shlex.quote(str(Path(__file__).resolve().parent.parent))
    fixed = dict(
        slurm_setup=[f"export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}"],
        # A task that fails ends the others, which would wait for it. All stop at the same time.
        slurm_srun_args=["--kill-on-bad-exit=0", "--wait=60"],
        slurm_additional_parameters={"requeue": True},
    )
    try:
        executor = submitit.AutoExecutor(
            folder=str(Path(outdir).resolve() / "slurm" / "%j"),
            cluster="slurm",
            slurm_max_num_timeout=timeouts,
        )
        executor.update_parameters(**settings, **fixed)
        return str(executor.submit(job).job_id)
    # What submitit raises for wrong settings, and where sbatch is missing or fails.
    except (OSError, RuntimeError, ValueError, TypeError, NameError, AssertionError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise ClusterError(f"--launch=slurm: {reason}") from None


def _without_launch(arguments: Sequence[str]) -> list[str]:
    """The arguments without the options that submit them, whose values may be separate."""
    kept, skip = [], False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if skip:
            skip = False
        elif name in OWN_OPTIONS:
            skip = not equals
        else:
            kept.append(argument)
    return kept


@dataclass
class TrainingJob:
    """What a task of the job runs: the command as a child process.

    submitit calls `checkpoint` from its handler of the signal that Slurm sends `patience` seconds
    (and a few) before the end, in the first task; the other tasks' children stop with that one.
    """

    command: tuple[str, ...]
    folder: str
    patience: float
    child: int | None = field(default=None, init=False)  # its process, while this one is called

    def __call__(self) -> None:
        """Runs the command to its end; raises RuntimeError if that is an error."""
        # The signal to submitit may reach the child too, which knows nothing of it.
        shell = ("sh", "-c", 'trap "" USR1 USR2; exec "$@"', "sh")
        while True:
            child = subprocess.Popen([*shell, *self.command], cwd=self.folder)
            self.child = child.pid
            status = child.wait()
            if status != EXIT_STATUS:
                break
            # Stopped: Slurm is about to end this task, which must not look finished. Else again.
            time.sleep(self.patience)
        if status:
            raise RuntimeError(f"{shlex.join(self.command)}: exit status {status}")

    def checkpoint(self) -> Any:
        """Lets the command write its checkpoint; returns the submission of the same command."""
        import submitit

        if self.child is not None:
            _stop(self.child, self.patience)
        again = TrainingJob(self.command, self.folder, self.patience)
        return submitit.helpers.DelayedSubmission(again)

    __submitit_checkpoint__ = checkpoint  # The name that later versions of submitit look for.


def _stop(child: int, seconds: float) -> None:
    """Sends SIGTERM to a child process and waits for its end, at most so many seconds.

    Within a signal handler, so without the locks of `subprocess`, which the interrupted code holds;
    and without collecting the child, which is that code's business.
    """
    deadline = time.monotonic() + seconds
    try:
        os.kill(child, signal.SIGTERM)
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                return
            time.sleep(0.1)
    except (ProcessLookupError, ChildProcessError):
        return
