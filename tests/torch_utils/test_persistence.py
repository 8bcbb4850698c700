"""Pickling of persistent classes: layout of what is written, and nothing stored is ever run."""

import copy
import pickle
import pickletools
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import torch

from dnnlib.util import EasyDict
from torch_utils import persistence
from torch_utils.persistence import allow_classes, is_persistent, persistent_class
from training.migrations import STATE_VERSION


@persistent_class
class Layer(torch.nn.Module):
    def __init__(self, size, gain=1.0, options=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(size, size))
        self.register_buffer("scale", torch.rand(size))
        self.gain = np.float64(gain)
        self.sizes = [np.int64(size), (np.float32(0.5),)]
        self.options = options
        if options is not None:
            options["seen"] = True

    def forward(self, x):
        return x @ self.weight * self.scale * self.gain


@persistent_class
class Net(Layer):
    def __init__(self, size, depth=2, **kwargs):
        super().__init__(size, gain=0.5)
        self.layers = torch.nn.Sequential(*[Layer(size, gain=i) for i in range(depth)])
        self.kwargs = kwargs

    def forward(self, x):
        return self.layers(super().forward(x))


class PlainSubclass(Net):
    pass


@persistent_class
class Value:
    def __init__(self, number):
        self.number = number


OURS = {"Layer": Layer, "Net": Net, "Value": Value}


@pytest.fixture
def hooks():
    """Import hooks registered in a test end with it."""
    before = list(persistence._import_hooks)
    yield persistence._import_hooks
    persistence._import_hooks[:] = before


def meta_of(obj):
    function, (meta,) = obj.__reduce__()[:2]
    assert function is persistence._reconstruct_persistent_obj
    return meta


def assert_same(a, b):
    assert type(a) is type(b)
    first, second = a.state_dict(), b.state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    x = torch.randn(3, 4)
    assert torch.equal(a(x), b(x))


def test_arguments_are_recorded_as_given():
    options = {"deep": [1]}
    layer = Layer(3, options=options)
    assert layer.init_args == (3,) and isinstance(layer.init_args, tuple)
    assert layer.init_kwargs == {"options": {"deep": [1]}}  # not what the constructor made of it
    assert layer.init_kwargs.options["deep"] == [1] and isinstance(layer.init_kwargs, EasyDict)
    layer.init_kwargs["options"]["deep"].append(2)
    assert layer.init_kwargs.options["deep"] == [1]
    net = Net(4, depth=1)
    assert (net.init_args, net.init_kwargs) == ((4,), {"depth": 1})  # its own, not its base's
    assert net.layers[0].init_kwargs == {"gain": 0}


def test_decoration():
    assert persistent_class(Net) is Net
    assert is_persistent(Net) and is_persistent(Net(2)) and is_persistent(Value(1))
    assert not is_persistent(PlainSubclass) and not is_persistent(torch.nn.Linear(1, 1))
    assert not hasattr(PlainSubclass(2), "_init_args")
    assert Net.__name__ == "Net" and Net._orig_class_name == "Net"


def test_layout_of_meta():
    meta = meta_of(Net(2))
    assert type(meta) is dict
    assert list(meta) == ["type", "version", "module_src", "class_name", "state"]
    assert (meta["type"], meta["version"], meta["class_name"]) == ("class", 6, "Net")
    assert meta["module_src"] == f"from {__name__} import *\n"
    assert meta_of(Layer(2))["module_src"] == meta["module_src"]  # one text for a module


def test_state_suits_other_versions_of_torch_and_numpy():
    net = Net(2).eval()
    state = meta_of(net)["state"]
    assert set(state) == {*vars(net), "_state_version"}
    for name, value in state.items():
        if name in ("_parameters", "_buffers", "_modules") or name.endswith("_hooks"):
            assert type(value) is OrderedDict, name
    assert type(state["_non_persistent_buffers_set"]) is set
    assert state["training"] is False and state["_is_full_backward_hook"] is None
    assert type(state["gain"]) is float
    assert state["sizes"] == [2, (0.5,)] and type(state["sizes"][0]) is int
    assert type(net.gain) is np.float64  # the object itself is left alone
    assert not any("numpy" in text for text in strings_of(pickle.dumps(net, protocol=4)))


