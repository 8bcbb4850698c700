"""docs/epigraf.md names the method's options with their defaults, its presets, and the keys of
`rendering_kwargs` that it alone reads."""

import inspect

import pytest

from tests.markdown_tables import read_page, shown, tables
from training.epigraf import METHOD, generator

PAGE = read_page("epigraf.md")
ROWS = tables(PAGE)


def test_options_and_no_others_have_rows():
    assert {name for name in ROWS if name.startswith("--")} == {row[0] for row in METHOD.options}


@pytest.mark.parametrize("row", METHOD.options, ids=lambda row: row[0])
def test_row_of_an_option(row):
    flag, kind, default, _ = row
    assert ROWS[flag]["default"] == shown(default)
    assert [c for c in getattr(kind, "choices", ()) if f"`{c}`" not in ROWS[flag]["meaning"]] == []


def test_presets_are_named():
    assert [cfg for cfg in METHOD.cfgs if f"`{cfg}`" not in PAGE] == []


def test_its_own_rendering_options_are_read():
    source = inspect.getsource(generator)
    keys = [name for name in ROWS if not name.startswith("--")]
    assert len(keys) == 3
    for name in keys:
        default = ROWS[name]["default"]
        text = f'"{default}"' if default == "all" else default
        assert f'.get("{name}", {text}' in source, name
