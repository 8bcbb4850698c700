"""Files of networks: both formats come back as the networks they were, foreign ones in one line."""

import io
import json
import pickle
import struct
import time
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.published import Call, Global, published_bytes, written
from tests.tiny import outputs, tiny_discriminator, tiny_generator
from torch_utils.persistence import allow_classes
from training import network_record
from training.augment import AugmentPipe
from training.network_files import NetworkFile, NetworkFileError, read_networks, write_networks
from training.network_record import NetworkRecord, RecordError, build, from_module
from training.snapshots import save_snapshot

DATA = {"class_name": "training.dataset.ImageFolderDataset", "path": "x.zip", "max_size": 7}


def make_networks():
    G = tiny_generator()
    G.renderer.plane_axes = G.renderer.plane_axes[[1, 0, 2]]  # neither of the named choices
    pipe = AugmentPipe(xflip=1, scale=1).eval().requires_grad_(False)
    pipe.p.fill_(0.125)
    return {
        "G": tiny_generator(seed=1),
        "D": tiny_discriminator(),
        "G_ema": G,
        "augment_pipe": pipe,
    }


@pytest.fixture(scope="module")
def networks():
    return make_networks()


@pytest.fixture(scope="module")
def expected(networks):
    return outputs(networks)


@pytest.fixture(scope="module")
def snapshot(networks, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "ours.pkl"
    save_snapshot(path, DATA, **networks)
    return path


def assert_same_networks(content, networks, expected):
    built = {name: content.build(name) for name in networks}
    for name, network in networks.items():
        twin = built[name]
        assert type(twin) is type(network)
        first, second = network.state_dict(), twin.state_dict()
        assert list(first) == list(second)
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not twin.training and not any(p.requires_grad for p in twin.parameters())
        assert twin.init_args == network.init_args and twin.init_kwargs == network.init_kwargs
    for name in {"G", "G_ema"} & built.keys():
        assert built[name].rendering_kwargs == networks[name].rendering_kwargs
    results = outputs(built)
    assert results.keys() == expected.keys()
    assert all(np.array_equal(results[key], expected[key]) for key in expected)


def test_snapshot(snapshot, networks, expected):
    content = read_networks(snapshot)
    assert (content.format, content.training_set_kwargs) == ("pickle", DATA)
    assert list(content.records) == ["G", "D", "G_ema", "augment_pipe"]
    assert_same_networks(content, networks, expected)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("order", [("G_ema",), ("G_ema", "D", "G"), ("augment_pipe", "D", "G_ema")])
def test_published_file(networks, expected, protocol, order):
    entries = {name: networks[name] for name in order}
    stale = torch.zeros(1, 96, 8, 8)
    data = published_bytes({**entries, "x": None}, protocol, stale_planes=stale)
    content = read_networks(io.BytesIO(data))
    wanted = outputs(entries) if "D" not in entries else expected
    assert_same_networks(content, entries, wanted)
    assert content.build("G_ema")._last_planes is None


def test_rebuilt_decoder_of_a_resaved_file(networks):
    data = published_bytes(
        {"G_ema": networks["G_ema"]}, decoder_module="_imported_module_" + 32 * "0"
    )
    G = read_networks(io.BytesIO(data)).build("G_ema")
    assert type(G.decoder) is type(networks["G_ema"].decoder)


def test_plain_format(snapshot, networks, expected, tmp_path):
    content = read_networks(snapshot)
    path = tmp_path / "plain.safetensors"
    write_networks(path, content)
    again = read_networks(path)
    assert (again.format, again.training_set_kwargs) == ("safetensors", DATA)
    assert_same_networks(again, networks, expected)

    # Any reader of the format finds the weights and one entry that says what they are.
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["eg3d"])
        assert set(file.metadata()) == {"eg3d"}
        key = "G_ema.backbone.synthesis.b4.const"
        assert torch.equal(file.get_tensor(key), networks["G_ema"].backbone.synthesis.b4.const)
    entry = header["networks"]["G_ema"]
    assert entry["class"] == "TriPlaneGenerator" and entry["neural_rendering_resolution"] == 8
    assert entry["rendering_kwargs"]["depth_resolution"] == 7
    assert entry["init_kwargs"]["rendering_kwargs"]["depth_resolution"] == 6
    assert entry["camera"] == {"radius": 2.7, "pivot": [0, 0, 0.2]}
    assert entry["plane_axes"] == networks["G_ema"].renderer.plane_axes.tolist()
    assert header["training"] == DATA


