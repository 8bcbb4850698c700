"""Opening files: what is accepted, what is run (nothing, unless trusted), what errors say."""

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import eg3d
import train
from dnnlib.util import construct_class_by_name
from eg3d.__main__ import main
from eg3d.errors import SnapshotError
from eg3d.loading import load_all, load_network, read
from tests.published import published_bytes
from tests.tiny import outputs, tiny_discriminator, tiny_generator
from training import config as configuration
from training.network_files import read_networks, write_networks
from training.snapshots import save_snapshot

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def networks():
    return {"G_ema": tiny_generator(), "D": tiny_discriminator()}


@pytest.fixture(scope="module")
def files(networks, tmp_path_factory):
    """One pair of networks in every kind of file: {kind: path}."""
    folder = tmp_path_factory.mktemp("files")
    paths = {kind: folder / kind for kind in ("ours.pkl", "published.pkl", "plain.safetensors")}
    save_snapshot(paths["ours.pkl"], {"max_size": 1}, **networks)
    trap = folder / "trap"
    paths["published.pkl"].write_bytes(published_bytes(networks, trap=trap))
    write_networks(paths["plain.safetensors"], read_networks(paths["ours.pkl"]))
    yield paths
    assert not trap.exists()


KINDS = ["ours.pkl", "published.pkl", "plain.safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_gives_the_same_pictures(files, networks, kind):
    path = files[kind]
    ways = {
        "path": load_all(path),
        "text": load_all(str(path)),
        "open file": load_all(io.BytesIO(path.read_bytes())),
        "address": load_all(path.as_uri()),
    }
    if path.suffix == ".pkl":
        ways["trusted"] = load_all(path, trust=True)
        with open(path, "rb") as file:
            ways["pickle"] = pickle.load(file)
    expected = outputs(networks)
    for way, loaded in ways.items():
        found = outputs(loaded)
        assert all(np.array_equal(found[key], expected[key]) for key in expected), way


@pytest.mark.parametrize("trust", [False, True])
def test_load_all_names_what_is_missing(files, trust):
    loaded = load_all(files["ours.pkl"], trust=trust)
    assert list(loaded) == ["G", "D", "G_ema", "augment_pipe", "training_set_kwargs"]
    assert loaded["G"] is None and loaded["augment_pipe"] is None
    assert loaded["training_set_kwargs"] == {"max_size": 1}
    assert load_all(files["published.pkl"], trust=trust)["training_set_kwargs"] is None


def test_model_of_any_file(files):
    models = [eg3d.load(files[kind], device="cpu") for kind in KINDS]
    images = [m.scene(seed=3).render(m.camera).image for m in models]
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])
    assert not any(p.requires_grad for p in models[0].generator.parameters())


def test_run_directory_stands_for_its_newest_snapshot(files, tmp_path):
    for name, kind in [("000002", "ours.pkl"), ("000010", "published.pkl")]:
        (tmp_path / f"network-snapshot-{name}.pkl").write_bytes(files[kind].read_bytes())
    assert read(tmp_path).source.endswith("network-snapshot-000010.pkl")
    with pytest.raises(SnapshotError, match=r"is a folder without a network-snapshot-\*\.pkl"):
        read(tmp_path.parent / tmp_path.name / "..")


class Call:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_trust_runs_what_is_refused_otherwise(tmp_path):
    trace = tmp_path / "trace"
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"G_ema": torch.nn.Linear(1, 1), "x": Call(f"echo > {trace}")}))
    with pytest.raises(SnapshotError, match=rf"x\.pkl: names {os.name}\.system"):
        load_network(path)
    assert not trace.exists()
    assert isinstance(load_network(path, trust=True), torch.nn.Linear)
    assert trace.exists()
    with pytest.raises(SnapshotError, match="no network 'G'; networks in it: G_ema"):
        load_network(path, "G", trust=True)


