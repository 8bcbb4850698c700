"""Files that would take all time or all memory, and numbers that make no sense."""

import gzip
import io
import json
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.hostile_bases import (
    HostileWriter,
    Raw,
    altered_generator,
    described_file,
    networks,
    plain_file,
    plain_parts,
    written,
)
from benchmarks.hostile_payloads import LOAD_BYTES, PERSISTENT, REBUILD, TRAP, node, tensor
from tests.published import MAGIC, Call, Global, Reference, storage_bytes

NUMBERS: tuple[Any, ...] = (0, -1, 1, 3, 63, 64, 65, 1000, 2**20, 2**20 + 1, 2**31, 2**32, 2**47)
NUMBERS += (2**62, 2**63, 2**64 - 1, 2**127, -(2**31), -(2**63), 1e-320, 1e308, -0.0, True)
NUMBERS += (float("nan"), float("inf"), None, "", "512", "x" * 4096, "é\x1b", [], (), {}, [[]])
NUMBERS += ([1] * 64, (2**20,) * 8, {"x": {"y": 1}}, [[1.0] * 64] * 60)


# -- Archives --------------------------------------------------------------------------------------


def archive(rng: random.Random) -> bytes:
    """Compressed files, small but of many zeros, and what torch.save writes."""
    file = io.BytesIO()
    zeros = bytes(rng.choice((10**6, 2 * 10**7)))
    kind = rng.randrange(6)
    if kind == 0:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
            target.writestr(rng.choice(("archive/data.pkl", "../../x", "/etc/x")), zeros)
        return file.getvalue()
    if kind == 1:
        return gzip.compress(zeros, mtime=0)
    if kind == 2:
        return zlib.compress(zeros)
    if kind == 3:
        return b"\x80\x04" + zlib.compress(zeros)
    weights = dict(networks()["augment_pipe"].state_dict())
    torch.save(weights, file, _use_new_zipfile_serialization=kind == 4)
    return file.getvalue()


# -- Containers that hold each other ---------------------------------------------------------------


def laughs(rng: random.Random) -> bytes:
    """A few dozen containers, each holding the one before twice or more, where something walks."""
    value: Any = rng.choice(([], (), {}, node({}), "x" * 99))
    wrap = rng.choice(WRAPS)
    for _ in range(rng.choice((5, 12, 25, 40))):
        value = wrap(value)
    return written(rng.choice(BOMB_PLACES)(value), rng.choice((2, 4)))


WRAPS: tuple[Callable[[Any], Any], ...] = (
    lambda value: [value, value],
    lambda value: (value, value),
    lambda value: {"a": value, "b": value},
    lambda value: [value] * 60,
    lambda value: {f"k{i}": value for i in range(60)},
    lambda value: node({"_modules": {"a": value, "b": value}}),
    lambda value: node({f"_{i}": value for i in range(99)}),
    lambda value: Call(Global("torch.nn.modules.container", "A"), (), new=True, state={"a": value}),
    lambda value: ([value, {"x": value}], (value,)),
)
_KEY = ("storage", Global("torch", "FloatStorage"), "0", "cpu", 1, None)


def _storage(*parts: Any) -> Call:
    good = (MAGIC, 1001, {"little_endian": True}, Reference(_KEY), ["0"])
    blob = b"".join(written(part, 2) for part in (*parts, *good[len(parts) :]))
    return tensor(blob + struct.pack("<qf", 1, 1))


