"""Blocks in half precision on a GPU: channels-last from end to end, nothing converted inside.

Looked at without a GPU: the operators that a block calls, on tensors without values, as if it were
in half precision and had kernels.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from training.discriminator import DiscriminatorBlock
from training.superresolution import SynthesisBlockNoUp
from training.synthesis import SynthesisBlock

LAST = dict(memory_format=torch.channels_last)
COPIES = ("aten.clone", "aten.copy_", "aten._to_copy", "aten.contiguous")


class Calls(TorchDispatchMode):
    """Records (name, pictures that go in, pictures that come out); weights are no pictures."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        results = out if isinstance(out, tuple | list) else [out]
        name = str(func)
        if not name.startswith("prim"):
            self.found.append((name, _pictures(args), _pictures(results)))
        return out


def _pictures(values):
    tensors = [v for v in values if isinstance(v, torch.Tensor) and v.ndim == 4]
    # Wider than weights and filters, with more channels than noise and colours.
    return [t for t in tensors if t.shape[3] > 4 and t.shape[1] > 4]


def conversions(calls):
    """Copies of pictures that change their type, and those that do not."""
    copies = [(i, o) for name, i, o in calls if name.startswith(COPIES) and i and o]
    casts = [1 for i, o in copies if i[0].dtype != o[0].dtype]
    return len(casts), len(copies) - len(casts)


@pytest.fixture
def half_precision(monkeypatch):
    """As on a GPU with Triton."""
    for module in ("synthesis", "discriminator"):
        name = f"training.{module}.in_half_precision"
        monkeypatch.setattr(name, lambda block, force_fp32, x: block.use_fp16)
    for module in ("epilogue_ops", "upfirdn2d_ops"):
        monkeypatch.setattr(f"torch_utils.ops.{module}.use_triton", lambda x: True)
    with FakeTensorMode():
        yield


def run(block, x, *others, **options):
    """What a block calls forward, and backward from gradients in the output's layout."""
    with Calls() as forward:
        y, _ = block(x, *others, **options)
    with Calls() as backward:
        torch.autograd.grad(y, [x, *block.parameters()], torch.empty_like(y), allow_unused=True)
    return y, forward.found, backward.found


def assert_no_conversions(forward, backward, casts):
    for calls, expected in [(forward, casts), (backward, casts)]:
        assert conversions(calls) == (expected, 0)
    for name, taken, made in forward + backward:
        for picture in [*taken, *made]:
            half = picture.dtype == torch.float16
            assert not half or picture.is_contiguous(**LAST), f"{name}: {picture.stride()}"


@pytest.mark.parametrize("kind", [SynthesisBlock, SynthesisBlockNoUp])
@pytest.mark.parametrize("training", [True, False])
def test_synthesis_block(half_precision, kind, training):
    side = 16 * kind.up
    block = kind(16, 32, 8, side, 3, is_last=True, use_fp16=True)
    x, img = torch.randn(2, 16, 16, 16, requires_grad=True), torch.randn(2, 3, 16, 16)
    x = x if training else x[:1]
    ws = torch.randn(len(x), 3, 8)
    y, forward, backward = run(block, x, img[: len(x)], ws, fused_modconv=not training)
    assert y.dtype == torch.float16 and y.is_contiguous(**LAST)
    assert_no_conversions(forward, backward, casts=1)
    names = [name for name, *_ in forward if name.startswith("eg3d")]
    joined = ["eg3d.fir_epilogue.default"] if kind is SynthesisBlock else ["eg3d.epilogue.default"]
    # Both convolutions, colours that are made larger, colours that are added. In training, where
    # styles are not in the weights, they come before each of the three convolutions.
    styles = ["eg3d.epilogue.default"] if training else []
    resized = ["eg3d.upfirdn2d.default"] if kind is SynthesisBlock else []
    done = "eg3d.epilogue.default"
    assert names == [*styles, *joined, *styles, done, *resized, *styles, done]


def test_discriminator_block(half_precision):
    block = DiscriminatorBlock(16, 16, 32, 32, 3, first_layer_idx=0, use_fp16=True)
    x = torch.randn(2, 16, 32, 32, requires_grad=True)
    y, forward, backward = run(block, x, None)
    assert y.dtype == torch.float16 and y.is_contiguous(**LAST)
    assert_no_conversions(forward, backward, casts=1)


def test_weights_come_in_the_layout_of_pictures(half_precision):
    block = DiscriminatorBlock(16, 16, 32, 32, 3, first_layer_idx=0, use_fp16=True)
    weights = []
    with Calls() as calls:
        convolution = torch.nn.functional.conv2d

        def spy(x, w, *args, **kwargs):
            weights.append(w)
            return convolution(x, w, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("torch.nn.functional.conv2d", spy)
            block(torch.randn(2, 16, 32, 32), None)
    assert calls.found and len(weights) == 3
    assert all(w.dtype == torch.float16 and w.is_contiguous(**LAST) for w in weights)


def test_conversions_are_found(half_precision):
    x = torch.empty(2, 16, 32, 32, dtype=torch.float16)
    with Calls() as calls:
        y = x.contiguous(**LAST).to(torch.float32)
    assert conversions(calls.found) == (1, 1) and y.dtype == torch.float32
    with pytest.raises(AssertionError):
        assert_no_conversions(calls.found, [], casts=1)
