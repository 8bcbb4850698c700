"""The benchmark of datasets runs, and counts pictures by the second."""

import json
import time

import pytest
from click.testing import CliRunner

from benchmarks import datasets as benchmark


def test_tables(tmp_path, cars, monkeypatch):
    monkeypatch.setattr(benchmark, "_WORKERS", (1,))
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    arguments = [f"--data={cars}", "--count=8", "--repeats=2", f"--json={tmp_path / 'x.json'}"]
    done = CliRunner().invoke(benchmark.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "x.json").read_text())
    assert len(found["conversion"]) == 4 and len(found["reading"]) == 3 * 3 + 2 + 1
    rows = [*found["conversion"], *found["reading"]]
    assert all(row["images/s, best"] >= row["images/s, median"] > 0 for row in rows)
    assert "| read a shards | 1 |" in done.output


@pytest.mark.parametrize("own, rate", [(None, 200), (0.05, 400)])
def test_rates(own, rate):
    def run():
        time.sleep(0.1)
        return own

    row = benchmark._row(dict(what="x"), run, 20, repeats=2)
    assert row["images/s, median"] == pytest.approx(rate, rel=0.15)
