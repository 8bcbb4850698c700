"""The option --ops of the generating commands and of metrics."""

import click
import pytest
from click.testing import CliRunner

from eg3d.command_line import ops_option
from torch_utils.ops import choice


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
