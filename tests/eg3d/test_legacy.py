"""Snapshots as a dict of networks, for programs written for the original layout."""

import io
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from eg3d.errors import SnapshotError
from eg3d.legacy import load_network_pkl, main
from tests.tiny import outputs, tiny_discriminator, tiny_generator
from training.snapshots import save_snapshot

ROOT = Path(__file__).parents[2]
NAMES = ("G", "D", "G_ema", "training_set_kwargs", "augment_pipe")


@pytest.fixture(scope="module")
def networks():
    """G, D, G_ema; the settings of G_ema are not those of its constructor."""
    G_ema = tiny_generator(seed=1)
    G_ema.renderer.plane_axes = G_ema.renderer.plane_axes.roll(1, dims=0)
    return {"G": tiny_generator(), "D": tiny_discriminator(), "G_ema": G_ema}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory, networks):
    """Path of a snapshot of the three."""
    path = tmp_path_factory.mktemp("legacy") / "tiny.pkl"
    save_snapshot(path, {"path": "x.zip"}, **networks)
    return path


def assert_same_pictures(first, second):
    first, second = outputs(first), outputs(second)
    assert all((first[name] == second[name]).all() for name in first)


def test_contents(snapshot, networks):
    with open(snapshot, "rb") as file:
        data = load_network_pkl(file)
    assert set(data) == set(NAMES)
    assert data["training_set_kwargs"] == {"path": "x.zip"} and data["augment_pipe"] is None
    for name, network in networks.items():
        assert type(data[name]) is type(network) and not data[name].training
        tensors = [*data[name].parameters(), *data[name].buffers()]
        assert not any(t.requires_grad or t.device.type != "cpu" for t in tensors)
    assert_same_pictures(data, networks)


def test_entries_that_are_missing_are_none(networks):
    data = load_network_pkl(io.BytesIO(pickle.dumps({"G_ema": networks["G_ema"]})))
    assert [name for name in NAMES if data[name] is not None] == ["G_ema"]
    assert data["G_ema"].neural_rendering_resolution == 8


def test_force_fp16(snapshot, networks):
    with open(snapshot, "rb") as file:
        data = load_network_pkl(file, force_fp16=True)
    for name, network in networks.items():
        fresh = data[name]
        blocks = fresh if name == "D" else fresh.backbone.synthesis
        assert [fresh.init_kwargs[k] for k in ("num_fp16_res", "conv_clamp")] == [4, 256]
        assert [getattr(blocks, f"b{r}").use_fp16 for r in blocks.block_resolutions if r > 4]
        assert list(fresh.state_dict()) and set(fresh.state_dict()) == set(network.state_dict())
        assert not fresh.training and not any(p.requires_grad for p in fresh.parameters())
    for name in ("G", "G_ema"):  # dataset_label_std too, and what no constructor knows
        fresh, network = data[name], networks[name]
        assert torch.equal(fresh.dataset_label_std, network.dataset_label_std)
        assert fresh.neural_rendering_resolution == 8
        assert fresh.rendering_kwargs["depth_resolution"] == 7
        assert torch.equal(fresh.renderer.plane_axes, network.renderer.plane_axes)
    assert_same_pictures(data, networks)  # a CPU computes in single precision all the same


def test_force_fp16_twice_changes_nothing(snapshot):
    with open(snapshot, "rb") as file:
        data = load_network_pkl(file, force_fp16=True)
    again = load_network_pkl(io.BytesIO(pickle.dumps(data)), force_fp16=True)
    assert again["G_ema"].init_kwargs == data["G_ema"].init_kwargs
    assert_same_pictures(again, data)


def test_files_that_cannot_seek(snapshot):
    class Stream(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise io.UnsupportedOperation

    assert load_network_pkl(Stream(snapshot.read_bytes()))["G_ema"] is not None


def test_starts_where_the_file_stands(snapshot):
    file = io.BytesIO(b"before" + snapshot.read_bytes())
    file.seek(6)
    assert load_network_pkl(file)["D"] is not None


def test_tensorflow_pickles(tmp_path):
    path = tmp_path / "tf.pkl"
    network = b"cdnnlib.tflib.network\nNetwork\n)\x81"  # GLOBAL, EMPTY_TUPLE, NEWOBJ
    path.write_bytes(b"\x80\x02" + 3 * network + b"\x87.")
    with open(path, "rb") as file:
        with pytest.raises(SnapshotError, match="tf.pkl: TensorFlow pickles are not supported: "):
            load_network_pkl(file)


def test_other_files_are_refused_in_one_line(tmp_path):
    for content in (pickle.dumps([1]), b"", b"text"):
        with pytest.raises(SnapshotError) as caught:
            load_network_pkl(io.BytesIO(content))
        assert "\n" not in str(caught.value)


def test_command(snapshot, tmp_path, networks):
    dest = tmp_path / "out.pkl"
    result = CliRunner().invoke(main, [f"--source={snapshot}", f"--dest={dest}"])
    assert result.exit_code == 0 and "G, D, G_ema" in result.output
    with open(dest, "rb") as file:
        assert_same_pictures(load_network_pkl(file), networks)
    options = [f"--source={dest}", f"--dest={dest}", "--force_fp16=True"]
    assert CliRunner().invoke(main, options).exit_code == 0  # in place; either spelling
    with open(dest, "rb") as file:
        assert load_network_pkl(file)["G"].init_kwargs["num_fp16_res"] == 4
    result = CliRunner().invoke(main, ["--source=nowhere.pkl", f"--dest={dest}"])
    assert result.exit_code == 1 and "nowhere.pkl" in result.output


def test_script(snapshot, tmp_path):
    """As published: `python compat/legacy.py`, from anywhere."""
    run = [sys.executable, ROOT / "compat" / "legacy.py"]
    run += ["--source", snapshot, "--dest", tmp_path / "out.pkl", "--force-fp16", "False"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.pkl").exists()
