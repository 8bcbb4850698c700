"""Commands are tested on the tiny snapshot of tests/eg3d, in this process."""

import pytest
from click.testing import CliRunner

from tests.eg3d import conftest as tiny

generator = tiny.generator
new_generator = tiny.new_generator
snapshot = tiny.snapshot
classed_snapshot = tiny.classed_snapshot


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """--offline holds for the rest of a process: here for the rest of a test."""
    monkeypatch.setattr("dnnlib.download._offline", None)


@pytest.fixture
def run_on(snapshot):
    """`run_on(command, *arguments)` -> click's result, with --network given."""

    def run(command, *arguments):
        args = [f"--network={snapshot}", *map(str, arguments)]
        return CliRunner().invoke(command, args, catch_exceptions=False)

    return run


@pytest.fixture
def fails(run_on):
    """`fails(command, *arguments, words=...)`: status 1 or 2 and one error line with the words."""

    def check(command, *arguments, words):
        result = run_on(command, *arguments)
        errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
        assert result.exit_code in (1, 2), result.output
        assert len(errors) == 1 and result.output.rstrip().endswith(errors[0]), result.output
        missing = [word for word in words if word not in errors[0]]
        assert not missing, errors[0]

    return check
