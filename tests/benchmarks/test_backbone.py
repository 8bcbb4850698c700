"""The benchmark of backbones runs, and its two streams are one function at different cost."""

import json

import pytest
import torch
from click.testing import CliRunner

from benchmarks import backbone as benchmark
from training.networks_stylegan2 import SynthesisNetwork


def test_table(tmp_path, monkeypatch):
    small = dict(w_dim=8, img_channels=6, channel_max=8)
    monkeypatch.setattr(benchmark, "SIZES", {**benchmark.SIZES, **small})
    path = tmp_path / "x.json"
    arguments = ["--side=8", "--batch=1", "--repeats=2", f"--json={path}"]
    done = CliRunner().invoke(benchmark.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and "| stream and details |" in done.output
    rows = {row["backbone"]: row for row in json.loads(path.read_text())["rows"]}
    for measure in ("MB kept a sample", "GFLOP a sample"):
        plain, full, strips = (
            rows[name][measure] for name in ("plain", "stream, means in full", "stream")
        )
        assert 0 < plain < strips and plain < full
    assert min(value for row in rows.values() for key, value in row.items() if "ms" in key) > 0


def test_streams_are_one_function():
    G = SynthesisNetwork(8, 16, 96, channel_base=64, channel_max=8, aware3d_res=[8, 16])
    ws = torch.randn(1, G.num_ws, 8)
    with benchmark.convolutions_of("stream, means in full"):
        full = G(ws, noise_mode="const")
    strips = G(ws, noise_mode="const")
    assert not torch.equal(full, strips)  # or it would be one way twice
    torch.testing.assert_close(full, strips, rtol=1e-5, atol=1e-5)


def test_wrong_side():
    done = CliRunner().invoke(benchmark.main, ["--side=12"])
    assert isinstance(done.exception, ValueError)
    with pytest.raises(ValueError, match="power of two"):
        raise done.exception
