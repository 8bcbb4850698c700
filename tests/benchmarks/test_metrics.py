"""The benchmark of metrics: every part is there and counts what it says."""

import json

import pytest
from click.testing import CliRunner

from benchmarks import metrics as benchmark
from dataset_preprocessing.procedural import make_dataset
from tests.tiny import tiny_generator
from training.snapshots import save_snapshot


@pytest.fixture
def run(tmp_path):
    make_dataset(tmp_path / "cars.zip", num_images=12, resolution=32, seed=0)
    kwargs = dict(class_name="training.dataset.ImageFolderDataset", path=str(tmp_path / "cars.zip"))
    networks = dict(G=tiny_generator(), D=None, G_ema=tiny_generator())
    save_snapshot(tmp_path / "network-snapshot-000000.pkl", kwargs, **networks)
    return tmp_path


def test_table(run, monkeypatch):
    monkeypatch.setattr(benchmark, "ROWS", 80)
    monkeypatch.setattr(benchmark, "SIZE", 8)
    path = run / "out.json"
    arguments = [f"--network={run}", "--pictures=10", "--batch=5", "--workers=0"]
    done = CliRunner().invoke(benchmark.main, [*arguments, f"--json={path}"])
    assert done.exit_code == 0, done.output
    found = json.loads(path.read_text())
    rows = {row["part"]: row for row in found["passes"]}
    assert len(rows) == 5 and all(row["seconds"] > 0 for row in rows.values())
    counts = {name: row["images/s"] * row["seconds"] for name, row in rows.items()}
    assert counts["generator"] == pytest.approx(10) and counts["detector"] == pytest.approx(5)
    assert counts["decoding"] == pytest.approx(10)
    parts = [row["part"] for row in found["formulas"]]
    assert parts == ["sums of both sets", "FID", "KID", "precision and recall"]
    assert "images/s" in done.output


def test_bad_input_is_one_line(tmp_path):
    done = CliRunner().invoke(benchmark.main, [f"--network={tmp_path / 'none.pkl'}"])
    assert done.exit_code == 1 and done.output.count("\n") == 1 and "none.pkl" in done.output
