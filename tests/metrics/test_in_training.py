"""Metrics during training: they report, never stop the run, and leave no trace in it."""

import copy
import json
import random

import numpy as np
import pytest
import torch

from metrics import metric_main
from metrics.feature_metrics import _frechet
from metrics.in_training import RunMetrics
from metrics.metric_main import register_metric
from tests.tiny import tiny_generator


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(metric_main, "_METRICS", dict(metric_main._METRICS))

    metric_main._METRICS["distance"] = _frechet("distance", 9, detector="randconv112")

    @register_metric
    def failing(options):
        raise RuntimeError("one line\nand another")

    @register_metric
    def interrupted(options):
        raise KeyboardInterrupt


def test_values_are_returned_and_written(cars, tmp_path, capsys):
    metrics = RunMetrics(["distance"], cars, tmp_path)
    G = tiny_generator()
    found = [metrics.evaluate(G, f"network-snapshot-00000{i}.pkl") for i in range(2)]
    assert found[0] == found[1] and set(found[0]) == {"distance"}
    lines = [json.loads(t) for t in (tmp_path / "metric-distance.jsonl").read_text().splitlines()]
    assert [line["results"] for line in lines] == found
    assert lines[1]["snapshot_pkl"] == "network-snapshot-000001.pkl"
    assert capsys.readouterr().err == ""


def test_without_names_nothing_happens(cars, tmp_path, capsys):
    assert RunMetrics([], cars, tmp_path).evaluate(tiny_generator(), "x.pkl") == {}
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")


def test_what_is_unavailable_is_said_once(cars, tmp_path, capsys):
    metrics = RunMetrics(["fid50k_full", "distance", "pr50k3"], cars, tmp_path)
    for _ in range(3):
        assert set(metrics.evaluate(tiny_generator(), "x.pkl")) == {"distance"}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line, name, role in zip(
        lines, ("fid50k_full", "pr50k3"), ("INCEPTION", "VGG16"), strict=True
    ):
        assert line.startswith(f"Warning: metric {name}: ") and f"EG3D_{role}" in line
        assert line.endswith("; it is skipped in this run")


def test_a_failure_is_one_line_each_time(cars, tmp_path, capsys):
    metrics = RunMetrics(["failing", "distance"], cars, tmp_path)
    for _ in range(2):
        assert set(metrics.evaluate(tiny_generator(), "x.pkl")) == {"distance"}
    lines = capsys.readouterr().err.splitlines()
    line = "Warning: metric failing failed at x.pkl: RuntimeError: one line and another"
    assert lines == [line, line]


@pytest.mark.parametrize(
    "change, words",
    [(dict(path="none.zip"), "none.zip: no such file"), (dict(resolution=64), "must be 64x64")],
)
def test_missing_or_wrong_pictures_stop_nothing(cars, tmp_path, capsys, change, words):
    metrics = RunMetrics(["distance"], dict(cars, **change), tmp_path)
    assert metrics.evaluate(tiny_generator(), "x.pkl") == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: metric distance failed") and words in line


def test_a_folder_that_cannot_be_written_stops_nothing(cars, tmp_path, capsys):
    (tmp_path / "metric-distance.jsonl").mkdir()
    RunMetrics(["distance"], cars, tmp_path).evaluate(tiny_generator(), "x.pkl")
    assert "Warning: metric distance failed at x.pkl: IsADirectoryError" in capsys.readouterr().err


def test_the_user_can_still_interrupt(cars, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        RunMetrics(["interrupted"], cars, tmp_path).evaluate(tiny_generator(), "x.pkl")


def test_training_does_not_notice(cars, tmp_path):
    """Random states, the generator's mode and weights, gradients' switch."""
    G = tiny_generator().train().requires_grad_(True)
    before = copy.deepcopy(G.state_dict())
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    RunMetrics(["distance"], cars, tmp_path).evaluate(G, "x.pkl")
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert all(module.training for module in G.modules())
    assert all(p.requires_grad and p.grad is None for p in G.parameters())
    assert all(torch.equal(v, before[k]) for k, v in G.state_dict().items())
    assert torch.is_grad_enabled()
