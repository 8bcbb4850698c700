"""The metrics of features: their definitions, invariances, and what is said of a value."""

import json

import numpy as np
import pytest
import torch

from metrics import metric_main
from metrics.collecting import Reals
from metrics.fakes import Fakes, generate
from metrics.feature_metrics import (
    FEATURE_METRICS,
    FeatureMetric,
    _frechet,
)
from metrics.frechet import FeatureStatistics, frechet_distance
from metrics.metric_main import calc_metric, calc_metrics
from metrics.options import MetricOptions, unnoticed
from tests.metrics.tiny_detectors import TinyInception
from tests.processes import Process, together
from tests.tiny import tiny_generator
from training.dataset import ImageFolderDataset

# The published metrics with few pictures.
SMALL = [
    _frechet("fid", 30),
    _frechet("fid_camera", 30, source=Fakes(cameras="distribution")),
    _frechet("fid_fixed", 30, source=Fakes(condition="fixed")),
]


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """The published metrics with 30 pictures in place of 50,000."""
    small = {
        name: FeatureMetric(name, m.compute, _fewer(m.fake), m.real)
        for name, m in FEATURE_METRICS.items()
    }
    monkeypatch.setattr(metric_main, "_METRICS", small)


def _fewer(want):
    return type(want)(want.source, want.detector, 30, want.output, want.keep)


def calculate(names, cars, networks, G=None, **more):
    return calc_metrics(
        names, G=G or tiny_generator(), dataset_kwargs=cars, networks=networks, **more
    )


@pytest.mark.parametrize(
    "name, fakes, reals, detector",
    [
        ("fid50k_full", 50_000, None, "inception"),
        ("fid50k", 50_000, 50_000, "inception"),
        ("kid50k_full", 50_000, 1_000_000, "inception"),
        ("kid50k", 50_000, 50_000, "inception"),
        ("pr50k3_full", 50_000, 200_000, "vgg16"),
        ("pr50k3", 50_000, 50_000, "vgg16"),
        ("is50k", 50_000, "none", "inception"),
        ("fid10k_full", 10_000, None, "inception"),
        ("fid2k_full", 2_000, None, "inception"),
    ],
)
def test_definitions(name, fakes, reals, detector):
    metric = FEATURE_METRICS[name]
    assert metric.name == name and metric.detector == detector
    assert metric.fake.count == fakes and metric.fake.source == Fakes()
    if reals == "none":
        assert metric.real is None
    else:
        assert metric.real.count == reals
        assert metric.real.source == Reals(as_trained=not name.endswith("_full"))


def test_distance_from_all_features_at_once(cars, networks):
    """Read, generated and compared in the plainest way."""
    features = TinyInception().eval()
    G = tiny_generator()
    options = MetricOptions(G, dataset_kwargs=cars)
    with unnoticed(options):
        fakes = generate(options, Fakes(), range(30))
        data = ImageFolderDataset(cars["path"])
        reals = torch.from_numpy(np.stack([data[i][0] for i in range(len(data))]))
        sets = []
        for pictures in (fakes, reals):
            sets.append(FeatureStatistics(12))
            sets[-1].append(features(pictures, return_features=True))
    expected = frechet_distance(*sets)
    found = calculate(["fid50k_full"], cars, networks, G)["fid50k_full"]
    assert found.results["fid50k_full"] == pytest.approx(expected, rel=1e-4)


def test_all_published_metrics_have_values(cars, networks):
    names = [name for name in FEATURE_METRICS if name != "fid50k_camera"]
    found = calculate(names, cars, networks)
    results = {}
    for outcome in found.values():
        assert not isinstance(outcome, Exception), outcome
        results |= outcome.results
    assert set(results) == {
        *("fid50k_full", "fid10k_full", "fid2k_full", "fid50k", "fid50k_full_fixed"),
        *("kid50k_full", "kid50k", "is50k_mean", "is50k_std", "fd2k_randconv112"),
        *("pr50k3_full_precision", "pr50k3_full_recall", "pr50k3_precision", "pr50k3_recall"),
    }
    assert all(np.isfinite(value) for value in results.values())
    assert results["fid50k_full"] > 0 and results["is50k_mean"] >= 1
    assert results["fid50k_full_fixed"] != results["fid50k_full"]


def test_detector_batches_and_decoding_do_not_matter(cars, networks):
    found = [
        calculate(["fid50k_full"], cars, networks, batch_gen=8, cache=False, **more)
        for more in (dict(batch=8), dict(batch=16), dict(batch=64, workers=2))
    ]
    values = [f["fid50k_full"].results["fid50k_full"] for f in found]
    assert values[1:] == pytest.approx(values[:1] * 2, rel=1e-6)


def test_order_of_real_pictures_does_not_matter(cars, networks, tmp_path):
    """The same pictures under names that sort the other way."""
    import zipfile

    with zipfile.ZipFile(cars["path"]) as old, zipfile.ZipFile(tmp_path / "a.zip", "w") as new:
        names = sorted(name for name in old.namelist() if name.endswith(".png"))
        for k, name in enumerate(reversed(names)):
            new.writestr(f"{k:05d}.png", old.read(name))
        labels = dict(json.loads(old.read("dataset.json"))["labels"])
        renamed = [[f"{k:05d}.png", labels[name]] for k, name in enumerate(reversed(names))]
        new.writestr("dataset.json", json.dumps(dict(labels=renamed)))
    fixed = dict(seed=0, cache=False)
    real = FEATURE_METRICS["fid50k_full"].real
    values = []
    for data in (cars, dict(cars, path=str(tmp_path / "a.zip"))):
        options = MetricOptions(tiny_generator(), dataset_kwargs=data, networks=networks, **fixed)
        with unnoticed(options):
            values.append(metric_main.collect(options, [real])[real])
    assert frechet_distance(*values) == pytest.approx(0, abs=1e-8)


