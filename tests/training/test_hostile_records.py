"""Attacks on reading networks that were possible once: each is refused, at once and in one line."""

import io
import json
import struct
import sys
import time

import pytest
import safetensors.torch
import torch

from eg3d.info import describe
from tests.published import Call, Global, storage_bytes, written
from tests.tiny import tiny_discriminator, tiny_generator
from training.network_files import NetworkFile, NetworkFileError, read_networks, write_networks
from training.network_record import RecordError, build, from_module

REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
LOAD_BYTES = Global("torch.storage", "_load_from_bytes")


def node(state, name="TriPlaneGenerator", version=6):
    meta = {"type": "class", "version": version, "class_name": name, "state": state}
    return Call(Global("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,))


def tensor(value):
    storage = Call(LOAD_BYTES, (storage_bytes(value),))
    return Call(REBUILD, (storage, 0, tuple(value.shape), value.stride(), False, {}))


def refused(data, words, seconds=5.0):
    """The file is refused in one printable line; before, each took far longer or never ended."""
    start = time.process_time()
    with pytest.raises(NetworkFileError, match=words) as caught:
        content = read_networks(io.BytesIO(data))
        for name in content.records:
            content.build(name)
    line = str(caught.value)
    assert line.isascii() and line.isprintable() and len(line) < 1000
    assert time.process_time() - start < seconds
    return line


def test_positional_arguments_name_no_code():
    """`rendering_kwargs` is the eighth argument: there, too, it may name only our classes."""
    record = from_module(tiny_generator())
    options = {**record.init_kwargs["rendering_kwargs"], "superresolution_module": "this.s"}
    args = (8, 25, 8, 32, 3, 0, {"num_layers": 2}, options, {})
    names = ("plane_resolution", "channel_base", "channel_max")
    kwargs = {name: record.init_kwargs[name] for name in names}
    for module in ("this", "antigravity"):
        sys.modules.pop(module, None)
    with pytest.raises(RecordError, match="superresolution_module is 'this.s'"):
        build(type(record)(record.class_name, args, kwargs, record.tensors, record.settings))
    assert "this" not in sys.modules


def test_a_version_that_is_a_bomb():
    value = []
    for _ in range(60):
        value = [value, value]
    refused(written({"G": node({}, version=value)}), "persistence version list, not 6")


def test_modules_that_are_walked_again_and_again():
    leaf = node({"x": list(range(9000))})
    refused(written({"G": node({"_modules": {f"m{i}": leaf for i in range(8000)}})}), "too many")
    refused(written({f"G{i}": leaf for i in range(17)}), "17 networks")


def test_hidden_buffers_are_looked_up_quickly():
    shared = tensor(torch.zeros(1))
    state = {"_buffers": {f"b{i}": shared for i in range(9000)}}
    state["_non_persistent_buffers_set"] = [f"c{i}" for i in range(30_000)]
    refused(written({"G": node(state)}), "cannot be built")


def test_tensors_count_once():
    """Many names for one tensor do not allow a network larger than the file."""
    shared = tensor(torch.zeros(100_000))
    state = {"_parameters": {f"w{i}": shared for i in range(1000)}}
    state["_init_kwargs"] = dict(z_dim=2048, c_dim=0, w_dim=2048, num_ws=None, num_layers=8)
    refused(written({"G": node(state, "MappingNetwork")}), "more weights than the file has")
    state["_parameters"] = {f"w{i}": shared for i in range(10_001)}
    refused(written({"G": node(state, "MappingNetwork")}), "more than 10,000 tensors")


def test_layers_are_counted():
    state = {"_parameters": {"w": tensor(torch.zeros(10**6))}, "_init_args": (1, 0, 1, None, 2**20)}
    refused(written({"G": node(state, "MappingNetwork")}), "more weights than the file has")


def test_long_names_of_tensors_are_not_multiplied():
    inner = node({"_parameters": {"w": tensor(torch.zeros(1))}})
    for _ in range(4):
        inner = node({"_modules": {"x" * 99: inner}})
    refused(written({"G": inner}), "too many modules")


@pytest.mark.parametrize("text", ["\x1b[2J\x07", "a\nb", "\ud800", "\u202eabc", "é" * 10**5])
def test_names_are_printable(text):
    line = refused(written({"G": node({}, text)}), "unknown persistent class")
    assert ascii(text)[1:5].strip("\\") in line or "\n" in text
    content = read_networks(io.BytesIO(written({text: node({}, text)})))
    assert "\x1b" not in describe(content) and describe(content).isascii()
    assert len(describe(content)) < 400 and len(describe(content).splitlines()) == 3
    refused(written({"training_set_kwargs": {text[:9]: {1: 2}}}), "training_set_kwargs")


def test_settings_are_shown_printable():
    settings = {"neural_rendering_resolution": "\x1b[2J\n", "rendering_kwargs": {}}
    content = read_networks(io.BytesIO(written({"G": node(settings)})))
    assert "\x1b" not in describe(content) and "rendered at" in describe(content)


def test_warnings_are_one_line():
    record = from_module(tiny_discriminator())
    unknown = {"\x1b[2J\n" + "x" * 90 + str(i): 1 for i in range(40)}
    with pytest.warns(UserWarning) as caught:
        build(
            type(record)(record.class_name, (), {**record.init_kwargs, **unknown}, record.tensors)
        )
    text = str(caught[0].message)
    assert text.isascii() and text.isprintable() and len(text) < 500


# -- The plain format ------------------------------------------------------------------------------


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "x.safetensors"
    write_networks(path, NetworkFile("x", "memory", {"D": from_module(tiny_discriminator())}))
    return path.read_bytes()


def test_a_header_whose_length_looks_like_a_pickle(plain):
    """Every 32nd file begins with the byte 0x80, as pickles do."""
    size = int.from_bytes(plain[:8], "little")
    padding = (0x80 - size) % 256
    header = plain[8 : 8 + size] + b" " * padding
    data = struct.pack("<Q", size + padding) + header + plain[8 + size :]
    assert data[:1] == b"\x80"
    content = read_networks(io.BytesIO(data))
    assert content.format == "safetensors" and content.build("D") is not None


def header_only(header):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def test_headers_of_unusual_size():
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    refused(header_only({f"a{i}": empty for i in range(10_001)}), "10,001 tensors")
    refused(header_only({"__metadata__": {"eg3d": "[" + "[]," * 10**6 + "1]"}}), "its header has")
    entry = {"class": "X", "init_args": [], "init_kwargs": {}}
    described = {"format": 1, "training": None, "networks": {f"n{i}": entry for i in range(17)}}
    refused(safetensors.torch.save({}, {"eg3d": json.dumps(described)}), "17 networks")
