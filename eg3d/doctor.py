"""What this installation is made of, whether it works, and how fast its operators are."""

import importlib.metadata
import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from eg3d.operator_trials import Trial, difference, timing, trials
from eg3d.video import write_video
from torch_utils.ops import choice
from torch_utils.ops.conv2d_gradfix import has_bfloat16

__all__ = ["examine"]

_LIBRARIES = (
    "torch",
    "triton",
    "numpy",
    "scipy",
    "pillow",
    "click",
    "safetensors",
    "imageio-ffmpeg",
)

# Module, distribution, and what it is for: all of them may be missing.
_OPTIONAL = (
    ("pyspng", "pyspng", "reads PNG faster"),
    ("tensorboard", "tensorboard", "curves of a training"),
    ("wandb", "wandb", "train.py --wandb"),
    ("submitit", "submitit", "train.py --launch=slurm"),
    ("webdataset", "webdataset", "other programs' shards"),
    ("lmdb", "lmdb", "LSUN's databases"),
    ("fast_simplification", "fast-simplification", "smaller meshes"),
    ("cv2", "opencv-python-headless", "estimators of faces"),
    ("viser", "viser", "the viewer"),
)
_REPEATS = 5


class Finding(str):
    """A line about something that ought to work and does not."""


def examine() -> Iterator[str]:
    """Lines to print; those that are `Finding`s say what is wrong."""
    yield f"Python {platform.python_version()}, {platform.platform()}"
    yield ", ".join(f"{name} {_version(name) or 'missing'}" for name in _LIBRARIES)
    yield from _devices()
    yield from _operators()
    yield from _video()
    yield "optional packages:"
    for module, distribution, purpose in _OPTIONAL:
        found = importlib.util.find_spec(module) is not None
        yield f"  {distribution:<23}{_version(distribution) or found or 'missing'}: {purpose}"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[str]:
    faster = ", with bfloat16: --bf16 of the generating commands" if has_bfloat16() else ""
    yield f"CPU: {torch.get_num_threads()} threads of {os.cpu_count()} processors{faster}"
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        yield f"GPU: none that PyTorch can use (it is {built})"
        return
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield (
            f"GPU {index}: {device.name}, {device.total_memory / 2**30:.0f} GiB, "
            f"compute capability {device.major}.{device.minor}, CUDA {torch.version.cuda}, "
            f"cuDNN {torch.backends.cudnn.version()}"
        )


def _operators() -> Iterator[str]:
    try:
        chosen = choice.chosen_ops()
    except ValueError as error:
        yield Finding(str(error))
        return
    problem = choice.why_not_triton()
    if not torch.cuda.is_available():
        yield "operators: plain PyTorch; kernels of Triton are for GPUs"
        if chosen == "triton":
            yield Finding(f"EG3D_OPS=triton: {problem}")
        yield from _times(torch.device("cpu"), ("torch",))
        return
    if problem is not None:
        yield Finding(f"operators: plain PyTorch; {problem}")
    elif chosen == "torch":
        yield "operators: plain PyTorch, as EG3D_OPS=torch says"
    else:
        yield "operators: kernels of Triton"
    ways = ("torch",) if problem is not None else ("torch", "triton")
    yield from _times(torch.device("cuda"), ways)


def _times(device: torch.device, ways: tuple[str, ...]) -> Iterator[str]:
    """A line for each operator: milliseconds forward, and with the gradient."""
    yield "milliseconds, forward / with gradient:"
    for trial in trials(device, small=device.type == "cpu"):
        try:
            yield f"  {trial.words}: {_compared(trial, ways)}"
            error = difference(trial) if "triton" in ways else 0
        except Exception as problem:  # whatever a compiler or a driver comes up with
            reason = " ".join(f"{type(problem).__name__}: {problem}".split())
            yield Finding(f"  {trial.words}: {reason}")
            continue
        if not error <= trial.tolerance:
            yield Finding(
                f"  {trial.words}: kernel and twin differ by {error:.1e} of the largest value, "
                f"more than {trial.tolerance:.0e}; EG3D_OPS=torch does without kernels"
            )


def _compared(trial: Trial, ways: tuple[str, ...]) -> str:
    medians = {way: timing(trial, way, _REPEATS).medians for way in ways}
    names = dict(torch="plain", triton="Triton")
    texts = [
        f"{names[way]} {forward * 1e3:.2f} / {both * 1e3:.2f}"
        for way, (forward, both) in medians.items()
    ]
    if len(medians) == 2:
        plain, kernel = medians["torch"], medians["triton"]
        texts.append(f"{plain[0] / kernel[0]:.1f}x / {plain[1] / kernel[1]:.1f}x")
    return ", ".join(texts)


def _video() -> Iterator[str]:
    """Encodes two frames."""
    frames = [np.full((16, 16, 3), shade, np.uint8) for shade in (0, 255)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_video(Path(folder) / "two.mp4", frames, fps=2)
    except Exception as problem:  # missing or broken programs fail in their own ways
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())
        yield Finding(f"video: ffmpeg does not work ({reason}); reinstall imageio-ffmpeg")
        return
    yield "video: ffmpeg encodes"
