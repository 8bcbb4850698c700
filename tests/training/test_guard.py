"""NaN and infinity: counted and named in every phase, and never written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from torch_utils import training_stats
from training import checkpoints
from training import training_loop as loop
from training.guard import (
    Guard,
    NonFiniteError,
    StepCheck,
    gradient_norms,
    not_finite,
    require_finite,
)
from training.launch import launch
from training.loss import Batch, StyleGAN2Loss, Term
from training.phases import Phase, run_phase

NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(training_stats, "_registry", training_stats._Registry())
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_tensors_that_are_not_finite():
    """Against isfinite itself; large numbers are finite, though their norm is not."""
    largest = torch.finfo(torch.float32).max
    rows = [[1, 2], [NAN, 1], [INF], [-INF, NAN], [largest, -largest], [0.0]]
    tensors = [torch.tensor(row, dtype=torch.float32) for row in rows]
    expected = [not t.isfinite().all() for t in tensors]
    assert not_finite(tensors).tolist() == expected == [False, True, True, True, False, False]


def test_lengths_of_gradients():
    """Against norm itself; 0 without a gradient."""
    params = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    assert gradient_norms(params).tolist() == [0, 0, 0]
    params[1].grad = torch.tensor([0, INF])
    assert gradient_norms(params).isfinite().tolist() == [True, False, True]
    params[0].grad, params[2].grad = torch.tensor([3.0, 4.0]), torch.tensor([NAN, 1])
    norms = gradient_norms(params)
    assert norms[0] == 5 and norms.isfinite().tolist() == [True, False, False]
    assert norms[:1].norm() == params[0].grad.norm()


def test_counts_of_a_tick():
    guard = Guard(dict(Dmain=["a", "b"], Gmain=["c"]), limit=5)
    no, yes = torch.tensor(False), torch.tensor(True)

    def step(phase, loss, *gradients):
        guard.add(phase, StepCheck(dict(disc=loss, r1=no), torch.tensor(gradients)))

    for loss, a, b in ((no, False, False), (yes, False, True), (no, False, True)):
        step("Dmain", loss, a, b)
    step("Gmain", no, False)
    assert guard.report() == [
        "Dmain: 2 steps were not finite (loss disc in 1, gradients of b in up to 2)"
    ]
    assert guard.report() == []
    for _ in range(5):
        step("Gmain", yes, False)
    assert guard.report() == ["Gmain: 5 steps were not finite (loss disc in 5)"]
    for phase in ("Dmain", "Gmain"):
        for _ in range(3):
            step(phase, no, *[True] * len(guard.names[phase]))
    with pytest.raises(NonFiniteError, match="6 steps.*--nan-limit=5: Dmain: 3.* a, b.*; Gmain: 3"):
        guard.report()


def test_long_lists_are_cut():
    guard = Guard(dict(G=[f"layer{i}" for i in range(30)]), limit=100)
    guard.add("G", StepCheck({}, torch.ones(30, dtype=torch.bool)))
    (line,) = guard.report()
    assert "layer0, layer1, layer2, layer3 and 26 more" in line and "layer4" not in line


def test_counts_go_on_after_a_checkpoint():
    check = StepCheck(dict(disc=torch.tensor(True)), torch.tensor([True]))
    whole, first, second = (Guard(dict(D=["a"]), limit=100) for _ in range(3))
    for guard in (whole, whole, first):
        guard.add("D", check)
    second.load_state_dict(first.state_dict())
    second.add("D", check)
    assert second.report() == whole.report() != []


def test_networks_with_bad_weights_are_named():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)
            self.empty = torch.nn.Parameter(torch.zeros(0))
            self.register_buffer("mean", torch.zeros(2))
            self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    G, D = Net(), Net()
    require_finite(dict(G=G, D=D))
    D.mean[1] = INF
    with pytest.raises(NonFiniteError, match="weights of D are not finite: mean$"):
        require_finite(dict(G=G, D=D))
    G.linear.bias.data[0] = NAN
    with pytest.raises(NonFiniteError, match="weights of G are not finite: linear.bias$"):
        require_finite(dict(G=G, D=D))


def test_a_step_says_what_was_bad_and_cleans_it():
    module = torch.nn.Linear(2, 1)

    def good(batch, nimg):
        yield Term(module(batch.real_img), {})

    def bad(batch, nimg):  # Not finite in the second micro-batch only.
        yield Term(module.bias * batch.real_img.sum(), {})

    opt = torch.optim.SGD(module.parameters(), lr=1.0)
    phase = Phase("test", module.requires_grad_(False), opt, (good, bad), 1)
    batches = [Batch(torch.tensor([[1.0, value]]), None, None, None) for value in (1, INF)]
    check = run_phase(phase, batches[:1], 0)
    assert not any(flag for flag in check.losses.values()) and check.gradients.tolist() == [0, 0]
    check = run_phase(phase, batches, 0)
    assert {name: bool(flag) for name, flag in check.losses.items()} == dict(good=True, bad=True)
    assert [name for name, _ in phase.trained()] == ["weight", "bias"]
    assert check.gradients.tolist() == [True, True]
    assert all(p.isfinite().all() for p in module.parameters())


# -- In a run -------------------------------------------------------------------------------------


@pytest.fixture
def tiny_run(tiny_config, tmp_path):
    """A training of 9 iterations, three a tick, with a checkpoint at each tick."""

    def build(**changes):
        settings = dict(kimg_per_tick=0.012, checkpoint_minutes=0.0, network_snapshot_ticks=100)
        run_dir = tmp_path / "runs" / "00000-demo-cars"
        config = tiny_config(iterations=9)
        return replace(config, run_dir=str(run_dir), **settings | changes)

    return build


@pytest.fixture
def at_iteration(monkeypatch):
    """`at_iteration(number, action)`: calls `action(G, D)` before that iteration, from 0 on."""

    def arrange(number, action):
        counter, seen = iter(range(1000)), []
        make, split = loop.make_phases, loop.split_reals

        def make_phases(*args):
            seen[:] = make(*args)
            return list(seen)

        def split_reals(*args):
            if next(counter) == number:
                action(seen[0].module, seen[-1].module)
            return split(*args)

        monkeypatch.setattr(loop, "make_phases", make_phases)
        monkeypatch.setattr(loop, "split_reals", split_reals)

    return arrange


def statistics(config):
    lines = (Path(config.run_dir) / "training_stats.jsonl").read_text().splitlines()
    return [json.loads(line)["Progress/nonfinite_steps"]["mean"] for line in lines]


def test_a_bad_loss_is_counted_and_named(tiny_run, monkeypatch, capsys):
    discriminator, calls = StyleGAN2Loss.discriminator, iter(range(100))

    def patched(self, batch, nimg):
        number = next(calls)
        for term in discriminator(self, batch, nimg):
            yield Term(term.loss * NAN, term.stats) if number in (2, 3) else term

    patched.__name__ = "discriminator"
    monkeypatch.setattr(StyleGAN2Loss, "discriminator", patched)
    config = tiny_run()
    assert launch(config)
    assert statistics(config) == [0, 2, 0, 0]
    lines = capsys.readouterr().out.splitlines()
    (line,) = [x for x in lines if x.startswith("Warning: ") and "finite" in x]
    assert "Dmain: 2 steps were not finite (loss discriminator in 2, gradients of " in line
    assert " more in up to 2)" in line
    checkpoints.read_newest(config.run_dir)


def test_too_many_end_the_run(tiny_run, monkeypatch):
    density = StyleGAN2Loss.density
    monkeypatch.setattr(
        StyleGAN2Loss,
        "density",
        lambda self, batch, nimg: (
            Term(t.loss * INF, t.stats) if nimg > 12 else t for t in density(self, batch, nimg)
        ),
    )
    config = tiny_run(nan_limit=0, G_reg_interval=1)
    with pytest.raises(NonFiniteError) as error:
        launch(config)
    message = str(error.value)
    (last, older) = checkpoints.list_checkpoints(config.run_dir)
    assert "3 steps" in message and "--nan-limit=0" in message and "Greg" in message
    assert "decoder.net" in message or "backbone" in message
    assert "\n" not in message and message.endswith(f"the last good checkpoint is {last}")
    assert checkpoints.images_shown(last) == 16
    state = checkpoints.read_newest(config.run_dir).state
    for name in ("G", "D", "G_ema"):
        assert all(v.isfinite().all() for v in state["parts"][name].values())
    assert "NonFiniteError" in (Path(config.run_dir) / "log.txt").read_text()


@pytest.mark.parametrize("snapshot_ticks", [2, 100])
def test_bad_weights_are_not_written(tiny_run, at_iteration, snapshot_ticks):
    """Neither as a snapshot nor as a checkpoint, whichever is first."""

    def spoil(G, D):
        G.backbone.mapping.w_avg[0] = NAN

    at_iteration(6, spoil)
    config = tiny_run(network_snapshot_ticks=snapshot_ticks)
    with pytest.raises(NonFiniteError) as error:
        launch(config)
    newest = checkpoints.list_checkpoints(config.run_dir)[0]
    assert "weights of G are not finite: backbone.mapping.w_avg" in str(error.value)
    assert str(newest) in str(error.value) and checkpoints.is_intact(newest)
    assert checkpoints.images_shown(newest) == 16
    names = [p.name for p in Path(config.run_dir).iterdir()]
    assert not [n for n in names if n.endswith(".part")]
    assert names.count("network-snapshot-000000.pkl") == 1  # Of the first tick.


def test_without_a_checkpoint_the_error_says_so(tiny_run, at_iteration):
    at_iteration(0, lambda G, D: G.backbone.mapping.w_avg.fill_(NAN))
    with pytest.raises(NonFiniteError, match="no checkpoint exists$"):
        launch(tiny_run())
