"""A network as data: the name of its class, constructor arguments, tensors and settings.

What every file format of networks comes down to. Reading a record runs nothing of the file;
`build` makes the network of this project that it describes.
"""

import importlib
import inspect
import math
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from dnnlib.util import EasyDict
from torch_utils import persistence
from torch_utils.inert_pickle import Node, shown
from training import methods, superresolution
from training.migrations import migrate
from training.synthesis import fitted
from training.volumetric_rendering.planes import axis_pairs

MAX_DEPTH = 16  # of modules in modules, and of containers in containers
MAX_ITEMS = 64  # of a list or dict among arguments and settings
MAX_VALUES = 10_000  # among arguments and settings
MAX_TEXT = 4096  # characters of one of them
MAX_ATTRIBUTES = 100_000  # values of all modules of a network; published ones have 4,000
MAX_MODULES = 10_000
MAX_TENSORS = 10_000
MAX_NAME = 200  # characters of a tensor's name
MAX_NUMBER = 2**20  # of a whole number among arguments: sides, channels, counts
MAX_LAYERS = 64
SLACK = 10_000  # numbers that a constructor may use beside its weights
SLACK_TENSORS = 100

# Attributes outside of the state_dict that decide what a generator's pictures look like.
SETTINGS = ("neural_rendering_resolution", "rendering_kwargs")
OPTIONAL_BUFFERS = ("dataset_label_std",)
# Where constructor arguments go that are not parameters of the class itself.
_PASSED_ON = {
    "TriPlaneGenerator": ("Generator", "SynthesisNetwork", "SynthesisBlock", "SynthesisLayer"),
    "Generator": ("SynthesisNetwork", "SynthesisBlock", "SynthesisLayer"),
    "SynthesisNetwork": ("SynthesisBlock", "SynthesisLayer"),
}
_NESTED = {
    "mapping_kwargs": ("MappingNetwork",),
    "block_kwargs": ("DiscriminatorBlock",),
    "epilogue_kwargs": ("DiscriminatorEpilogue",),
    "sr_kwargs": ("Superresolution", "SynthesisNetwork", "SynthesisBlock", "SynthesisLayer"),
}


class RecordError(ValueError):
    """A description of a network that cannot be used; the message is one line."""


@dataclass(frozen=True)
class NetworkRecord:
    """One network. Tensors are on the CPU, by their names in the state_dict.

    `settings` has `neural_rendering_resolution`, `rendering_kwargs` and `plane_axes` (nested lists,
    3 x 3 x 3; without, those that the class chooses) of a generator; it is empty for other
    networks.
    """

    class_name: str
    init_args: tuple = ()
    init_kwargs: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def num_values(self) -> int:
        """How many numbers the tensors hold; those of a tensor with several names count once."""
        return sum({id(tensor): tensor.numel() for tensor in self.tensors.values()}.values())


def from_node(node: Node) -> NetworkRecord:
    """The record of a pickled network. Raises RecordError."""
    reader = _Reader(node)
    state = reader.state(node)
    args, kwargs = state.get("_init_args", ()), state.get("_init_kwargs", {})
    if type(args) is not tuple or not isinstance(kwargs, dict):
        raise RecordError(f"{_name(node)} has no constructor arguments")
    settings = {name: plain(state[name], name) for name in SETTINGS if name in state}
    renderer = _children(state).get("renderer")
    axes = renderer.state.get("plane_axes") if isinstance(renderer, Node) else None
    if isinstance(axes, torch.Tensor):
        settings["plane_axes"] = axes.tolist() if axes.numel() == 27 else None
    return NetworkRecord(
        _name(node),
        plain(args, "arguments"),
        plain(kwargs, "arguments"),
        dict(reader.tensors()),
        settings,
    )


def imported(record: NetworkRecord) -> NetworkRecord:
    """The record of a published network as one of this project's own: as it is, unless a method
    knows its layout. Raises RecordError."""
    convert = _converter(record.class_name, record.init_kwargs, record.tensors.keys)
    return record if convert is None else convert(record)


