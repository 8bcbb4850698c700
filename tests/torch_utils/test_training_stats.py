"""Statistics against NumPy, in one process and in two."""

import math

import numpy as np
import pytest
import torch

from tests.processes import Process, together
from torch_utils import training_stats


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(training_stats, "_registry", training_stats._Registry())


def test_moments_of_many_reports():
    collector = training_stats.Collector()
    values = np.random.randn(7, 10) * 3 + 2
    for row in values:
        training_stats.report("a", torch.from_numpy(row).reshape(2, 5).requires_grad_())
    collector.update()
    assert collector.num("a") == 70 and isinstance(collector.num("a"), int)
    assert collector.mean("a") == pytest.approx(values.mean(), rel=1e-6)
    assert collector.std("a") == pytest.approx(values.std(), rel=1e-6)
    assert collector["a"] == collector.mean("a")


@pytest.mark.parametrize(
    "value", [2.0, 2, [1, 3], np.array([1.0, 3.0]), torch.tensor([1, 3]), torch.tensor(2.0), True]
)
def test_kinds_of_values(value):
    collector = training_stats.Collector()
    assert training_stats.report("a", value) is value
    collector.update()
    assert collector.mean("a") == torch.as_tensor(value).double().mean().item()


def test_edge_cases():
    collector = training_stats.Collector()
    training_stats.report("none", [])
    training_stats.report("one", 5)
    training_stats.report("same", [0.1] * 10)
    training_stats.report("nan", [1.0, math.nan])
    training_stats.report("inf", [1.0, math.inf])
    collector.update()
    assert collector.names() == ["inf", "nan", "none", "one", "same"]
    assert collector.num("none") == 0
    assert math.isnan(collector.mean("none")) and math.isnan(collector.std("none"))
    assert (collector.mean("one"), collector.std("one")) == (5.0, 0.0)
    assert collector.std("same") == pytest.approx(0, abs=1e-4)
    assert math.isnan(collector.mean("nan")) and math.isnan(collector.std("nan"))
    assert math.isnan(collector.mean("inf")) and math.isnan(collector.std("inf"))
    for name in ("nan", "inf"):  # The next values are not spoiled by it.
        training_stats.report(name, [1.0, 3.0])
    collector.update()
    for name in ("nan", "inf"):
        assert (collector.mean(name), collector.std(name)) == (2.0, 1.0)
    assert math.isnan(collector.mean("never reported"))


def test_collectors_have_their_own_past():
    early = training_stats.Collector()
    training_stats.report("a", 1)
    late = training_stats.Collector()
    training_stats.report("a", 3)
    early.update()
    late.update()
    assert (early.num("a"), early["a"]) == (2, 2.0)
    assert (late.num("a"), late["a"]) == (1, 3.0)
    training_stats.report("a", 9)
    assert late["a"] == 3.0  # until update() is called
    late.update()
    assert (late.num("a"), late["a"]) == (1, 9.0)
    assert early["a"] == 2.0


def test_keep_previous():
    keeps, forgets = (training_stats.Collector(keep_previous=flag) for flag in (True, False))
    training_stats.report("a", 4)
    for _ in range(2):
        keeps.update()
    forgets.update()
    assert keeps["a"] == 4.0 and forgets["a"] == 4.0
    forgets.update()
    assert math.isnan(forgets["a"])


def test_regex_matches_whole_names():
    collector = training_stats.Collector(regex="Loss/.")
    for name in ("Loss/a", "Loss/ab", "xLoss/a"):
        training_stats.report(name, 1)
    collector.update()
    assert collector.names() == ["Loss/a"]
    assert collector.as_dict() == {"Loss/a": {"num": 1, "mean": 1.0, "std": 0.0}}
    assert collector.as_dict()["Loss/a"].mean == 1.0
    with pytest.raises(KeyError, match="Loss/ab"):
        collector.mean("Loss/ab")


def test_init_comes_first():
    training_stats.init_multiprocessing(rank=1, sync_device=None)
    assert training_stats.report0("a", 7) == 7
    collector = training_stats.Collector()
    collector.update()
    assert collector.names() == ["a"] and collector.num("a") == 0
    with pytest.raises(RuntimeError, match="before"):
        training_stats.init_multiprocessing(rank=0, sync_device=None)


WORKER = """
import sys, torch
from tests.processes import Process, together
from torch_utils import training_stats
rank = int(sys.argv[1])
torch.distributed.init_process_group(
    "gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
training_stats.init_multiprocessing(rank, "cpu")
collector = training_stats.Collector()
for name in ("b", "a")[:: 1 - 2 * rank]:
    training_stats.report(name, torch.full([1 + rank], 10.0 * rank))
training_stats.report0("zero", 1 + rank)
collector.update()
print(collector.as_dict())
training_stats.report("a", 5)
collector.update()
print(collector.as_dict())
torch.distributed.destroy_process_group()
"""


def test_two_processes(tmp_path):
    outputs = together(2, lambda rank: Process(WORKER, rank, tmp_path / "init"))
    both = dict(num=3, mean=20 / 3, std=float(np.std([0, 10, 10])))
    zero = dict(num=1, mean=1.0, std=0.0)
    for out, _ in outputs:
        first, second = (eval(line) for line in out.splitlines())
        assert first["a"] == pytest.approx(both) and first["b"] == pytest.approx(both)
        assert first["zero"] == zero
        assert second["a"] == dict(num=2, mean=5.0, std=0.0)
        assert second["b"] == first["b"] and second["zero"] == zero


def test_a_new_process_goes_on_with_the_statistics():
    """What was summed up, what is pending, and what collectors have shown last."""
    first, signs = training_stats.Collector(), training_stats.Collector("signs", False)
    training_stats.report("loss", [1.0, 2.0])
    training_stats.report("signs", [1.0])
    first.update()
    training_stats.report("signs", torch.tensor([0.1, 0.2]))
    training_stats.report("empty", [])
    saved = training_stats.state_dict(), first.state_dict(), signs.state_dict()
    training_stats.report("loss", 100.0)  # Is not part of it.

    training_stats._registry.__init__()
    training_stats.load_state_dict(saved[0])
    again, signs_again = training_stats.Collector(), training_stats.Collector("signs", False)
    again.load_state_dict(saved[1])
    signs_again.load_state_dict(saved[2])
    again.update()
    signs_again.update()
    assert again.names() == ["empty", "loss", "signs"]
    assert (again.num("loss"), again.mean("loss"), again.num("signs")) == (2, 1.5, 2)
    assert signs_again.num("signs") == 3
    assert signs_again.mean("signs") == pytest.approx(1.3 / 3)
