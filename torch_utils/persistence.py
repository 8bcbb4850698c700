"""Pickling of networks so that published checkpoints, and programs that read them, keep working.

A persistent object is written as one call of `_reconstruct_persistent_obj` with a dict: the name of
its class, its attributes, and in `module_src` a line of Python from which the original tools get
the class. Published files hold the whole text of a module there and the original tools run it. Here
that text is never run: the class is looked up by name in a fixed table of this project's own ones.
"""

import copy
import copyreg
import functools
import importlib
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import torch

from dnnlib.util import EasyDict
from torch_utils import pickle_reading
from torch_utils.pickle_writing import portable_state

__all__ = ["allow_classes", "find_class", "import_hook", "is_persistent", "persistent_class"]

_version = 6  # of the layout of `meta`; 6 is what all published checkpoints have

# Where the persistent classes live; the first module wins where two have a class of one name.
_CLASSES = {
    "training.triplane": ("TriPlaneGenerator",),
    "training.networks_stylegan2": (
        "FullyConnectedLayer",
        "Conv2dLayer",
        "MappingNetwork",
        "SynthesisLayer",
        "ToRGBLayer",
        "SynthesisBlock",
        "SynthesisNetwork",
        "Generator",
        "Aware3DBlock",
        "SR3DBlock",
        "DiscriminatorBlock",
        "MinibatchStdLayer",
        "DiscriminatorEpilogue",
        "Discriminator",
    ),
    "training.superresolution": (
        "SuperresolutionHybrid8X",
        "SuperresolutionHybrid4X",
        "SuperresolutionHybrid2X",
        "SuperresolutionHybridDeepfp32",
        "SuperresolutionHybrid8XDC",
        "SuperresolutionHybrid16XDC",
        "Superresolution",
        "SynthesisBlockNoUp",
    ),
    "training.dual_discriminator": (
        "SingleDiscriminator",
        "DualDiscriminator",
        "DummyDualDiscriminator",
    ),
    "training.augment": ("AugmentPipe",),
    "training.networks_stylegan3": (
        "FullyConnectedLayer",
        "MappingNetwork",
        "SynthesisInput",
        "SynthesisLayer",
        "SynthesisNetwork",
        "Generator",
    ),
}

# Classes that files name by reference, and where they are.
_PLAIN_CLASSES = {
    "OSGDecoder": "training.triplane",
    "ImportanceRenderer": "training.volumetric_rendering.renderer",
    "MipRayMarcher2": "training.volumetric_rendering.ray_marcher",
    "RaySampler": "training.volumetric_rendering.ray_sampler",
}

# By name, for this layer lies below.
_MIGRATIONS = "training.migrations"
_METHODS = "training.methods"
_RECORDS = "training.network_record"

_SHIM = re.compile(r"from ([\w.]+) import \*\n")

_import_hooks: list[Callable[[EasyDict], EasyDict]] = []
_allowed: ContextVar[Mapping[str, type]] = ContextVar("allowed", default=MappingProxyType({}))


def persistent_class(orig_class: type) -> type:
    """Class decorator: instances remember their constructor arguments and are pickled by name.

    Adds the properties `init_args` (tuple) and `init_kwargs` (EasyDict): copies of the arguments as
    given, without defaults. Decorates in place; decorating twice does nothing. A subclass is
    persistent only if it is decorated itself. The constructor raises TypeError where the finished
    object could not be pickled.
    """
    if is_persistent(orig_class):
        return orig_class
    construct = orig_class.__init__

    @functools.wraps(construct)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if type(self) is not orig_class:  # a base class of what is being made
            construct(self, *args, **kwargs)
            return
        given = copy.deepcopy((args, kwargs))  # now: the constructor may change what it is given
        construct(self, *args, **kwargs)
        self._init_args, self._init_kwargs = given
        _check_pickleable(self)

    orig_class.__init__ = __init__
    orig_class.__reduce__ = _reduce
    if "__deepcopy__" not in vars(orig_class):
        orig_class.__deepcopy__ = _deepcopy
    orig_class.init_args = property(_init_args, doc="Positional constructor arguments (a copy).")
    orig_class.init_kwargs = property(_init_kwargs, doc="Keyword constructor arguments (a copy).")
    orig_class._orig_class_name = orig_class.__name__
    orig_class._orig_module_src = _module_to_src(_public_module(orig_class))
    return orig_class


