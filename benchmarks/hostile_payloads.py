"""Files that ask for code to be run, in every way that a file could."""

import random
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.hostile_bases import (
    Base,
    Raw,
    altered_generator,
    described_file,
    pickles,
    written,
)
from tests.published import MAGIC, Call, Global, Reference

# What every payload would do, in the folder of the process that opens the file.
TRAP = "hostile_trap"
_SHELL = f"echo > {TRAP}"
_PYTHON = f"open({TRAP!r}, 'w').close()"
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
LOAD_BYTES = Global("torch.storage", "_load_from_bytes")
PERSISTENT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")

CALLS: tuple[tuple[str, str, tuple], ...] = (
    *((module, "system", (_SHELL,)) for module in ("os", "posix", "nt", "training.os", "torch.os")),
    *(("os", name, (_SHELL,)) for name in ("popen", "remove", "mkdir", "putenv", "execv")),
    *(("subprocess", name, (_SHELL, -1)) for name in ("Popen", "call", "run", "getoutput")),
    *((home, "eval", (_PYTHON,)) for home in ("builtins", "__builtin__", "torch")),
    *((home, "exec", (_PYTHON,)) for home in ("builtins", "__builtin__", "training.builtins")),
    *(("builtins", name, (TRAP, "w")) for name in ("open", "__import__", "getattr", "print")),
    *(("builtins", name, (_PYTHON,)) for name in ("compile", "input", "type", "map", "object")),
    ("runpy", "_run_code", (_PYTHON, {})),
    ("runpy", "run_path", (TRAP,)),
    ("pty", "spawn", (["sh", "-c", _SHELL],)),
    ("webbrowser", "open", ("http://127.0.0.1:9/",)),
    ("code", "interact", ()),
    ("pdb", "run", (_PYTHON,)),
    ("timeit", "timeit", (_PYTHON,)),
    ("cProfile", "run", (_PYTHON,)),
    ("importlib", "import_module", ("antigravity",)),
    ("ctypes", "CDLL", ("libc.so.6",)),
    ("shutil", "rmtree", (TRAP,)),
    ("socket", "create_connection", (("127.0.0.1", 9),)),
    ("urllib.request", "urlopen", ("http://127.0.0.1:9/",)),
    ("pickle", "loads", (b"cos\nsystem\n(S'" + _SHELL.encode() + b"'\ntR.",)),
    ("_pickle", "loads", (b"\x80\x04N.",)),
    ("marshal", "loads", (b"N",)),
    ("types", "CodeType", ()),
    ("types", "FunctionType", ()),
    ("operator", "attrgetter", ("system",)),
    ("functools", "partial", ("x",)),
    ("copyreg", "_reconstructor", ("x", "y", None)),
    ("copyreg", "add_extension", ("os", "system", 1)),
    ("copyreg", "__newobj__", ("x",)),
    ("torch", "load", (TRAP,)),
    ("torch.hub", "load", ("a/b", "c")),
    ("torch.jit", "load", (TRAP,)),
    ("torch._utils", "_import_dotted_name", ("os.system",)),
    ("torch._utils", "_rebuild_from_type_v2", ("x", "y", (), {})),
    ("torch._utils", "_rebuild_wrapper_subclass", ("x",)),
    ("torch._utils", "_rebuild_tensor_v2.__globals__", ()),
    ("torch.serialization", "load", (TRAP,)),
    ("torch.storage", "UntypedStorage", (2**40,)),
    ("torch.storage", "_load_from_bytes.__globals__", ()),
    ("torch.utils.cpp_extension", "load_inline", ("x", _PYTHON)),
    ("torch.ops", "load_library", (TRAP,)),
    ("torch.nn.modules.container", "Sequential.__init__.__globals__", ()),
    ("torch.nn.modules", "module.torch.os.system", (_SHELL,)),
    ("torch.nn.modules.module.torch.os", "system", (_SHELL,)),
    ("numpy", "load", (TRAP,)),
    ("numpy", "fromfile", ("/dev/zero",)),
    ("numpy", "ndarray", ((2**40,),)),
    ("numpy.core.multiarray", "_reconstruct", ("x", (2**40,), b"b")),
    ("numpy.testing._private.utils", "runstring", (_PYTHON, {})),
    ("numpy.distutils.exec_command", "exec_command", (_SHELL,)),
    ("dnnlib.util", "call_func_by_name", ()),
    ("dnnlib.util", "construct_class_by_name", ()),
    ("dnnlib.util", "open_url", ("http://127.0.0.1:9/",)),
    ("torch_utils.persistence", "_src_to_module", (_PYTHON,)),
    ("torch_utils.persistence", "import_hook", ("x",)),
    ("torch_utils.persistence", "find_class", ("x", _PYTHON)),
    ("training.triplane", "torch.os.system", (_SHELL,)),
    ("training.triplane.torch", "os.system", (_SHELL,)),
    ("training.snapshots", "save_snapshot", (TRAP, None)),
    ("training.nothing_of_this_name", "Class", ()),
    ("_imported_module_" + 32 * "a", "system", (_SHELL,)),
    ("collections", "OrderedDict.__class__", ("x", (), {})),
    ("a.b.c", "d.e.f", ()),
    ("", "", ()),
    ("os\x00", "system", (_SHELL,)),
)


