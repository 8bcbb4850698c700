"""The robot is a browser to the viewer: it sees what the session draws, and counts what it is to.

So most of what a page and its server do together is tested here without a browser.
"""

import threading
import time

import numpy as np
import pytest

pytest.importorskip("viser")

from benchmarks.viewer import first_frames, moving  # noqa: E402
from benchmarks.viewer_robot import Robot  # noqa: E402
from eg3d.viewer import runs, viewpoint  # noqa: E402
from eg3d.viewer.app import Options, Viewer  # noqa: E402
from eg3d.viewer.state import ViewState  # noqa: E402
from eg3d.viewer.studio import Studio  # noqa: E402
from tests.eg3d import conftest as tiny  # noqa: E402

generator = tiny.generator
snapshot = tiny.snapshot


@pytest.fixture(scope="module")
def viewer(snapshot):
    viewer = Viewer(Options((str(snapshot),), port=0), Studio("cpu"))
    yield viewer
    viewer.stop()


@pytest.fixture
def open_robot(viewer):
    """`open_robot()` -> a robot that got its first pictures, and the client that serves it."""
    robots = []

    def make(**settings):
        known = set(viewer.clients())
        robots.append(Robot(viewer.port, canvas=(300, 200), **settings))
        robots[-1].look(0.0)
        robots[-1].wait_for(lambda: set(viewer.clients()) - known)
        (number,) = set(viewer.clients()) - known
        robots[-1].wait_for_rest(0.4)
        return robots[-1], viewer.clients()[number]

    yield make
    for robot in robots:
        robot.close()
    end = time.monotonic() + 10
    while viewer.clients():
        assert time.monotonic() < end
        time.sleep(0.01)


def settle(robot, client):
    """Waits until the frame of the client's state is there, at full quality."""
    robot.wait_for(lambda: client.frame.final and client.frame.state == client.state)
    time.sleep(0.2)
    robot.wait_for_rest(0.3)


def expected(client):
    """The frame of the client's state, as it is framed."""
    pixels = client.session.draw(client.state).picture.pixels
    return viewpoint.letterbox(viewpoint.enlarged(pixels, 512), client.canvas).astype(float)


def test_turning_the_camera_shows_that_view(open_robot):
    robot, client = open_robot()
    before = robot.frames[-1].pixels.astype(float)
    robot.look(0.8, 0.2, radius=2.5)
    robot.wait_for(lambda: client.state.camera[3] > 1)
    settle(robot, client)
    after = robot.frames[-1].pixels.astype(float)
    assert after.shape == expected(client).shape == (512, 768, 3)
    assert np.abs(after - expected(client)).mean() < 3 < np.abs(after - before).mean()
    yaw, _, distance = viewpoint.angles(viewpoint.camera(client.model, client.state))
    assert (yaw, distance) == pytest.approx((0.8, 2.5), abs=1e-3)


def test_two_browsers_have_two_states(open_robot):
    (robot, client), (other, second) = open_robot(), open_robot()
    count = len(other.frames)
    client.change(seed=7)
    robot.look(1.0)
    robot.wait_for(lambda: client.frame.final and client.frame.state.seed == 7)
    assert second.state.seed == 0 and len(other.frames) == count


def test_200_changes_end_with_the_last_and_queue_nothing(open_robot):
    robot, client = open_robot(mbit=2.0)
    buffer = client.handle._websock_connection.get_message_buffer()
    longest, count = 0, len(robot.frames)
    for seed in range(200):
        client.change(seed=seed, psi=1.0)
        longest = max(longest, len(buffer.message_from_id))
        time.sleep(0.002)
    settle(robot, client)
    assert client.state.seed == 199
    assert np.abs(robot.frames[-1].pixels - expected(client)).mean() < 3
    assert longest < 20 and not buffer.message_from_id
    assert len(robot.frames) - count < 60  # the way carries few


