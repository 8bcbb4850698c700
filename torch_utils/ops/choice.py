"""Which version of an operator runs: Triton's kernel or the plain PyTorch twin.

The choice is `EG3D_OPS` or `set_ops`: "auto" (Triton for CUDA tensors where it is installed),
"torch" (the twins everywhere) or "triton" (an error where Triton cannot run). Triton is imported
when the first CUDA tensor asks, never before; what was chosen is said once, in one line on stderr.
"""

import functools
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = [
    "CHOICES",
    "chosen_ops",
    "set_ops",
    "triton_problem",
    "use_triton",
    "using_ops",
    "why_not_triton",
]

CHOICES = ("auto", "torch", "triton")

_asked: str | None = None
_quiet = False
# (choice, type of device) -> whether kernels run there; torch.compile can trace a look-up.
_decided: dict[tuple[str, str], bool] = {}


def set_ops(choice: str | None) -> None:
    """Sets the choice for this process, before `EG3D_OPS`; None leaves it to that again.

    Raises ValueError for a word that is not one of `CHOICES`.
    """
    global _asked
    _asked = None if choice is None else _checked(choice, "ops")
    _decided.clear()


@contextmanager
def using_ops(choice: str) -> Iterator[None]:
    """The choice within the block, without a word about it: for comparisons."""
    global _asked, _quiet
    before = _asked, _quiet
    _asked, _quiet = _checked(choice, "ops"), True
    try:
        yield
    finally:
        _asked, _quiet = before


def chosen_ops() -> str:
    """The word in force; raises ValueError where `EG3D_OPS` is none of `CHOICES`."""
    return _asked or _checked(os.environ.get("EG3D_OPS") or "auto", "EG3D_OPS")


def use_triton(x: torch.Tensor) -> bool:
    """Whether operators on `x` run as Triton kernels.

    CPU tensors do so in Triton's interpreter only, which is for tests: `EG3D_OPS=triton` together
    with `TRITON_INTERPRET=1`. Raises RuntimeError where "triton" was chosen for CUDA tensors and
    Triton cannot be imported.
    """
    key = chosen_ops(), x.device.type
    if key not in _decided:
        _decided[key] = _decide(*key)
    return _decided[key]


def why_not_triton() -> str | None:
    """Why no kernel of Triton can run on this machine, in a few words; None if they can."""
    if not _interpreted() and not torch.cuda.is_available():
        return "needs a CUDA device, and this machine has none"
    problem = triton_problem()
    return None if problem is None else f"Triton cannot be used ({problem})"


@functools.cache
def triton_problem() -> str | None:
    """Why Triton cannot be imported, in one line; None if it can. Tried once a process."""
    try:
        importlib.import_module("triton.language")
    except Exception as error:  # a broken installation can fail in any way
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None


def _decide(choice: str, device: str) -> bool:
    if device == "cpu":
        return choice == "triton" and _interpreted() and triton_problem() is None
    if device != "cuda":
        return False
    if choice == "torch":
        _say("plain PyTorch, as chosen")
        return False
    problem = triton_problem()
    if problem is None:
        _say(f"Triton {sys.modules['triton'].__version__}")
    elif choice == "triton":
        raise RuntimeError(f"operators: triton was chosen and cannot be used: {problem}")
    else:
        _say(f"plain PyTorch, because Triton cannot be used: {problem}")
    return problem is None


def _checked(choice: str, name: str) -> str:
    if choice not in CHOICES:
        raise ValueError(f"{name} must be one of {', '.join(CHOICES)}, not {choice!r}")
    return choice


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


def _say(what: str) -> None:
    """Writes a line to stderr; of many processes of a training only the first does."""
    alone = not torch.distributed.is_available() or not torch.distributed.is_initialized()
    if not _quiet and (alone or torch.distributed.get_rank() == 0):
        print(f"operators: {what}", file=sys.stderr, flush=True)
