"""Counts of memory against sizes worked out by hand, on real and on fake tensors."""

import contextlib

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from torch_utils.memory_count import LiveBytes, fake_copies, saved_bytes

FLOAT = 4


@pytest.fixture(params=["real", "fake"])
def mode(request):
    with FakeTensorMode() if request.param == "fake" else contextlib.nullcontext():
        yield


def test_saved_bytes(mode):
    x = torch.randn(1000, requires_grad=True)
    assert saved_bytes(lambda: x.exp()) == 1000 * FLOAT
    assert saved_bytes(lambda: x + x) == 0
    assert saved_bytes(lambda: x * x) == 1000 * FLOAT
    assert saved_bytes(lambda: x * x, known=[x]) == 0
    # exp keeps its result, sin its argument: the same storage, and so is any view of it.
    assert saved_bytes(lambda: x.exp().view(10, 100).t().sin()) == 1000 * FLOAT
    assert saved_bytes(lambda: x.exp().sin().exp()) == 2 * 1000 * FLOAT
    with torch.no_grad():
        assert saved_bytes(lambda: x.exp()) == 0


def test_live_bytes(mode):
    x = torch.randn(1000)
    with LiveBytes() as live:
        a = x + 1
        b = a + 1
        assert (live.now, live.peak) == (8000, 8000)
        del a
        b += 1
        c = b.view(10, 100)[:5]
        assert (live.now, live.peak) == (4000, 8000)
        del b
        assert live.now == 4000  # the view needs it
        live.restart()
        assert live.peak == 4000
        del c
        assert (live.now, live.peak) == (0, 4000)


def test_live_bytes_of_a_backward_pass(mode):
    x = torch.randn(1000, requires_grad=True)
    with LiveBytes() as live:
        y = (x * 2).exp().exp().sum()
        # What the two exp keep, and the sum.
        assert live.now == 8000 + FLOAT
        y.backward()
        assert live.now == 4000 + FLOAT  # the gradient
        assert live.peak >= 3 * 4000


def test_fake_copies():
    network = torch.nn.Sequential(torch.nn.Linear(300, 400), torch.nn.BatchNorm1d(400))
    network[0].bias.requires_grad_(False)
    network[1].note = torch.ones(2)
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    (twin,) = fake_copies(mode, [network])
    with mode:
        twin(torch.randn(8, 300)).sum().backward()
    for name, tensor in twin.state_dict().items():
        assert isinstance(tensor, FakeTensor) and tensor.shape == before[name].shape, name
    grads = [(p.requires_grad, p.grad is not None) for p in twin.parameters()]
    assert grads == [(True, True), (False, False), (True, True), (True, True)]
    assert not isinstance(twin[1].note, FakeTensor)
    assert all(torch.equal(v, before[name]) for name, v in network.state_dict().items())
    assert network[0].weight.grad is None and torch.equal(state, torch.get_rng_state())
