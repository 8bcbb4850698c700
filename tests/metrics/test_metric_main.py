"""Metrics by name: the registry, what calc_metric returns, the lines that report_metric writes."""

import json
import os
import time

import numpy as np
import pytest
import torch

from metrics import metric_main
from metrics.metric_main import (
    MetricError,
    MetricUnavailable,
    calc_metric,
    calc_metrics,
    is_valid_metric,
    list_valid_metrics,
    register_metric,
    report_metric,
    require_valid_metric,
)
from tests.tiny import tiny_generator

PUBLISHED = ["fid50k_full", "kid50k_full", "pr50k3_full", "is50k", "fid50k", "kid50k", "pr50k3"]
OWN = ["fid10k_full", "fid2k_full", "fid50k_camera", "fid50k_full_fixed", "fd2k_randconv112"]


@pytest.fixture
def registry(monkeypatch):
    """Metrics that a test registers are forgotten."""
    monkeypatch.setattr(metric_main, "_METRICS", dict(metric_main._METRICS))


def test_names():
    assert {*PUBLISHED, *OWN} <= set(list_valid_metrics())
    assert all(is_valid_metric(name) for name in PUBLISHED)
    assert not is_valid_metric("fid") and not is_valid_metric("ppl2_wend")


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_a_detector_a_line_says_what_to_do(name, cars):
    role = "VGG16" if name.startswith("pr") else "INCEPTION"
    with pytest.raises(MetricUnavailable, match=f"^metric {name}: .*EG3D_{role}"):
        calc_metric(name, G=tiny_generator(), dataset_kwargs=cars)


@pytest.mark.parametrize("name", ["ppl2_wend", "ppl_zfull", "eqt50k_int", "eqt50k_frac", "eqr50k"])
def test_what_does_not_apply_says_so(name):
    for attempt in (lambda: require_valid_metric(name), lambda: calc_metric(name)):
        with pytest.raises(MetricError, match=f"^metric {name} does not apply to this model: "):
            attempt()


def test_unknown_names_are_refused_with_those_that_exist():
    with pytest.raises(MetricError, match="no metric is called 'fid'; there are .*fid50k_full"):
        calc_metric("fid")
    require_valid_metric("fd2k_randconv112")


def test_a_registered_metric_is_computed(registry, cars):
    @register_metric
    def answer(options):
        time.sleep(0.02)
        return {"answer": 42, "rank": options.rank}

    assert answer.__name__ == "answer" and is_valid_metric("answer")
    found = calc_metric("answer", G=tiny_generator(), dataset_kwargs=cars, seed=3)
    assert 0.02 <= found.pop("total_time") < 10
    provenance = found.pop("provenance")
    assert found == dict(
        results={"answer": 42, "rank": 0}, metric="answer", total_time_str="0s", num_gpus=1
    )
    assert found.results.answer == 42
    assert provenance.seed == 3 and len(provenance.data["content_sha256"]) == 64


def test_one_that_fails_leaves_the_others(registry, cars):
    @register_metric
    def failing(options):
        raise OSError("no disk")

    @register_metric
    def answer(options):
        return {"answer": 42}

    names = ["failing", "fid50k_full", "answer"]
    found = calc_metrics(names, G=tiny_generator(), dataset_kwargs=cars)
    assert list(found) == names and found["answer"].results == {"answer": 42}
    assert isinstance(found["failing"], OSError)
    assert isinstance(found["fid50k_full"], MetricUnavailable)


def test_a_metric_leaves_no_trace(registry):
    G = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout().eval()).train(False)
    G[0].train()

    @register_metric
    def careless(options):
        assert not any(module.training for module in options.G.modules())
        torch.manual_seed(7)
        np.random.seed(7)
        options.G.train()
        raise OSError("the end")

    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    with pytest.raises(OSError, match="the end"):
        calc_metric("careless", G=G)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert [module.training for module in G.modules()] == [False, True, False]


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="num_fakes"):
        calc_metric("fd2k_randconv112", G=tiny_generator(), num_fakes=3)


RESULT = dict(
    results=dict(a=np.float32(0.5), b=float("nan"), c=torch.tensor(2.0), d=-np.inf),
    metric="some",
    total_time=1.5,
    total_time_str="1s",
    num_gpus=2,
)


def test_lines_are_appended(tmp_path, capsys):
    snapshot = tmp_path / "network-snapshot-000004.pkl"
    start = time.time()
    for _ in range(2):
        report_metric(RESULT, run_dir=str(tmp_path), snapshot_pkl=str(snapshot))
    printed = capsys.readouterr().out.splitlines()
    assert (tmp_path / "metric-some.jsonl").read_text().splitlines() == printed
    assert len(printed) == 2
    line = json.loads(printed[1])
    assert start <= line.pop("timestamp") <= time.time()
    assert line == dict(
        RESULT,
        results=dict(a=0.5, b=None, c=2.0, d=None),
        snapshot_pkl="network-snapshot-000004.pkl",
    )
    keys = ["results", "metric", "total_time", "total_time_str", "num_gpus", "snapshot_pkl"]
    assert list(json.loads(printed[0])) == [*keys, "timestamp"]


def test_without_a_folder_nothing_is_written(tmp_path, capsys):
    report_metric(RESULT)
    report_metric(RESULT, run_dir=tmp_path / "none", snapshot_pkl=tmp_path / "x.pkl")
    assert list(tmp_path.iterdir()) == []
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["snapshot_pkl"] is None and second["snapshot_pkl"] == os.path.join("..", "x.pkl")


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path):
    path = tmp_path / "metric-some.jsonl"
    path.write_text('{"results": {"a": 1}}\n{"resul')
    report_metric(RESULT, run_dir=tmp_path)
    first, cut, last = path.read_text().splitlines()
    assert cut == '{"resul'
    assert json.loads(first)["results"] == {"a": 1} and json.loads(last)["metric"] == "some"
