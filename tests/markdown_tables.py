"""Tables of the documentation's pages, for tests that compare them with the code."""

import re
from pathlib import Path


def read_page(name: str) -> str:
    """The text of a page of docs/."""
    return (Path(__file__).parent.parent / "docs" / name).read_text(encoding="utf-8")


def tables(page: str) -> dict[str, dict[str, str]]:
    """{first cell without backquotes: {column: cell}} of the rows of all tables of a page."""
    rows, header = {}, None
    for line in page.splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if header is None:
            header = cells
        elif not set(cells[0]) <= set("- "):
            name = re.match(r"`?([^` ]*)", cells[0]).group(1)
            assert name not in rows, f"{name} has two rows"
            rows[name] = dict(zip(header, cells, strict=True))
    return rows


def shown(default: object) -> str:
    """A default as the tables have it."""
    if default is None:
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)
