"""The metrics of geometry by name: they are what the functions say, and tell their settings."""

import json
from dataclasses import replace

import pytest
import torch

from metrics import metric_main
from metrics.errors import MetricError, MetricUnavailable
from metrics.geometry_metrics import GEOMETRY_METRICS
from metrics.metric_main import calc_metric, calc_metrics
from metrics.options import MetricOptions, unnoticed
from tests.metrics.tiny_detectors import write_script
from tests.tiny import tiny_generator

FEW = {
    "reprojection": dict(subjects=2, views=2),
    "mv_triplane": dict(subjects=1, views=2, steps=3),
    "shape": dict(samples=8),
    "depth_error": dict(pictures=6),
    "pose_error": dict(pictures=6),
    "id1k": dict(identities=4),
    "depth1k": dict(pictures=4),
    "pose1k": dict(pictures=4),
}


class Face(torch.nn.Module):
    """An embedding that depends on the picture."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) + 2.0


class Depth(torch.nn.Module):
    """The picture's brightness for a depth."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(1, keepdim=True)


class Pose(torch.nn.Module):
    """A face from the front."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros(images.shape[0], 3)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """The metrics of few pictures."""
    few = {name: replace(m, settings=FEW[name]) for name, m in GEOMETRY_METRICS.items()}
    monkeypatch.setattr(metric_main, "_METRICS", metric_main._METRICS | few)


@pytest.fixture(scope="module")
def estimators(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimators")
    modules = dict(face_embedder=Face(), depth_estimator=Depth(), pose_estimator=Pose())
    return {role: write_script(folder / f"{role}.pt", m) for role, m in modules.items()}


@pytest.mark.parametrize("name", ["reprojection", "mv_triplane", "shape", "pose_error"])
def test_values_are_those_of_the_function(name, cars):
    G = tiny_generator()
    found = calc_metric(name, G=G, dataset_kwargs=cars, seed=2)
    options = MetricOptions(G, dataset_kwargs=cars, seed=2)
    with unnoticed(options):
        expected = GEOMETRY_METRICS[name].measure(options, **FEW[name])
    assert {k: float(v) for k, v in found.results.items()} == pytest.approx(
        {k: float(v) for k, v in expected.items()}, nan_ok=True
    )
    said = json.loads(json.dumps(found.provenance))
    assert said["settings"] == FEW[name] and said["seed"] == 2 and "network" not in said


@pytest.mark.parametrize(
    "name, role",
    [("id1k", "face_embedder"), ("depth1k", "depth_estimator"), ("pose1k", "pose_estimator")],
)
def test_foreign_estimators(name, role, cars, estimators):
    arguments = dict(G=tiny_generator(), dataset_kwargs=cars)
    with pytest.raises(MetricUnavailable, match=f"^metric {name}: .*EG3D_{role.upper()}"):
        calc_metric(name, **arguments)
    found = calc_metric(name, networks=estimators, **arguments)
    assert found.provenance.network["name"] == role
    assert len(found.provenance.network["sha256"]) == 64 and found.results
    wrong = dict(estimators, **{role: estimators["face_embedder"]})
    if role != "face_embedder" and role != "pose_estimator":
        with pytest.raises(MetricError, match=f"^metric {name}: "):
            calc_metric(name, networks=wrong, **arguments)


def test_without_true_depths_a_line_says_how_to_get_them(cars):
    with pytest.raises(MetricUnavailable, match="^metric depth_error: .*--depth"):
        calc_metric("depth_error", G=tiny_generator(), dataset_kwargs=cars)


def test_together_with_metrics_of_features(cars, networks):
    names = ["fd2k_randconv112", "shape"]
    few = metric_main._METRICS["fd2k_randconv112"]
    metric_main._METRICS["fd2k_randconv112"] = replace(few, fake=replace(few.fake, count=8))
    found = calc_metrics(names, G=tiny_generator(), dataset_kwargs=cars)
    assert list(found) == names
    assert not any(isinstance(outcome, Exception) for outcome in found.values())
