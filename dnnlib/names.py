"""From dotted names ("package.module.Class.method") to objects and back."""

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

__all__ = [
    "call_func_by_name",
    "construct_class_by_name",
    "get_module_dir_by_obj_name",
    "get_module_from_obj_name",
    "get_obj_by_name",
    "get_obj_from_module",
    "get_top_level_function_name",
    "is_top_level_function",
]


def get_module_from_obj_name(obj_name: str) -> tuple[ModuleType, str]:
    """Imports the module of a dotted name; returns it and the rest of the name ("" if none).

    The module is the longest prefix that can be imported and that has the rest. Raises ImportError
    naming the missing part; an error inside a module that exists passes through.
    """
    parts = obj_name.split(".")
    if not all(parts):
        raise ImportError(f"{obj_name!r} is no dotted name")
    for count in range(len(parts), 0, -1):
        prefix, rest = ".".join(parts[:count]), ".".join(parts[count:])
        if _exists(prefix):
            module = importlib.import_module(prefix)
            get_obj_from_module(module, rest)
            return module, rest
    raise ImportError(f"no module {parts[0]!r} for {obj_name!r}")


def get_obj_from_module(module: ModuleType, obj_name: str) -> Any:
    """Follows a dotted name inside a module; "" is the module. Raises AttributeError."""
    obj = module
    for part in obj_name.split(".") if obj_name else []:
        obj = getattr(obj, part)
    return obj


def get_obj_by_name(name: str) -> Any:
    """The object with this dotted name, its module imported if need be."""
    return get_obj_from_module(*get_module_from_obj_name(name))


def call_func_by_name(*args: Any, func_name: str | None = None, **kwargs: Any) -> Any:
    """Calls the function (or class) with this dotted name and returns what it returns."""
    if not func_name:
        raise ValueError("func_name is missing: give the dotted name of a function")
    func = get_obj_by_name(func_name)
    if not callable(func):
        raise TypeError(f"{func_name} is a {type(func).__name__}, not callable")
    return func(*args, **kwargs)


def construct_class_by_name(*args: Any, class_name: str | None = None, **kwargs: Any) -> Any:
    """Makes an instance of the class with this dotted name."""
    if not class_name:
        raise ValueError("class_name is missing: give the dotted name of a class")
    return call_func_by_name(*args, func_name=class_name, **kwargs)


def get_module_dir_by_obj_name(obj_name: str) -> str:
    """The folder of the file that defines the object with this dotted name."""
    module, _ = get_module_from_obj_name(obj_name)
    if not module.__file__:
        raise ValueError(f"the module of {obj_name} is not a file")
    return os.path.dirname(os.path.abspath(module.__file__))


def is_top_level_function(obj: Any) -> bool:
    """Whether the object can be found again by its module and name."""
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    name = getattr(obj, "__name__", None)
    return callable(obj) and name is not None and getattr(module, name, None) is obj


def get_top_level_function_name(obj: Any) -> str:
    """The dotted name of a top-level function. Raises ValueError for anything else."""
    if not is_top_level_function(obj):
        raise ValueError(f"{obj!r} is not a top-level function")
    # A script's functions live in __main__; the file name finds them from other processes.
    module = obj.__module__
    if module == "__main__":
        module = os.path.splitext(os.path.basename(sys.modules[module].__file__))[0]
    return f"{module}.{obj.__name__}"


def _exists(module_name: str) -> bool:
    if module_name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module_name) is not None
    except ModuleNotFoundError:
        return False
