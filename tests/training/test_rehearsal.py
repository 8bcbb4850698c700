"""Steps tried before a run: what they find, and that they leave no trace."""

import copy

import pytest
import torch

from tests.tiny import tiny_discriminator, tiny_generator
from training.loss import StyleGAN2Loss
from training.phases import make_phases
from training.rehearsal import (
    micro_batches,
    noise_batch,
    probe_batch_gpu,
    probe_seconds,
    probe_speed,
    rehearse,
    untouched,
)

ADAM = dict(class_name="torch.optim.Adam", lr=0.01, betas=[0, 0.99])
CPU = torch.device("cpu")


@pytest.fixture
def phases():
    G, D = tiny_generator().train(), tiny_discriminator().train()
    G.rendering_kwargs |= dict(density_reg=0.25, reg_type="l1", density_reg_p_dist=0.004)
    loss = StyleGAN2Loss(G, D, neural_rendering_resolution_initial=8)
    return make_phases(loss.trained(), dict(G=ADAM, D=ADAM), dict(G=4, D=16))


def everything(phases):
    """All that a rehearsal might change."""
    G, D = phases[0].module, phases[2].module
    tensors = [t.clone() for m in (G, D) for t in m.state_dict().values()]
    flags = [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in G.parameters()]
    opts = [copy.deepcopy(phase.opt.state_dict()) for phase in phases]
    return tensors, flags, opts, torch.get_rng_state()


def assert_equal(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


def test_speed_leaves_no_trace(phases):
    first = next(phases[0].module.parameters())
    first.grad = torch.ones_like(first)
    before = everything(phases)
    speed, seconds = probe_speed(phases, noise_batch(2, 8, 32, CPU), nimg=0, gpus=2)
    assert_equal(everything(phases), before)
    assert list(seconds) == ["Gmain", "Greg", "Dmain", "Dreg"]
    assert all(0 < s < 10 for s in seconds.values())
    together = seconds["Gmain"] + seconds["Greg"] / 4 + seconds["Dmain"] + seconds["Dreg"] / 16
    assert speed == pytest.approx(1000 * together / 4)


def test_untouched_after_an_error(phases):
    before = everything(phases)
    batch = noise_batch(2, 8, 32, CPU)
    with (
        pytest.raises(torch.OutOfMemoryError),
        untouched([phases[2].module, phases[0].module], CPU),
    ):
        for phase in phases:
            rehearse(phase, batch, 0)
        assert any(p.grad is not None for p in phases[0].module.parameters())
        assert not torch.equal(torch.get_rng_state(), before[-1])
        assert not torch.equal(phases[0].module.backbone.mapping.w_avg, torch.zeros(8))
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert_equal(everything(phases), before)


def test_seconds_are_of_the_faster_call():
    now = iter([0.0, 1.5, 10.0, 10.25])
    assert probe_seconds(lambda: None, enough=2, clock=lambda: next(now)) == 0.25
    now = iter([0.0, 2.5])
    assert probe_seconds(lambda: None, enough=2, clock=lambda: next(now)) == 2.5


@pytest.mark.parametrize(
    "batch, gpus, group, expected",
    [
        (32, 1, 4, [32, 16, 8, 4]),
        (32, 4, 4, [8, 4]),
        (24, 2, 2, [12, 6, 4, 2]),
        (32, 8, 8, []),
        (6, 1, 1, [6, 3, 2, 1]),
    ],
)
def test_micro_batches(batch, gpus, group, expected):
    assert micro_batches(batch, gpus, group) == expected


class Device:
    """Has memory for `most` images; 10 bytes an image."""

    def __init__(self, most):
        self.most = most
        self.tried = []

    def attempt(self, size):
        self.tried.append(size)
        if size > self.most:
            raise torch.OutOfMemoryError(f"{size} images")
        return 10 * size


def test_largest_batch_that_fits():
    device = Device(most=12)
    assert probe_batch_gpu([32, 16, 8, 4], device.attempt, capacity=1000) == 8
    assert device.tried == [32, 16, 8]
    # 16 images fit, but leave less than a tenth of the memory.
    assert probe_batch_gpu([16, 8], Device(16).attempt, capacity=177) == 8
    assert probe_batch_gpu([16, 8], Device(16).attempt, capacity=178) == 16
    assert probe_batch_gpu([16, 8], Device(4).attempt, capacity=1000) is None
    assert probe_batch_gpu([], Device(4).attempt, capacity=1000) is None


def test_other_errors_are_not_memory():
    def attempt(size):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        probe_batch_gpu([4], attempt, 100)