def strings_of(data):
    return [arg for _, arg, _ in pickletools.genops(data) if isinstance(arg, str)]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_round_trip(protocol):
    net = Net(4, depth=2, extra=[1]).eval()
    data = pickle.dumps(net, protocol=protocol)
    with allow_classes(OURS):
        again = pickle.loads(data)
    assert_same(net, again)
    assert again.kwargs == {"extra": [1]} and again.training is False
    assert again.init_kwargs == net.init_kwargs and again.layers[1].gain == 1
    with allow_classes(OURS):
        assert_same(net, pickle.loads(pickle.dumps(again)))
        assert pickle.loads(pickle.dumps(Value(7))).number == 7


def test_plain_subclass_stays_itself():
    net = PlainSubclass(4)
    with allow_classes(OURS):
        again = pickle.loads(pickle.dumps(net))
    assert_same(net, again)
    assert_same(net, copy.deepcopy(net))
    assert not any("numpy" in text for text in strings_of(pickle.dumps(net, protocol=4)))


def test_deepcopy_is_exact():
    net = Net(4)
    net.alias = net.layers[0].weight
    net.cache = None
    twin = copy.deepcopy(net)  # needs no table and no permission
    assert_same(net, twin)
    assert type(twin.gain) is np.float64
    assert twin.alias is twin.layers[0].weight and twin.alias is not net.alias
    assert twin.weight.requires_grad and twin.weight.data_ptr() != net.weight.data_ptr()
    with torch.no_grad():
        twin.weight.zero_()
    assert net.weight.abs().max() > 0
    value = Value([1])
    value.self = value
    twin = copy.deepcopy(value)
    assert twin.self is twin and twin.number == [1] and twin.number is not value.number


def test_allowing_is_scoped():
    data = pickle.dumps(Net(2))
    with allow_classes({"Layer": Layer}):
        with allow_classes({"Net": Net}):
            pickle.loads(data)
        with pytest.raises(pickle.UnpicklingError, match="'Net'"):
            pickle.loads(data)
    with pytest.raises(pickle.UnpicklingError, match="never run") as error:
        pickle.loads(data)
    assert "allow_classes({'Layer': ...})" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(TypeError, match="Net"), allow_classes({"Net": "builtins.eval"}):
        pass


def test_stored_code_is_never_run(tmp_path):
    trap = tmp_path / "ran"
    source = f"open({str(trap)!r}, 'w').close()\nclass Value: pass\nclass AugmentPipe: pass\n"
    meta = dict(meta_of(Value(3)), module_src=source)
    with allow_classes({"Value": Value}):
        assert persistence._reconstruct_persistent_obj(meta).number == 3
    with pytest.raises(pickle.UnpicklingError):
        persistence._reconstruct_persistent_obj(meta)
    with pytest.raises(ValueError, match="module"):
        persistence._src_to_module(source)
    # Nor does a line of our form import what is not in the table.
    with pytest.raises(ValueError, match="antigravity"):
        persistence._src_to_module("from antigravity import *\n")
    assert not trap.exists() and "antigravity" not in sys.modules


def stand_in(monkeypatch, module_name, *class_names):
    """A module of the table with stand-ins for its classes, for the duration of a test."""
    module = types.ModuleType(module_name)
    for name in class_names:
        cls = type(name, (), {"__module__": module_name})
        setattr(module, name, persistent_class(cls))
    monkeypatch.setitem(sys.modules, module_name, module)
    return module


def rebuilt(class_name, module_src):
    meta = dict(
        type="class", version=6, module_src=module_src, class_name=class_name, state={"a": 1}
    )
    obj = persistence._reconstruct_persistent_obj(meta)
    assert obj.a == 1
    return type(obj)