def _reduce(module: str, name: str, args: tuple, protocol: int) -> Any:
    return Call(Global(module, name), args)


def _new(module: str, name: str, args: tuple, protocol: int) -> Any:
    return Call(Global(module, name), args, new=True, state={"__setstate__": 1})


def _new_ex(module: str, name: str, args: tuple, protocol: int) -> Any:
    parts = [written(part, 4)[2:-1] for part in (Global(module, name), args, {})]
    return Raw(b"".join(_without_frame(part) for part in parts) + b"\x92")


def _instance(module: str, name: str, args: tuple, protocol: int) -> Any:
    arguments = b"".join(_without_frame(written(arg, 2)[2:-1]) for arg in args)
    return Raw(b"(" + arguments + b"i" + f"{module}\n{name}\n".encode())


def _object(module: str, name: str, args: tuple, protocol: int) -> Any:
    arguments = b"".join(_without_frame(written(arg, 2)[2:-1]) for arg in args)
    return Raw(b"(c" + f"{module}\n{name}\n".encode() + arguments + b"o")


def _extension(module: str, name: str, args: tuple, protocol: int) -> Any:
    return Raw(b"\x82\x01")


def _text_reference(module: str, name: str, args: tuple, protocol: int) -> Any:
    return Raw(b"P" + f"{module}.{name}\n".encode())


def _reference(module: str, name: str, args: tuple, protocol: int) -> Any:
    return Reference((module, name, args))


def _chain(module: str, name: str, args: tuple, protocol: int) -> Any:
    found = Call(Global("builtins", "getattr"), (Global(module, name), "__globals__"))
    return Call(found, args)


def _alter_function(module: str, name: str, args: tuple, protocol: int) -> Any:
    """BUILD on a function that the file may name: sets attributes of what it is given."""
    target = written(random.Random(len(name)).choice((LOAD_BYTES, REBUILD, PERSISTENT)), 4)[2:-1]
    state = {"__code__": Global(module, name), "__defaults__": args, "__setstate__": name}
    body = _without_frame(target) + _without_frame(written(state, 4)[2:-1])
    return Raw(body + b"b")


def _alter_object(module: str, name: str, args: tuple, protocol: int) -> Any:
    """BUILD with attributes that Python itself regards."""
    state = {"__class__": Global(module, name), "__reduce__": name, "__dict__": {}}
    return Call(Global("training.triplane", "OSGDecoder"), (), new=True, state=state)


def _inside_storage(module: str, name: str, args: tuple, protocol: int) -> Any:
    return Call(LOAD_BYTES, (written(Call(Global(module, name), args), protocol),))


