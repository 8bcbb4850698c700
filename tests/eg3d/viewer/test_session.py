"""A session without a browser: the newest state wins, coarse first, then fine; errors show."""

import threading
import time

import numpy as np
import pytest

from eg3d.errors import InputError
from eg3d.viewer.latest import Latest
from eg3d.viewer.painter import Painter
from eg3d.viewer.session import FULL, LADDER, Pace, Session, beside
from eg3d.viewer.studio import Studio


class Audience:
    """Keeps the frames of a session."""

    def __init__(self):
        self.frames = []
        self.changed = threading.Condition()

    def __call__(self, frame):
        with self.changed:
            self.frames.append(frame)
            self.changed.notify_all()

    def wait(self, condition, seconds=20):
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.frames), seconds), self.frames
        return self.frames

    def final(self, state):
        """The final frame of a state."""
        done = lambda frames: any(f.final and f.state == state for f in frames)  # noqa: E731
        return [f for f in self.wait(done) if f.final and f.state == state][-1]


@pytest.fixture
def audience():
    return Audience()


@pytest.fixture
def session(studio, audience):
    session = Session(studio, audience, settled=0.05)
    yield session
    session.close()


def test_a_state_is_drawn_coarsely_then_as_it_says(session, audience, studio, state):
    session.show(state)
    last = audience.final(state)
    shown = [f for f in audience.frames if f.picture is not None]
    assert [f.final for f in shown] == [False, True]
    assert not shown[0].failed and shown[0].state == state
    expected = Painter().paint(studio.model(state.network), state)
    assert np.array_equal(last.picture.pixels, expected.pixels)


def test_the_newest_state_wins(session, audience, state, monkeypatch):
    going, drawn = threading.Event(), []
    paint = session.painter.paint

    def slow(model, state, detail):
        drawn.append(state.seed)
        going.wait(10)
        return paint(model, state, detail)

    monkeypatch.setattr(session.painter, "paint", slow)
    session.show(state)
    while not drawn:
        time.sleep(0.01)
    for seed in range(1, 200):
        session.show(state.with_(seed=seed))
    going.set()
    audience.final(state.with_(seed=199))
    assert sorted(set(drawn)) == [0, 199]


def test_a_broken_file_is_a_message_and_the_session_goes_on(session, audience, state, tmp_path):
    broken = tmp_path / "broken.pkl"
    broken.write_bytes(b"\x80\x04nonsense")
    wrong = state.with_(network=str(broken))
    session.show(wrong)
    frame = audience.final(wrong)
    assert frame.failed and "broken.pkl" in frame.message and "\n" not in frame.message
    session.show(state)
    assert audience.final(state).picture is not None


def test_a_crash_is_a_message_and_the_session_goes_on(
    session, audience, state, monkeypatch, capsys
):
    def crash(*_):
        raise RuntimeError("out of order\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(session.painter, "paint", crash)
        session.show(state)
        frame = audience.final(state)
    assert frame.failed and frame.message == "RuntimeError: out of order"
    assert "Traceback" in capsys.readouterr().err
    session.show(state.with_(seed=1))
    assert audience.final(state.with_(seed=1)).picture is not None


def test_nothing_is_left_running():
    before = threading.active_count()
    sessions = [Session(Studio("cpu"), lambda frame: None) for _ in range(5)]
    assert threading.active_count() == before + 5
    for session in sessions:
        session.close()
    assert threading.active_count() == before


def test_comparison_shows_both_sides(session, state, studio, tmp_path, snapshot):
    left = session.draw(state).picture.pixels
    right = session.draw(state.with_(seed=8)).picture.pixels
    both = state.with_(compare="seed", compare_seed=8, seed=0)
    found = session.draw(both).picture.pixels
    assert np.array_equal(found, np.concatenate([left, right], axis=1))
    other = tmp_path / "other.pkl"
    other.write_bytes(snapshot.read_bytes())
    both = state.with_(compare="model", compare_network=str(other))
    found = session.draw(both).picture.pixels
    assert np.array_equal(found, np.concatenate([left, left], axis=1))
    with pytest.raises(InputError, match="gone.pkl"):
        session.draw(state.with_(compare="model", compare_network="gone.pkl"))


def test_sides_of_different_heights_are_made_alike(session, state):
    large = session.draw(state).picture
    small = session.draw(state.with_(view="raw")).picture
    assert beside(large, small).pixels.shape == (64, 128, 3)
    assert beside(small, large).pixels.shape == (64, 128, 3)


def test_pace_finds_the_rung_that_keeps_the_goal():
    now = [0.0]
    pace = Pace(goal=0.1, clock=lambda: now[0])

    def seconds(detail):  # a machine on which pictures take as long as they have samples
        return 0.8 * detail.resolution**2 * detail.samples

    for _ in range(20):
        pace.note(seconds(pace.detail))
    assert seconds(pace.detail) <= 0.1
    assert seconds(LADDER[LADDER.index(pace.detail) - 1]) > 0.1
    for _ in range(20):
        now[0] += 1
        pace.note(0.001)
    assert pace.detail == FULL


def test_pace_does_not_try_slow_rungs_again_and_again():
    now = [0.0]
    pace = Pace(goal=0.1, clock=lambda: now[0])
    slow = 0
    for _ in range(600):  # super-resolution takes long, all else nothing: 6 seconds
        now[0] += 0.01
        slow += pace.detail.refine
        pace.note(0.5 if pace.detail.refine else 0.001)
    assert 4 <= slow <= 12


def test_latest_hands_over_the_newest_once():
    place = Latest()
    assert not place.wait(0.01)
    place.put(1)
    place.put(2)
    assert place.wait(0.01) and place.take() == 2 and not place.wait(0.01)
    taken = []
    thread = threading.Thread(target=lambda: taken.append(place.take()))
    thread.start()
    place.close()
    thread.join(5)
    assert taken == [None] and place.wait(0.01)


def test_opening_a_model_keeps_nobody_waiting_who_has_one(snapshot, tmp_path, monkeypatch):
    studio = Studio("cpu")
    open_one = studio.model(str(snapshot))
    other = tmp_path / "other.pkl"
    other.write_bytes(snapshot.read_bytes())
    go = threading.Event()
    monkeypatch.setattr("eg3d.viewer.studio.load", lambda *_: go.wait(10) and open_one)
    thread = threading.Thread(target=studio.model, args=(str(other),))
    thread.start()
    start = time.monotonic()
    assert studio.model(str(snapshot)) is open_one and time.monotonic() - start < 5
    go.set()
    thread.join(5)
    assert studio.has(str(other))


def test_studio_opens_once_forgets_the_oldest_and_sees_a_new_file(snapshot, tmp_path):
    paths = [tmp_path / f"{i}.pkl" for i in range(3)]
    for path in paths:
        path.write_bytes(snapshot.read_bytes())
    studio = Studio("cpu", keep=2)
    first = studio.model(str(paths[0]))
    assert studio.model(str(paths[0])) is first and studio.has(str(paths[0]))
    assert studio.model(str(paths[0]), "G") is not first
    studio.model(str(paths[1]))
    assert not studio.has(str(paths[0]))
    again = studio.model(str(paths[1]))
    paths[1].write_bytes(snapshot.read_bytes() + b" ")  # another file at the same place
    assert not studio.has(str(paths[1])) and studio.model(str(paths[1])) is not again
    with pytest.raises(InputError, match="no model is chosen"):
        studio.model("")
