"""The renderer's kernels compile for GPUs that are not there, without spills.

In processes of their own: in this one kernels are interpreted. Some of the shipped configurations;
`python -m benchmarks.compile_gate` looks at all.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "arch, only, load, store, atomic",
    [
        ("80,100", "composite, float16 legacy", 16, 16, 0),
        ("90", "render backward, float16 orthogonal", 16, 4, 16),
        ("90", "composite, float16 classic", 16, 16, 0),
    ],
)
def test_no_spills(tmp_path, arch, only, load, store, atomic):
    """A texel is read in accesses of 16 bytes, and added to in as many."""
    pytest.importorskip("triton", reason="Triton is not installed: its kernels are not compiled")
    report = tmp_path / "report.json"
    run = ["-m", "benchmarks.compile_gate", f"--arch={arch}", f"--only={only}", f"--json={report}"]
    kept = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, *run],
        cwd=ROOT,
        env=kept | dict(TRITON_CACHE_DIR=str(tmp_path / "cache")),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(report.read_text())["rows"]
    assert [str(row["sm"]) for row in rows] == arch.split(",")
    for row in rows:
        assert row["spills"] == 0 and 16 <= row["registers"] <= 255, row
        assert (row["load"], row["store"], row["atomic"]) == (load, store, atomic), row
