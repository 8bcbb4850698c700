"""The methods there are: EG3D itself, and every folder of `training/` whose package has a `METHOD`.

No shared code knows their names, so that deleting a folder takes its method away and nothing else.
Importing this module imports no network.
"""

import functools
import importlib
import pkgutil
from types import ModuleType

import training
from training.method import Importer, Method

DEFAULT = "eg3d"

_EG3D = Method(
    name=DEFAULT,
    title="tri-planes, 2D super-resolution and dual discrimination (Chan et al. 2022)",
    cfgs=("ffhq", "afhq", "shapenet", "demo"),
    parts="training.eg3d_method",
)


@functools.cache
def all_methods() -> dict[str, Method]:
    """The methods by name, EG3D first."""
    folders = [m.name for m in pkgutil.iter_modules(training.__path__) if m.ispkg]
    packages = [importlib.import_module(f"training.{name}") for name in sorted(folders)]
    records = [package.METHOD for package in packages if hasattr(package, "METHOD")]
    return {method.name: method for method in (_EG3D, *records)}


def parts(name: str) -> ModuleType:
    """The parts of a method, see `Method.parts`."""
    return importlib.import_module(all_methods()[name].parts)


def cfgs() -> tuple[str, ...]:
    """The presets of all methods."""
    return tuple(dict.fromkeys(cfg for method in all_methods().values() for cfg in method.cfgs))


def persistent_classes() -> dict[str, tuple[str, ...]]:
    """The persistent classes of all methods by module."""
    return {k: v for method in all_methods().values() for k, v in method.classes.items()}


def plain_classes() -> dict[str, str]:
    """The classes that files name by reference, and where they are."""
    return {k: v for method in all_methods().values() for k, v in method.plain_classes.items()}


def importers() -> list[Importer]:
    """How networks in the layouts of published files become ours."""
    return [importer for method in all_methods().values() for importer in method.importers]
