"""The options --ops and --bf16 of the generating commands."""

import click
import pytest
import torch
from click.testing import CliRunner

from eg3d.command_line import bf16_option, ops_option
from torch_utils.ops import choice, conv2d_gradfix


@click.command()
@ops_option
def command():
    click.echo(choice.chosen_ops())


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.delenv("EG3D_OPS", raising=False)
    yield
    choice.set_ops(None)


def test_ops():
    run = CliRunner().invoke
    assert run(command).output == "auto\n"
    assert run(command, env=dict(EG3D_OPS="torch")).output == "torch\n"
    assert run(command, ["--ops=auto"], env=dict(EG3D_OPS="torch")).output == "auto\n"


@pytest.mark.parametrize("arguments, variable", [(["--ops=fast"], None), ([], "fast")])
def test_unknown_ops(arguments, variable):
    done = CliRunner().invoke(command, arguments, env=dict(EG3D_OPS=variable))
    assert done.exit_code == 2 and "'fast' is not one of 'auto', 'torch', 'triton'" in done.output


def test_triton_where_it_cannot_run(monkeypatch):
    monkeypatch.setattr(choice, "why_not_triton", lambda: "needs a CUDA device")
    done = CliRunner().invoke(command, ["--ops=triton"])
    assert done.exit_code == 2 and "needs a CUDA device; auto uses what there is" in done.output


@click.command()
@bf16_option
def convolve():
    x, w = torch.full((1, 1, 1, 1), 1 / 3), torch.ones(1, 1, 1, 1)
    click.echo(f"{conv2d_gradfix.conv2d(x, w).item():.6f}")


def test_bf16(monkeypatch):
    run = CliRunner().invoke
    monkeypatch.setattr("eg3d.command_line.has_bfloat16", lambda: True)
    assert [run(convolve, args).output for args in ([], ["--bf16"], [])] == [
        "0.333333\n",
        "0.333984\n",
        "0.333333\n",
    ]


def test_bf16_where_it_is_not(monkeypatch):
    monkeypatch.setattr("eg3d.command_line.has_bfloat16", lambda: False)
    done = CliRunner().invoke(convolve, ["--bf16"])
    assert done.exit_code == 2 and "'--bf16': this CPU has no bfloat16 arithmetic" in done.output
