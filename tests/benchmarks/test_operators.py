"""The benchmarks of operators: what is counted, and that they run without a GPU."""

import json

import torch
from click.testing import CliRunner
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import launches, operators
from training.discriminator import DiscriminatorBlock


def test_traffic_is_what_operators_read_and_write():
    x, row = torch.zeros(4, 8), torch.zeros(8)
    with launches.Traffic() as traffic:
        y = x + row.expand(4, 8)
        y.view(8, 4).t()  # moves nothing
        y.mul_(2)
    assert traffic.operators == 2
    assert traffic.bytes == 4 * (32 + 8 + 32) + 4 * (32 + 32)


def test_kernels_save_launches_and_traffic():
    with FakeTensorMode():
        block = DiscriminatorBlock(16, 16, 32, 32, 3, first_layer_idx=0, use_fp16=True)
        x = torch.randn(2, 16, 32, 32)
        found = [launches.counted(block, lambda: block(x, None)[0], k) for k in (False, True)]
    for which in ("forward", "backward"):
        plain, kernels = (counts[which] for counts in found)
        assert 0 < kernels.operators < plain.operators and 0 < kernels.bytes < plain.bytes / 2


def test_operators_are_timed_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    path = tmp_path / "times.json"
    done = CliRunner().invoke(operators.main, ["--small", "--repeats=2", f"--json={path}"])
    assert done.exit_code == 0, done.output
    assert "plain operators only: Triton needs a CUDA device" in done.output
    rows = json.loads(path.read_text())["seconds"]
    assert len(rows) == 7 and {row["way"] for row in rows} == {"torch"}
    assert all(row["forward"]["median"] > 0 and row["both"]["median"] > 0 for row in rows)
