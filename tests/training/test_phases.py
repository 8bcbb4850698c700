import pytest
import torch

from torch_utils import training_stats
from training.loss import Batch, Term, Trainee
from training.phases import Phase, make_ema, make_phases, run_phase, update_ema

ADAM = dict(class_name="torch.optim.Adam", lr=0.01, betas=[0, 0.99], eps=1e-8)


def trainees():
    def terms(batch, nimg):
        yield from ()

    networks = dict(G=torch.nn.Linear(3, 1), D=torch.nn.Linear(2, 1))
    return [Trainee(name, network, terms, terms) for name, network in networks.items()]


def test_phases_share_an_optimizer_and_scale_it():
    phases = make_phases(trainees(), dict(G=ADAM, D=ADAM), dict(G=4, D=16))
    assert [p.name for p in phases] == ["Gmain", "Greg", "Dmain", "Dreg"]
    assert [p.interval for p in phases] == [1, 4, 1, 16]
    assert phases[0].opt is phases[1].opt and phases[2].opt is phases[3].opt
    assert phases[0].opt.param_groups[0]["lr"] == pytest.approx(0.008)


def test_without_an_interval_one_phase_does_both():
    phases = make_phases(trainees(), dict(G=ADAM, D=ADAM), dict(G=None, D=16))
    assert [p.name for p in phases] == ["Gboth", "Dmain", "Dreg"]
    assert len(phases[0].losses) == 2
    assert phases[0].opt.param_groups[0]["lr"] == 0.01


def linear_phase(interval=1):
    """A phase whose loss is the mean output on `real_img`."""
    module = torch.nn.Linear(3, 1)

    def loss(batch, nimg):
        yield Term(module(batch.real_img), {"Test/loss": module(batch.real_img)})

    opt = torch.optim.SGD(module.parameters(), lr=1.0)
    return Phase("test", module.requires_grad_(False), opt, (loss,), interval)


def test_a_step_averages_micro_batches_and_multiplies_by_the_interval():
    phase = linear_phase(interval=4)
    before = phase.module.weight.clone()
    batches = [Batch(torch.full((2, 3), float(k)), None, None, None) for k in (1, 2)]
    run_phase(phase, batches, 0)
    assert torch.allclose(before - phase.module.weight, torch.full((1, 3), 4 * (1.0 + 2.0) / 2))
    assert not phase.module.weight.requires_grad


def test_what_a_term_reports_reaches_the_collector():
    collector = training_stats.Collector("Test/.*")
    run_phase(linear_phase(), [Batch(torch.ones(2, 3), None, None, None)], 0)
    collector.update()
    assert collector.num("Test/loss") == 2


def test_gradients_are_cleaned_after_they_were_averaged():
    """NaN becomes 0 and infinity 1e5, whatever the other micro-batches say."""
    phase = linear_phase()
    phase.module.weight.data.zero_()
    values = [[float("nan"), float("inf"), -float("inf")], [1.0, 1.0, 1.0]]
    batches = [Batch(torch.tensor([row]), None, None, None) for row in values]
    run_phase(phase, batches, 0)
    assert phase.module.weight.tolist() == [[0, -1e5, 1e5]]


def test_what_micro_batches_track_is_averaged_too():
    """Each micro-batch starts from the same mean, so their order does not matter."""
    mean = torch.tensor([1.0])

    def loss(batch, nimg):
        mean.lerp_(batch.real_img, 0.5)
        yield Term(module(batch.real_img), {})

    module = torch.nn.Linear(1, 1)
    opt = torch.optim.SGD(module.parameters(), lr=1.0)
    phase = Phase("test", module.requires_grad_(False), opt, (loss,), 1)
    batches = [Batch(torch.tensor([float(k)]), None, None, None) for k in (3, 7)]
    run_phase(phase, batches, 0, tracked=[mean])
    assert mean.item() == pytest.approx((2.0 + 4.0) / 2)


def test_the_norm_of_the_gradient_is_reported():
    collector = training_stats.Collector("Gradients/.*")
    run_phase(linear_phase(interval=2), [Batch(torch.ones(2, 3), None, None, None)], 0)
    collector.update()
    assert collector.mean("Gradients/norm/test") == pytest.approx(2 * (3 + 1) ** 0.5)


class WithBuffer(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.register_buffer("mean", torch.zeros(2))
        self.neural_rendering_resolution = 64
        self.rendering_kwargs = dict(box_warp=1)


def test_ema_averages_parameters_and_copies_the_rest():
    G = WithBuffer()
    G_ema = make_ema(G)
    start = G_ema.weight.clone()
    with torch.no_grad():
        G.weight += 1
        G.mean += 3
    G.neural_rendering_resolution = 96
    G.rendering_kwargs["box_warp"] = 2
    update_ema(G_ema, G, 0.75)
    assert torch.allclose(G_ema.weight, start + 0.25)
    assert G_ema.mean.tolist() == [3, 3]
    assert G_ema.neural_rendering_resolution == 96
    assert G_ema.rendering_kwargs == dict(box_warp=2)
    assert G_ema.rendering_kwargs is not G.rendering_kwargs
    assert not G_ema.training and not G_ema.weight.requires_grad
