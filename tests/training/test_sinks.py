"""Curves and pictures reach TensorBoard and Weights & Biases alike."""

import json
import math
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from torch_utils import training_stats
from training.config import OptionError
from training.reporting import RunLog
from training.sinks import WANDB_ID_FILE, TensorBoardSink, WandbSink

CPU = torch.device("cpu")


class FakeRun:
    def __init__(self, arguments):
        self.arguments, self.logged, self.metrics, self.finished = arguments, [], [], 0

    def define_metric(self, name, step_metric=None):
        self.metrics.append((name, step_metric))

    def log(self, values):
        assert not self.finished
        self.logged.append(values)

    def finish(self):
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    """A module `wandb` that keeps what it is told."""
    module = ModuleType("wandb")
    module.runs = []
    module.Error = type("Error", (Exception,), {})
    module.Settings = lambda **settings: settings
    module.Image = lambda picture: SimpleNamespace(picture=picture)

    def init(**arguments):
        module.runs.append(FakeRun(arguments))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(training_stats, "_registry", training_stats._Registry())


def events(folder):
    """{name: [(step, value)]} of all TensorBoard scalars, and the shapes of the images by name."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulators.EventAccumulator(str(folder))
    found.Reload()
    scalars = {
        name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]
    }
    images = {name: found.Images(name)[0] for name in found.Tags()["images"]}
    return scalars, {name: (image.height, image.width) for name, image in images.items()}


def test_extra_scalars_reach_everything(tmp_path, wandb):
    log = RunLog(tmp_path, CPU, 9000, wandb="cars", settings={"lr": 0.1})
    for kimg, opacity in ((1, 0.25), (2, 0.5)):
        training_stats.report("Loss/G/loss", [1.0, 3.0])
        log.write(kimg * 1000, {"Health/opacity": opacity, "Health/views": 1.5})
    log.write(2500)  # Without: statistics keep their last values.
    log.close()
    lines = [json.loads(x) for x in (tmp_path / "training_stats.jsonl").read_text().splitlines()]
    assert [line["Health/opacity"] for line in lines] == [
        dict(num=1, mean=value, std=0) for value in (0.25, 0.5, 0.5)
    ]
    scalars, _ = events(tmp_path)
    assert scalars["Health/opacity"] == [(1, 0.25), (2, 0.5), (2, 0.5)]
    assert scalars["Loss/G/loss"][0] == (1, 2.0)
    (run,) = wandb.runs
    assert run.logged[0] == {
        "kimg": 1.0,
        "Health/opacity": 0.25,
        "Health/views": 1.5,
        "Loss/G/loss": 2.0,
    }
    assert [values["kimg"] for values in run.logged] == [1, 2, 2.5] and run.finished == 1
    assert run.metrics == [("kimg", None), ("*", "kimg")]


def test_what_is_not_finite_spoils_nothing(tmp_path, wandb):
    """A statistic that was NaN once is a number again afterwards."""
    log = RunLog(tmp_path, CPU, 9000, wandb="cars")
    for value in (math.nan, math.inf, 0.5):
        log.write(1000, {"Health/opacity": value})
    log.close()
    lines = [json.loads(x) for x in (tmp_path / "training_stats.jsonl").read_text().splitlines()]
    assert [line["Health/opacity"]["mean"] for line in lines] == [None, None, 0.5]
    assert [values.get("Health/opacity") for values in wandb.runs[0].logged] == [None, None, 0.5]


def test_pictures(tmp_path, wandb):
    log = RunLog(tmp_path, CPU, 9000, wandb="cars")
    grids = {"Fakes": np.zeros([30, 2100, 3], np.uint8), "Depth": np.ones([30, 20, 1], np.uint8)}
    log.images(grids, 3000)
    log.close()
    _, shapes = events(tmp_path)
    assert shapes == {"Fakes": (30, 2048), "Depth": (30, 20)}
    (logged,) = wandb.runs[0].logged
    assert logged["kimg"] == 3
    assert logged["Fakes"].picture.shape == (30, 2048, 3)
    assert logged["Depth"].picture.shape == (30, 20)


def test_a_later_process_continues_the_run(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for _ in range(2):
        WandbSink(tmp_path, "team/cars", {"lr": 0.1}).close()
    first, second = (run.arguments for run in wandb.runs)
    assert first == second
    assert first["id"] == (tmp_path / WANDB_ID_FILE).read_text().strip() != ""
    assert (first["entity"], first["project"], first["resume"]) == ("team", "cars", "allow")
    assert first["dir"] == str(tmp_path) and first["name"] == tmp_path.name
    assert first["config"] == {"lr": 0.1}
    assert "mode" not in first  # WANDB_MODE decides
    other = tmp_path / "other"
    other.mkdir()
    WandbSink(other, "cars")
    assert wandb.runs[2].arguments["id"] != first["id"]
    assert wandb.runs[2].arguments["entity"] is None


def test_only_if_asked_for(tmp_path, wandb):
    RunLog(tmp_path, CPU, 9000).close()
    assert wandb.runs == [] and not (tmp_path / WANDB_ID_FILE).exists()


def test_not_installed(tmp_path, monkeypatch):
    message = "^--wandb: Weights & Biases is not installed: pip install wandb$"
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(OptionError, match=message):
        RunLog(tmp_path, CPU, 9000, wandb="cars")
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))  # A folder of that name.
    with pytest.raises(OptionError, match=message):
        WandbSink(tmp_path, "cars")


def test_refused(tmp_path, wandb):
    def init(**arguments):
        raise wandb.Error("No API key configured. Use `wandb login`.\nand more")

    wandb.init = init
    with pytest.raises(OptionError) as caught:
        WandbSink(tmp_path, "cars")
    assert str(caught.value) == "--wandb=cars: No API key configured. Use `wandb login`."


def test_tensorboard_opens_late(tmp_path):
    sink = TensorBoardSink(tmp_path)
    assert list(tmp_path.iterdir()) == []
    sink.purge_step = 7
    sink.scalars({"a": 1.0}, 8000, 1.0)
    sink.close()
    assert events(tmp_path)[0] == {"a": [(8, 1.0)]}
