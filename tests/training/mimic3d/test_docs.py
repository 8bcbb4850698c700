"""docs/mimic3d.md names the method's options with their defaults, its presets and branches."""

import pytest

from tests.markdown_tables import read_page, shown, tables
from training.mimic3d import METHOD
from training.mimic3d.generator import DualTriPlaneGenerator

PAGE = read_page("mimic3d.md")
ROWS = tables(PAGE)


def test_options_and_no_others_have_rows():
    assert set(ROWS) == {row[0] for row in METHOD.options}


@pytest.mark.parametrize("row", METHOD.options, ids=lambda row: row[0])
def test_default_of_an_option(row):
    flag, _, default, _ = row
    assert ROWS[flag]["default"] == shown(default)
    assert len(ROWS[flag]["meaning"]) > 20


def test_presets_and_branches_are_named():
    names = [*METHOD.cfgs, *DualTriPlaneGenerator.choices["branch"]]
    assert [name for name in names if f"`{name}`" not in PAGE] == []