def test_conversion_both_ways_is_exact(snapshot, tmp_path):
    plain, back, again = (tmp_path / name for name in ("a.safetensors", "b.pkl", "c.safetensors"))
    write_networks(plain, read_networks(snapshot))
    write_networks(back, read_networks(plain))
    write_networks(again, read_networks(back))
    assert plain.read_bytes() == again.read_bytes()
    first, second = read_networks(snapshot), read_networks(back)
    assert first.training_set_kwargs == second.training_set_kwargs
    for name, record in first.records.items():
        other = second.records[name]
        assert (record.class_name, record.init_args) == (other.class_name, other.init_args)
        assert (record.init_kwargs, record.settings) == (other.init_kwargs, other.settings)
        assert list(record.tensors) == list(other.tensors)
        for key, tensor in record.tensors.items():
            assert tensor.numpy().tobytes() == other.tensors[key].numpy().tobytes()


def test_values_that_json_does_not_know(tmp_path):
    """Tuples stay tuples, NaN and -0.0 stay what they are."""
    G = tiny_generator()
    G.rendering_kwargs |= {"pair": (1, (2.5, None)), "none": None, "zero": -0.0}
    path = tmp_path / "x.safetensors"
    write_networks(path, NetworkFile("x", "memory", {"G_ema": from_module(G)}))
    options = read_networks(path).build("G_ema").rendering_kwargs
    assert options["pair"] == (1, (2.5, None)) and str(options["zero"]) == "-0.0"
    assert read_networks(path).training_set_kwargs is None


def test_dataset_label_std_is_optional_and_kept(networks):
    D = tiny_discriminator()
    D.register_buffer("dataset_label_std", torch.rand(25))
    built = build(from_module(D))
    assert torch.equal(built.dataset_label_std, D.dataset_label_std)
    record = from_module(networks["G"])
    tensors = {k: v for k, v in record.tensors.items() if k != "dataset_label_std"}
    assert not hasattr(build(replace(record, tensors=tensors)), "dataset_label_std")


def test_building_leaves_random_numbers_alone(networks):
    state = torch.get_rng_state()
    build(from_module(networks["G"]))
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_in_half_precision_become_what_the_network_has(networks):
    record = from_module(networks["G"])
    half = {k: v.half() if v.is_floating_point() else v for k, v in record.tensors.items()}
    built = build(replace(record, tensors=half))
    weight = built.backbone.synthesis.b4.conv1.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, networks["G"].backbone.synthesis.b4.conv1.weight.half().float())


# -- What does not fit -----------------------------------------------------------------------------


def altered(network, **changes):
    return replace(from_module(network), **changes)


def test_missing_network_names_those_that_are_there(snapshot):
    with pytest.raises(NetworkFileError, match=r"ours.pkl: has no network 'X'.*G, D, G_ema"):
        read_networks(snapshot).build("X")


def test_unknown_class_and_how_to_allow_it(networks):
    class Mine(type(networks["D"])):
        pass

    record = altered(networks["D"], class_name="Mine")
    with pytest.raises(RecordError, match="'Mine'.*allow_classes"):
        build(record)
    with allow_classes({"Mine": type(networks["D"])}):
        assert type(build(record)) is type(networks["D"])


def test_an_unknown_class_does_not_hide_the_others(networks):
    strange = Call(
        Global("torch_utils.persistence", "_reconstruct_persistent_obj"),
        ({"type": "class", "version": 6, "module_src": "x", "class_name": "Odd", "state": {}},),
    )
    good = pickle.loads(published_bytes({}))
    assert good == {}
    content = read_networks(io.BytesIO(written({"D": strange, "G": None})))
    assert content.records["D"].class_name == "Odd" and "G" not in content.records
    with pytest.raises(NetworkFileError, match="Odd"):
        content.build("D")