def imported_module(module: torch.nn.Module) -> torch.nn.Module:
    """A network as plain unpickling gives it of a published file, likewise: as it is, or built anew
    with what the file does not say, such as the axes of Mimic3D's planes. Raises RecordError."""
    kwargs = vars(module).get("_init_kwargs") or {}
    convert = _converter(type(module).__name__, kwargs, module.state_dict)
    return module if convert is None else build(convert(from_module(module)))


def _converter(
    class_name: str, kwargs: Mapping[str, Any], names: Callable[[], Iterable[str]]
) -> Callable[[NetworkRecord], NetworkRecord] | None:
    """What makes such a published network, with tensors of these names, one of ours; None where no
    method knows its layout."""
    for importer in methods.importers():
        if class_name == importer.class_name and (
            importer.mark in kwargs or any(name.startswith(importer.mark) for name in names())
        ):
            module, _, function = importer.function.partition(":")
            return getattr(importlib.import_module(module), function)
    return None


def from_module(module: torch.nn.Module) -> NetworkRecord:
    """The record of a network in memory, sharing its tensors where these are on the CPU."""
    if not persistence.is_persistent(module):
        raise RecordError(f"{type(module).__name__} does not remember its constructor arguments")
    settings = {name: getattr(module, name) for name in SETTINGS if hasattr(module, name)}
    if hasattr(module, "renderer"):
        settings["plane_axes"] = module.renderer.plane_axes.tolist()
    return NetworkRecord(
        type(module).__name__,
        plain(module.init_args, "arguments"),
        plain(dict(module.init_kwargs), "arguments"),
        {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()},
        plain(settings, "settings"),
    )


def build(record: NetworkRecord) -> torch.nn.Module:
    """The network: on the CPU, in eval mode, without gradients. Raises RecordError."""
    try:
        cls = persistence.find_class(record.class_name)
    except pickle.UnpicklingError as error:
        raise RecordError(str(error)) from None
    kwargs = _accepted(cls, record.init_kwargs)
    _check_arguments((record.init_args, kwargs, record.settings.get("rendering_kwargs")))
    try:
        with _Placeholders(record.num_values + SLACK, len(record.tensors) + SLACK_TENSORS):
            module = cls(*record.init_args, **kwargs)
    except Exception as error:  # Whatever arguments that make no sense lead to.
        reason = shown(str(error))
        raise RecordError(f"{record.class_name} cannot be built: {reason}") from error
    for name in OPTIONAL_BUFFERS:
        if name in record.tensors:
            module.register_buffer(name, record.tensors[name])
    module.load_state_dict(_matched(module, record), assign=True)
    _apply_settings(module, record.settings)
    return module.eval().requires_grad_(False)


def plain(value: Any, name: str) -> Any:
    """A copy made of None, bool, int, float, str, lists, tuples and dicts with names as keys.

    Raises RecordError naming the entry `name` where there is anything else, or too much.
    """
    return _Copier().copy(value, name, depth=0)


class _Copier:
    """Counts what it copies: containers in a file may hold each other many times over."""

    def __init__(self) -> None:
        self.count = 0

    def copy(self, value: Any, name: str, depth: int) -> Any:
        self.count += 1
        if value is None or type(value) in (bool, int, float):
            return value
        if type(value) is str and len(value) <= MAX_TEXT:
            return value
        is_container = isinstance(value, (list, tuple, dict)) and len(value) <= MAX_ITEMS
        if not is_container or depth >= MAX_DEPTH or self.count > MAX_VALUES:
            kind = value.class_name if isinstance(value, Node) else type(value).__name__
            raise RecordError(f"{name[:100]} is too large or no plain value ({kind!r:.100})")
        if isinstance(value, dict):
            kind = EasyDict if isinstance(value, EasyDict) else dict
            items = _named(value, name)
            return kind((k, self.copy(v, f"{name}.{k}", depth + 1)) for k, v in items)
        return type(value)(self.copy(v, f"{name}[{i}]", depth + 1) for i, v in enumerate(value))


