"""What a run was made with: command, code, versions, machine; for whoever asks a year later."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import psutil
import torch

from dnnlib.util import replacing

ENVIRONMENT_FILE = "environment.json"
PACKAGE = "eg3d-open"

# Variables of the environment that change how a run computes. Named one by one or by prefixes of
# libraries that take no secrets; where a value could be an address, it is left out (_PRIVATE).
_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "KMP_AFFINITY", "KMP_BLOCKTIME", "LD_PRELOAD"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG"),
    *("NVIDIA_TF32_OVERRIDE", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"),
    *("SLURM_JOB_ID", "SLURM_JOB_NUM_NODES", "SLURM_NTASKS", "LOCAL_WORLD_SIZE", "WORLD_SIZE"),
)
_PREFIXES = ("TORCH_", "NCCL_", "TRITON_", "EG3D_")
_PRIVATE = ("ADDR", "HOST", "TOKEN", "SECRET", "PASSWORD", "KEY", "PROXY", "URL")
_GIB = 2.0**30


def describe_run(world_size: int = 1) -> dict:
    """This start of a run, as plain values for JSON; null stands for what cannot be known.

    Tells neither the name of the host nor anything secret. Memory is in GiB, times in UTC.

    Args:
        world_size: processes that train together.
    """
    return {
        "command": shlex.join([sys.executable, *sys.argv]),
        "arguments": sys.argv[1:],
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "code": git_state(Path(__file__).parent),
        "versions": versions(),
        "platform": platform.platform(),
        "devices": _devices(),
        "cpu": {
            "model": _cpu_model(),
            "cores": psutil.cpu_count(logical=False),
            "threads": psutil.cpu_count(),
            "usable": _usable_cpus(),
            "memory_gib": round(psutil.virtual_memory().total / _GIB, 1),
        },
        "torch_threads": torch.get_num_threads(),
        "world_size": world_size,
        "environment": relevant_variables(os.environ),
    }


def write_description(run_dir: str | Path, world_size: int = 1) -> None:
    """Appends `describe_run()` to the list in environment.json of a run directory.

    A file that is not such a list, say because a disk was full, is begun anew.
    """
    path = Path(run_dir) / ENVIRONMENT_FILE
    try:
        starts = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        starts = []
    if not isinstance(starts, list):
        starts = []
    starts.append(describe_run(world_size))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(starts, indent=2) + "\n", encoding="utf-8")


def git_state(folder: str | Path) -> dict | None:
    """The commit that is checked out where a file of ours lies, and whether files differ from it.

    None without git, or where the folder is no part of a repository, or only of one that does not
    know it: an installed copy inside somebody else's project.
    """
    tracked = _git(folder, "ls-files", "--error-unmatch", ".")
    commit = _git(folder, "rev-parse", "HEAD")
    if not tracked or not commit:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def relevant_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Those variables that change how a run computes."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if (name in _VARIABLES or name.startswith(_PREFIXES))
        and not any(part in name for part in _PRIVATE)
    }


def _git(folder: str | Path, *arguments: str) -> str | None:
    """The output of a git command, None where it fails."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def versions() -> dict[str, str | None]:
    """Versions of what computes, None where something is not there."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": None,
        "numpy": np.__version__,
    }
    if torch.cuda.is_available():
        found["cudnn"] = str(torch.backends.cudnn.version())
    for name in (PACKAGE, "triton"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _devices() -> list[dict]:
    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [
        {
            "name": device.name,
            "memory_gib": round(device.total_memory / _GIB, 1),
            "capability": f"{device.major}.{device.minor}",
        }
        for device in found
    ]


def _cpu_model() -> str | None:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or None


def _usable_cpus() -> int | None:
    """CPUs that this process may use, as under a job's limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return psutil.cpu_count()