def test_30_browsers_leave_no_thread(open_robot, viewer):
    open_robot()
    before = threading.active_count()
    for _ in range(3):
        robots = [Robot(viewer.port) for _ in range(10)]
        for robot in robots:
            robot.look(0.0)
        robots[0].wait_for(lambda: len(viewer.clients()) == 11)
        for robot in robots:
            robot.close()
        robots[0].wait_for(lambda: len(viewer.clients()) == 1)
    robots[0].wait_for(lambda: threading.active_count() <= before)


def test_a_broken_model_leaves_the_picture_and_says_so(open_robot, tmp_path, viewer):
    robot, client = open_robot()
    good = client.state.network
    client.change(network=str(tmp_path / "gone.pkl"))
    robot.wait_for(lambda: any("gone.pkl" in str(m) for m in robot.messages))
    robot.wait_for(lambda: client.state.network == good)
    client.change(seed=3)
    robot.wait_for(lambda: client.frame.final and client.frame.state.seed == 3)


def test_a_followed_training_shows_each_new_snapshot(snapshot, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "EVERY", 0.1)
    viewer = Viewer(Options(run=tmp_path, port=0), Studio("cpu"))
    robot = Robot(viewer.port)
    try:
        robot.look(0.0)
        robot.wait_for(lambda: viewer.clients())
        (client,) = viewer.clients().values()
        assert client.state.network == "" and robot.frames == []
        for name in ("network-snapshot-000001.pkl", "network-snapshot-000002.pkl"):
            (tmp_path / name).write_bytes(snapshot.read_bytes())
            robot.wait_for(lambda: client.frame and client.frame.state.network.endswith(name))  # noqa: B023
        client.change(follow=False)
        (tmp_path / "network-snapshot-000003.pkl").write_bytes(snapshot.read_bytes())
        robot.wait_for(lambda: any("000003" in str(m) for m in robot.messages))
        assert client.state.network.endswith("000002.pkl")
    finally:
        robot.close()
        viewer.stop()


def test_numbers_of_the_benchmark(open_robot):
    robot, client = open_robot()
    numbers = moving(robot, client, 0.6)
    assert 2 < numbers["frames_per_second"] < 100
    assert 0 < numbers["median_ms"] <= numbers["p95_ms"] < 3000 and numbers["kilobytes"] > 0.5
    first, still = first_frames(robot, 1)
    assert 0 < first["median_ms"] < still["median_ms"]


def test_a_saved_session_starts_with_its_camera(snapshot):
    model = Studio("cpu").model(str(snapshot))
    pose = viewpoint.turned(model, ViewState(), 0.5, -0.3).cam2world[0].flatten().tolist()
    options = Options((str(snapshot),), port=0, state=ViewState(camera=tuple(pose), seed=4))
    viewer = Viewer(options, Studio("cpu"))
    robot = Robot(viewer.port)
    try:
        robot.look(0.0)
        robot.wait_for_rest(0.4)
        (client,) = viewer.clients().values()
        assert client.state.camera == pytest.approx(pose, abs=1e-6) and client.state.seed == 4
        sent = [m["position"] for m in robot.messages if m["type"] == "SetCameraPositionMessage"]
        assert sent[-1] == pytest.approx(pose[3:12:4], abs=1e-5)
    finally:
        robot.close()
        viewer.stop()


def test_an_upload_that_is_too_large_is_dropped_and_said(open_robot, viewer):
    robot, client = open_robot()
    (button,) = [
        message["uuid"]
        for message in robot.messages
        if message["type"] == "GuiUploadButtonMessage" and "snapshot" in str(message["props"])
    ]
    for name, size in (("small.pkl", 1000), ("large.pkl", viewer.most_upload_bytes)):
        robot.tell(
            type="FileTransferStartUpload",
            source_component_uuid=button,
            transfer_uuid=name,
            filename=name,
            mime_type="",
            part_count=9,
            size_bytes=size,
        )
    robot.wait_for(lambda: any("large.pkl: uploads" in str(m) for m in robot.messages))
    assert list(client.handle.gui._current_file_upload_states) == ["small.pkl"]
