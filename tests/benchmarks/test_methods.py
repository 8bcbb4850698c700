"""Runs side by side: branches, snapshots and seconds of curves, distances, and the command."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import eg3d
from benchmarks import methods
from dataset_preprocessing import procedural
from metrics.frechet import frechet_distance
from metrics.random_features import RandomConvFeatures
from training.dataset import ImageFolderDataset
from training.snapshots import save_snapshot

_SPEC = importlib.util.spec_from_file_location(
    "tiny_generator", Path(__file__).parent.parent / "eg3d" / "conftest.py"
)
_TINY = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_TINY)


class Branched:
    """Stands for a model that can show branches."""

    choices = {"branch": ("2d", "3d", "detail")}

    def showing(self, branch):
        return branch


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory: three snapshots and what it wrote about its ticks."""
    directory = tmp_path_factory.mktemp("run")
    options = dict(procedural.PRESET, ray_start=1.35, ray_end=2.65)
    ticks = []
    for kimg in (0, 3, 6):
        path = directory / f"network-snapshot-{kimg:06d}.pkl"
        save_snapshot(path, {}, G_ema=_TINY.make_generator(seed=kimg, **options))
        times = {"Progress/kimg": {"mean": kimg + 0.008}, "Timing/total_sec": {"mean": 10 * kimg}}
        ticks.append(json.dumps(times))
    (directory / "training_stats.jsonl").write_text("\n".join(ticks) + "\n")
    return directory


def test_a_model_with_branches_is_shown_once_for_each():
    assert methods.variants("m", Branched()) == [("m 2d", "2d"), ("m 3d", "3d")]
    assert methods.variants("m", Branched(), ["detail"]) == [("m detail", "detail")]


def test_a_model_without_branches_is_shown_as_it_is(run):
    model = eg3d.load(run / "network-snapshot-000003.pkl")
    assert methods.variants("m", model, ["3d"]) == [("m", model)]


@pytest.mark.parametrize(("most", "kimg"), [(1, [6]), (2, [0, 6]), (3, [0, 3, 6]), (9, [0, 3, 6])])
def test_snapshots_are_spread_evenly_and_have_the_last(run, most, kimg):
    names = [path.name for path in methods.snapshots_of(run, most)]
    assert names == [f"network-snapshot-{k:06d}.pkl" for k in kimg]


def test_seconds_are_those_of_the_nearest_tick(run, tmp_path):
    ticks = methods.seconds_by_kimg(run)
    assert [methods.seconds_at(ticks, k) for k in (0, 3, 5, 6, None)] == [0, 30, None, 60, None]
    assert methods.seconds_by_kimg(tmp_path) == {}


def test_the_distance_is_that_of_the_pictures(run, cars):
    dataset = ImageFolderDataset(cars, use_labels=True)
    model = eg3d.load(run / "network-snapshot-000003.pkl")
    features, picks = RandomConvFeatures(), np.random.RandomState(0).randint(12, size=30)
    real = features.statistics([torch.from_numpy(np.stack([dataset[i][0] for i in range(12)]))])
    fakes = []
    for seed, pick in enumerate(picks):
        camera = methods.Camera.from_label(torch.from_numpy(dataset.get_label(pick))[None])
        scene = model.scenes_of(model.mapping(model.latents([seed]), camera))
        fakes.append((scene.render(camera).image * 127.5 + 128).clamp(0, 255).to(torch.uint8))
    expected = frechet_distance(features.statistics(fakes), real)
    assert methods.Distance(dataset, 30)(model) == pytest.approx(expected, rel=0.02)


def test_the_command_compares_runs_and_files(run, cars, tmp_path):
    file = run / "network-snapshot-000003.pkl"
    sizes = ["--samples=8", "--subjects=1", "--points=2", f"--outdir={tmp_path}"]
    arguments = [f"--run=a={run}", f"--run=b={file}", f"--data={cars}", *sizes]
    result = CliRunner().invoke(methods.main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "methods.json").read_text())
    curves = [(row["method"], row["kimg"], row["seconds"]) for row in found["curves"]]
    assert curves == [("a", 0, 0), ("a", 6, 60), ("b", 3, None)]
    assert [row["method"] for row in found["methods"]] == ["a", "b"]
    for row in found["methods"]:
        last = [r["distance"] for r in found["curves"] if r["method"] == row["method"]][-1]
        assert row["fd randconv112"] == last and row["seconds a picture"] > 0
        assert row["training MB"] is None


def test_what_is_missing_ends_in_one_line(cars, tmp_path):
    nothing = CliRunner().invoke(methods.main, [f"--run=a={tmp_path}", f"--data={cars}"])
    assert nothing.exit_code == 1 and nothing.output.startswith(f"Error: {tmp_path}: no network-")
    unnamed = CliRunner().invoke(methods.main, [f"--run={tmp_path}", f"--data={cars}"])
    assert unnamed.exit_code == 2 and "must be NAME=DIRECTORY" in unnamed.output
