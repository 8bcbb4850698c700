"""What users take home, the training that is followed, and the cameras of a data set."""

import io
import json
import time
import zipfile

import numpy as np
import PIL.Image
import pytest
import torch
import trimesh

from eg3d import trajectories, video
from eg3d.errors import InputError
from eg3d.viewer import exports, posed_pictures, runs, viewpoint
from eg3d.viewer.session import Session


@pytest.fixture
def session(studio):
    session = Session(studio, lambda frame: None)
    yield session
    session.close()


def test_named_paths_are_those_of_the_library(session, state):
    model = session.model(state)
    found = exports.path(model, state.with_(path="spiral", frames=7, fov=30.0))
    expected = trajectories.named(model.with_fov(30.0), "spiral", 7, up="y")
    torch.testing.assert_close(found.label(), expected.label())


def test_keyframes_are_met_pose_and_lens(session, state):
    model = session.model(state)
    keys = [
        viewpoint.turned(model.with_fov(fov), state, yaw, 0.1).label()[0].tolist()
        for yaw, fov in ((-0.5, 20.0), (0.1, 30.0), (0.6, 25.0))
    ]
    state = state.with_(keyframes=tuple(map(tuple, keys)), path="keyframes", frames=5)
    cameras = exports.path(model, state)
    torch.testing.assert_close(cameras.label()[::2], torch.tensor(keys), atol=2e-5, rtol=1e-4)
    assert exports.through(state, cameras[2]).fov == pytest.approx(30, abs=1e-3)
    with pytest.raises(InputError, match="there are none yet"):
        exports.path(model, state.with_(keyframes=()))


def test_a_film_has_the_pictures_of_its_cameras(session, state, monkeypatch):
    written, shares = [], []
    monkeypatch.setattr(video, "write_video", lambda path, frames, fps: write(path, frames, fps))

    def write(path, frames, fps):
        written.extend(frames)
        path.write_bytes(f"{path.suffix} {fps:g}".encode())

    state = state.with_(frames=3, fps=12.0, path="orbit")
    assert exports.film(session, state, "gif", shares.append) == b".gif 12"
    cameras = exports.path(session.model(state), state)
    third = exports.through(state, cameras[2])
    assert shares == [0, 1 / 3, 2 / 3] and len(written) == 3
    assert np.array_equal(written[2], session.draw(third).picture.pixels)
    assert not np.array_equal(written[0], written[2])


def test_a_mesh_is_the_surface_in_world_units(session, state):
    model = session.model(state)
    content = exports.mesh(session, model, state, 24, "ply")
    found = trimesh.load(io.BytesIO(content), file_type="ply")
    expected = session.surface(model, state, 24)
    assert len(found.faces) == len(expected.faces)
    assert np.abs(found.bounds).max() <= model.rendering_kwargs["box_warp"] / 2 + 0.05


def test_pictures_and_numbers_of_captures(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    again = PIL.Image.open(io.BytesIO(exports.png(picture)))
    assert np.array_equal(np.asarray(again), picture)
    assert exports.next_capture(tmp_path) == 1
    for name in ("00004.png", "12_x.mp4", "x99.png"):
        (tmp_path / name).touch()
    assert exports.next_capture(tmp_path) == 13


# -- A training --------------------------------------------------------------------------------


def test_curves_of_a_training_with_a_half_written_line(tmp_path):
    lines = [
        {"Progress/kimg": {"mean": k}, "Loss/a": {"mean": 2 * k}, "b": {"mean": None}, "t": 5}
        for k in (0, 1, 2)
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"Progress/ki'
    (tmp_path / runs.STATISTICS).write_text(text)
    found = runs.curves(tmp_path)
    assert set(found) == {"Progress/kimg", "Loss/a"}
    assert found["Loss/a"][0].tolist() == [0, 1, 2] and found["Loss/a"][1].tolist() == [0, 2, 4]
    assert runs.curves(tmp_path / "nowhere") == {}


def test_each_new_snapshot_is_found_once(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "EVERY", 0.01)
    found = []
    follower = runs.Follower(tmp_path, found.append)
    for name in ("network-snapshot-000000.pkl", "network-snapshot-000002.pkl"):
        (tmp_path / name).touch()
        end = time.monotonic() + 5
        while not found or found[-1] != str(tmp_path / name):
            assert time.monotonic() < end
            time.sleep(0.005)
    time.sleep(0.05)
    follower.close()
    assert [path[-10:-4] for path in found] == ["000000", "000002"]


# -- Cameras of a data set -----------------------------------------------------------------------

LABEL = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.5, 0, 0, 0, 1, 4, 0, 0.5, 0, 4, 0.5, 0, 0, 1]


def write_set(path, labels, pictures=None):
    with zipfile.ZipFile(path, "w") as file:
        for name, _ in labels if pictures is None else pictures:
            content = io.BytesIO()
            PIL.Image.new("RGB", (100, 50), (int(name[:2]), 0, 0)).save(content, "PNG")
            file.writestr(name, content.getvalue())
        file.writestr("dataset.json", json.dumps({"labels": labels}))
    return str(path)


def test_posed_pictures_are_evenly_spaced_and_small(tmp_path):
    labels = [[f"{i:02d}.png", [*LABEL[:3], i / 10, *LABEL[4:]]] for i in range(10)]
    path = write_set(tmp_path / "a.zip", labels)
    found = posed_pictures.read(path, 5, side=20)
    assert [each.name for each in found] == ["00.png", "02.png", "04.png", "06.png", "08.png"]
    assert found[2].pixels.shape == (10, 20, 3) and found[2].pixels[0, 0].tolist() == [4, 0, 0]
    torch.testing.assert_close(found[2].camera.label(), torch.tensor([labels[4][1]]))
    assert len(posed_pictures.read(path, 99)) == 10
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "folder")
    folder = posed_pictures.read(str(tmp_path / "folder"), 5, side=20)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found, folder, strict=True))


@pytest.mark.parametrize(
    "labels, words",
    [
        ([["00.png", LABEL[:24]]], "00.png: camera label has shape"),
        ([["00.png", None]], "00.png"),
        ([["00.png", [float("nan"), *LABEL[1:]]]], "00.png: camera label has a value"),
        ([["gone.png", LABEL]], "has no gone.png"),
        ([["../00.png", LABEL]], "has no ../00.png"),
        (5, "no list of labels"),
        ([5], "no list of labels"),
    ],
)
def test_bad_data_sets_are_refused_in_one_line(tmp_path, labels, words):
    path = write_set(tmp_path / "a.zip", labels, [["00.png", 0]])
    folder = tmp_path / "folder"
    with zipfile.ZipFile(path) as file:
        file.extractall(folder)
    for source in (path, str(folder)):
        with pytest.raises(InputError) as caught:
            posed_pictures.read(source, 5)
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_data_set_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"nothing")
    for name in ("a.zip", "gone.zip", ""):
        with pytest.raises(InputError, match="dataset.json|a data set"):
            posed_pictures.read(str(tmp_path / name), 5)
