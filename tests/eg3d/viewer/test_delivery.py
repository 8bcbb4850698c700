"""Frames to a browser: one on its way, the newest next, smaller where the way is slow."""

import threading
import time

import numpy as np
import pytest

from eg3d.viewer.delivery import FINAL, LADDER, Bandwidth, Delivery, shrunk
from eg3d.viewer.jobs import Jobs
from eg3d.viewer.session import Frame
from eg3d.viewer.state import ViewState


def frames(count, **settings):
    return [Frame(ViewState(seed=seed, most_fps=1000, **settings)) for seed in range(count)]


def test_the_newest_frame_follows_the_one_that_arrived():
    sent, arrived = [], threading.Semaphore(0)
    delivery = Delivery(lambda frame, encoding: sent.append(frame), arrived.acquire)
    many = frames(100)
    delivery.put(many[0])
    while not sent:
        time.sleep(0.005)
    for frame in many[1:]:
        delivery.put(frame)
    time.sleep(0.05)
    assert sent == many[:1]  # nothing more while it is on its way
    arrived.release(100)
    while len(sent) < 2:
        time.sleep(0.005)
    time.sleep(0.05)
    delivery.close()
    assert sent == [many[0], many[99]]


def test_slow_ways_get_smaller_frames_and_final_ones_stay_good():
    bandwidth = Bandwidth()
    for _ in range(10):
        bandwidth.note(0.5)
    assert bandwidth.encoding == LADDER[-1]
    for _ in range(10):
        bandwidth.note(0.01)
    assert bandwidth.encoding == LADDER[0]
    used = []
    delivery = Delivery(lambda frame, encoding: used.append(encoding), lambda: time.sleep(0.15))
    for final in (False, False, True):
        delivery.put(Frame(ViewState(), final=final))
        time.sleep(0.25)
    delivery.close()
    assert used == [LADDER[0], LADDER[1], FINAL]


def test_frames_a_second_are_limited_and_errors_end_nothing(capsys):
    times = []

    def send(frame, encoding):
        times.append(time.monotonic())
        raise RuntimeError("gone")

    delivery = Delivery(send, lambda: None)
    frame = Frame(ViewState(most_fps=20))
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        delivery.put(frame)
        time.sleep(0.002)
    delivery.close()
    assert 4 <= len(times) <= 10 and min(np.diff(times)) > 0.04
    assert "gone" in capsys.readouterr().err


def test_shrunk():
    picture = np.random.default_rng(0).integers(0, 256, (64, 128, 3)).astype(np.uint8)
    assert shrunk(picture, 64) is picture
    assert shrunk(picture, 16).shape == (16, 32, 3)


@pytest.fixture
def told():
    return []


@pytest.fixture
def jobs(told):
    return Jobs(lambda *message: told.append(message))


def done(jobs):
    end = time.monotonic() + 5
    while jobs.done is not None:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_one_job_at_a_time_with_progress(jobs, told):
    go, shares = threading.Event(), []
    jobs.start("first", lambda report: (go.wait(5), report(0.5)), shares.append)
    with pytest.raises(ValueError, match="still busy: first"):
        jobs.start("second", lambda report: None)
    go.set()
    done(jobs)
    assert shares == [0.0, 0.5, None] and told == []
    jobs.start("second", lambda report: None)
    done(jobs)


def test_jobs_stop_and_fail_with_a_message(jobs, told, capsys):
    def endless(report):
        while True:
            report(0.1)
            time.sleep(0.002)

    jobs.start("endless", endless)
    jobs.stop()
    done(jobs)
    jobs.start("failing", lambda report: 1 / 0)
    done(jobs)
    assert [message[0] for message in told] == ["Stopped", "Something went wrong"]
    assert "ZeroDivisionError" in told[1][1] and "ZeroDivisionError" in capsys.readouterr().err