@pytest.mark.parametrize(
    "content, words",
    [
        (None, ["No such file", "expected a snapshot"]),
        (b"", ["neither a snapshot"]),
        (b"PK\x03\x04 anything else", ["zip archive"]),
        (pickle.dumps([1]), ["holds a list"]),
        (pickle.dumps({"state": 1}), ["no network 'G_ema'", "none"]),
        (pickle.dumps({"G_ema": torch.nn.Linear(1, 1)}), ["'Linear'"]),
        (b"\x80\x02cno_such_module\nThing\n.", ["no_such_module.Thing"]),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path, content, words):
    path = tmp_path / "x.pkl"
    if content is not None:
        path.write_bytes(content)
    for trust in (False, True) if content and b"Linear" not in content else (False,):
        with pytest.raises(SnapshotError) as caught:
            eg3d.load(path, trust=trust)
        text = str(caught.value)
        assert str(path) in text and "\n" not in text
        assert trust or all(word in text for word in words), text


def test_cut_off_file_is_an_error(tmp_path, files):
    for kind in KINDS:
        path = tmp_path / kind
        path.write_bytes(files[kind].read_bytes()[:-1000])
        with pytest.raises(SnapshotError, match=f"{kind}: "):
            eg3d.load(path)


def test_other_networks_are_no_model(files):
    with pytest.raises(SnapshotError, match="no network 'augment_pipe'; networks in it: "):
        eg3d.load(files["ours.pkl"], network="augment_pipe")
    with pytest.raises(SnapshotError, match="D is a DualDiscriminator, not a tri-plane generator"):
        eg3d.load(files["ours.pkl"], network="D")


def test_a_fresh_process_anywhere_runs_nothing_of_the_file(files, tmp_path):
    """Without the repository as working directory; no compiler, no download, no GPU."""
    code = """
import sys
events = []
watched = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect")
sys.addaudithook(lambda event, args: event in watched and events.append((event, args)))
import eg3d
for path in sys.argv[1:]:
    G = eg3d.load(path).generator
    assert not events, events
    print(type(G).__name__, next(G.parameters()).device)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": "", "CUDA_VISIBLE_DEVICES": ""}
    run = [sys.executable, "-c", code, *(str(files[kind]) for kind in KINDS)]
    done = subprocess.run(
        run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["TriPlaneGenerator", "cpu"] * len(KINDS), done.stderr


# -- python -m eg3d --------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`command(*arguments)` -> click's result, in an empty folder."""
    monkeypatch.setattr("dnnlib.download._offline", None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda *arguments: CliRunner().invoke(main, [*map(str, arguments)])


def test_as_a_program(files, tmp_path):
    run = [sys.executable, "-m", "eg3d", "info", str(files["ours.pkl"])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "G_ema: TriPlaneGenerator" in done.stdout, done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_info(files, networks, kind, command):
    done = command("info", files[kind])
    assert done.exit_code == 0, done.output
    count = sum(value.numel() for value in networks["G_ema"].state_dict().values())
    for words in (
        "G_ema: TriPlaneGenerator",
        "D: DualDiscriminator",
        f"{count:,} numbers",
        '"channel_max": 8',
        '"depth_resolution": 7',
        'camera      {"radius": 2.7, "pivot": [0, 0, 0.2]}',
        "rendered at 8",
        "plane axes  [[[1.0, 0.0, 0.0]",
    ):
        assert words in done.stdout, words
    assert ('"max_size": 1' in done.stdout) == (kind != "published.pkl")


def test_convert_there_and_back(files, command):
    assert command("convert", files["published.pkl"], "a.safetensors").exit_code == 0
    done = command("convert", "a.safetensors", "b.pkl")
    assert done.exit_code == 0 and "b.pkl: G_ema, D" in done.stdout
    first, second = read(files["published.pkl"]), read("b.pkl")
    for name in ("G_ema", "D"):
        for key, tensor in first.records[name].tensors.items():
            assert torch.equal(tensor, second.records[name].tensors[key])


@pytest.mark.parametrize(
    "arguments",
    [("info", "none.pkl"), ("convert", "none.pkl", "x.pkl"), ("convert", "{ours}", "x.zip")]
    + [("--offline", "info", "http://localhost:9/x.pkl")],
)
def test_errors_are_one_line(files, arguments, command):
    done = command(*(argument.format(ours=files["ours.pkl"]) for argument in arguments))
    assert done.exit_code == 1
    assert len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith("Error: ")
    assert list(Path.cwd().iterdir()) == []


# -- Every preset ----------------------------------------------------------------------------------


class Pictures:
    """As much of a dataset as a configuration asks for."""

    has_labels, label_dim, num_channels, name = True, 25, 3, "pictures"

    def __init__(self, resolution):
        self.resolution = resolution

    def __len__(self):
        return 10


def networks_of(cfg, resolution):
    """G and D that `train.py --cfg=...` would train, with few channels and samples."""
    arguments = ["--data=x", "--outdir=x", f"--cfg={cfg}", "--batch=8", "--gpus=1", "--gamma=1"]
    arguments += [f"--cbase={max(resolution, 256)}", "--cmax=4", "--gen_pose_cond=True"]
    context = train.main.make_context("train", arguments)
    given = {k for k in context.params if context.get_parameter_source(k).name == "COMMANDLINE"}
    opts = configuration.with_preset(context.params, given)
    config = configuration.build_config(opts, Pictures(resolution))
    sizes = dict(c_dim=25, img_resolution=resolution, img_channels=3)
    config.G_kwargs["rendering_kwargs"].update(depth_resolution=4, depth_resolution_importance=4)
    G = construct_class_by_name(**config.G_kwargs, **sizes)
    G.neural_rendering_resolution = 8
    G.register_buffer("dataset_label_std", torch.rand(25))
    return {"G_ema": G.eval(), "D": construct_class_by_name(**config.D_kwargs, **sizes).eval()}


@pytest.mark.parametrize(
    "cfg, resolution",
    [
        ("demo", 64),
        ("shapenet", 128),
        ("afhq", 256),
        pytest.param("ffhq", 512, marks=pytest.mark.slow),
        ("ffhq", 128),
    ],
)
def test_files_of_every_preset(cfg, resolution, tmp_path):
    networks = networks_of(cfg, resolution)
    save_snapshot(tmp_path / "x.pkl", {}, **networks)
    write_networks(tmp_path / "x.safetensors", read_networks(tmp_path / "x.pkl"))
    with open(tmp_path / "x.pkl", "rb") as file:
        ways = {"pickle": pickle.load(file)}
    ways["safe loader"] = load_all(tmp_path / "x.pkl")
    ways["plain format"] = load_all(tmp_path / "x.safetensors")
    expected = outputs(networks)
    for way, loaded in ways.items():
        found = outputs(loaded)
        assert all(np.array_equal(found[key], expected[key]) for key in expected), way