def _in_storage_header(module: str, name: str, args: tuple, protocol: int) -> Any:
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "x": Call(Global(module, name), args),
    }
    key = ("storage", Global(module, name), "0", "cpu", 1, None)
    parts = (MAGIC, 1001, system if len(name) % 2 else {"little_endian": True})
    blob = b"".join(written(part, 2) for part in (*parts, Reference(key), ["0"]))
    return tensor(blob + bytes([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))


FORMS: tuple[Callable[..., Any], ...] = (_reduce, _reduce, _reduce, _new, _new_ex, _instance)
FORMS += (_object, _extension, _text_reference, _reference, _chain, _alter_function)
FORMS += (_alter_object, _inside_storage, _in_storage_header)


def tensor(blob: Any, size: Any = (1,), stride: Any = (1,), offset: Any = 0) -> Call:
    """A tensor whose storage is made of `blob`."""
    return Call(REBUILD, (Call(LOAD_BYTES, (blob,)), offset, size, stride, False, {}))


def node(state: Any, name: Any = "TriPlaneGenerator", version: Any = 6, source: Any = "") -> Call:
    """A persistent object."""
    meta = {"type": "class", "version": version, "module_src": source, "class_name": name}
    return Call(PERSISTENT, ({**meta, "state": state},))


PLACES: tuple[Callable[[Any], Any], ...] = (
    lambda value: value,
    lambda value: {"G_ema": value},
    lambda value: {"training_set_kwargs": {"path": value}},
    lambda value: {"G_ema": node({"x": value})},
    lambda value: {"G_ema": node({"_init_kwargs": {"z_dim": value}})},
    lambda value: {"G_ema": node({"_init_args": (value,)})},
    lambda value: {"G_ema": node({"_modules": {"decoder": value}})},
    lambda value: {"G_ema": node({"_parameters": {"weight": value}})},
    lambda value: {"G_ema": node({"rendering_kwargs": {"a": value}})},
    lambda value: {"G_ema": node({}, source=value)},
    lambda value: {"G_ema": node({}, name=value)},
    lambda value: {"G_ema": tensor(value)},
)


def code(rng: random.Random) -> bytes:
    """A call of what must not be called, in one of the forms: in a file of little else, or in a
    good file in the place of any of its values."""
    module, name, args = rng.choice(CALLS)
    protocol = rng.choice((2, 2, 3, 4, 4, 5, 0, 1))
    value = rng.choice(FORMS)(module, name, args, protocol)
    if rng.random() < 0.4:
        return inserted(rng, value)
    return written(rng.choice(PLACES)(value), protocol)


def inserted(rng: random.Random, value: Any) -> bytes:
    """A good pickle with something else in the place of one of its values."""
    base: Base = rng.choice(pickles())
    kinds = ("BININT1", "NONE", "NEWFALSE", "BINFLOAT", "SHORT_BINUNICODE", "EMPTY_TUPLE")
    old = rng.choice([i for i in base.instructions if i.name in kinds])
    new = _without_frame(written(value, 2 if base.data[1] == 2 else 4)[2:-1])
    return base.data[: old.start] + new + base.data[old.end :]


def sources(rng: random.Random) -> bytes:
    """Source texts that would run, and classes that only they define."""
    lines = [
        _PYTHON,
        f"import os; os.system({_SHELL!r})",
        "raise SystemExit",
        "1/0",
        "x = [0] * 2**40",
    ]
    lines += [
        "from training.triplane import *\n" + _PYTHON,
        "from os import *\n",
        "while True: pass",
    ]
    name = rng.choice(["TriPlaneGenerator", "Evil", "os.system", "__import__", "Generator", ""])
    values = node({"_init_kwargs": {}}, name, 6, rng.choice(lines))
    return written({"G_ema": values}, rng.choice((2, 4)))


SUPERRESOLUTIONS = ("os.system", "subprocess.Popen", "torch.hub.load", "webbrowser.open", "this.s")
SUPERRESOLUTIONS += ("builtins.exec", "training.superresolution.torch.os.system", "antigravity.x")
SUPERRESOLUTIONS += ("training.superresolution.upfirdn2d.torch", "training.triplane.OSGDecoder")
SUPERRESOLUTIONS += ("training.superresolution.", ".", "training.superresolution.__builtins__", "")
SUPERRESOLUTIONS += ("training.superresolution.Superresolution.__init__", "\x1b[2J\n.x", "a." * 999)


def superresolution(rng: random.Random) -> bytes:
    """The constructor imports the class of this name: in arguments, in settings, by position."""
    name: Any = rng.choice((*SUPERRESOLUTIONS, ["os.system"], 5, None))
    place = rng.choice(("arguments", "settings", "position", "header arguments", "header settings"))
    extra = {"repo_or_dir": "a/b", "model": "c", "args": _SHELL, "url": "http://127.0.0.1:9/"}

    def in_module(G: torch.nn.Module) -> None:
        options = {**G.rendering_kwargs, "superresolution_module": name}
        if place == "settings":
            G.rendering_kwargs = options
            return
        if place == "arguments":
            G._init_kwargs["rendering_kwargs"] = options
            return
        G._init_args = (8, 25, 8, 32, 3, 0, {"num_layers": 2}, options, extra)
        kept = ("plane_resolution", "channel_base", "channel_max")
        G._init_kwargs = {key: G._init_kwargs[key] for key in kept}

    def in_header(described: dict) -> None:
        entry = described["networks"]["G_ema"]
        home = entry["init_kwargs"] if place == "header arguments" else entry
        home["rendering_kwargs"]["superresolution_module"] = name
        if rng.random() < 0.3:
            entry["init_args"] = [8, 25, 8, 32, 3, 0, None, entry["rendering_kwargs"], extra]
            entry["init_kwargs"] = {}

    if place.startswith("header"):
        return described_file(in_header)
    return altered_generator(in_module, rng.choice((2, 4)))


def _without_frame(body: bytes) -> bytes:
    return body[9:] if body[:1] == b"\x95" else body