def is_persistent(obj: Any) -> bool:
    """Whether `obj` is a decorated class, or an instance of exactly such a class."""
    cls = obj if isinstance(obj, type) else type(obj)
    return "_orig_class_name" in vars(cls)


def import_hook(hook: Callable[[EasyDict], EasyDict]) -> None:
    """Registers `hook(meta) -> meta`, called for every persistent object that is unpickled.

    `meta` has the entries type, version, module_src, class_name and state; the hook returns it,
    changed if need be. Hooks run in the order of registration.
    """
    _import_hooks.append(hook)


@contextmanager
def allow_classes(classes: Mapping[str, type]) -> Iterator[None]:
    """Within the `with` block, objects of these class names are restored as these classes.

    An explicit opt-in for classes of derived projects, or for replacements of known ones. The
    stored attributes go to your class; code in the file is still not run.
    """
    for name, cls in classes.items():
        if not isinstance(cls, type):
            raise TypeError(f"{name} must map to a class, got {cls!r}")
    token = _allowed.set({**_allowed.get(), **classes})
    try:
        yield
    finally:
        _allowed.reset(token)


def _reconstruct_persistent_obj(meta: Mapping[str, Any]) -> Any:
    """What pickles call: makes the object that `meta` describes, without running its constructor.

    Raises pickle.UnpicklingError for a wrong version or layout, and for unknown classes.
    """
    meta = EasyDict(meta)
    meta.state = EasyDict(meta.get("state") or {})
    for hook in _import_hooks:
        meta = hook(meta)
        if meta is None:
            raise TypeError(f"the import hook {hook!r} returned None instead of meta")
    if meta.get("version") != _version:
        found = meta.get("version")
        raise pickle.UnpicklingError(
            f"persistent object {meta.get('class_name')!r} has version {found!r}, "
            f"expected {_version}"
        )
    if meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
        raise pickle.UnpicklingError(
            f"a persistent object must have type 'class' and a class_name, got "
            f"{meta.get('type')!r} and {meta.get('class_name')!r}"
        )
    cls = find_class(meta.class_name, meta.get("module_src"))
    obj = cls.__new__(cls)
    migrations = importlib.import_module(_MIGRATIONS)
    _set_state(obj, migrations.migrate(meta.class_name, meta.state))
    published = migrations.VERSION_ENTRY not in meta.state
    return _imported(obj) if published and isinstance(obj, torch.nn.Module) else obj


def _imported(module: torch.nn.Module) -> torch.nn.Module:
    """A network of a published file with what methods know of it. Raises pickle.UnpicklingError."""
    records = importlib.import_module(_RECORDS)
    try:
        return records.imported_module(module)
    except records.RecordError as error:
        raise pickle.UnpicklingError(f"{type(module).__name__}: {error}") from error


def find_class(name: str, module_src: str | None = None) -> type:
    """The class that stands for the persistent class `name` of a file.

    One that `allow_classes` names, else one from the fixed table of this project's own. Of
    `module_src` only an import line as written here is regarded, and only to choose between two
    modules of the table that both have the name. Raises pickle.UnpicklingError for unknown names.
    """
    allowed = _allowed.get()
    if name in allowed:
        return allowed[name]
    homes = _homes(name)
    if not homes:
        raise pickle.UnpicklingError(
            f"unknown persistent class {name!r}: code stored in files is never run; to restore it "
            f"as a class of yours, load inside `with persistence.allow_classes({{{name!r}: ...}})`"
        )
    named = _shim_module(module_src)
    module = importlib.import_module(named if named in homes else homes[0])
    cls = getattr(module, name, None)
    if not is_persistent(cls):
        raise pickle.UnpicklingError(f"{module.__name__} has no persistent class {name!r}")
    return cls


def _find_plain_class(name: str) -> type | None:
    """The class that a file names in a module which only the program that wrote it had."""
    if name in _allowed.get():
        return _allowed.get()[name]
    home = _PLAIN_CLASSES.get(name) or _methods().plain_classes().get(name)
    return None if home is None else getattr(importlib.import_module(home), name)