def test_unknown_arguments_are_left_out_with_a_warning(networks):
    kwargs = dict(networks["G"].init_kwargs, shiny=1, sr_kwargs={"widths": [8, 8], "odd": 2})
    kwargs["sr_kwargs"]["input_resolution"] = 16
    with pytest.warns(UserWarning, match="shiny, sr_kwargs.odd"):
        assert isinstance(build(altered(networks["G"], init_kwargs=kwargs)), type(networks["G"]))


def test_no_warning_for_known_arguments(snapshot):
    content = read_networks(snapshot)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in content.records:
            content.build(name)


def without(mapping, key):
    return {k: v for k, v in mapping.items() if k != key}


def test_tensors_that_do_not_fit(networks):
    tensors = from_module(networks["G"]).tensors
    name = "decoder.net.0.weight"
    with pytest.raises(RecordError, match=f"lacks {name}"):
        build(altered(networks["G"], tensors=without(tensors, name)))
    with pytest.raises(RecordError, match="unknown more"):
        build(altered(networks["G"], tensors={**tensors, "more": torch.zeros(1)}))
    with pytest.raises(RecordError, match=rf"{name} \[64, 33\] instead of \[64, 32\]"):
        build(altered(networks["G"], tensors={**tensors, name: torch.zeros(64, 33)}))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"neural_rendering_resolution": 0}, "from 1 to 4096"),
        ({"neural_rendering_resolution": "8"}, "from 1 to 4096"),
        ({"rendering_kwargs": None}, "rendering_kwargs"),
        ({"plane_axes": None}, "plane_axes"),
        ({"plane_axes": [[[1.0, 1, 0], [0, 1, 0], [0, 0, 1]]] * 3}, "unit vectors"),
        ({"plane_axes": "abc"}, "plane_axes"),
    ],
)
def test_settings_that_make_no_sense(networks, change, words):
    settings = {**from_module(networks["G"]).settings, **change}
    with pytest.raises(RecordError, match=words):
        build(altered(networks["G"], settings=settings))


@pytest.mark.parametrize(
    "name", ["os.system", "training.superresolution.persistence", 5, "", "a." * 99]
)
@pytest.mark.parametrize("where", ["arguments", "settings"])
def test_only_our_superresolutions_are_named(networks, name, where):
    """The constructor imports what stands here: a file must not choose it."""
    record = from_module(networks["G"])
    options = {**record.settings["rendering_kwargs"], "superresolution_module": name}
    if where == "settings":
        record = replace(record, settings={**record.settings, "rendering_kwargs": options})
    else:
        kwargs = {**record.init_kwargs, "rendering_kwargs": options}
        record = replace(record, init_kwargs=kwargs)
    with pytest.raises(RecordError, match="superresolution_module is"):
        build(record)


@pytest.mark.parametrize(
    "change",
    [
        {"channel_base": 2**20, "channel_max": 2**20},
        {"w_dim": 2**19},
        {"z_dim": 2**40},
        {"img_resolution": 2**20},
        {"mapping_kwargs": {"num_layers": 10**6}},
        {"plane_resolution": 2**19},
        {"sr_kwargs": {"widths": [8] * 65}},
        {"channel_base": "128"},
        {"img_resolution": 31},
        {"img_resolution": -32},
        {"mapping_kwargs": [1]},
        {"rendering_kwargs": {}},
    ],
)
def test_arguments_that_make_no_sense_cost_nothing(networks, change):
    start = time.perf_counter()
    kwargs = {**networks["G"].init_kwargs, **change}
    with pytest.raises(RecordError) as caught:
        build(altered(networks["G"], init_kwargs=kwargs))
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - start < 20  # seconds; it takes milliseconds, or all memory