BOMB_PLACES: tuple[Callable[[Any], Any], ...] = (
    lambda value: value,
    lambda value: {"G_ema": value, "x": value},
    lambda value: {"training_set_kwargs": value},
    lambda value: {"training_set_kwargs": {"x": value}},
    lambda value: {"G_ema": node({}, version=value)},
    lambda value: {"G_ema": node({}, name=value)},
    lambda value: {"G_ema": node(value)},
    lambda value: {"G_ema": node({"_state_version": value})},
    lambda value: {"G_ema": node({"_init_args": value})},
    lambda value: {"G_ema": node({"_init_args": (value,), "_init_kwargs": {"z_dim": value}})},
    lambda value: {"G_ema": node({"_modules": value, "_parameters": value})},
    lambda value: {"G_ema": node({"_modules": {"renderer": value, "b": value}})},
    lambda value: {"G_ema": node({"_non_persistent_buffers_set": value})},
    lambda value: {"G_ema": node({"rendering_kwargs": {"superresolution_module": value}})},
    lambda value: {"G_ema": node({"neural_rendering_resolution": value})},
    lambda value: tensor(b"", size=value, stride=value, offset=value),
    lambda value: tensor(value),
    lambda value: Call(Global("builtins", "set"), (value,)),
    lambda value: Call(Global("torch", "Size"), (value,)),
    lambda value: Call(Global("numpy", "dtype"), (value, value), state=value),
    lambda value: Call(Global("_codecs", "encode"), (value, "latin1")),
    lambda value: Call(PERSISTENT, (value,)),
    lambda value: Call(Global("training.x", "Y"), (), new=True, state=value),
    lambda value: _storage(value),
    lambda value: _storage(MAGIC, value),
    lambda value: _storage(MAGIC, 1001, value),
    lambda value: _storage(MAGIC, 1001, {"little_endian": value}),
    lambda value: _storage(
        MAGIC, 1001, {"little_endian": True}, Reference(("storage", value, value))
    ),
    lambda value: _storage(MAGIC, 1001, {"little_endian": True}, Reference(_KEY), value),
)


# -- The same work again and again -----------------------------------------------------------------


def repeated(rng: random.Random) -> bytes:
    """One call of two references, tens of thousands of times."""
    blob = storage_bytes(torch.zeros(rng.choice((0, 1, 1000))))
    names = [f"name{i}" for i in range(rng.choice((0, 1, 256)))]
    view = (Call(LOAD_BYTES, (blob,)), 0, (0,), (1,))
    functions: tuple[tuple[Global, tuple], ...] = (
        (Global("builtins", "set"), (names,)),
        (Global("_codecs", "encode"), ("a" * rng.choice((0, 1, 10**5)), "latin1")),
        (Global("torch", "Size"), ((1,) * 16,)),
        (Global("numpy", "dtype"), ("f8",)),
        (Global("collections", "OrderedDict"), ()),
        (Global("dnnlib.util", "EasyDict"), ()),
        (Global("training.x" + ".y" * 100, "Z" * 50), ()),
        (LOAD_BYTES, (blob,)),
        (REBUILD, view),
        (PERSISTENT, ({"class_name": "x", "version": 6, "state": dict.fromkeys(names[:250])},)),
    )
    function, args = rng.choice(functions)
    head = _remembered(function, 2**16) + _remembered(args, 2**16 + 1)
    call = b"j" + struct.pack("<I", 2**16) + b"j" + struct.pack("<I", 2**16 + 1) + b"R"
    return b"\x80\x02}(" + head + call * rng.choice((100, 10_000, 70_000)) + b"u."


def _remembered(value: Any, index: int) -> bytes:
    file = io.BytesIO()
    HostileWriter(file, 2).dump(value)
    return file.getvalue()[2:-1] + b"r" + struct.pack("<I", index)


def instructions(rng: random.Random) -> bytes:
    """One instruction, or a few, as often as possible; mostly nests deeply."""
    few = (b"]", b"}", b"\x8f", b"(", b")", b"N", b"\x85", b"]\x94", b"}\x94", b"h\x00", b"\x94")
    few += (b"]h\x00a", b"}K\x01h\x00s", b"(h\x00t", b"h\x00\x85", b"K\x01", b"\x8c\x02ab")
    few += (
        b"h\x00)\x81}\x8c\x01a",
        b"G" + bytes(8),
        b"\x80\x04",
        b"\x95" + bytes(8),
        b"h\x00h\x00b",
    )
    count = rng.choice((1000, 100_000, 240_000, 300_000))
    body = rng.choice(few) * count
    end = rng.choice((b"", b"a" * count, b"sb" * count, b"\x85" * count, b"e", b"u", b"t", b"b"))
    return (
        b"\x80\x04" + rng.choice((b"]\x94", b"ctraining.a\nB\n\x94", b"(\x94")) + body + end + b"."
    )


