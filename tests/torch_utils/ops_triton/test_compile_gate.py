"""Kernels compile for GPUs that are not there, without spills and with 16-byte accesses.

In processes of their own: in this one kernels are interpreted. Some of the shipped configurations;
`python -m benchmarks.compile_gate` looks at all.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from torch_utils.ops import compile_gate

ROOT = Path(__file__).parents[3]

SPILLING = """
from dataclasses import replace
from torch_utils.ops import compile_gate, epilogue_triton
case = next(c for c in epilogue_triton.compile_cases() if "backward" in c.name)
case = replace(case, constants={**case.constants, "BLOCK_P": 128})
print(compile_gate.compile_case(case, 90).spills)
"""


def compiling(arguments, folder):
    """Runs Python with kernels compiled, into a cache of its own."""
    pytest.importorskip("triton", reason="Triton is not installed: its kernels are not compiled")
    kept = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=kept | dict(TRITON_CACHE_DIR=str(folder / "cache")),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    "arch, only, count",
    [
        ("80,100", "epilogue backward, fp16 channels-last", 2),
        ("90", "epilogue, fp16 channels-last", 2),  # with the filter, and without
    ],
)
def test_no_spills(tmp_path, arch, only, count):
    report = tmp_path / "report.json"
    run = ["-m", "benchmarks.compile_gate", f"--arch={arch}", f"--only={only}", f"--json={report}"]
    done = compiling(run, tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(report.read_text())["rows"]
    assert len(rows) == count and {str(row["sm"]) for row in rows} == set(arch.split(","))
    for row in rows:
        assert row["spills"] == 0 and 16 <= row["registers"] <= 255, row
        assert row["load"] == row["store"] == 16, row


def test_spills_are_found(tmp_path):
    done = compiling(["-c", SPILLING], tmp_path)
    assert int(done.stdout) > 0, done.stderr


def test_interpreted_kernels_cannot_be_compiled(device):
    if device.type == "cuda":
        pytest.skip("kernels are compiled here")
    from torch_utils.ops import epilogue_triton

    case = epilogue_triton.compile_cases()[0]
    with pytest.raises(RuntimeError, match="is interpreted, unset TRITON_INTERPRET"):
        compile_gate.compile_case(case, 90)


def test_widest():
    ptx = """
    ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [ %rd1 ];
    @%p1 ld.global.b16 %rs1, [ %rd2 ];
    st.global.v2.b64 [ %rd3 ], {%rd4, %rd5};
    red.global.gpu.relaxed.add.noftz.v2.f16x2 [ %rd6 ], {%r1, %r2};
    """
    widths = [compile_gate._widest(rf"{op}\.[\w.:]*", ptx) for op in ("ld", "st", "red", "atom")]
    assert widths == [16, 16, 8, 0]
