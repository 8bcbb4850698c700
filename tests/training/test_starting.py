"""Starting from a snapshot: parameters and buffers by name, nothing else, and clear refusals."""

import pytest
import torch

from torch_utils import misc
from training import checkpoints
from training.config import OptionError
from training.dataset import ImageFolderDataset
from training.launch import launch
from training.network_files import NetworkFile, read_networks, write_networks
from training.setup import build_networks
from training.starting import start_from_snapshot
from training.training_loop import training_loop

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture
def fresh(tiny_config, cars):
    """`fresh(*arguments)`: new networks of a command."""

    def build(*arguments):
        return build_networks(
            tiny_config(*arguments), ImageFolderDataset(cars, use_labels=True), CPU
        )

    return build


@pytest.fixture
def snapshot(tiny_config):
    """A snapshot of one iteration: no two of its networks have the same weights."""
    config = tiny_config(iterations=2)
    training_loop(config)
    return f"{config.run_dir}/network-snapshot-000000.pkl"


@pytest.fixture
def part_of(snapshot, tmp_path):
    """`part_of(*names)`: a plain file with those networks of the snapshot."""

    def build(*names):
        whole = read_networks(snapshot)
        records = {name: whole.records[name] for name in names}
        path = tmp_path / f"{'-'.join(names)}.safetensors"
        write_networks(path, NetworkFile(str(path), "safetensors", records, {}))
        return str(path)

    return build


def tensors(network):
    return dict(misc.named_params_and_buffers(network))


def assert_same(network, record):
    assert all(torch.equal(v, record.tensors[k]) for k, v in tensors(network).items())


def test_all_three_networks(fresh, snapshot):
    networks = fresh("--seed=5")
    start_from_snapshot(networks, snapshot)
    records = read_networks(snapshot).records
    for name, network in networks.items():
        assert_same(network, records[name])
    assert any(
        not torch.equal(v, records["G"].tensors[k]) for k, v in tensors(networks["G_ema"]).items()
    )


def test_what_is_missing_is_stood_in_for(fresh, part_of, capsys):
    networks = fresh()
    before = {key: value.clone() for key, value in tensors(networks["D"]).items()}
    path = part_of("G_ema")
    start_from_snapshot(networks, path)
    ema = read_networks(path).records["G_ema"]
    assert_same(networks["G"], ema)
    assert_same(networks["G_ema"], ema)
    assert all(torch.equal(v, before[k]) for k, v in tensors(networks["D"]).items())
    assert capsys.readouterr().err == f"Warning: {path} has no D: it starts from nothing\n"
    path = part_of("G", "D")
    start_from_snapshot(networks, path)
    assert_same(networks["G_ema"], read_networks(path).records["G"])
    assert not capsys.readouterr().err
    with pytest.raises(OptionError, match="--resume=.*D.safetensors: has neither G nor G_ema"):
        start_from_snapshot(networks, part_of("D"))


def test_other_names_are_left_alone(fresh, snapshot):
    """A deeper mapping network keeps its further layer, as where the published code resumes."""
    networks = fresh("--map-depth=3")
    extra = {k: v.clone() for k, v in tensors(networks["G"]).items() if ".fc2." in k}
    start_from_snapshot(networks, snapshot)
    found = tensors(networks["G"])
    assert extra and all(torch.equal(found[k], v) for k, v in extra.items())
    record = read_networks(snapshot).records["G"]
    assert torch.equal(found["decoder.net.0.weight"], record.tensors["decoder.net.0.weight"])


def test_other_shapes_are_refused(fresh, snapshot):
    with pytest.raises(OptionError) as error:
        start_from_snapshot(fresh("--cmax=16"), snapshot)
    message = str(error.value)
    assert message.startswith(f"--resume={snapshot}: G was made with other options: ")
    assert "has the shape [" in message and "more" in message and "\n" not in message


def test_another_network_is_refused(fresh, snapshot):
    networks = dict(fresh(), G=torch.nn.Linear(2, 2))
    with pytest.raises(OptionError, match="G has other tensors.*another network"):
        start_from_snapshot(networks, snapshot)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04zip archive", b"\x80\x04broken"])
def test_files_that_cannot_be_read(fresh, tmp_path, content):
    path = tmp_path / "x.pkl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OptionError, match="--resume: .*x.pkl") as error:
        start_from_snapshot(fresh(), str(path))
    assert "\n" not in str(error.value)


def test_a_run_from_a_snapshot(tiny_config, snapshot, tmp_path):
    """It begins with those weights and nothing else of the other run."""
    config = tiny_config(f"--resume={snapshot}", "--aug=ada", "--glr=0", "--dlr=0")
    config.run_dir = str(tmp_path / "new")
    assert launch(config)
    state = checkpoints.read_newest(config.run_dir).state
    record = read_networks(snapshot).records["G"]
    for name, value in state["parts"]["G"].items():
        if "w_avg" not in name:
            assert torch.equal(value, record.tensors[name]), name
    assert state["counters"]["nimg"] == 8 and state["parts"]["G_opt"]["state"][0]["step"] == 3
