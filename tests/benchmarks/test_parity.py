"""Kernels against twins in training: alike where they are right, and a wrong kernel is noticed."""

import contextlib
import functools
import json
import os
import sys
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from benchmarks import parity, parity_runs
from benchmarks.kernel_launches import counted_launches, hurried_interpreter
from benchmarks.parity import difference, main, noise, problems
from benchmarks.parity_runs import Judge, Run, Trainings, perturb
from dataset_preprocessing.procedural import make_dataset
from torch_utils.ops import upfirdn2d, upfirdn2d_ops
from torch_utils.ops.choice import using_ops
from training.dataset import ImageFolderDataset

if not torch.cuda.is_available():
    # Read when Triton is imported and when a kernel is decorated.
    assert "triton" not in sys.modules or os.environ.get("TRITON_INTERPRET") == "1"
    os.environ["TRITON_INTERPRET"] = "1"

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ALL_KERNELS = {f"{name}_triton.some": 1 for name in parity.KERNELS}


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    """A dataset of 12 cars, 32 x 32."""
    path = tmp_path_factory.mktemp("cars") / "cars.zip"
    make_dataset(path, num_images=12, resolution=32)
    return str(path)


@contextlib.contextmanager
def smallest():
    """One picture an iteration and no filters, for which alone the interpreter takes 10 seconds."""
    with pytest.MonkeyPatch.context() as patch:
        options = [*parity_runs.SMALL, "--batch=1", "--mbstd-group=1"]
        patch.setattr(parity_runs, "SMALL", options)
        patch.setattr(upfirdn2d_ops, "fits", lambda *_: False)
        yield


@pytest.fixture(scope="module")
def trainings(cars):
    """One iteration, the second: regularisers have their turn in the first."""
    judge = Judge(ImageFolderDataset(cars, use_labels=True), samples=4)
    return Trainings(cars, False, 1, 1, judge, points=1, rounding=1e-7)


@pytest.fixture(scope="module")
def plain(trainings):
    with smallest():
        return [trainings.run("torch", 0), trainings.run("perturbed", 0)]


def test_kernels_train_as_the_twins_do(trainings, plain):
    pytest.importorskip("triton", reason="Triton is not installed")
    with smallest():
        run = trainings.run("triton", 0)
    assert {"Loss/G/loss", "Loss/D/loss", "Gradients/norm/Gmain", "Gradients/norm/Dmain"} == {
        *run.values[0]
    }
    assert 0 < difference(run, plain[0])[0] < parity.FIRST[DEVICE]
    assert run.launches["epilogue_triton.backward_kernel"] > 20
    assert run.launches["render_triton.composite_backward"] == 1
    assert problems([*plain, run], DEVICE) == [
        "triton, seed 0: no launches of kernels of upfirdn2d"
    ]


