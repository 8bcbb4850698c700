"""What plain `pickle.load` needs to open published files on any machine.

Two hooks into torch and into Python's import, both set when `torch_utils.persistence` is imported,
which a published file makes pickle do before it reaches the first tensor.
"""

import importlib.abc
import importlib.util
import re
import sys
from collections.abc import Callable
from types import ModuleType

import torch

_CUDA = re.compile(r"cuda(?::(\d+))?")
_REBUILT_MODULE = re.compile(r"_imported_module_[0-9a-f]{32}")
_BEFORE_CUDA = 19  # torch's own handler of cuda locations has priority 20; lower is asked first


def _absent_cuda_to_cpu(
    storage: torch.UntypedStorage, location: str
) -> torch.UntypedStorage | None:
    """Keeps on the CPU what was on a CUDA device that this machine lacks; None for all else."""
    match = _CUDA.fullmatch(location)
    if match is None:
        return None
    present = torch.cuda.is_available() and int(match.group(1) or 0) < torch.cuda.device_count()
    return None if present else storage


class _RebuiltModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules of the name `_imported_module_<32 hex digits>`, which have no code."""

    def __init__(self, find: Callable[[str], type | None]):
        self.find = find

    def find_spec(self, fullname: str, path=None, target=None):
        """A spec for exactly such names, else None."""
        found = _REBUILT_MODULE.fullmatch(fullname)
        return importlib.util.spec_from_loader(fullname, self) if found else None

    def create_module(self, spec) -> None:
        """None: an ordinary module will do."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs nothing; the module looks its classes up when it is asked for one."""

        def __getattr__(name: str) -> type:
            cls = self.find(name)
            if cls is None:
                raise AttributeError(f"{module.__name__} has no class {name!r}")
            return cls

        module.__getattr__ = __getattr__


def install(find: Callable[[str], type | None]) -> None:
    """Sets both hooks; a second call does nothing.

    Tensors of absent CUDA devices land on the CPU, for `torch.load` too, which would raise an
    error. The original tools give a class that they made from source text in a file to a module
    `_imported_module_<hex>`, and files that they save after that name it; `find(class name)` gives
    the class that stands for it, or None.
    """
    if any(type(finder).__qualname__ == _RebuiltModules.__qualname__ for finder in sys.meta_path):
        return
    sys.meta_path.append(_RebuiltModules(find))
    torch.serialization.register_package(_BEFORE_CUDA, lambda storage: None, _absent_cuda_to_cpu)