def many(rng: random.Random) -> bytes:
    """Very many keys, networks, modules, tensors, names; some of them of unusual length."""
    count = rng.choice((17, 300, 5000, 20_000))
    one = tensor(storage_bytes(torch.zeros(1)))
    leaf = node({"x": list(range(rng.choice((1, 1000, 9000))))})
    key = rng.choice(("k", "k" * 90, "k" * 5000, "\x1b[2J\n", "\u202e"))
    names = [f"{key}{i}" for i in range(count if len(key) < 100 else 300)]
    return written(
        rng.choice(
            (
                lambda: dict.fromkeys(names, leaf),
                lambda: {name: {} for name in names},
                lambda: {"training_set_kwargs": dict.fromkeys(names)},
                lambda: {"G_ema": node(dict.fromkeys(names, 1))},
                lambda: {"G_ema": node({"_modules": dict.fromkeys(names, leaf)})},
                lambda: {"G_ema": node({"_parameters": dict.fromkeys(names, one)})},
                lambda: {"G_ema": node({"_buffers": dict.fromkeys(names, one)})},
                lambda: {"G_ema": node({"_init_kwargs": dict.fromkeys(names, 1)})},
                lambda: {"G_ema": node({"_init_args": tuple(names)})},
                lambda: {
                    "G_ema": node(
                        {
                            "_buffers": dict.fromkeys(names, one),
                            "_non_persistent_buffers_set": [f"c{name}" for name in names],
                        }
                    )
                },
            )
        )()
    )


# -- Numbers that make no sense --------------------------------------------------------------------


def absurd_tensors(rng: random.Random) -> bytes:
    """Sizes, strides, offsets, counts and kinds of numbers."""
    shape = tuple(rng.choice(NUMBERS) for _ in range(rng.choice((0, 1, 2, 5, 17))))
    stride = tuple(rng.choice(NUMBERS) for _ in shape)
    if rng.random() < 0.5:
        view = (shape, (1,) * len(shape), 0)
    else:
        view = ((2,) * len(shape), stride, rng.choice(NUMBERS))
    kind = rng.choice(("FloatStorage", "BoolStorage", "LongStorage", "ComplexFloatStorage", "load"))
    numel = rng.choice(NUMBERS)
    key = ("storage", Global("torch", kind), "0", "cpu", numel, None)
    parts = (MAGIC, 1001, {"little_endian": True}, Reference(key), ["0"])
    head = b"".join(written(part, 2) for part in parts)
    is_count = type(numel) is int and 0 <= numel < 2**64
    blob = head + struct.pack("<Q", numel if is_count else 4) + bytes(rng.choice((0, 16, 4000)))
    if rng.random() < 0.5:
        blob = storage_bytes(torch.arange(4.0))
    bad = tensor(blob, *view)
    return written({"G_ema": node({"_parameters": {"w": bad}}), "x": bad}, rng.choice((2, 4)))


def absurd_lengths(rng: random.Random) -> bytes:
    """Texts, bytes, frames and numbers that are said to be much longer than the file."""
    length = rng.choice((2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1))
    wide, narrow = struct.pack("<Q", length), struct.pack("<I", length & 0xFFFFFFFF)
    heads = (b"\x8d" + wide, b"\x8e" + wide, b"\x96" + wide, b"\x95" + wide, b"X" + narrow)
    heads += (b"B" + narrow, b"T" + narrow, b"\x8b" + narrow, b"\x8a\xff", b"r" + narrow)
    heads += (b"I" + b"9" * 10**5 + b"\n", b"L" + b"9" * 10**5 + b"L\n", b"F" + b"9" * 999 + b"\n")
    return b"\x80\x04}" + rng.choice(heads) + bytes(rng.choice((0, 100, 10**5))) + b"s."