def _named(values: Mapping, name: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if type(key) is not str or len(key) > 100:
            raise RecordError(f"{name[:100]} has a key that is no name")
        yield key, value


# -- Reading nodes ---------------------------------------------------------------------------------


def _name(node: Node) -> str:
    return shown(node.class_name, 100)


def _children(state: dict) -> dict:
    modules = state.get("_modules")
    return modules if isinstance(modules, dict) else {}


class _Reader:
    """Walks a network's nodes. They may hold each other many times over, so what is counted is each
    visit, and all visits together are limited."""

    def __init__(self, root: Node):
        self.root = root
        self.values = 0

    def state(self, node: Node) -> dict[str, Any]:
        """The attributes, as the newest version of this project would have saved them."""
        left: list[Any] = [node.state]
        while left:
            value = left.pop()
            if isinstance(value, dict):
                value = list(value.values())
            if isinstance(value, (list, tuple, set)):
                self.values += len(value) + 1
                left.extend(value)
            if self.values > MAX_ATTRIBUTES:
                raise RecordError(f"{_name(self.root)} has too many values among its attributes")
        return node.state if node.module else migrate(node.class_name, node.state)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The entries of the state_dict, in its order: own parameters, own buffers, children."""
        left = [("", self.root, 0)]
        modules = tensors = 0
        while left:
            prefix, node, depth = left.pop()
            modules += 1
            if depth > MAX_DEPTH or modules > MAX_MODULES or len(prefix) > MAX_NAME:
                name = _name(self.root)
                raise RecordError(f"{name} has too many modules, or they contain each other")
            if not isinstance(node, Node):
                raise RecordError(f"{prefix[:100]} is no module")
            state = self.state(node)
            for name, value in _own_tensors(state, prefix):
                tensors += 1
                if tensors > MAX_TENSORS:
                    raise RecordError(f"{_name(self.root)} has more than {MAX_TENSORS:,} tensors")
                yield prefix + name, value
            inner = [
                (f"{prefix}{name}.", child, depth + 1)
                for name, child in _named(_children(state), prefix)
                if child is not None
            ]
            left.extend(reversed(inner))


def _own_tensors(state: dict, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    hidden = state.get("_non_persistent_buffers_set")
    hidden = hidden if isinstance(hidden, (set, list)) else ()
    hidden = {name for name in hidden if type(name) is str}
    for kind in ("_parameters", "_buffers"):
        values = state.get(kind)
        for name, value in _named(values if isinstance(values, dict) else {}, prefix):
            if value is None or (kind == "_buffers" and name in hidden):
                continue
            if not isinstance(value, torch.Tensor):
                raise RecordError(f"{prefix[:100]}{name} is no tensor")
            yield name, value


# -- Building networks -----------------------------------------------------------------------------


class _Placeholders(torch.overrides.TorchFunctionMode):
    """While a network is constructed: weights that a record will replace are not drawn, and there
    may be no more of them than the record has: `numbers` in so many `tensors`."""

    _SIZED = (torch.empty, torch.zeros, torch.ones, torch.full, torch.randn, torch.rand)

    def __init__(self, numbers: int, tensors: int):
        super().__init__()
        self.numbers, self.tensors = numbers, tensors

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self._SIZED and args:
            size = args[0] if isinstance(args[0], (list, tuple)) else args
            self.numbers -= math.prod(size)
            self.tensors -= 1
            if self.numbers < 0 or self.tensors < 0:
                raise RecordError("its arguments describe more weights than the file has")
        if func in (torch.randn, torch.rand):
            func = torch.empty  # random numbers would be lost, and later ones would be others
        return func(*args, **(kwargs or {}))


def _accepted(cls: type, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments that the class takes; a warning names the others."""
    kwargs = dict(kwargs)
    bases = [base for base in cls.__mro__ if base not in torch.nn.Module.__mro__]
    passed_on = [name for base in bases for name in _PASSED_ON.get(base.__name__, ())]
    known = _parameters(*bases, *map(persistence.find_class, passed_on))
    unknown = [name for name in kwargs if name not in known]
    for outer, inner in {**_NESTED, **getattr(cls, "nested_arguments", {})}.items():
        if isinstance(kwargs.get(outer), dict):
            known = _parameters(*map(persistence.find_class, inner))
            unknown += [f"{outer}.{name}" for name in kwargs[outer] if name not in known]
            kwargs[outer] = {k: v for k, v in kwargs[outer].items() if k in known}
    if unknown:
        names = shown(", ".join(unknown))
        warnings.warn(f"{cls.__name__}: arguments without a meaning here: {names}", stacklevel=3)
    return {name: value for name, value in kwargs.items() if name not in unknown}


def _parameters(*classes: type) -> set[str]:
    return {name for cls in classes for name in inspect.signature(cls).parameters}


def _check_arguments(value: Any, name: str = "") -> None:
    """Refuses numbers that would keep a constructor busy, and classes that it would import."""
    if name == "superresolution_module" and value is not None:
        _check_superresolution(value)
    elif type(value) is int:
        limit = MAX_LAYERS if name == "num_layers" else MAX_NUMBER
        if abs(value) > limit:
            raise RecordError(f"the argument {name or value} is {value}: at most {limit}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_arguments(inner, key)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_arguments(inner, name)


def _check_superresolution(name: Any) -> None:
    """A file may name only the super-resolutions of this project: others would be imported."""
    module, _, class_name = name.rpartition(".") if type(name) is str else ("", "", "")
    cls = getattr(superresolution, class_name, None) if class_name.isidentifier() else None
    ours = isinstance(cls, type) and issubclass(cls, superresolution.Superresolution)
    if module != superresolution.__name__ or not ours:
        raise RecordError(
            f"superresolution_module is {str(name)!r:.100}: not one of this project's classes; "
            "load with trust to import it"
        )


def _matched(module: torch.nn.Module, record: NetworkRecord) -> dict[str, torch.Tensor]:
    """The record's tensors, in the module's types; raises RecordError unless all fit."""
    wanted = module.state_dict()
    found = {
        name: fitted(name, tensor, wanted[name].shape) if name in wanted else tensor
        for name, tensor in record.tensors.items()
    }
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    shapes = [
        f"{name} {list(found[name].shape)} instead of {list(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    problems = (("lacks", missing), ("has an unknown", extra), ("has", shapes))
    for verb, names in problems:
        if names:
            more = f" and {len(names) - 1} more such" if len(names) > 1 else ""
            raise RecordError(f"{record.class_name} {verb} {names[0][:200]}{more}")
    return OrderedDict((name, found[name].to(wanted[name].dtype)) for name in wanted)


def _apply_settings(module: torch.nn.Module, settings: dict[str, Any]) -> None:
    if not hasattr(module, "renderer"):
        return
    side, options = (settings.get(name) for name in SETTINGS)
    axes = settings.get("plane_axes", module.renderer.plane_axes.tolist())
    if type(side) is not int or not 1 <= side <= 4096:
        raise RecordError("neural_rendering_resolution must be a whole number from 1 to 4096")
    if not isinstance(options, dict):
        raise RecordError("rendering_kwargs are missing")
    try:
        module.renderer.plane_axes = torch.tensor(axes, dtype=torch.float32).reshape(3, 3, 3)
        axis_pairs(module.renderer.plane_axes)
    except (TypeError, ValueError, RuntimeError):
        raise RecordError("plane_axes must be three times the unit vectors in some order") from None
    module.neural_rendering_resolution = side
    module.rendering_kwargs = options
