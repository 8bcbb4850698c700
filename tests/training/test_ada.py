"""The strength of augmentation in a run, against the published rule worked out by hand."""

import math

import pytest
import torch

from torch_utils import training_stats
from training.ada import AdaptiveStrength


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(training_stats, "_registry", training_stats._Registry())


@pytest.fixture
def pipe():
    result = torch.nn.Module()
    result.register_buffer("p", torch.tensor(0.5))
    return result


def test_p_moves_every_fourth_iteration(pipe):
    """By 8 * 4 / (1000 * 2) = 0.016, towards the target's side of what came since the last move."""
    ada = AdaptiveStrength(pipe, target=0.6, batch_size=8, interval=4, ada_kimg=2)
    expected = 0.5
    signs = [1] * 4 + [0.5] * 4 + [0.2, 0.2, 0.2, 1.81] + [1] * 3
    for batch_idx, sign in enumerate(signs, start=1):
        training_stats.report("Loss/signs/real", torch.full([8], float(sign)))
        training_stats.report("Loss/signs/fake", torch.full([8], -1.0))  # Counts for nothing.
        ada.after(batch_idx)
        expected += {4: 0.016, 8: -0.016, 12: 0.016}.get(batch_idx, 0)
        assert pipe.p.item() == pytest.approx(expected, abs=1e-6), batch_idx


def test_p_stays_above_zero_and_without_news(pipe):
    ada = AdaptiveStrength(pipe, target=0.6, batch_size=1000, interval=1, ada_kimg=1)
    ada.after(1)
    assert pipe.p.item() == 0.5 and math.isnan(ada.collector.mean("Loss/signs/real"))
    training_stats.report("Loss/signs/real", [-1.0])
    ada.after(2)
    assert pipe.p.item() == 0


def test_what_was_collected_is_restored(pipe):
    def strength():
        return AdaptiveStrength(pipe, target=0.6, batch_size=8, interval=4, ada_kimg=2)

    ada = strength()
    training_stats.report("Loss/signs/real", [-1.0] * 5)
    ada.after(4)
    training_stats.report("Loss/signs/real", [1.0] * 5)
    saved, statistics = ada.state_dict(), training_stats.state_dict()
    training_stats._registry.__init__()  # A new process.
    training_stats.load_state_dict(statistics)
    again = strength()
    again.load_state_dict(saved)
    pipe.p.fill_(0.5)
    again.after(8)
    assert again.collector.mean("Loss/signs/real") == 1 and pipe.p.item() == pytest.approx(0.516)
