"""Each control of the panels does what it says: in the client's state and on the screen."""

import json
import time

import numpy as np
import PIL.Image
import pytest
import trimesh

from eg3d.viewer.state import ViewState
from tests.viewer_browser.pages import wait_for

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def shared(chromium, viewer):
    """One page for all tests here; each starts from the first state."""
    from tests.viewer_browser.pages import SIZE, Page

    context = chromium.new_context(viewport={**SIZE, "height": 1500}, accept_downloads=True)
    yield Page(context.new_page(), viewer)
    context.close()


@pytest.fixture
def page(shared, viewer):
    shared.client.load(viewer.first_state())
    shared.settle()
    return shared


def became(page, **settings):
    """Waits until the state has these settings and is drawn."""
    state = page.client.state
    wait_for(lambda: all(getattr(page.client.state, k) == v for k, v in settings.items()), 10)
    page.settle()
    return state


def open_folder(page, name):
    page.page.get_by_text(name, exact=True).first.click()
    time.sleep(0.4)


def test_latents(page):
    page.tab("Object")
    before = page.pixels()
    page.type("Seed", 5)
    became(page, seed=5)
    assert np.abs(page.pixels() - before).mean() > 2
    page.click("next")
    became(page, seed=6)
    page.click("back")
    became(page, seed=5)
    page.type("Walk x", 0.5)
    became(page, dx=0.5)
    page.type("Walk y", -1)
    became(page, dy=-1.0)
    page.click("snap")
    became(page, seed=5 - 100 + 2**32, dx=0.0, dy=0.0)
    page.click("reset")
    became(page, seed=0)
    page.type("Psi", 0.25)
    became(page, psi=0.25)
    page.type("Cutoff", 3)
    became(page, cutoff=3)
    page.type("Cutoff", page.client.model.num_ws)
    became(page, cutoff=None)
    page.choose("Noise", "none")
    became(page, noise="none")
    page.type("Noise seed", 7)
    became(page, noise_seed=7)
    page.click("reset truncation and noise")
    became(page, psi=0.7, noise="const", noise_seed=0)


def test_animation(page):
    page.tab("Object")
    page.type("Speed", 5)
    page.tick("Animate")
    wait_for(lambda: page.client.state.seed >= 2)
    page.tick("Animate")
    time.sleep(0.3)
    seed = page.client.state.seed, page.client.state.dx
    time.sleep(0.3)
    assert (page.client.state.seed, page.client.state.dx) == seed


def test_styles(page):
    page.tab("Object")
    for name in ("Blend", "Style mixing"):
        open_folder(page, name)
    page.type("To seed", 9)
    page.type("Share", 0.5)
    became(page, blend_seed=9, blend=0.5)
    page.type("From seed", 4)
    page.tick("layer 1")
    became(page, mix_seed=4, mix_layers=(1,))
    page.tick("Animate seed")
    wait_for(lambda: page.client.state.mix_seed > 5)
    page.tick("Animate seed")
    page.click("first half")
    became(page, mix_layers=(0, 1, 2))
    page.click("none")
    became(page, mix_layers=())


def test_camera(page):
    page.tab("View")
    page.type("Yaw", 0.37)
    wait_for(lambda: page.client.state.camera[3] > 0.9)
    page.settle()
    page.click("snap")
    page.settle()
    assert float(page.row("Yaw").input_value()) == pytest.approx(0.4, abs=2e-3)
    page.click("reset")
    wait_for(lambda: abs(page.client.state.camera[3]) < 1e-3)
    page.choose("Point", "ShapeNet")
    became(page, target=(0.0, 0.0, 0.0))
    page.type("Field of view", 40)
    became(page, fov=40.0)
    page.type("Field of view", 40.4)
    page.click("snap", 1)
    became(page, fov=40.0)
    page.click("reset", 1)
    became(page, fov=None)
    page.choose("Made for", "these angles")
    became(page, conditioning="free")
    page.type("Yaw", 0.52, 1)
    page.type("Pitch", -0.2, 1)
    became(page, cond_yaw=0.52, cond_pitch=-0.2)
    page.click("snap", 2)
    became(page, cond_yaw=0.5)
    page.click("reset", 2)
    became(page, cond_yaw=0.0, cond_pitch=0.0)
    page.choose("Up", "z")
    became(page, up="z")


def test_picture(page):
    page.tab("Picture")
    for name, view in (("depth", "depth"), ("normals", "normals"), ("tri-planes", "planes")):
        before = page.pixels()
        page.choose("Show", name)
        became(page, view=view)
        assert np.abs(page.pixels() - before).mean() > 2
    page.choose("Show", "picture")
    page.type("Resolution", 24)
    page.choose("Samples", "x 2")
    page.choose("Importance", "x 0.5")
    became(page, view="image", resolution=24, coarse=2.0, fine=0.5)
    page.click("reset")
    became(page, resolution=None, coarse=1.0, fine=1.0)
    page.tick("Keep planes")
    page.tick("Full precision")
    became(page, cache_planes=False, full_precision=True)
    open_folder(page, "Side by side")
    page.choose("Beside it", "another seed")
    page.type("Other seed", 8)
    became(page, compare="seed", compare_seed=8)
    assert page.client.frame.picture.pixels.shape == (64, 128, 3)
    page.type("Other model", page.client.state.network)
    page.click("Compare with the other model")
    became(page, compare="model", compare_network=page.client.state.network)


