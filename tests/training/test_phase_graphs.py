"""Phases by recordings, on a CPU with a tape in place of CUDA graphs, on a GPU with these."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.tape import Tape
from tests.tiny_training import Training
from torch_utils.graphs import cuda_recorder
from training.loss import Batch
from training.micro_batches import Reals, draw_batches
from training.phase_graphs import PLAIN_FIRST, PhaseGraphs
from training.phases import Findings, add_gradients

pytestmark = pytest.mark.usefixtures("one_thread")


class Recorded(Training):
    """With a tape, and what is said of it."""

    def __init__(self, device="cpu", **loss_kwargs):
        super().__init__(device, **loss_kwargs)
        self.tape = Tape([*self.G.buffers(), *self.D.buffers()])
        self.said = []

    def graphs(self, record=None):
        """Its recordings."""
        return PhaseGraphs(self.loss.at, record or self.tape, self.tracked, self.said.append)


def test_repeated_phases_train_the_same_networks():
    """To the bit; micro-batches of a step are added up in another order, up to rounding."""
    plain, other = Training().run(9), Recorded()
    other.run(9, other.graphs().add_gradients)
    assert not other.said and len(other.tape.lengths) == 4 and min(other.tape.lengths) > 500
    assert all(torch.equal(a, b) for a, b in zip(plain.tensors(), other.tensors(), strict=True))

    plain, other = Training(), Recorded()
    for training in (plain, other):
        del training.phases[1:]
    plain.run(3, micro_batches=2)
    other.run(3, other.graphs().add_gradients, micro_batches=2)
    assert not other.said and len(other.tape.lengths) == 1
    for a, b in zip(plain.tensors(), other.tensors(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_while_schedules_move_everything_is_plain():
    moving = Recorded(gpc_reg_fade_kimg=8)
    moving.run(8, moving.graphs().add_gradients)
    assert not moving.tape.lengths and not moving.said
    plain = Training(gpc_reg_fade_kimg=8).run(8)
    assert all(torch.equal(a, b) for a, b in zip(plain.tensors(), moving.tensors(), strict=True))


class FromHost(TorchDispatchMode):
    """Counts operators that a GPU would have to be sent numbers for: they read tensors of a CPU and
    give others. A number alone, such as that of a product, goes with the launch."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        read, made = (
            {x.device.type for x in tree_leaves(tree) if isinstance(x, torch.Tensor) and x.ndim}
            for tree in (args, out)
        )
        self.count += "cpu" in read and "meta" in made
        return out


def test_phases_take_nothing_from_the_host():
    """Where a GPU would be there is the device without values, which cannot be waited for. While a
    blur fades it is sent; then nothing is recorded."""
    sizes = (2, 3, 32, 32), (2, 25), (2, 8), (2, 25)
    batch = Batch(*(torch.empty(size, device="meta") for size in sizes))

    def sent(phase):
        phase.requires_grad_(True)
        add_gradients(phase, batch, 0)  # makes constants
        with FromHost() as seen:
            add_gradients(phase, batch, 0)
        return seen.count

    assert [sent(phase) for phase in Training("meta").phases] == [0, 0, 0, 0]
    assert sent(Training("meta", blur_init_sigma=4, blur_fade_kimg=1).phases[-1]) > 0


def one_phase(monkeypatch, work, moments=None):
    """Ten micro-batches of one phase whose gradients `work` adds; what it says, and its tape."""
    monkeypatch.setattr("training.phase_graphs.add_gradients", work)
    training = Recorded()
    phase = training.phases[0]
    moments = itertools.repeat(0) if moments is None else iter(moments)
    graphs = PhaseGraphs(lambda nimg: next(moments), training.tape, say=training.said.append)
    batch = next(draw_batches([Reals(0, torch.zeros(2, 3, 32, 32), torch.zeros(2, 25))],
                              torch.zeros(2, 25), 8, (0,)))  # fmt: skip
    sums = []
    for k in range(10):
        for p in phase.params:
            p.grad = None
        graphs.add_gradients(phase, batch._replace(gen_z=batch.gen_z.fill_(k)), 0)
        sums.append(phase.params[0].grad.sum().item())
    return training.said, training.tape.lengths, sums


def add_z(phase, batch, nimg):
    """Gradients of one parameter: z."""
    first = phase.params[0]
    first.grad = batch.gen_z.sum() * torch.ones_like(first) + (
        0 if first.grad is None else first.grad
    )
    return Findings([], {"terms": torch.zeros((), dtype=torch.bool)})


def test_a_phase_is_recorded_after_a_while_and_forgotten_when_schedules_move(monkeypatch):
    said, lengths, sums = one_phase(monkeypatch, add_z)
    assert not said and len(lengths) == 1
    size = sums[1]
    assert sums == [k * size for k in range(10)]

    _, lengths, sums = one_phase(monkeypatch, add_z, [0] * (PLAIN_FIRST + 2) + [1] * 10)
    assert len(lengths) == 2 and sums == [k * size for k in range(10)]


def test_a_phase_that_waits_for_the_device_stays_plain(monkeypatch):
    def waits(phase, batch, nimg):
        return add_z(phase, batch._replace(gen_z=batch.gen_z * (batch.gen_z.sum().item() > 0)), 0)

    said, lengths, sums = one_phase(monkeypatch, waits)
    assert len(said) == 1 and said[0].startswith("Gmain runs without a CUDA graph: ")
    assert "\n" not in said[0] and not lengths
    assert sums == [k * sums[1] for k in range(10)]


def test_a_phase_whose_repetition_is_wrong_stays_plain(monkeypatch):
    """Here a number of Python's is another one each time."""
    numbers = itertools.count(1)

    def changing(phase, batch, nimg):
        return add_z(phase, batch._replace(gen_z=batch.gen_z * 0 + next(numbers)), nimg)

    said, lengths, sums = one_phase(monkeypatch, changing)
    assert len(lengths) == 1 and len(said) == 1 and "% off" in said[0]
    assert len(set(sums)) == 10


@pytest.mark.gpu
def test_a_gpu_trains_the_same_networks():
    plain, other = Training("cuda").run(10), Recorded("cuda")
    other.run(10, other.graphs(cuda_recorder(torch.device("cuda"))).add_gradients)
    assert not other.said
    for a, b in zip(plain.tensors(), other.tensors(), strict=True):
        torch.testing.assert_close(a, b, rtol=0.01, atol=0.01)
