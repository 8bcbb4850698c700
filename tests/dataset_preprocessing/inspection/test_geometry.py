"""What cameras need, against scenes whose answer is known."""

import shlex

import numpy as np
import pytest
import torch

import train
from dataset_preprocessing.cameras.__main__ import main as cameras_command
from dataset_preprocessing.inspection.geometry import common_point, measure, propose
from dataset_preprocessing.inspection.summary import assess, statistics
from dataset_preprocessing.inspection.survey import survey
from dataset_preprocessing.procedural import PRESET
from tests.training.test_sampling_weights import labels_at
from training.cameras import Camera, look_at

RANDOM = np.random.default_rng(0)


def around(pivot=(0, 0, 0), radius=2.0, focal=1.6, count=60, spread=180.0, height=(5, 60)):
    """Cameras [N, 25] on a sphere around the origin that look at a point."""
    yaw = np.radians(RANDOM.uniform(-spread, spread, count))
    pitch = np.radians(RANDOM.uniform(*height, count))
    flat = np.cos(pitch)
    eyes = np.stack([flat * np.sin(yaw), np.sin(pitch), flat * np.cos(yaw)], axis=1)
    pose = look_at(torch.from_numpy(radius * eyes), pivot)
    lens = torch.tensor([[[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]]]).double()
    return Camera(pose, lens.expand(count, 3, 3)).label().numpy()


@pytest.mark.parametrize("pivot", [(0, 0, 0), (0.3, -0.2, 0.1)])
def test_the_point_that_all_look_at(pivot):
    labels = around(pivot)
    np.testing.assert_allclose(common_point(labels), pivot, atol=1e-9)
    labels[:5] = around((2, 0, 1), count=5)  # some look elsewhere
    np.testing.assert_allclose(common_point(labels), pivot, atol=0.05)


def test_parallel_axes_have_none():
    labels = np.repeat(around(count=1), 5, axis=0)
    labels[:, 3] += np.arange(5)
    assert common_point(labels).tolist() == [0, 0, 0]


def test_odd_cameras():
    labels = around()
    labels[3, [3, 7, 11]] *= 1.5
    labels[7, [16, 20]] *= 2
    labels[11] = labels_at([40], [20], roll=30)[0]
    labels[15] = around((1, 0, 0), count=1)
    labels[19, :16] = (labels[19, :16].reshape(4, 4) @ np.diag([1, -1, -1, 1])).ravel()
    odd = measure(labels).odd
    assert set(odd) == {3, 7, 11, 15, 19}
    assert odd[3] == ["distance from the origin"] and "roll" in odd[11]
    assert odd[7] == ["focal length"] and odd[15] == ["optical axis"]
    assert "looks away from the scene" in odd[19]


def test_statistics_are_those_of_the_cameras():
    found = statistics(measure(around(radius=2.5)))
    assert found["radius"]["median"] == pytest.approx(2.5) and found["roll"]["maximum"] < 1e-4
    assert found["pitch"]["minimum"] > 4.99 and found["focal"]["mean"] == pytest.approx(1.6)


def test_the_procedural_cars_need_what_their_preset_has(cars):
    geometry, proposal = assess(survey(cars))
    assert geometry.odd == {} and geometry.goes_around
    assert proposal.near == pytest.approx(PRESET["ray_start"], abs=0.05)
    assert proposal.far == pytest.approx(PRESET["ray_end"], abs=0.05)
    assert proposal.box == pytest.approx(PRESET["box_warp"], abs=0.08)
    assert proposal.radius == 2 and proposal.pivot == (0, 0, 0) and proposal.white_back
    assert proposal.preset == "demo" and proposal.prepare is None and proposal.notes == []


FACES = dict(radius=2.7, focal=4.2647, spread=40, height=(-15, 20))


def test_faces():
    proposal = propose(measure(around((0, 0, 0.2), **FACES)), "faces.zip")
    assert proposal.preset == "ffhq" and proposal.prepare is None and proposal.notes == []
    assert proposal.pivot == pytest.approx((0, 0, 0.2), abs=1e-3)
    assert proposal.box == pytest.approx(1, abs=0.05)
    assert 2 < proposal.near < 2.3 and 3.2 < proposal.far < 3.4
    assert "--gen_pose_cond=True" in proposal.command and "--aug=ada" in proposal.command


def test_a_scene_that_must_be_moved_first():
    labels = around((0, 0, 0), 10, 4.2647, spread=40, height=(-15, 20))
    labels[:, [3, 7, 11]] += (0, 3, 0)
    proposal = propose(measure(labels), "my scene.zip")
    assert "--recenter --radius=2.7" in proposal.prepare
    assert "--data=scaled.zip" in proposal.command
    labels = labels_at(np.linspace(-40, 40, 30), world=np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]))
    assert "--auto-orient" in propose(measure(labels), "a.zip").prepare


def test_lenses_that_fit_no_preset_are_told():
    notes = propose(measure(around(radius=2.0, focal=0.8)), "a.zip").notes
    assert any("focal length is 0.8" in note for note in notes)
    assert any("needs a box of 4, the preset" in note for note in notes)


def test_rare_sides_are_rebalanced():
    labels = np.concatenate([around(**{**FACES, "spread": 5}, count=900), around(**FACES, count=9)])
    assert "--rebalance=yaw" in propose(measure(labels), "a.zip").command


@pytest.mark.parametrize("scene", [{}, FACES, dict(radius=1.3, focal=1.0254), dict(radius=30)])
def test_commands_can_be_run(scene):
    proposal = propose(measure(around(**scene)), "cars.zip")
    words = shlex.split(proposal.command)
    assert words[:2] == ["python", "train.py"]
    train.main.make_context("train", words[2:])
    if proposal.prepare:
        words = shlex.split(proposal.prepare)
        cameras_command.make_context("cameras", words[3:])


def test_one_camera():
    assert propose(measure(around(count=1)), "a.zip").radius == 2