def test_layers(page):
    page.tab("Layers")
    page.choose("Output of", "superresolution.block0.conv0  8 x 32 x 32 float32")
    became(page, layer="superresolution.block0.conv0")
    assert page.client.frame.picture.pixels.shape == (32, 32, 3)
    page.page.get_by_text("deviation", exact=True).wait_for()
    page.tick("One channel")
    page.type("Channel", 3)
    page.tick("Normalize")
    page.type("Gain (dB)", 6)
    became(page, layer_grey=True, layer_channel=3, layer_normalize=True, layer_gain=6.0)
    page.tick("Show")
    page.type("Range (dB)", 30)
    page.type("Kaiser beta", 4)
    page.tick("All channels")
    became(page, fft=True, fft_range=30.0, fft_beta=4.0, fft_all=False)
    assert page.client.frame.picture.pixels.shape == (32, 64, 3)
    page.click("reset spectrum")
    page.click("reset")
    became(page, fft=False, layer_grey=False, layer_channel=0, layer_gain=0.0)
    page.choose("Output of", "the picture")
    became(page, layer="")


def test_scene(page, tmp_path):
    # Compiling what draws surfaces takes a browser without a GPU half a minute, once.
    page.page.set_default_timeout(90000)
    page.tab("Scene")
    page.type("Resolution", 16)
    page.choose("As", "solid")
    page.click("show")
    scene = page.client.handle.scene
    wait_for(lambda: scene.get_handle_by_name("/surface") is not None)
    page.click("hide")
    wait_for(lambda: scene.get_handle_by_name("/surface") is None)
    label = [*np.diag([1.0, -1, -1, 1]).flatten().tolist(), 4, 0, 0.5, 0, 4, 0.5, 0, 0, 1]
    label[11] = 2.5
    PIL.Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "a.png")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [["a.png", label]]}))
    page.type("Data set", tmp_path)
    page.click("show cameras")
    wait_for(lambda: scene.get_handle_by_name("/cameras/0") is not None)
    page.click("hide", 1)
    wait_for(lambda: scene.get_handle_by_name("/cameras/0") is None)
    page.type("Data set", tmp_path / "gone.zip")
    page.click("show cameras")
    page.page.get_by_text("gone.zip").first.wait_for()


def download(page, action):
    with page.page.expect_download(timeout=30000) as found:
        action()
    return found.value.path(), found.value.suggested_filename


def test_files_to_take_home(page):
    page.tab("Save")
    path, name = download(page, lambda: page.click("save picture"))
    assert name == "seed0000.png"
    expected = page.client.session.draw(page.client.state).picture.pixels
    assert np.array_equal(np.asarray(PIL.Image.open(path)), expected)
    path, name = download(page, lambda: page.click("save page"))
    assert name == "page.png" and np.asarray(PIL.Image.open(path)).std() > 5
    page.type("Resolution", 32)
    path, name = download(page, lambda: page.click("Save mesh"))
    assert name == "seed0000.glb" and len(trimesh.load(path, file_type="glb").geometry) == 1


def test_video_through_keyframes(page):
    page.tab("Save")
    for yaw in (0.0, 0.4):
        page.tab("View")
        page.type("Yaw", yaw)
        page.settle()
        page.tab("Save")
        page.click("add keyframe")
    became(page, path="keyframes")
    assert len(page.client.state.keyframes) == 2
    page.type("Frames", 5)
    page.type("A second", 10)
    path, name = download(page, lambda: page.click("save video"))
    assert name == "seed0000_keyframes.mp4" and path.read_bytes()[4:8] == b"ftyp"
    page.click("remove all")
    became(page, keyframes=(), path="orbit")


def test_session_to_file_and_back(page, tmp_path):
    page.client.change(seed=12, psi=0.3, mix_layers=(0, 2))
    page.settle()
    page.tab("Save")
    path, name = download(page, lambda: page.click("Save session"))
    saved = path.read_bytes()
    assert ViewState.from_json(saved) == page.client.state and name.endswith(".json")
    page.client.load(ViewState(network=page.client.state.network))
    page.settle()
    page.upload("Load session", "s.json", saved)
    became(page, seed=12, psi=0.3, mix_layers=(0, 2))
    page.tab("Object")
    assert page.row("Seed").input_value() == "12"
    page.tab("Save")
    page.upload("Load session", "bad.json", b"{}")
    page.page.get_by_text("bad.json: session").first.wait_for()


def test_upload_of_a_model(page, snapshot):
    page.tab("Object")
    first = page.client.state.network
    page.upload("Upload a snapshot", "mine.pkl", snapshot.read_bytes())
    wait_for(lambda: "mine" in page.client.state.network)
    page.settle()
    assert page.client.state.network != first
    page.upload("Upload a snapshot", "mine.txt", b"text")
    page.page.get_by_text("mine.txt: must be").first.wait_for()


def test_information(page):
    page.tab("Picture")
    page.type("Most frames a second", 20)
    became(page, most_fps=20.0)
    page.page.get_by_text("16 x 16 rays, 6 + 6").wait_for()
