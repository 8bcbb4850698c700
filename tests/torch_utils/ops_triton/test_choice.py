"""Which version of an operator runs, what is said about it, and that Triton is imported late."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from torch_utils.ops import choice

ROOT = Path(__file__).parents[3]
CPU, CUDA = (SimpleNamespace(device=torch.device(kind)) for kind in ("cpu", "cuda"))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.delenv("EG3D_OPS", raising=False)
    choice.set_ops(None)
    yield
    choice.set_ops(None)


@pytest.fixture
def triton_is(monkeypatch):
    """`triton_is(problem)`: Triton can be imported (None), or cannot, and why."""

    def pretend(problem):
        monkeypatch.setattr(choice, "triton_problem", lambda: problem)
        monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.6.0"))

    return pretend


def test_auto(triton_is, capsys):
    triton_is(None)
    assert choice.use_triton(CUDA) and choice.use_triton(CUDA) and not choice.use_triton(CPU)
    assert capsys.readouterr() == ("", "operators: Triton 3.6.0\n")
    choice.set_ops("auto")
    triton_is("ModuleNotFoundError: No module named 'triton'")
    assert not choice.use_triton(CUDA)
    line = "operators: plain PyTorch, because Triton cannot be used: ModuleNotFoundError"
    assert capsys.readouterr().err.startswith(line)


def test_torch(triton_is, monkeypatch, capsys):
    triton_is(None)
    monkeypatch.setenv("EG3D_OPS", "torch")
    assert not choice.use_triton(CUDA) and not choice.use_triton(CPU)
    assert capsys.readouterr().err == "operators: plain PyTorch, as chosen\n"
    choice.set_ops("triton")  # comes before the environment
    assert choice.use_triton(CUDA)


def test_triton_asked_for_and_not_there(triton_is):
    triton_is("ModuleNotFoundError: No module named 'triton'")
    choice.set_ops("triton")
    with pytest.raises(RuntimeError, match="triton was chosen and cannot be used: Module"):
        choice.use_triton(CUDA)
    assert not choice.use_triton(CPU)


@pytest.mark.parametrize("interpreter", ["1", "0"])
def test_cpu_tensors_need_the_interpreter_and_the_word(triton_is, monkeypatch, interpreter):
    triton_is(None)
    monkeypatch.setenv("TRITON_INTERPRET", interpreter)
    assert not choice.use_triton(CPU)
    choice.set_ops("triton")
    assert choice.use_triton(CPU) == (interpreter == "1")
    assert not choice.use_triton(SimpleNamespace(device=torch.device("meta")))


def test_unknown_words(monkeypatch):
    with pytest.raises(ValueError, match="ops must be one of auto, torch, triton, not 'cuda'"):
        choice.set_ops("cuda")
    monkeypatch.setenv("EG3D_OPS", "fast")
    with pytest.raises(ValueError, match="EG3D_OPS must be one of auto, torch, triton, not 'fast'"):
        choice.use_triton(CPU)


def test_triton_is_imported_late():
    """Neither importing the operators nor running them on a CPU imports it."""
    script = """
import sys, torch
from torch_utils.ops import bias_act, upfirdn2d
x = torch.randn(1, 2, 4, 4)
upfirdn2d.upsample2d(bias_act.bias_act(x, act="lrelu"), upfirdn2d.setup_filter([1, 3, 3, 1]))
print([name for name in sys.modules if name.split(".")[0] == "triton"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "[]\n", done.stderr