def test_table_of_known_classes(monkeypatch):
    two = stand_in(monkeypatch, "training.networks_stylegan2", "SynthesisLayer", "ToRGBLayer")
    three = stand_in(monkeypatch, "training.networks_stylegan3", "SynthesisLayer")
    published = "import torch\nclass SynthesisLayer: ...\n"
    assert rebuilt("SynthesisLayer", published) is two.SynthesisLayer
    assert rebuilt("SynthesisLayer", three.SynthesisLayer._orig_module_src) is three.SynthesisLayer
    assert rebuilt("ToRGBLayer", three.SynthesisLayer._orig_module_src) is two.ToRGBLayer
    shim = "from training.networks_stylegan2 import *\n"
    assert persistence._module_to_src(two) == shim == two.ToRGBLayer._orig_module_src
    assert persistence._src_to_module(shim) is two
    with pytest.raises(pickle.UnpicklingError, match="Conv2dLayer"):
        rebuilt("Conv2dLayer", published)  # known, but the module lacks it


def test_find_class():
    from training.triplane import TriPlaneGenerator

    assert persistence.find_class("TriPlaneGenerator") is TriPlaneGenerator
    with allow_classes(dict(OURS, TriPlaneGenerator=Value)):
        assert persistence.find_class("Layer", "whatever") is Layer
        assert persistence.find_class("TriPlaneGenerator") is Value
    with pytest.raises(pickle.UnpicklingError, match="'eval'"):
        persistence.find_class("eval", "from builtins import *\n")


def test_state_version_comes_and_goes():
    value = Value(np.float64(3))
    assert meta_of(value)["state"]["_state_version"] == STATE_VERSION
    meta = meta_of(value)
    with allow_classes(OURS):
        again = persistence._reconstruct_persistent_obj(meta)
        assert vars(again).keys() == vars(value).keys() and type(again.number) is float
        meta["state"]["_state_version"] = STATE_VERSION + 1
        with pytest.raises(pickle.UnpicklingError, match="Value: made by a newer version"):
            persistence._reconstruct_persistent_obj(meta)


def test_files_name_the_public_module():
    """Code may be split over files; pickles name the module that published tools have."""
    cls = persistent_class(type("ToRGBLayer", (), {"__module__": "training.somewhere"}))
    assert cls._orig_module_src == "from training.networks_stylegan2 import *\n"
    cls = persistent_class(type("Generator", (), {"__module__": "training.networks_stylegan3"}))
    assert cls._orig_module_src == "from training.networks_stylegan3 import *\n"
    cls = persistent_class(type("Generator", (), {"__module__": "other.project"}))
    assert cls._orig_module_src == "from other.project import *\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(version=5), "version 5, expected 6"),
        (dict(version=None), "version None, expected 6"),
        (dict(type="function"), "'function'"),
        (dict(class_name=None), "class_name"),
        (dict(class_name="Nobody"), "'Nobody'"),
    ],
)
def test_errors_say_what_is_wrong(changes, message):
    meta = {**meta_of(Value(1)), **changes}
    with allow_classes(OURS), pytest.raises(pickle.UnpicklingError, match=message):
        persistence._reconstruct_persistent_obj(meta)


def test_import_hooks(hooks):
    def rename(meta):
        meta.class_name = meta.class_name.replace("OldValue", "Value")
        return meta

    def double(meta):
        meta.state.number *= 2
        return meta

    persistence.import_hook(rename)
    persistence.import_hook(double)
    meta = dict(meta_of(Value(3)), class_name="OldValue")
    with allow_classes(OURS):
        assert persistence._reconstruct_persistent_obj(meta).number == 6
    persistence.import_hook(lambda meta: None)
    with allow_classes(OURS), pytest.raises(TypeError, match="None"):
        persistence._reconstruct_persistent_obj(meta)


def test_constructor_refuses_what_cannot_be_pickled():
    with pytest.raises(TypeError, match=r"Value\.number\['f'\]\[0\]"):
        Value({"f": [lambda: 0]})
    persistence._check_pickleable(
        {"a": [1, (None, "x", torch.zeros(1), torch.float32, np.ones(2))]}
    )
    with pytest.raises(TypeError, match="generator"):
        persistence._check_pickleable([i for i in (x for x in range(1))] + [(x for x in ())])