def node(state, name="TriPlaneGenerator"):
    meta = {"type": "class", "version": 6, "module_src": "", "class_name": name, "state": state}
    return Call(Global("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,))


def nested_lists(levels):
    value = []
    for _ in range(levels):
        value = [value, value]
    return value


def test_containers_that_hold_each_other_end():
    loop = []
    loop.append(loop)
    for value in (nested_lists(60), loop):
        for state in ({"x": value}, {"_init_kwargs": {"x": value}}, {"_modules": {"x": value}}):
            with pytest.raises(NetworkFileError, match="too many|no module|too large"):
                read_networks(io.BytesIO(written({"G_ema": node(state)})))
        with pytest.raises(NetworkFileError, match="training_set_kwargs.* too large"):
            read_networks(io.BytesIO(written({"training_set_kwargs": {"x": value}})))


def test_modules_that_hold_each_other_end():
    inner = node({"_modules": {}})
    for _ in range(15):
        inner = node({"_modules": {"a": inner, "b": inner}})
    with pytest.raises(NetworkFileError, match="too many"):
        read_networks(io.BytesIO(written({"G_ema": inner})))
    network_record_limit = network_record.MAX_DEPTH
    for _ in range(network_record_limit):
        inner = node({"_modules": {"a": inner}})
    with pytest.raises(NetworkFileError, match="too many"):
        read_networks(io.BytesIO(written({"G_ema": inner})))


def zip_file():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(10**6))
    return file.getvalue()


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "neither"),
        (b"hello", "neither"),
        (zip_file(), "zip archive"),
        (pickle.dumps([1], 2), "holds a list"),
        (pickle.dumps({"G_ema": 1}, 0), "neither"),
        (pickle.dumps({1.5: 2}, 2), "key"),
        (b"\x80\x04", "damaged"),
        (b"\x80\x04\xff", "damaged"),
        (struct.pack("<Q", 2) + b"{}", "no entry 'eg3d'"),
        (struct.pack("<Q", 2**60) + b"{}", "header"),
        (struct.pack("<Q", 2) + b"{x", "damaged"),
        (struct.pack("<Q", 10**5) + b"{" + b'"a":{' * (10**5 // 5), "damaged"),
        (struct.pack("<Q", 4) + b"{}", "header|damaged"),
    ],
)
def test_other_files(tmp_path, data, words):
    path = tmp_path / "some file"
    path.write_bytes(data)
    for source in (path, io.BytesIO(data)):
        with pytest.raises(NetworkFileError, match=words) as caught:
            read_networks(source)
        assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("the open file: ")


def plain_file(described, tensors):
    text = described if isinstance(described, str) else json.dumps(described)
    return safetensors.torch.save(tensors, {"eg3d": text})


@pytest.mark.parametrize(
    "described, words",
    [
        ("{", "damaged"),
        ("[1]", "format 1"),
        ({"format": 2, "networks": {}}, "format 1"),
        ({"format": 1}, "damaged"),
        ({"format": 1, "networks": {}, "training": None}, "tensors of no network"),
        ({"format": 1, "networks": {"G": 1}, "training": None}, "names no class"),
        ({"format": 1, "networks": {"G": {"class": "X"}}, "training": None}, "damaged"),
        ("[" * 10**5, "damaged"),
    ],
)
def test_other_headers(described, words):
    data = plain_file(described, {"G.x": torch.zeros(1)})
    with pytest.raises(NetworkFileError, match=words) as caught:
        read_networks(io.BytesIO(data))
    assert "\n" not in str(caught.value)


def test_writing_refuses_what_cannot_be_read_again(networks, tmp_path):
    content = NetworkFile("x", "memory", {"D": from_module(networks["D"])})
    with pytest.raises(NetworkFileError, match="must end in .pkl or .safetensors"):
        write_networks(tmp_path / "x.pt", content)
    broken = replace(content, records={"D": NetworkRecord("DualDiscriminator")})
    for name in ("x.pkl", "x.safetensors"):
        with pytest.raises(NetworkFileError):
            write_networks(tmp_path / name, broken)
    assert list(tmp_path.iterdir()) == []


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_networks(tmp_path / "none.pkl")