def test_a_kernel_that_is_wrong_by_a_percent_is_noticed(trainings, plain, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    from torch_utils.ops import epilogue_triton

    right = epilogue_triton.forward
    monkeypatch.setattr(epilogue_triton, "forward", lambda *a: right(*a) * 1.01)
    with smallest():
        found = problems([*plain, trainings.run("triton", 0)], DEVICE)
    assert any(line.startswith("iteration 1: kernels and twins differ by ") for line in found)


def test_ways_part_from_the_state_that_training_on_would_have(trainings, plain):
    without = replace(trainings, warmup=0, iterations=2, _states={})
    with smallest():
        runs = trainings.run("torch", 0), without.run("torch", 0)
    for run in runs:
        assert run.values[-1] == pytest.approx(plain[0].values[-1], rel=1e-6)
        assert run.distances == [(2, pytest.approx(plain[0].distances[-1][1], rel=1e-6))]
    assert 0 < difference(plain[1], plain[0])[0] < 1e-3


def test_weights_are_perturbed_relatively():
    layer = torch.nn.Linear(100, 100)
    before = layer.weight.detach().clone()
    perturb([layer], 1e-3)
    change = (layer.weight / before - 1).detach()
    assert change.std().item() == pytest.approx(1e-3, rel=0.1) and abs(change.mean()) < 1e-4


def test_the_interpreter_hurries_to_the_same_bits():
    pytest.importorskip("triton", reason="Triton is not installed")
    if torch.cuda.is_available():
        pytest.skip("kernels are compiled here")
    f, x = upfirdn2d.setup_filter([1, 3, 3, 1]), torch.randn(1, 2, 4, 4)
    with using_ops("triton"), counted_launches() as launches:
        slow = upfirdn2d.upsample2d(x, f)
        with hurried_interpreter():
            fast = [upfirdn2d.upsample2d(x, f) for _ in range(2)]
        again = upfirdn2d.upsample2d(x, f)
    assert launches == {"upfirdn2d_triton.upfirdn2d_kernel": 4}
    assert all(torch.equal(slow, other) for other in (*fast, again))


def make_run(way, seed=0, losses=(1.0, 1.0), distance=1.0, launches=None):
    values = [{"Loss/G/loss": loss, "Gradients/norm/Gmain": 2.0} for loss in losses]
    launches = ALL_KERNELS if launches is None and way == "triton" else launches or {}
    return Run(way, seed, values, [(8, distance)], launches, 1.0)


def test_differences_are_relative_and_of_the_worst_number():
    ours, theirs = make_run("triton", losses=(1.0, 0.5)), make_run("torch", losses=(1.0, 2.0))
    assert difference(ours, theirs) == [0, 0.75]
    theirs.values[0]["Loss/D/reg"] = 1.0
    assert difference(ours, theirs) == [float("inf"), 0.75]


@pytest.mark.parametrize(
    "kernels, message",
    [
        (dict(), None),
        (dict(losses=(1.00009, 1.0002)), None),
        (dict(losses=(1.0002, 1.0)), "iteration 1: kernels and twins differ by 2.0e-04"),
        (dict(losses=(1.0, 1.004)), "iteration 2: kernels and twins differ by 4.0e-03"),
        (dict(losses=(1.0, float("nan"))), "iteration 2: kernels and twins differ by inf"),
        (dict(distance=1.9), None),
        (dict(distance=2.1), "distance at the end differs by 1.1; seeds by 1"),
        (dict(launches={"render_triton.x": 1}), "triton, seed 0: no launches of kernels of epi"),
        (dict(launches={"x": 1}), "triton, seed 1: no launches of kernels of epilogue, render, "),
    ],
)
def test_verdict(kernels, message):
    """Twice the standard error of the difference of two means of 1 +- 0.5 is 1.0."""
    spread = 0.5**0.5 / 2
    runs = [make_run("torch", s, distance=1 + d) for s, d in enumerate((-spread, spread))]
    runs += [make_run("perturbed", s, losses=(1.0, 1.0001)) for s in range(2)]
    runs += [make_run("triton", s, **kernels) for s in range(2)]
    assert noise(runs) == pytest.approx(1.0)
    found = problems(runs, "cpu")
    assert (not found) if message is None else any(line.startswith(message) for line in found)
    runs[0].launches["render_triton.x"] = 1
    assert "torch, seed 0: there were launches of kernels of render" in problems(runs, "cpu")


run = functools.partial(CliRunner().invoke, main)


def test_the_command_writes_tables_and_a_file(cars, tmp_path):
    path = tmp_path / "out" / "parity.json"
    given = [f"--data={cars}", "--ways=perturbed,torch", "--seeds=4", "--iterations=2", "--draws=2"]
    result = run([*given, "--samples=4", f"--json={path}", f"--figure={tmp_path / 'a' / 'b.png'}"])
    assert result.exit_code == 0, result.output
    assert (
        "| perturbed | 4 | 0 | " in result.output and "| iteration | perturbed |" in result.output
    )
    first, second, third = json.loads(path.read_text())["runs"]
    assert [r["way"] for r in (first, second, third)] == ["torch", "perturbed", "perturbed"]
    assert second["values"] != third["values"]
    assert len(first["values"]) == 2 and [n for n, _ in first["distances"]] == [2, 4]
    assert (tmp_path / "a" / "b.png").exists() != ("matplotlib is missing" in result.output)


@pytest.mark.parametrize(
    "given, message",
    [
        (["--data=none.zip", "--ways=torch"], "none.zip"),
        (["--data=x", "--seeds=1,1"], "'1,1' must be different whole numbers, such as 0,1,2"),
        (["--data=x", "--seeds=-1"], "'-1' must be different whole numbers"),
        (["--data=x", "--ways=triton"], "'triton' must be torch and others of torch,perturbed,"),
        pytest.param(
            ["--data=x", "--full"],
            "--full with kernels needs a GPU",
            marks=pytest.mark.skipif(DEVICE == "cuda", reason="has one"),
        ),
    ],
)
def test_wrong_options_end_in_one_line(given, message):
    result = run(given)
    assert result.exit_code in (1, 2) and message in result.output
    assert "Traceback" not in result.output
