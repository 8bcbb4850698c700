"""Published files of both stages: stand-ins in their layout give the recorded pictures."""

import io
import pickle

import pytest
import torch

import eg3d
from tests.published import ATTRIBUTES, StandIn, published_bytes
from tests.recorded_draws import recorded_draws
from tests.training.mimic3d.conftest import ARGUMENTS, RENDERING
from torch_utils import persistence
from training.mimic3d.generator import DualTriPlaneGenerator
from training.network_files import NetworkFileError, read_networks
from training.triplane import TriPlaneGenerator
from training.volumetric_rendering.planes import generate_planes

CLASSES = {1: TriPlaneGenerator, 2: DualTriPlaneGenerator}
SECOND = ("block2.", "block3.")  # of the backbone, in the second stage alone


@pytest.fixture
def state(recorded, state_of):
    """The recorded weights, the constant with the axis that published files have."""
    state = state_of(recorded)
    name = "backbone.synthesis.b4.const"
    state[name] = state[name].reshape(1, -1, 4, 4)
    return state


@pytest.fixture
def snapshot(state):
    """A function: the bytes of a file that has G_ema alone, of a stage."""

    def make(stage, **changes):
        rendering = {name: value for name, value in RENDERING.items() if name != "plane_axes"}
        kwargs = {name: value for name, value in ARGUMENTS.items() if name != "plane_resolution"}
        kwargs |= dict(
            triplane_resolution=16,
            triplane_channels=96,
            triplane_act=None,
            blur_plane=0,
            decoder_output_dim=32,
            neural_rendering_resolution=64,
            depth_guided_sample=0,
            roll_out=None,
            aware3d_res=[4, 8, 16],
            aware3d_att=False,
            retidx=[-3, -1] if stage == 2 else None,
            add_block=0,
            add_sr_module=False,
            rendering_kwargs=rendering,
            newer_option=3,  # of a version that nobody has seen
        )
        tensors = {
            name: tensor
            for name, tensor in state.items()
            if stage == 2 or not any(part in name for part in SECOND)
        }
        attributes = dict(neural_rendering_resolution=32, rendering_kwargs=rendering)
        network = StandIn(CLASSES[stage].__name__, tensors, kwargs | changes, attributes)
        return published_bytes(dict(training_set_kwargs=None, G_ema=network, augment_pipe=None))

    return make


def pictures(G, recorded, monkeypatch, **kwargs):
    latents = recorded["ws"][:, None].expand(-1, G.backbone.num_ws, -1)
    with recorded_draws(monkeypatch), torch.no_grad():
        return G.synthesis(latents, recorded["c"], noise_mode="const", **kwargs)


@pytest.mark.filterwarnings("ignore:.*without a meaning here. newer_option")
@pytest.mark.parametrize("stage", CLASSES)
def test_pictures_are_the_recorded_ones(stage, snapshot, recorded, assert_scaled, monkeypatch):
    G = eg3d.load(io.BytesIO(snapshot(stage)), device="cpu").generator
    assert type(G) is CLASSES[stage] and G.rendering_kwargs["plane_axes"] == "cyclic"
    found = pictures(G, recorded, monkeypatch)
    assert_scaled(found["image"][..., ::2, 1::2], recorded["image"])
    assert_scaled(found["image_raw"], recorded["image_raw"])
    assert_scaled(found["image_depth"], recorded["image_depth"])
    if stage == 2:
        found = pictures(G, recorded, monkeypatch, coarse=0)
        assert_scaled(found["image"][..., ::3, ::3], recorded["image3d"])


@persistence.persistent_class
class Part(torch.nn.Module):
    """Stands for all networks inside of another one."""


@pytest.mark.filterwarnings("ignore:.*without a meaning here. newer_option")
@pytest.mark.parametrize("stage", CLASSES)
def test_plain_unpickling_gives_the_same(stage, snapshot, recorded, monkeypatch):
    """Whatever the networks inside have kept beside their tensors."""
    data = snapshot(stage)
    with persistence.allow_classes({"Part": Part}):
        G = pickle.loads(data)["G_ema"]
    expected = eg3d.load(io.BytesIO(data), device="cpu").generator
    assert type(G) is CLASSES[stage] and not G.training
    assert torch.equal(G.renderer.plane_axes, generate_planes("cyclic"))
    found, expected = (pictures(network, recorded, monkeypatch) for network in (G, expected))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.filterwarnings("ignore:.*numpy.core:DeprecationWarning")
def test_plain_unpickling_needs_no_more_than_eg3ds_networks_keep(state, recorded, monkeypatch):
    """Of the planes' exchange and axes the networks inside say nothing here."""
    sizes = dict(ARGUMENTS, triplane_resolution=16, triplane_channels=96)
    rendering = {name: value for name, value in RENDERING.items() if name != "plane_axes"}
    G = DualTriPlaneGenerator(**sizes, rendering_kwargs=rendering).eval()
    G.load_state_dict(state)
    own = dict(DualTriPlaneGenerator=ATTRIBUTES["TriPlaneGenerator"])
    for name, attributes in dict(own, Aware3DBlock=(), ImportanceRenderer=()).items():
        monkeypatch.setitem(ATTRIBUTES, name, attributes)
    twin = pickle.loads(published_bytes(dict(G_ema=G)))["G_ema"]
    for branch in (0, 1):
        found, expected = (pictures(g, recorded, monkeypatch, coarse=branch) for g in (twin, G))
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_plain_unpickling_refuses_what_cannot_be_imported(snapshot):
    with persistence.allow_classes({"Part": Part}):
        with pytest.raises(pickle.UnpicklingError, match="blur_plane is '2'; only 0"):
            pickle.loads(snapshot(2, blur_plane=2))


def test_only_what_nobody_knows_is_warned_of(snapshot):
    content = read_networks(io.BytesIO(snapshot(2)))
    with pytest.warns(UserWarning, match=r"without a meaning here: newer_option$"):
        content.build("G_ema")


@pytest.mark.filterwarnings("ignore:.*without a meaning here. newer_option")
@pytest.mark.parametrize("published, ours", [(None, None), ("tanh", "tanh"), (False, "sigmoid")])
def test_activation(published, ours, snapshot):
    content = read_networks(io.BytesIO(snapshot(2, triplane_act=published)))
    assert content.build("G_ema").triplane_act == ours


@pytest.mark.filterwarnings("ignore:.*without a meaning here. newer_option")
def test_what_cannot_be_imported_is_one_line(snapshot):
    for stage, changes, words in (
        (2, dict(blur_plane=2), "blur_plane is '2'; only 0"),
        (1, dict(decoder_output_dim=3), "decoder_output_dim is '3'; only 32"),
        (1, dict(triplane_act="tanh"), "triplane_act and depth_guided_sample of stage 1"),
        (1, dict(rendering_kwargs=5), "rendering_kwargs are missing"),
    ):
        with pytest.raises(NetworkFileError, match=words):
            read_networks(io.BytesIO(snapshot(stage, **changes)))


def test_files_of_plain_networks_are_left_alone(state):
    """Without the arguments of Mimic3D a TriPlaneGenerator stays what it says."""
    kwargs = dict(ARGUMENTS, rendering_kwargs=dict(RENDERING, plane_axes="legacy"))
    network = StandIn("TriPlaneGenerator", state, kwargs, {})
    record = read_networks(io.BytesIO(published_bytes(dict(G_ema=network)))).record("G_ema")
    assert record.init_kwargs == kwargs
