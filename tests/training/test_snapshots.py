"""What a snapshot holds, byte for byte: original tools and every version of torch can read it."""

import io
import pickle
import pickletools
import struct
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dnnlib.util import EasyDict
from tests.published import ATTRIBUTES, MAGIC, PLAIN, storage_bytes
from tests.tiny import outputs, tiny_discriminator, tiny_generator
from torch_utils.pickle_writing import PortablePickler, plain_numbers
from training import superresolution
from training.migrations import STATE_VERSION
from training.snapshots import save_snapshot

# Everything that a published snapshot may name; ours name no NumPy.
GLOBALS = {
    "torch_utils.persistence._reconstruct_persistent_obj",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.storage._load_from_bytes",
    "collections.OrderedDict",
    "dnnlib.util.EasyDict",
    *(f"{module}.{name}" for name, module in PLAIN.items()),
}
OPCODES = set(
    "PROTO FRAME MEMOIZE BINGET LONG_BINGET MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE EMPTY_SET TUPLE "
    "TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS APPEND APPENDS SHORT_BINUNICODE BINUNICODE "
    "SHORT_BINBYTES BINBYTES BININT BININT1 BININT2 BINFLOAT NONE NEWTRUE NEWFALSE STACK_GLOBAL "
    "REDUCE NEWOBJ BUILD STOP".split()
)
HOOKS = ("_backward_hooks", "_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks")
HOOKS += ("_load_state_dict_pre_hooks",)


