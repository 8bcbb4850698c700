"""Writes docs/options_effects.md: `python -m tests.write_options_table`."""

from pathlib import Path

from tests.option_effects import ROWS, Row, changed_fields

PAGE = Path(__file__).parent.parent / "docs" / "options_effects.md"
SHOWN = 6  # fields of an option

HEAD = """# What each option changes

Made by `python -m tests.write_options_table` from the rows of `tests/option_effects.py`; do not
edit it here. `tests/commands/test_options_have_effects.py` runs every row: two trainings of tiny
networks, without and with the option. Their configurations must differ in these fields of
`TrainingConfig`, and the trainings where the last column says. What the options mean is in
[options.md](options.md).

| tried | together with | fields of the configuration | shows in |
| --- | --- | --- | --- |
"""


def table() -> str:
    """The text of the page."""
    return HEAD + "".join(_line(row) for row in ROWS)


def _line(row: Row) -> str:
    fields = changed_fields(row) if row.fields else []
    more = f", {len(fields) - SHOWN} more" if len(fields) > SHOWN else ""
    shown = ", ".join(f"`{name}`" for name in fields[:SHOWN]) + more
    partners = " ".join(f"`{partner}`" for partner in row.partners)
    return f"| `{row.argument}` | {partners} | {shown} | {row.proof.words} |\n"


if __name__ == "__main__":
    PAGE.write_text(table(), encoding="utf-8")
    print(f"wrote {PAGE}")
