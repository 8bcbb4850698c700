"""What a step on patches takes: the count against real tensors, the comparison, the command."""

import json

import pytest
import torch
from click.testing import CliRunner

from torch_utils.memory_count import LiveBytes
from training.rehearsal import noise_batch, rehearse

pytest.importorskip("training.epigraf")
patches = pytest.importorskip("benchmarks.patches")

TINY = patches.Size(channel_base=128, channel_max=8, planes=8, samples=4)


def test_fake_tensors_count_as_real_ones_do():
    fake = patches.counted(*patches.networks(TINY, 32, 16), batch=2)
    G, D = patches.networks(TINY, 32, 16)
    with LiveBytes() as live:
        for parameter in (*G.parameters(), *D.parameters()):
            parameter.grad = torch.zeros_like(parameter)
        batch, before = noise_batch(2, 512, 32, torch.device("cpu")), live.now
        step = patches.phases(G, D)[0]
        live.restart()
        rehearse(step, batch, 0)
    inputs = sum(t.numel() * 4 for t in batch)
    assert fake["Gmain"] == pytest.approx(live.peak - before + inputs, rel=0.02)


def test_whole_pictures_take_more_than_patches_by_their_pixels():
    patch, whole = (patches.counted(*patches.networks(TINY, 64, n), batch=2) for n in (16, 64))
    assert whole["Gmain"] > 3 * patch["Gmain"]


@pytest.mark.parametrize("seen", [16, 32])
def test_the_discriminator_sees_what_is_rendered(seen):
    G, D = patches.networks(TINY, 32, seen)
    shapes = []
    D.register_forward_pre_hook(lambda D, arguments: shapes.append(arguments[0]["image"].shape))
    rehearse(patches.phases(G, D)[1], noise_batch(2, 512, 32, torch.device("cpu")), 0)
    assert [tuple(shape) for shape in shapes] == [(2, 3, seen, seen)] * 2  # generated and real


def test_cases_are_patches_and_whole_pictures():
    assert patches.cases([32, 64, 128], 64) == [(32, 32), (64, 64), (128, 64), (128, 128)]


def test_speed_is_left_out_where_memory_would_not_suffice(monkeypatch):
    monkeypatch.setattr(patches, "available_memory", lambda device: 1)
    row = patches.speed_row(TINY, 32, 16, 2, torch.device("cpu"))
    assert row["images/s"] is None and row["device"] == "cpu"


def test_the_command_writes_both_tables(monkeypatch, tmp_path):
    monkeypatch.setattr(patches, "PUBLISHED", TINY)
    monkeypatch.setattr(patches, "SMALL", TINY)
    path = tmp_path / "patches.json"
    arguments = ["--sides=32", "--patch=16", f"--json={path}"]
    result = CliRunner().invoke(patches.main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(path.read_text())
    assert [(r["picture"], r["rendered"]) for r in found["memory"]] == [(32, 16), (32, 32)]
    assert all(r["images/s"] > 0 and r["widths"] == "128/8" for r in found["speed"])


@pytest.mark.parametrize("sides", ["100", "128,", "8", "x"])
def test_wrong_sides_are_said_so(sides):
    result = CliRunner().invoke(patches.main, [f"--sides={sides}"])
    assert result.exit_code == 2 and "powers of two" in result.output
