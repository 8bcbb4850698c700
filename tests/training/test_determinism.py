"""What `--deterministic` does on a GPU, tried on a CPU: the same numbers up to rounding, made by
operators whose gradients a GPU adds up in a fixed order."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny_training import Training
from torch_utils.graphs import share_off
from torch_utils.ops import resampling
from training.augment import AugmentPipe

pytestmark = pytest.mark.usefixtures("one_thread")

# Operators of training that have no fixed order on a GPU (PyTorch's documentation of
# `use_deterministic_algorithms`).
BY_CHANCE = (
    "grid_sampler_2d_backward",
    "upsample_bilinear2d_backward",
    "_upsample_bilinear2d_aa_backward",
    "reflection_pad2d_backward",
)


class Names(TorchDispatchMode):
    """Keeps the names of all operators."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found.add(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


def one_step(deterministic, monkeypatch):
    """Gradients of a step of every phase, with augmentation, and the operators of it."""
    monkeypatch.setattr(resampling, "_fixed_order", lambda images: deterministic)
    pipe = AugmentPipe(xflip=1, rotate=1, xfrac=1, imgfilter=1)
    training = Training(augment_pipe=pipe, neural_rendering_resolution_initial=10)
    with Names() as names:
        training.run(1)
    optimizers = {id(p.opt): p.opt for p in training.phases}.values()
    # Without momentum Adam's mean of gradients is the last one.
    return [s["exp_avg"] for o in optimizers for s in o.state.values()], names.found


def test_a_step_has_the_same_gradients_in_a_fixed_order(monkeypatch):
    plain, by_chance = one_step(False, monkeypatch)
    fixed, in_order = one_step(True, monkeypatch)
    assert set(BY_CHANCE) - {"upsample_bilinear2d_backward"} <= by_chance
    assert not {*BY_CHANCE} & in_order, {*BY_CHANCE} & in_order
    assert share_off(fixed, plain) < 1e-5


@pytest.mark.gpu
def test_a_gpu_trains_to_the_same_bits():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        one, other = (Training("cuda").run(3).tensors() for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