def absurd_arguments(rng: random.Random) -> bytes:
    """Arguments of constructors, live settings and plane axes, in snapshots and headers."""
    values = (*NUMBERS, [[[1.0, 0, 0]] * 3] * 3, float("-inf"), "a\nb")
    changes = [(rng.choice(_ARGUMENTS), rng.choice(values)) for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.5:

        def in_module(G: torch.nn.Module) -> None:
            for (place, *path), value in changes:
                if path[-1].endswith("_kwargs") and not isinstance(value, dict):
                    value = {"x": value}  # the writer of published files takes nothing else
                home = {"arguments": G._init_kwargs, "settings": vars(G)}[place]
                _set(home, path, value)

        return altered_generator(in_module, rng.choice((2, 4)))

    def in_header(described: dict) -> None:
        entry = described["networks"]["G_ema"]
        for (place, *path), value in changes:
            _set(entry["init_kwargs"] if place == "arguments" else entry, path, value)

    return described_file(in_header)


_ARGUMENTS = [
    ("arguments", name)
    for name in "z_dim c_dim w_dim img_resolution img_channels sr_num_fp16_res mapping_kwargs "
    "rendering_kwargs sr_kwargs plane_resolution channel_base channel_max num_fp16_res conv_clamp "
    "architecture resample_filter kernel_size use_noise activation fused_modconv_default".split()
]
_ARGUMENTS += [
    ("arguments", "mapping_kwargs", name)
    for name in "num_layers embed_features layer_features lr_multiplier w_avg_beta".split()
]
_ARGUMENTS += [("arguments", "sr_kwargs", name) for name in ("widths", "input_resolution", "x")]
_ARGUMENTS += [("arguments", "rendering_kwargs", name) for name in ("plane_axes", "sr_antialias")]
_ARGUMENTS += [("settings", "neural_rendering_resolution"), ("settings", "rendering_kwargs")]
_ARGUMENTS += [("settings", "rendering_kwargs", "depth_resolution"), ("settings", "plane_axes")]


def _set(home: Any, path: list[str], value: Any) -> None:
    for name in path[:-1]:
        home = home[name] if isinstance(home.get(name), dict) else home
    home[path[-1]] = value


def absurd_headers(rng: random.Random) -> bytes:
    """The header of the plain format: its length, its tensors, its description."""
    header, content = plain_parts()
    name = rng.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    size = rng.choice((0, 1, 7, 8, 127, 128, 2**20, 2**21, 2**31, 2**62, 2**63, 2**64 - 1))
    count = rng.choice((17, 9000, 20_000))
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    value = rng.choice([n for n in NUMBERS if not isinstance(n, bytes)])
    changes: tuple[Callable[[], Any], ...] = (
        lambda: entry.update(shape=[value]),
        lambda: entry.update(shape=[1] * rng.choice((17, 100, 10_000))),
        lambda: entry.update(data_offsets=[value, value]),
        lambda: entry.update(data_offsets=[entry["data_offsets"][0], value]),
        lambda: entry.update(dtype=rng.choice(("F64", "I8", "F8_E4M3", "C64", "F4", "x", 5))),
        lambda: header.update({f"G_ema.{i}" * rng.choice((1, 9)): empty for i in range(count)}),
        lambda: header.update({"\x1b[2J\n": empty, "x" * 10**5: empty}),
        lambda: header.update(__metadata__=value),
        lambda: header.update(__metadata__={"eg3d": value}),
        lambda: header.update(__metadata__={"eg3d": rng.choice("[{") * 10**5}),
        lambda: header.update(__metadata__={"eg3d": "[" + "[]," * 500_000 + "1]"}),
        lambda: header.update(__metadata__={"eg3d": json.dumps(_described(rng, value, count))}),
        lambda: header.update({name: {name: rng.choice(("[" * 9000, [[[]]]))}}),
        lambda: header.pop(name),
    )
    kind = rng.randrange(len(changes) + 2)
    if kind < len(changes):
        changes[kind]()
        return plain_file(header, content)
    text = json.dumps(header).encode()
    if kind == len(changes):
        return struct.pack("<Q", size) + text + content
    nested = rng.choice((b"[", b'{"a":', b'{"a":[')) * 10**5
    return plain_file(b"{" * (nested[:1] == b"[") + nested, content)


def _described(rng: random.Random, value: Any, count: int) -> Any:
    entry = {"class": "TriPlaneGenerator", "init_args": [], "init_kwargs": {}}
    networks_ = rng.choice(
        (
            {f"n{i}": entry for i in range(count)},
            {"G_ema": {**entry, "class": rng.choice(("os.system", "\x1b[2J", "x" * 10**5, value))}},
            {"G_ema": {**entry, "init_kwargs": {"z_dim": value, TRAP: value}}},
            {"G_ema": {**entry, "init_args": value}},
            {"G_ema": {**entry, "plane_axes": value, "rendering_kwargs": value}},
            {"\x1b[2J\n": entry},
            value,
        )
    )
    return {"format": 1, "training": rng.choice((None, value)), "networks": networks_}


def other_pickles(rng: random.Random) -> bytes:
    """Harmless pickles of other things, by every protocol."""
    values: tuple[Any, ...] = (1, "x", [1], {}, {"G": 1}, {1.5: 2}, {(1, 2): 3}, {b"x": 1}, 1j)
    values += ({"G_ema": torch.zeros(3)}, dict(networks()), {1, 2}, frozenset((1,)), bytearray(9))
    values += ({"G_ema": networks()["D"]}, {"G_ema": None}, Raw, range(3), slice(1))
    return pickle.dumps(rng.choice(values), protocol=rng.randrange(6))