def _methods() -> ModuleType:
    """The register of methods, each of which has classes of its own."""
    return importlib.import_module(_METHODS)


def _homes(name: str) -> list[str]:
    """The modules that have a persistent class of this name, shared ones first."""
    tables = (*_CLASSES.items(), *_methods().persistent_classes().items())
    return [module for module, names in tables if name in names]


pickle_reading.install(_find_plain_class)


def _module_to_src(module: ModuleType | str) -> str:
    """The line that stands for a module in pickles: one text for all of its classes."""
    return f"from {module if isinstance(module, str) else module.__name__} import *\n"


def _src_to_module(src: str) -> ModuleType:
    """The module of this project that such a line names. Raises ValueError; runs nothing of it."""
    name = _shim_module(src)
    if name not in _CLASSES and name not in _methods().persistent_classes():
        raise ValueError(f"not a line that names a module of persistent classes: {src[:80]!r}")
    return importlib.import_module(name)


def _shim_module(src: Any) -> str | None:
    match = _SHIM.fullmatch(src) if isinstance(src, str) else None
    return match.group(1) if match else None


def _public_module(cls: type) -> str:
    """The module that files name for a class: where the table has it, not where its code sits."""
    homes = _homes(cls.__name__)
    own = cls.__module__
    if own in homes or not homes or own.partition(".")[0] != "training":
        return own
    return homes[0]


def _reduce(self: Any) -> tuple:
    cls = type(self)
    state = portable_state(_attributes(self), is_module=isinstance(self, torch.nn.Module))
    if not is_persistent(cls):  # a plain subclass is pickled as plain classes are
        return copyreg.__newobj__, (cls,), state
    migrations = importlib.import_module(_MIGRATIONS)
    state[migrations.VERSION_ENTRY] = migrations.STATE_VERSION
    meta = {
        "type": "class",
        "version": _version,
        "module_src": cls._orig_module_src,
        "class_name": cls._orig_class_name,
        "state": state,
    }
    return _reconstruct_persistent_obj, (meta,)


def _deepcopy(self: Any, memo: dict) -> Any:
    """Exact, and independent of the table of known classes."""
    twin = type(self).__new__(type(self))
    memo[id(self)] = twin
    _set_state(twin, copy.deepcopy(_attributes(self), memo))
    return twin


def _attributes(obj: Any) -> dict[str, Any]:
    """What files and copies get: all attributes, unless the class says otherwise."""
    return obj.__getstate__() if hasattr(obj, "__getstate__") else vars(obj)


def _set_state(obj: Any, state: Mapping[str, Any]) -> None:
    if hasattr(obj, "__setstate__"):  # torch modules add what older versions did not have
        obj.__setstate__(state)
    else:
        vars(obj).update(state)


def _init_args(self: Any) -> tuple:
    return copy.deepcopy(self._init_args)


def _init_kwargs(self: Any) -> EasyDict:
    return EasyDict(copy.deepcopy(self._init_kwargs))


_ALWAYS_PICKLEABLE = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    np.generic,
    torch.Tensor,
    torch.dtype,
    torch.device,
)


def _check_pickleable(obj: Any, where: str | None = None) -> None:
    """Raises TypeError naming the attribute that cannot be pickled; does not copy tensors."""
    where = where or type(obj).__name__
    if isinstance(obj, _ALWAYS_PICKLEABLE):
        return
    if isinstance(obj, (list, tuple, set)):
        for index, value in enumerate(obj):
            _check_pickleable(value, f"{where}[{index}]")
    elif isinstance(obj, dict):
        for key, value in obj.items():
            _check_pickleable(value, f"{where}[{key!r}]")
    elif isinstance(obj, torch.nn.Module) or is_persistent(obj):
        for name, value in vars(obj).items():
            _check_pickleable(value, f"{where}.{name}")
    else:
        try:
            pickle.dumps(obj)
        except Exception as error:  # whatever a __reduce__ raises
            raise TypeError(f"{where} cannot be pickled: {error}") from error
