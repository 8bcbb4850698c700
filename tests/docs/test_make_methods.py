"""The figures of the methods: strips against single pictures, sizes of files, the command."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from docs.figures import make_methods
from eg3d import Model, pictures
from tests.eg3d.conftest import make_generator
from training.snapshots import save_snapshot


@pytest.fixture(scope="module")
def model():
    return Model.of(make_generator())


@torch.no_grad()
def test_a_strip_has_the_same_line_of_each_view(model):
    strip = make_methods.epipolar(model, seed=2, steps=3, height=0.25)
    assert strip.shape == (3, 64, 3)
    for line, yaw in zip(strip, (-30, 0, 30), strict=True):
        view = model.scenes([2], psi=make_methods.PSI).render(make_methods.cameras(model, [yaw]))
        assert (line == pictures.to_uint8(view.image)[0, 16]).mean() > 0.99
    assert (strip[0] != strip[2]).any()


def test_cameras_stand_where_they_are_said_to(model):
    places = make_methods.cameras(model, [-30, 0, 30]).cam2world[:, :3, 3]
    offset = places - torch.tensor([0.0, 0, 0.2])
    angles = torch.rad2deg(torch.atan2(offset[:, 0], offset[:, 2]))
    assert abs(angles[1]) < 1 and (angles[0] + angles[2]).abs() < 1
    assert 25 < angles[0].abs() < 35


def test_elevated_cameras_look_down():
    model = Model.of(make_generator(camera_elevation_degrees=[20, 40]))
    height = make_methods.cameras(model, [0.0, 20.0]).cam2world[:, 1, 3]
    assert height.numpy() == pytest.approx(2.7 * 0.5, abs=1e-4)  # the sine of 30 degrees


def test_what_png_makes_too_large_is_a_jpeg(tmp_path):
    noise = np.random.RandomState(0).randint(0, 256, [256, 256, 3]).astype(np.uint8)
    plain = np.full([256, 256, 3], 9, dtype=np.uint8)
    assert make_methods.save(tmp_path / "plain", plain).suffix == ".png"
    written = make_methods.save(tmp_path / "noise", noise)
    assert written.suffix == ".jpg" and written.stat().st_size <= make_methods.MOST_BYTES
    assert not (tmp_path / "noise.png").exists()


def test_the_command_draws_a_row_for_each_run(tmp_path):
    path = tmp_path / "network-snapshot-000003.pkl"
    save_snapshot(path, {}, G_ema=make_generator())
    arguments = [f"--run=a={path}", f"--run=b={path}", f"--dest={tmp_path / 'to'}", "--steps=4"]
    result = CliRunner().invoke(make_methods.main, arguments)
    assert result.exit_code == 0, result.output
    sizes = {f.stem: Image.open(f).size for f in (tmp_path / "to").iterdir()}
    side = make_methods.SIDE
    assert sizes["methods_samples"] == sizes["methods_depth"] == (9 * side, 2 * side)
    assert sizes["methods_views"] == (6 * side, 2 * side)
    assert "methods_epipolar" in sizes


def test_a_run_that_is_not_there_is_named(tmp_path):
    result = CliRunner().invoke(make_methods.main, [f"--run=a={tmp_path / 'none'}"])
    assert result.exit_code == 1 and "none" in result.output and result.output.count("\n") == 1