def test_provenance_says_what_a_value_depends_on(cars, networks):
    more = dict(seed=4, G_kwargs=dict(truncation_psi=0.7), cameras="afhq")
    outcome = calculate(["fid50k_camera"], cars, networks, **more)["fid50k_camera"]
    said = json.loads(json.dumps(outcome.provenance))
    assert said["detector"]["name"] == "tiny" and len(said["detector"]["sha256"]) == 64
    assert said["real"] == dict(number=70, mirrored=False, sample=None)
    assert said["fake"]["number"] == 30 and said["fake"]["condition"] == "same"
    assert said["fake"]["cameras"]["name"] == "afhq"
    assert said["generator"]["truncation_psi"] == 0.7
    assert said["generator"]["neural_rendering_resolution"] == 8
    assert said["seed"] == 4 and said["precision"] == "float32" and said["device"] == "cpu"
    assert said["data"]["path"] == cars["path"] and len(said["data"]["content_sha256"]) == 64
    assert said["versions"]["torch"] == torch.__version__
    assert said["batch"] == 64 and said["batch_gen"] == 8


def test_values_depend_on_what_provenance_names(cars, networks):
    base = calculate(["fid50k_full"], cars, networks)["fid50k_full"].results["fid50k_full"]
    for more in (
        dict(seed=1),
        dict(G_kwargs=dict(truncation_psi=0.5)),
        dict(networks=dict(inception="randconv112")),
    ):
        settings = dict(dict(networks=networks), **more)
        value = calc_metric(
            "fid50k_full", G=tiny_generator(), dataset_kwargs=cars, **settings
        ).results["fid50k_full"]
        assert value != base


# -- Several processes ----------------------------------------------------------------------------

# argv: rank, number of processes, file to meet at, JSON of dataset_kwargs and networks, run folder.
PROCESS = """
import json, sys
import torch
from metrics import metric_main
from metrics.feature_metrics import _frechet, _kernel, ALL, FeatureMetric
from metrics.collecting import Want
from metrics.in_training import RunMetrics
from metrics.processes import in_all_processes
from tests.tiny import tiny_generator

rank, size = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
if size > 1:
    torch.distributed.init_process_group(
        "gloo", init_method="file://" + sys.argv[3], rank=rank, world_size=size
    )

def broken(options):
    def compute():
        if options.rank == options.num_gpus - 1:
            raise ValueError("no room")
    in_all_processes(compute, options.num_gpus)
    return {}

kernel = _kernel("kid", ALL, 50)
few = Want(kernel.fake.source, "inception", 37, keep="all")
metric_main._METRICS = {
    "fid": _frechet("fid", 37),
    "kid": FeatureMetric("kid", kernel.compute, few, kernel.real),
    "pr50k3": metric_main._METRICS["pr50k3"],
    "broken": broken,
}
cars, networks = json.loads(sys.argv[4])
metrics = RunMetrics(
    list(metric_main._METRICS), cars, sys.argv[5], rank, size,
    networks=networks, batch=8, cache=False
)
found = [metrics.evaluate(tiny_generator(), f"network-snapshot-{i}.pkl") for i in range(2)]
print(json.dumps(found))
if size > 1:
    torch.distributed.destroy_process_group()
"""


def run_processes(size, cars, networks, folder):
    """What each process found, its warnings, and the files of the run."""
    folder.mkdir()
    given = json.dumps([cars, dict(inception=networks["inception"])])
    meeting = f"{folder}.meeting"
    outputs = together(
        size, lambda rank: Process(PROCESS, rank, size, meeting, given, folder), timeout=120
    )
    values = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
    warned = [[line for line in err.splitlines() if "Warning: " in line] for _, err in outputs]
    return values, warned


def test_any_number_of_processes_finds_the_same_to_the_last_bit(cars, networks, tmp_path):
    """Also after a metric that fails in one of them, and one that is not there; rank 0 writes."""
    alone, _ = run_processes(1, cars, networks, tmp_path / "1")
    assert set(alone[0][0]) == {"fid", "kid"} and alone[0][0] == alone[0][1]
    for size in (2, 4):
        values, warned = run_processes(size, cars, networks, tmp_path / str(size))
        assert values == [alone[0]] * size
        assert sum("pr50k3" in line for line in warned[0]) == 1
        broken = [line for line in warned[0] if "metric broken failed" in line]
        assert len(broken) == 2 and f"in process {size - 1}: ValueError: no room" in broken[0]
        assert not any(warned[1:])
        files = sorted(path.name for path in (tmp_path / str(size)).iterdir())
        assert files == ["metric-fid.jsonl", "metric-kid.jsonl"]
        lines = (tmp_path / str(size) / "metric-fid.jsonl").read_text().splitlines()
        assert [json.loads(line)["num_gpus"] for line in lines] == [size, size]