class InertUnpickler(pickle.Unpickler):
    """Collects what a snapshot says of objects and tensors, and makes neither."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.globals, self.objects, self.tensors = set(), [], []

    def find_class(self, module, name):
        self.globals.add(f"{module}.{name}")
        if name == "_reconstruct_persistent_obj":
            return self.persistent
        if name in PLAIN:
            return self.plain_class(name)
        known = {"OrderedDict": OrderedDict, "EasyDict": EasyDict, "_load_from_bytes": bytes}
        known |= {"_rebuild_tensor_v2": self.tensor, "_rebuild_parameter": self.parameter}
        return known[name]

    def persistent(self, meta):
        self.objects.append(SimpleNamespace(**meta))
        return self.objects[-1]

    def plain_class(self, name):
        reader = self

        class Plain:
            def __setstate__(self, state):
                self.class_name, self.state = name, state
                reader.objects.append(self)

        return Plain

    def tensor(self, *arguments):
        names = ("storage", "offset", "size", "stride", "requires_grad", "hooks")
        self.tensors.append(SimpleNamespace(**dict(zip(names, arguments, strict=True))))
        return self.tensors[-1]

    def parameter(self, tensor, requires_grad, hooks):
        assert requires_grad is False and hooks == {}
        return tensor


def read(data):
    reader = InertUnpickler(data)
    reader.snapshot = reader.load()
    return reader


@pytest.fixture(scope="module")
def networks():
    return {"G": tiny_generator(1), "D": tiny_discriminator(), "G_ema": tiny_generator()}


@pytest.fixture(scope="module")
def path(tmp_path_factory, networks):
    path = tmp_path_factory.mktemp("snapshots") / "network-snapshot.pkl"
    save_snapshot(path, {"path": "cars.zip", "resolution": np.int64(32)}, **networks)
    return path


@pytest.fixture(scope="module")
def reader(path):
    return read(path.read_bytes())


def test_layout_and_names(path, reader):
    assert list(reader.snapshot) == ["training_set_kwargs", "G", "D", "G_ema", "augment_pipe"]
    assert reader.snapshot["training_set_kwargs"] == {"path": "cars.zip", "resolution": 32}
    assert reader.snapshot["augment_pipe"] is None
    assert reader.globals <= GLOBALS, reader.globals - GLOBALS
    opcodes = list(pickletools.genops(path.read_bytes()))
    assert {opcode.name for opcode, _, _ in opcodes} <= OPCODES
    assert opcodes[0][1] == 4  # protocol


def assert_complete(obj):
    """One object has the published attributes, in their published types, and nothing else."""
    name, state = obj.class_name, obj.state
    bookkeeping = set(vars(torch.nn.Module()))
    own = set(state) - bookkeeping - {"_init_args", "_init_kwargs", "_state_version"}
    no_bias = {"bias"} if name == "Conv2dLayer" and "bias" not in tensors_of(obj) else set()
    assert own == set(ATTRIBUTES[name]) | no_bias, name
    if no_bias:
        assert state["bias"] is None
    for key in ("weight_gain", "bias_gain", "act_gain"):
        assert type(state.get(key, 1.0)) in (float, int), key
    assert state["training"] is False and state["_is_full_backward_hook"] is None
    for key in ("_parameters", "_buffers", "_modules", *HOOKS):
        assert type(state[key]) is OrderedDict, (name, key)
    assert state["_non_persistent_buffers_set"] == set()
    if name not in PLAIN:
        assert (obj.type, obj.version, state["_state_version"]) == ("class", 6, STATE_VERSION)
        assert type(state["_init_args"]) is tuple and type(state["_init_kwargs"]) is dict
    else:
        assert "_state_version" not in state


def tensors_of(obj):
    return {**obj.state["_parameters"], **obj.state["_buffers"]}


def test_every_object_is_complete(reader, networks):
    for obj in reader.objects:
        assert_complete(obj)
    modules = sum(len(list(network.modules())) for network in networks.values())
    assert len(reader.objects) == modules
    G = reader.snapshot["G_ema"].state
    assert G["neural_rendering_resolution"] == 8 and G["_last_planes"] is None
    assert G["rendering_kwargs"]["depth_resolution"] == 7  # as it is now,
    assert G["_init_kwargs"]["rendering_kwargs"]["depth_resolution"] == 6  # and as it was made
    renderer, sampler = (G["_modules"][name].state for name in ("renderer", "ray_sampler"))
    assert renderer["plane_axes"].size == (3, 3, 3)
    assert {sampler[key] for key in ATTRIBUTES["RaySampler"]} == {None}
    softplus = G["_modules"]["decoder"].state["_modules"]["net"].state["_modules"]["1"].state
    assert (softplus["beta"], softplus["threshold"]) == (1.0, 20.0)


def test_source_text_is_one_import_line_a_module(reader):
    texts = {obj.class_name: obj.module_src for obj in reader.objects if hasattr(obj, "module_src")}
    homes = ("dual_discriminator", "networks_stylegan2", "superresolution", "triplane")
    assert sorted(set(texts.values())) == [f"from training.{name} import *\n" for name in homes]
    assert texts["SynthesisBlock"] == "from training.networks_stylegan2 import *\n"
    assert texts["SynthesisBlockNoUp"] == "from training.superresolution import *\n"


def test_tensors_own_exactly_their_storage(reader, networks):
    expected = [t for net in networks.values() for t in net.state_dict().values()]
    assert len(reader.tensors) == len(expected) + 2  # the plane axes of two generators
    for tensor in reader.tensors:
        assert tensor.offset == 0 and tensor.requires_grad is False and tensor.hooks == {}
        count = int(np.prod(tensor.size))
        assert tensor.stride == torch.empty(tensor.size).stride()
        assert tensor.storage[-4 * count - 8 : -4 * count] == struct.pack("<q", count)
        assert pickle.loads(tensor.storage) == MAGIC
    const = networks["G_ema"].backbone.synthesis.b4.const
    state = reader.snapshot["G_ema"].state["_modules"]["backbone"].state["_modules"]
    b4 = state["synthesis"].state["_modules"]["b4"].state
    assert b4["_parameters"]["const"].storage == storage_bytes(const.detach(), key="0")


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool]
)
def test_tensors_of_any_form_come_back(dtype):
    whole = (torch.arange(1000).reshape(10, 100) % 2).to(dtype)
    views = {
        "slice": whole[3:5, 1:3],
        "transposed": whole.t(),
        "one": whole[7, 7],
        "none": whole[:0],
    }
    views["same"] = views["slice"]
    file = io.BytesIO()
    PortablePickler(file, protocol=4).dump(views)
    again = pickle.loads(file.getvalue())
    assert all(torch.equal(again[name], views[name]) for name in views)
    assert all(t.dtype == dtype and t.is_contiguous() for t in again.values())
    assert again["slice"].untyped_storage().nbytes() == 4 * whole.element_size()
    assert again["same"] is again["slice"]


def test_element_types_that_old_torch_lacks_are_refused():
    with pytest.raises(TypeError, match="complex64"):
        PortablePickler(io.BytesIO(), protocol=4).dump(torch.zeros(1, dtype=torch.complex64))


def test_same_networks_give_the_same_bytes(path, networks, tmp_path):
    again = tmp_path / "again.pkl"
    settings = {"path": "".join(["cars", ".zip"]), "resolution": 32}
    save_snapshot(again, settings, **networks)
    assert again.read_bytes() == path.read_bytes()
    loaded = pickle.loads(path.read_bytes())
    save_snapshot(again, **loaded)
    assert again.read_bytes() == path.read_bytes()


def test_saving_a_network_at_work(tmp_path):
    """In training, with gradients, a cached rendering and weights in another memory layout."""
    G = tiny_generator()
    expected = outputs({"G_ema": G})
    G.train().requires_grad_(True)
    G.backbone.mapping.w_avg = torch.cat([G.backbone.mapping.w_avg] * 1000)[: G.w_dim]
    conv = G.backbone.synthesis.b8.conv1
    conv.weight.data = conv.weight.data.to(memory_format=torch.channels_last)
    G._last_planes = torch.zeros(1, 96, 8, 8)
    path = tmp_path / "snapshot.pkl"
    save_snapshot(path, {}, G_ema=G)
    assert path.stat().st_size < 120_000
    assert G.training and G._last_planes is not None and conv.weight.requires_grad
    for obj in read(path.read_bytes()).objects:
        assert_complete(obj)
    networks = pickle.loads(path.read_bytes())
    assert not any(p.requires_grad for p in networks["G_ema"].parameters())
    for name, value in outputs(networks).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("SuperresolutionHybrid2X", 128),
        ("SuperresolutionHybrid4X", 256),
        ("SuperresolutionHybridDeepfp32", 256),
        ("SuperresolutionHybrid8X", 512),
        ("SuperresolutionHybrid8XDC", 512),
    ],
)
def test_published_super_resolution_is_complete(name, size, tmp_path):
    path = tmp_path / "snapshot.pkl"
    save_snapshot(path, {}, G=getattr(superresolution, name)(32, size, w_dim=4))
    top = read(path.read_bytes()).snapshot["G"]
    assert top.class_name == name
    assert_complete(top)
    has_filter = name != "SuperresolutionHybrid8XDC"
    assert list(top.state["_buffers"]) == (["resample_filter"] if has_filter else [])
    assert list(top.state["_modules"]) == ["block0", "block1"]


def test_augmentation_is_complete(tmp_path):
    augment = pytest.importorskip("training.augment")
    path = tmp_path / "snapshot.pkl"
    save_snapshot(path, {}, augment_pipe=augment.AugmentPipe(xflip=1, imgfilter=np.float64(0.5)))
    reader = read(path.read_bytes())
    pipe = reader.snapshot["augment_pipe"]
    assert pipe.module_src == "from training.augment import *\n"
    assert_complete(pipe)
    assert reader.globals <= GLOBALS and type(pipe.state["imgfilter"]) is float
    sizes = {name: buffer.size for name, buffer in pipe.state["_buffers"].items()}
    assert sizes == {"p": (), "Hz_geom": (12,), "Hz_fbank": (4, 43)}


def test_trained_networks_remember_all_that_makes_them(tiny_config):
    config = tiny_config()
    sizes = {"c_dim", "img_resolution", "img_channels"}
    both = {"mapping_kwargs", "channel_base", "channel_max", "num_fp16_res", "conv_clamp"}
    G = {"z_dim", "w_dim", "fused_modconv_default", "rendering_kwargs", "sr_num_fp16_res"}
    D = {"block_kwargs", "epilogue_kwargs", "disc_c_noise"}
    assert both | G | {"sr_kwargs"} <= set(config.G_kwargs) and not sizes & set(config.G_kwargs)
    assert both | D <= set(config.D_kwargs)


def test_plain_numbers():
    shared = [np.float64(0.5)]
    value = {
        "a": (np.int64(1), shared),
        "b": EasyDict(c=shared),
        "d": OrderedDict(e=np.bool_(True)),
    }
    plain = plain_numbers(value)
    assert plain == {"a": (1, [0.5]), "b": {"c": [0.5]}, "d": {"e": True}}
    assert type(plain["a"][0]) is int and type(plain["d"]["e"]) is bool
    assert type(plain["b"]) is EasyDict and type(plain["d"]) is OrderedDict
    assert plain["a"][1] is plain["b"]["c"] and type(shared[0]) is np.float64
    for _ in range(60):  # 2^60 lists on paper
        shared = [shared, shared]
    plain_numbers(shared)
    circle = {}
    circle["x"] = [circle]
    with pytest.raises(ValueError, match="dict contains itself"):
        plain_numbers(circle)
