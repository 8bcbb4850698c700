"""Runs of the command, and the scenes they are of."""

import pytest
from click.testing import CliRunner

from dataset_preprocessing.cameras.__main__ import main
from tests.dataset_preprocessing.cameras import scenes
from tests.dataset_preprocessing.cameras.scenes import orbit


@pytest.fixture
def run(tmp_path):
    """`run(source, *options)` -> (folder with the result, or None, click's result)."""

    def invoke(source, *options):
        dest = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        done = CliRunner().invoke(main, [f"--source={source}", f"--dest={dest}", *options])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert dest.exists() == (done.exit_code == 0)
        return (dest if dest.exists() else None), done

    return invoke


@pytest.fixture
def refused(run):
    """`refused(source, *options)` -> the one line that is said; nothing is written."""

    def invoke(source, *options):
        dest, done = run(source, *options)
        assert dest is None and done.exit_code == 1, done.output
        line = done.output.removeprefix("Error: ").rstrip("\n")
        assert "\n" not in line and len(line) > 20
        return line

    return invoke


@pytest.fixture
def scene(tmp_path):
    """`scene(kind, **lens)` -> folder with such a scene of three pictures."""

    def make(kind, count=3, **lens):
        folder = tmp_path / kind
        scenes.WRITERS[kind](orbit(count, **lens), folder)
        return folder

    return make
