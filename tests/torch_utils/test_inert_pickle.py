"""Pickles read as data: published files come out whole, everything else is refused by name."""

import io
import pickle
import pickletools
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tests import published
from tests.published import Call, Global, Reference, published_bytes, written
from tests.tiny import tiny_discriminator, tiny_generator
from torch_utils import inert_pickle
from torch_utils.inert_pickle import Node, PickleRefused, load

REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
LOAD_BYTES = Global("torch.storage", "_load_from_bytes")


@pytest.fixture(scope="module")
def networks():
    return {"G_ema": tiny_generator(), "D": tiny_discriminator()}


def tensors(node, prefix=""):
    """The state_dict of a Node, recursively: what the module under test must not lose."""
    state = node.state
    found = {prefix + k: v for k, v in state["_parameters"].items() if v is not None}
    found |= {prefix + k: v for k, v in state["_buffers"].items() if v is not None}
    for name, child in state["_modules"].items():
        found |= tensors(child, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("numpy_path", ["numpy.core.multiarray", "numpy._core.multiarray"])
@pytest.mark.parametrize("decoder", ["training.triplane", "_imported_module_" + 32 * "a"])
def test_published_files(networks, protocol, numpy_path, decoder):
    data = published_bytes(networks, protocol, numpy_path, decoder_module=decoder)
    content = load(data)
    assert list(content) == ["G_ema", "D"]
    for name, network in networks.items():
        node = content[name]
        assert (node.module, node.class_name) == ("", type(network).__name__)
        expected = network.state_dict()
        found = tensors(node)
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert torch.equal(found[key], value) and found[key].dtype == value.dtype
            assert found[key].is_contiguous() and found[key].device.type == "cpu"
    modules = content["G_ema"].state["_modules"]
    assert (modules["decoder"].module, modules["decoder"].class_name) == (decoder, "OSGDecoder")
    axes = networks["G_ema"].renderer.plane_axes
    assert torch.equal(modules["renderer"].state["plane_axes"], axes)  # stored on cuda:0
    gain = modules["decoder"].state["_modules"]["net"].state["_modules"]["0"].state["weight_gain"]
    assert type(gain) is float and gain == networks["G_ema"].decoder.net[0].weight_gain


def test_our_own_files(networks):
    for protocol in (2, 4, 5):
        content = load(pickle.dumps(dict(networks), protocol=protocol))
        expected = networks["G_ema"].state_dict()
        found = tensors(content["G_ema"])
        assert list(found) == list(expected)
        assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("dtype", list(inert_pickle.DTYPES.values()), ids=str)
def test_every_kind_of_number(dtype):
    value = torch.arange(6).reshape(2, 3).to(dtype)
    data = pickle.dumps([value, value.t(), value[1], torch.empty(0, 3, dtype=dtype)])
    whole, turned, row, empty = load(data)
    assert torch.equal(whole, value) and torch.equal(turned, value.t()) and turned.is_contiguous()
    assert torch.equal(row, value[1]) and empty.shape == (0, 3) and whole.dtype == dtype
    whole.zero_()
    assert torch.equal(row, value[1])  # each owns its memory


def test_nothing_is_imported_or_run(networks, tmp_path):
    trap = tmp_path / "trap"
    path = tmp_path / "file.pkl"
    path.write_bytes(published_bytes(networks, trap=trap))
    code = """
import sys
from torch_utils import inert_pickle
data = open(sys.argv[1], "rb").read()
before = set(sys.modules)
events = []
watched = ("import", "exec", "compile", "open", "pickle.find_class", "os.system")
sys.addaudithook(lambda event, args: event in watched and events.append(event))
inert_pickle.load(data)
assert not events, events
assert not any(name.startswith("training") for name in sys.modules)
assert set(sys.modules) == before
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
    assert not trap.exists()


def test_arrays_are_passed_over():
    """Published snapshots of other programs have some beside their networks; they stay shut."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = load(pickle.dumps({"vis": {"images": array}, "G": None}, protocol=4))
    assert content["G"] is None and not hasattr(content["vis"]["images"], "__array__")


# -- What is refused -------------------------------------------------------------------------------


def refused(data, *words):
    """The line with which `data` is refused; it is one line and has the words."""
    with pytest.raises(PickleRefused) as caught:
        load(data)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 500
    for word in words:
        assert word in line, line
    return line


class Payload:
    """Pickled as a call of anything."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "args, state, words",
    [
        ((Global("numpy", "ndarray"), (2**40,), b"b"), None, "damaged"),
        ((Global("numpy", "dtype"), (0,), b"b"), None, "damaged"),
        ((Global("numpy", "ndarray"), (0,), b"O"), None, "damaged"),
        ((Global("numpy", "ndarray"), (0,)), None, "in a way that no network does"),
        ((Global("numpy", "ndarray"), (0,), b"b"), {"x": 1}, "damaged"),
    ],
)
def test_damaged_arrays(args, state, words):
    call = Call(Global("numpy.core.multiarray", "_reconstruct"), args, state=state)
    refused(written({"vis": call}), words)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "call",
    [
        (__import__("os").system, ("true",)),
        (eval, ("1 + 1",)),
        (exec, ("x = 1",)),
        (getattr, (object(), "__class__")),
        (subprocess.Popen, (["true"],)),
        (__import__, ("os",)),
        (open, ("x", "w")),
        (torch.load, ("x",)),
        (type, ("X", (), {})),
    ],
    ids=lambda call: call[0].__name__,
)
def test_calls(call, protocol):
    line = refused(pickle.dumps({"G_ema": Payload(*call)}, protocol=protocol))
    if protocol >= 2:
        assert call[0].__name__ in line


@pytest.mark.parametrize(
    "name",
    [
        ("training.triplane", "dnnlib.util.os.system"),
        ("torch.nn.modules", "module.torch.os.system"),
        ("torch", "load"),
        ("torch", "_dynamo"),
        ("torch._utils", "_rebuild_from_type_v2"),
        ("torch.storage", "UntypedStorage"),
        ("dnnlib.util", "call_func_by_name"),
        ("torch_utils.persistence", "_src_to_module"),
        ("collections", "OrderedDict.update"),
        ("training", "triplane.OSGDecoder\nx"),
        ("builtins", "object"),
        ("x" * 300, "y"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_names(name, protocol):
    if "\n" in name[1] and protocol == 2:
        return  # cannot be written
    data = written({"G": Call(Global(*name), ("x",))}, protocol)
    line = refused(data)
    if len(name[0]) < 100 and "\n" not in name[1]:
        assert ".".join(name) in line


def test_dotted_names_of_ours_stay_names():
    """Whatever follows `training.` is a name; the objects are Nodes and nothing is looked up."""
    node = load(written(Call(Global("training.os", "system"), (), new=True, state={"x": 1})))
    assert node == Node("training.os", "system", {"x": 1})


OLD_OPCODES = ["INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEWOBJ_EX"]
OLD_OPCODES += ["GET", "PUT", "INT", "LONG", "STRING", "BINSTRING", "UNICODE", "FLOAT", "DUP"]
OLD_OPCODES += [
    "LONG4",
    "POP",
    "POP_MARK",
    "LIST",
    "DICT",
    "FROZENSET",
    "NEXT_BUFFER",
    "BYTEARRAY8",
]


@pytest.mark.parametrize("name", OLD_OPCODES)
def test_other_instructions(name):
    code = next(op.code for op in pickletools.opcodes if op.name == name).encode("latin1")
    arguments = {"INST": b"os\nsystem\n", "LONG4": b"\1\0\0\0\1", "BINSTRING": b"\1\0\0\0a"}
    arguments |= dict.fromkeys(("GET", "PUT", "INT", "FLOAT"), b"1\n")
    arguments |= {"LONG": b"1L\n", "STRING": b"'a'\n", "UNICODE": b"a\n", "PERSID": b"a\n"}
    arguments |= {"EXT1": b"\1", "EXT2": b"\1\0", "EXT4": b"\1\0\0\0"}
    arguments |= {"BYTEARRAY8": b"\1\0\0\0\0\0\0\0a"}
    refused(b"\x80\x04N(" + code + arguments.get(name, b"") + b".")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04.",
        b"\x80\x04R.",
        b"\x80\x04(.",
        b"\x80\x04Ns.",
        b"\x80\x04}NNNu.",
        b"\x80\x04h\x05.",
    ]
    + [b"\x80\x04](K\1u.", b"\x80\x04}(K\1e.", b"\x80\x04Nb.", b"\x80\x04NNb.", b"\x80\x04K\1)R."],
)
def test_damaged_programs(data):
    refused(data)


def tensor_call(blob, *view, function=REBUILD):
    return written(Call(function, (Call(LOAD_BYTES, (blob,)), *view, False, {})))


@pytest.fixture(scope="module")
def blob():
    return published.storage_bytes(torch.arange(8.0))


@pytest.mark.parametrize(
    "view",
    [
        (0, (9,), (1,)),
        (1, (8,), (1,)),
        (0, (2, 4), (8, 1)),
        (-1, (2,), (1,)),
        (0, (-1,), (1,)),
        (0, (2,), (-1,)),
        (0, (2,), (1, 1)),
        (0, (True,), (1,)),
        (0, (2.0,), (1,)),
        (0, (2**40, 2**40), (0, 0)),
        (0, (1 << 20,), (0,)),
        (0, [2], [1]),
        (0, (1,) * 20, (1,) * 20),
        (None, (2,), (1,)),
    ],
)
def test_tensors_beyond_their_data(blob, view):
    refused(tensor_call(blob, *view), "has ")


def test_a_tensor_may_be_a_view(blob):
    assert torch.equal(load(tensor_call(blob, 2, (2, 3), (3, 1))), torch.arange(2.0, 8).view(2, 3))


def header(*, magic=published.MAGIC, protocol=1001, little=True, key=None, keys=("0",)):
    kind = Global("torch", "FloatStorage")
    key = ("storage", kind, "0", "cpu", 2, None) if key is None else key
    parts = (magic, protocol, {"little_endian": little}, Reference(key), list(keys))
    return b"".join(written(part, 2) for part in parts)


GOOD = struct.pack("<q2f", 2, 1, 2)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        GOOD,
        header(magic=1) + GOOD,
        header(protocol=1000) + GOOD,
        header(little=False) + GOOD,
        header(keys=["1"]) + GOOD,
        header(key=("storage", "FloatStorage", "0", "cpu", 2, None)) + GOOD,
        header(key=("storage", Global("torch", "FloatStorage"), "0", "cpu", 3, None)) + GOOD,
        header(key=("storage", Global("torch", "load"), "0", "cpu", 2, None)) + GOOD,
        header(key=("storage", Global("os", "system"), "0", "cpu", 2, None)) + GOOD,
        header(key=("module", Global("torch", "FloatStorage"), "0", "cpu", 2, None)) + GOOD,
        header(key=("storage", Global("torch", "FloatStorage"), "0", "cpu", 2, ("0", 0, 1))) + GOOD,
        header() + GOOD[:-1],
        header() + GOOD + b"\0",
        header() + struct.pack("<q", 2**61) + GOOD,
    ],
)
def test_damaged_storages(blob):
    assert load(tensor_call(header() + GOOD, 0, (2,), (1,))).tolist() == [1, 2]
    with pytest.raises((PickleRefused, ValueError)):
        load(tensor_call(blob, 0, (2,), (1,)))


# -- Files that would take all time or memory ------------------------------------------------------


def doubling(levels, pair=b"h%ch%c\x86"):
    """`levels` tuples, each twice the one before, in the memo 0 .. levels."""
    data = b"\x80\x04)\x94"
    for level in range(levels):
        data += pair.replace(b"%c", bytes([level])) + b"\x94"
    return data


BOMBS = {
    "hash of nested tuples": doubling(60) + b"}" + b"h\x3cNs.",
    "set of nested tuples": doubling(60) + b"\x8f(h\x3c\x90.",
    "instructions": b"\x80\x04" + b"}" * 300_000 + b".",
    "whole number": b"\x80\x04\x8a\xff" + b"\x7f" * 255 + b".",
    "long string": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name):
    start = time.perf_counter()
    with pytest.raises((PickleRefused, ValueError)):
        load(BOMBS[name])
    assert time.perf_counter() - start < 20  # seconds; without the checks it would be for ever


def test_a_large_memo_index_costs_nothing():
    """The standard unpickler allocates 4 GB for these nine bytes."""
    assert load(b"\x80\x04}r\xff\xff\xff\x0f.") == {}


def repeated(head, call, count):
    """A list of `count` results of the same call of what `head` puts into the memo."""
    return b"\x80\x04" + head + b"](" + call * count + b"e."


def test_bytes_are_not_multiplied():
    """The same large string, decoded again and again, would fill the memory from a small file."""
    text = b"X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"\x94"
    function = b"\x8c\x07_codecs\x94\x8c\x06encode\x94\x93\x94"
    latin = b"\x8c\x06latin1\x94"
    call = b"h\x03h\x00h\x04\x86R"  # function, (text, 'latin1')
    refused(repeated(text + function + latin, call, 1000), "larger than the file")

    blob = header(key=("storage", Global("torch", "ByteStorage"), "0", "cpu", 10**6, None))
    blob += struct.pack("<q", 10**6) + bytes(10**6)
    text = b"B" + struct.pack("<I", len(blob)) + blob + b"\x94"
    function = b"\x8c\x0dtorch.storage\x94\x8c\x10_load_from_bytes\x94\x93\x94"
    refused(repeated(text + function, b"h\x03h\x00\x85R", 1000), "larger than the file")


def test_tensors_are_not_multiplied(blob):
    call = Call(REBUILD, (Call(LOAD_BYTES, (blob,)), 0, (8,), (1,), False, {}))
    one = written(call)
    shared = Call(LOAD_BYTES, (blob,))
    many = [Call(REBUILD, (shared, 0, (8,), (1,), False, {})) for _ in range(2)]
    assert len(load(written(many))) == 2 and load(one).shape == (8,)
    large = Call(LOAD_BYTES, (published.storage_bytes(torch.zeros(10_000)),))
    many = [Call(REBUILD, (large, 0, (10_000,), (1,), False, {})) for _ in range(3)]
    refused(written(many), "tensors that together are larger than the file")


def test_deep_nesting_and_cycles_end():
    deep = b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b"."
    assert isinstance(load(deep), list)
    cycle = load(b"\x80\x04]\x94h\x00a.")
    assert cycle[0] is cycle


def test_one_pickle_is_read_and_no_more():
    assert load(pickle.dumps([1]) + b"garbage") == [1]
    file = io.BytesIO(pickle.dumps(1) + pickle.dumps(2))
    from torch_utils.pickle_machine import run

    assert [run(file, None), run(file, None)] == [1, 2]


def test_sets_are_not_multiplied():
    """A set takes eight times the memory of the list of names that it is made of."""
    names = written([f"name{i}" for i in range(256)], 2)[2:-1]
    head = names + b"\x85r\x00\x10\x00\x00" + b"cbuiltins\nset\nr\x01\x10\x00\x00"
    refused(b"\x80\x02(" + head + b"j\1\x10\0\0j\0\x10\0\0R" * 1000 + b"t.", "has sets that")


@pytest.mark.parametrize("code", [b"I" + b"9" * 10**6, b"L" + b"9" * 10**6, b"Vx", b"S'x'"])
def test_arguments_of_other_instructions_are_not_parsed(code):
    """Nor is a codec imported for them, nor a number of a million digits computed."""
    refused(b"\x80\x04" + code, "uses the pickle instruction")
