"""Where a viewer looks from, and the picture on the canvas."""

import math

import numpy as np
import pytest
import torch

from eg3d import views
from eg3d.cameras import FOV_to_intrinsics
from eg3d.model import Model
from eg3d.viewer import viewpoint
from eg3d.viewer.state import ViewState


@pytest.fixture(scope="module")
def model(generator):
    return Model.of(generator)


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("yaw, pitch", [(0, 0), (0.4, -0.2), (-1.3, 0.9), (3.0, -1.2)])
def test_angles_are_those_of_published_views_and_go_both_ways(model, up, yaw, pitch):
    camera = viewpoint.turned(model, ViewState(up=up), yaw, pitch)
    torch.testing.assert_close(camera.label(), views.turned(model, [(yaw, pitch)], up).label())
    found = viewpoint.angles(camera, up)
    turns = (found[0] - yaw) / (2 * math.pi)
    assert abs(turns - round(turns)) < 1e-5
    assert found[1:] == pytest.approx((pitch, model.radius), abs=1e-5)


def test_target_and_lens(model):
    state = ViewState(target=(0.1, -0.2, 0.3), fov=30.0)
    camera = viewpoint.camera(viewpoint.with_lens(model, state), state)
    torch.testing.assert_close(camera.intrinsics[0], FOV_to_intrinsics(30.0))
    assert viewpoint.diagonal_fov(camera.intrinsics[0]) == pytest.approx(30)
    ahead = torch.tensor(state.target) - camera.cam2world[0, :3, 3]
    torch.testing.assert_close(ahead / ahead.norm(), camera.cam2world[0, :3, 2])


def test_conditioning(model):
    pose = tuple(viewpoint.turned(model, ViewState(), 0.5, 0.1).cam2world[0].flatten().tolist())
    seen = {
        kind: viewpoint.conditioning(
            model, ViewState(camera=pose, conditioning=kind, cond_yaw=0.2, cond_pitch=0.3)
        ).label()
        for kind in ("front", "camera", "free")
    }
    torch.testing.assert_close(seen["front"], model.camera.label())
    torch.testing.assert_close(seen["camera"][0, :16], torch.tensor(pose))
    torch.testing.assert_close(seen["free"], views.turned(model, [(0.2, 0.3)]).label())


@pytest.mark.parametrize("canvas", [(200, 100), (100, 100), (100, 250)])
@pytest.mark.parametrize("aspect", [1.0, 2.0])
def test_what_lies_at_the_picture_edge_is_there_on_the_canvas(model, canvas, aspect):
    width, height = canvas
    tangent = math.tan(viewpoint.vertical_fov(model, canvas, aspect) / 2)
    side = 64
    framed = viewpoint.letterbox(np.zeros((side, round(side * aspect), 3), np.uint8), canvas)
    assert framed.shape[1] / framed.shape[0] == pytest.approx(width / height, rel=0.02)
    # The share of the canvas's height that the picture takes, by pixels and by the lens.
    rows = (framed[:, framed.shape[1] // 2, 0] == 0).sum() / framed.shape[0]
    assert rows == pytest.approx(0.5 / model.intrinsics[1, 1].item() / tangent, abs=0.02)
    columns = np.flatnonzero((framed == 0).any(axis=(0, 2)))
    assert abs(columns.mean() - (framed.shape[1] - 1) / 2) <= 0.5


def test_enlarged_keeps_what_is_large_enough():
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    assert viewpoint.enlarged(picture, 64) is picture
    assert viewpoint.enlarged(picture, 128).shape == (128, 192, 3)
