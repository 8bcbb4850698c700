"""The measurements of benchmarks.learning, on models whose quality is known without training."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import eg3d
from benchmarks.learning import Judge, main
from dataset_preprocessing import procedural
from training.dataset import ImageFolderDataset
from training.snapshots import save_snapshot

_SPEC = importlib.util.spec_from_file_location(
    "tiny_generator", Path(__file__).parent.parent / "eg3d" / "conftest.py"
)
_TINY = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_TINY)


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    """A dataset of 240 cars, 32 x 32."""
    path = tmp_path_factory.mktemp("cars") / "cars.zip"
    procedural.make_dataset(path, num_images=240, resolution=32)
    return path


@pytest.fixture(scope="module")
def judge(cars):
    return Judge(ImageFolderDataset(cars, use_labels=True), samples=120, depth_maps=40)


class KnownModel:
    """Stands for a loaded model: shows true cars, or flat pictures of them at distance 2."""

    device = torch.device("cpu")

    def __init__(self, is_flat=False, push=0.0):
        self.is_flat = is_flat
        self.push = push

    def latents(self, seeds):
        return torch.tensor(list(seeds), dtype=torch.float32)[:, None]

    def mapping(self, z, camera):
        return z

    def scenes_of(self, ws):
        self._seeds = ws[:, 0].int().tolist()
        return self

    def render(self, camera):
        labels = camera.label().numpy()
        cars = [procedural.sample_car(np.random.default_rng([9, seed])) for seed in self._seeds]
        views = [procedural.render_car(car, c, 32, 1) for car, c in zip(cars, labels, strict=True)]
        image = torch.tensor(np.stack([v.image for v in views])).permute(0, 3, 1, 2) / 127.5 - 1
        depth = torch.tensor(np.stack([v.depth for v in views]))[:, None]
        opacity = torch.isfinite(depth).float()
        shown = torch.full_like(depth, 2.0) if self.is_flat else depth + self.push
        shown = torch.where(opacity > 0, shown, 5.0)  # what is not opaque is not to be looked at
        return eg3d.Rendering(image, image, image, shown, opacity, normals=image)


def measure(judge, monkeypatch, **kind):
    monkeypatch.setattr(eg3d, "load", lambda path: KnownModel(**kind))
    return judge.measure("network-snapshot-000012.pkl")


def test_true_cars_are_near_the_floor(judge, monkeypatch):
    row, references = measure(judge, monkeypatch), judge.references(32)
    assert row["snapshot"] == "network-snapshot-000012.pkl" and row["kimg"] == 12
    assert 0 < row["distance"] < 3 * references["distance of real halves"]
    assert references["distance of grey pictures"] > 2 * row["distance"]
    assert references["distance of mean picture"] > 10 * row["distance"]
    assert row["inside"] > 0.999 and 0.15 < row["opaque"] < 0.35
    assert row["depth error"] == pytest.approx(references["depth error, other cars"], rel=0.2)
    assert row["depth correlation"] > 0.5 and references["depth correlation, other cars"] > 0.5


def test_a_billboard_is_inside_the_range_but_has_no_shape(judge, monkeypatch):
    row = measure(judge, monkeypatch, is_flat=True)
    assert row["inside"] == 1 and row["depth correlation"] == 0
    assert judge.references(32)["depth correlation, flat"] == 0


def test_cars_at_the_wrong_distance_are_outside(judge, monkeypatch):
    right, wrong = measure(judge, monkeypatch), measure(judge, monkeypatch, push=2.0)
    assert wrong["inside"] == 0 and wrong["depth error"] > 1.9
    assert wrong["depth correlation"] == pytest.approx(right["depth correlation"])


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_measures_each_snapshot_of_a_run(cars, tmp_path):
    options = dict(procedural.PRESET, ray_start=1.35, ray_end=2.65)
    for kimg in (0, 3):
        path = tmp_path / f"network-snapshot-{kimg:06d}.pkl"
        save_snapshot(path, {}, G_ema=_TINY.make_generator(seed=kimg, **options))
    arguments = [f"--run-dir={tmp_path}", f"--data={cars}", "--samples=8", "--depth-maps=4"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "network-snapshot-000003.pkl" in result.output
    found = json.loads((tmp_path / "learning.json").read_text())
    rows = found["snapshots"]
    assert [row["kimg"] for row in rows] == [0, 3] and found["samples"] == 8
    assert all(row["distance"] > found["references"]["distance of real halves"] for row in rows)
    assert (tmp_path / "learning.png").exists() != ("matplotlib is missing" in result.output)

    (tmp_path / "other").mkdir()
    again = run(*arguments, f"--outdir={tmp_path / 'other'}")
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "other" / "learning.json").read_text())["snapshots"] == rows


def test_wrong_paths_end_in_one_line(cars, tmp_path):
    nothing = run(f"--run-dir={tmp_path}", f"--data={cars}")
    assert nothing.exit_code == 1 and nothing.output.startswith(f"Error: {tmp_path}: no network-")
    (tmp_path / "network-snapshot-000000.pkl").write_text("no pickle")
    broken = run(f"--run-dir={tmp_path}", f"--data={cars}")
    assert broken.exit_code == 1 and "neither a snapshot" in broken.output
    no_data = run(f"--run-dir={tmp_path}", f"--data={tmp_path / 'none.zip'}")
    assert no_data.exit_code == 1 and "none.zip" in no_data.output
    assert all(r.output.count("\n") == 1 for r in (nothing, broken, no_data))
