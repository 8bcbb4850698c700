"""What `python -m eg3d doctor` says of a machine that works, and of broken ones."""

import pytest
import torch
from click.testing import CliRunner

from eg3d import doctor, operator_trials
from eg3d.__main__ import main
from eg3d.operator_trials import Trial
from torch_utils.ops import choice
from torch_utils.ops.choice import chosen_ops


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.delenv("EG3D_OPS", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(choice, "_asked", None)


@pytest.fixture
def one_trial(monkeypatch):
    """One quick operator; `one_trial(error)` gives its kernel that relative error."""

    def install(error):
        def run(x):
            return x * (2 + 2 * error if chosen_ops() == "triton" else 2)

        trial = Trial("doubling", torch.arange(3.0) + 1, run, tolerance=1e-3)
        monkeypatch.setattr(doctor, "trials", lambda device, small: [trial])

    install(0)
    return install


def test_all_is_well():
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[-1] == "all is well" and "video: ffmpeg encodes" in lines
    assert any(f"torch {torch.__version__.split('+')[0]}" in line for line in lines)
    assert "operators: plain PyTorch; kernels of Triton are for GPUs" in lines
    timed = [line for line in lines if line.startswith("  ") and ": plain " in line]
    names = ("bias", "epilogue", "blur", "up-s", "down-", "up-conv", "renderer")
    assert all(line.strip().startswith(name) for line, name in zip(timed, names, strict=True))


@pytest.mark.parametrize(
    "variable, words",
    [
        ("fast", "PROBLEM EG3D_OPS must be one of auto, torch, triton, not 'fast'"),
        ("triton", "PROBLEM EG3D_OPS=triton: needs a CUDA device, and this machine has none"),
    ],
)
def test_choices_that_cannot_be(one_trial, monkeypatch, variable, words):
    monkeypatch.setenv("EG3D_OPS", variable)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 1 and words in done.output.splitlines()
    assert done.output.splitlines()[-1] == "1 problems"


def test_broken_encoder(one_trial, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("No ffmpeg exe\ncould be found.")

    monkeypatch.setattr(doctor, "write_video", fail)
    done = CliRunner().invoke(main, ["doctor"])
    line = "PROBLEM video: ffmpeg does not work (RuntimeError: No ffmpeg exe could be found.)"
    assert done.exit_code == 1 and line in done.output


def test_kernels_are_compared_with_their_twins(one_trial):
    """As on a machine with a GPU: both are timed, and what differs is a problem."""
    ways = ("torch", "triton")
    one_trial(1e-4)
    said = list(doctor._times(torch.device("cpu"), ways))
    assert len(said) == 2 and not any(isinstance(line, doctor.Finding) for line in said)
    assert "doubling, 3 float32: plain " in said[1] and ", Triton " in said[1] and "x / " in said[1]
    one_trial(0.01)
    problem = list(doctor._times(torch.device("cpu"), ways))[-1]
    assert isinstance(problem, doctor.Finding) and "differ by 2.0e-02" in problem
    one_trial(float("nan"))
    assert isinstance(list(doctor._times(torch.device("cpu"), ways))[-1], doctor.Finding)


def test_kernel_that_fails(one_trial, monkeypatch):
    def fail(trial):
        raise RuntimeError("no such\ninstruction")

    monkeypatch.setattr(doctor, "difference", fail)
    problem = list(doctor._times(torch.device("cpu"), ("torch", "triton")))[-1]
    assert problem == "  doubling, 3 float32: RuntimeError: no such instruction"
    assert isinstance(problem, doctor.Finding)


def test_trials_are_what_networks_compute():
    """Sizes double and halve, and the gradient belongs to the output."""
    found = {trial.name: trial for trial in operator_trials.trials(torch.device("cpu"), True)}
    for name, factor in [("up-sampling", 2), ("down-sampling", 0.5), ("blur", 1)]:
        y, dx = found[name].both()
        assert y.shape[3] == found[name].x.shape[3] * factor and dx.shape == found[name].x.shape
    trial = found["epilogue"]
    y, dx = trial.both()
    step = 1e-3 * torch.randn_like(trial.x)
    change = (trial.run(trial.x + step).double() ** 2).sum()
    change -= (trial.run(trial.x - step).double() ** 2).sum()
    assert change.item() / 2 == pytest.approx((dx * step).sum().item(), rel=1e-2)
