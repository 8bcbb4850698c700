"""The benchmark of inversion runs, and its guesses and measures are what they are called."""

import json

import pytest
import torch
from click.testing import CliRunner

import eg3d
from benchmarks import inversion as benchmark
from eg3d import inversion, pose_search
from eg3d.camera_offsets import angle_between
from tests.tiny import tiny_generator
from training.snapshots import save_snapshot


def test_tables(tmp_path, cars, monkeypatch):
    monkeypatch.setattr(inversion, "MEAN_OF", 50)
    monkeypatch.setattr(pose_search, "VIEWS", 2)
    monkeypatch.setattr(pose_search, "STEPS", 1)
    save_snapshot(tmp_path / "tiny.pkl", {}, G_ema=tiny_generator())
    arguments = [f"--network={tmp_path / 'tiny.pkl'}", "--seeds=1", f"--data={cars}", "--images=1"]
    arguments += ["--steps=2", "--tune-steps=1", f"--json={tmp_path / 'x.json'}"]
    done = CliRunner().invoke(benchmark.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    tables = json.loads((tmp_path / "x.json").read_text())
    assert len(tables["own"]) == 6 and len(tables["real"]) == 5
    assert "| way | PSNR | CPU s |" in done.output
    given = [row for row in tables["own"] if row["camera"] == "given"]
    assert all(row["guess off"] == row["found off"] == 0 for row in given)


@pytest.mark.parametrize("kind, degrees", [("given", 0), ("10 degrees off", 10)])
def test_guesses(kind, degrees):
    model = eg3d.Model.of(tiny_generator())
    camera = eg3d.views.random_views(model, [3])
    found = angle_between(benchmark.guessed(model, 7, camera, kind), camera)
    assert found == pytest.approx(degrees, abs=1e-3)


def test_pictures_have_the_values_of_files():
    model = eg3d.Model.of(tiny_generator())
    picture = benchmark.rendered(model, model.mapping(model.latents([0])), model.camera)
    values = (picture + 1) * 127.5
    assert picture.shape == (1, 3, 32, 32) and torch.allclose(values, values.round(), atol=1e-4)
