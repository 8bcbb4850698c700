"""Helpers for modules, sampling and distributed training."""

import itertools
import re
import warnings

import numpy as np
import pytest
import torch

from tests.processes import Process, together
from torch_utils import misc


def test_constant():
    a = misc.constant([[1, 2], [3, 4]])
    assert a.tolist() == [[1, 2], [3, 4]] and a.dtype == torch.get_default_dtype()
    assert misc.constant([[1, 2], [3, 4]]) is a
    assert misc.constant(np.array([[1, 2], [3, 4]])) is a
    assert misc.constant([[1, 2], [3, 5]]) is not a
    assert misc.constant([1, 2, 3, 4]).shape == (4,)
    b = misc.constant(2.5, shape=[2, 3], dtype=torch.float64)
    assert b.tolist() == [[2.5] * 3] * 2 and b.dtype == torch.float64
    assert misc.constant(2.5, shape=(2, 3), dtype=torch.float64) is b
    c = misc.constant(1, shape=[1, 2, 3, 3], memory_format=torch.channels_last, device="cpu")
    assert c.is_contiguous(memory_format=torch.channels_last)


def test_constant_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        c = misc.constant(3.25)
    w = torch.ones([], requires_grad=True)
    (w * c).backward()
    assert w.grad == 3.25


def test_nan_to_num():
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0])
    assert misc.nan_to_num(x, nan=2.0, posinf=3.0, neginf=-3.0).tolist() == [2, 3, -3, 1]
    misc.nan_to_num(x, posinf=5.0, neginf=0.0, out=x)
    assert x.tolist() == [0, 5, 0, 1]


def test_symbolic_assert():
    misc.symbolic_assert(True, "fine")
    with pytest.raises(AssertionError, match="wrong"):
        misc.symbolic_assert(False, "wrong")


def test_suppress_tracer_warnings_ends_with_the_block():
    def warn():
        warnings.warn("traced", torch.jit.TracerWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError), misc.suppress_tracer_warnings():
            warn()
            raise KeyError
        with pytest.raises(torch.jit.TracerWarning):
            warn()
        with pytest.raises(UserWarning), misc.suppress_tracer_warnings():
            warnings.warn("other", UserWarning, stacklevel=1)


def test_assert_shape():
    misc.assert_shape(torch.zeros(2, 3), [2, None])
    misc.assert_shape(torch.zeros([]), [])
    for shape in ([2, 4], [2], [2, 3, None], [None, 2]):
        with pytest.raises(AssertionError, match=re.escape(str(shape))):
            misc.assert_shape(torch.zeros(2, 3), shape)


def test_profiled_function():
    @misc.profiled_function
    def halve(x, factor=0.5):
        "doc"
        return x * factor

    assert halve.__name__ == "halve" and halve.__doc__ == "doc" and halve(3, factor=2) == 6
    with torch.profiler.profile() as profile:
        halve(torch.ones(1))
    assert "halve" in [event.key for event in profile.key_averages()]


def expected_order(size, seed, window_size, count):
    """The definition of the shuffled sequence, written down again with plain lists."""
    random = np.random.RandomState(seed)
    order = np.arange(size)
    random.shuffle(order)
    order = order.tolist()
    window = int(np.rint(size * window_size))
    out = []
    for k in range(count):
        i = k % size
        out.append(order[i])
        if window >= 2:
            j = (i - random.randint(window)) % size
            order[i], order[j] = order[j], order[i]
    return out


def take(sampler, count):
    return list(itertools.islice(iter(sampler), count))


@pytest.mark.parametrize("window_size", [0, 0.05, 0.5, 1])
def test_infinite_sampler_sequence(window_size):
    data = range(17)
    common = expected_order(17, 5, window_size, 120)
    sampler = misc.InfiniteSampler(data, seed=5, window_size=window_size)
    assert take(sampler, 120) == common
    assert take(sampler, 120) == common  # iterating again starts again
    assert all(type(i) is int for i in common) and sorted(common[:17]) != common[:17]
    for rank in range(3):
        part = misc.InfiniteSampler(data, rank, 3, seed=5, window_size=window_size)
        assert take(part, 40) == common[rank::3]


def test_infinite_sampler_continues():
    whole = take(misc.InfiniteSampler(range(10), rank=1, num_replicas=2), 60)
    for start in (0, 1, 7, 33):
        rest = misc.InfiniteSampler(range(10), rank=1, num_replicas=2, start=start)
        assert take(rest, 20) == whole[start : start + 20]


def test_infinite_sampler_unshuffled_and_in_a_loader():
    sampler = misc.InfiniteSampler(range(3), shuffle=False)
    assert take(sampler, 7) == [0, 1, 2, 0, 1, 2, 0]
    loader = torch.utils.data.DataLoader(list(range(3)), batch_size=2, sampler=sampler)
    assert [b.tolist() for b in itertools.islice(loader, 3)] == [[0, 1], [2, 0], [1, 2]]


@pytest.mark.parametrize(
    "bad", [dict(rank=2, num_replicas=2), dict(rank=-1), dict(window_size=1.5), dict(start=-1)]
)
def test_infinite_sampler_refuses(bad):
    with pytest.raises(ValueError):
        misc.InfiniteSampler(range(3), **bad)
    with pytest.raises(ValueError, match="empty"):
        misc.InfiniteSampler([])


def test_params_and_buffers():
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
    names = [name for name, _ in misc.named_params_and_buffers(net)]
    assert names[:4] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert names[4:] == ["0.running_mean", "0.running_var", "0.num_batches_tracked"]
    tensors = [tensor for _, tensor in misc.named_params_and_buffers(net)]
    assert all(a is b for a, b in zip(misc.params_and_buffers(net), tensors, strict=True))


def test_copy_params_and_buffers():
    src = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1)).requires_grad_(False)
    src[0].running_mean.fill_(5)
    dst = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
    misc.copy_params_and_buffers(src, dst, require_all=True)
    for (name, a), b in zip(dst.state_dict().items(), src.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert all(p.requires_grad for p in dst.parameters())

    longer = torch.nn.Sequential(*dst, torch.nn.Linear(1, 1))
    kept = longer[2].weight.clone()
    misc.copy_params_and_buffers(src, longer)
    assert torch.equal(longer[2].weight, kept)
    misc.copy_params_and_buffers(longer, dst, require_all=True)  # what is too much is ignored
    with pytest.raises(ValueError, match="2.weight"):
        misc.copy_params_and_buffers(src, longer, require_all=True)
    with pytest.raises(ValueError, match=r"weight.*\[1, 2\], expected \[3, 2\]"):
        misc.copy_params_and_buffers(torch.nn.Linear(2, 1), torch.nn.Linear(2, 3))


def test_ddp_sync_leaves_plain_modules_alone():
    for sync in (True, False):
        with misc.ddp_sync(torch.nn.Linear(1, 1), sync):
            pass


def test_check_ddp_consistency_without_processes():
    misc.check_ddp_consistency(torch.nn.Linear(1, 1))


WORKER = """
import sys, torch
from tests.processes import Process, together
from torch_utils import misc
rank = int(sys.argv[1])
torch.distributed.init_process_group(
    "gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
net = torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 1))
for tensor in misc.params_and_buffers(net):
    torch.nn.init.constant_(tensor, 3)
net[0].running_var.fill_(float("nan"))
misc.check_ddp_consistency(net)
net[0].running_mean.fill_(rank)
misc.check_ddp_consistency(net, ignore_regex=r".*\\.running_(mean|other)")
try:
    misc.check_ddp_consistency(net)
    print("consistent")
except RuntimeError as error:
    print(error)
ddp = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
grads = []
for sync in (False, True):
    ddp.zero_grad()
    with misc.ddp_sync(ddp, sync):
        ddp(torch.full([1, 1], float(rank))).sum().backward()
    grads.append(ddp.module.weight.grad.item())
print(grads)
torch.distributed.barrier()  # Nobody leaves while another still talks.
torch.distributed.destroy_process_group()
"""


def test_two_processes(tmp_path):
    outputs = together(2, lambda rank: Process(WORKER, rank, tmp_path / "init"))
    first, second = (out.splitlines() for out, _ in outputs)
    assert first == ["consistent", "[0.0, 0.5]"]
    assert second[0].startswith("Sequential.0.running_mean differs")
    assert second[1] == "[1.0, 0.5]"


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 4)
        self.same = torch.nn.Identity()
        self.norm = torch.nn.BatchNorm1d(4)
        self.tied = torch.nn.Linear(3, 4)
        self.tied.weight = self.first.weight

    def forward(self, x):
        y = self.norm(self.same(self.first(x)))
        return {"y": y, "z": self.tied(x).double()}


def test_print_module_summary(capsys):
    x = torch.randn(2, 3)
    outputs = misc.print_module_summary(Pair(), [x])
    assert set(outputs) == {"y", "z"} and outputs["z"].dtype == torch.float64
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    rows = {line[0]: line[1:] for line in lines}
    assert rows["Pair"] == ["Parameters", "Buffers", "Output", "shape", "Datatype"]
    assert rows["first"] == ["16", "-", "[2,", "4]", "float32"]
    assert "same" not in rows
    assert rows["norm"] == ["8", "9", "[2,", "4]", "float32"]
    assert rows["tied"] == ["4", "-", "[2,", "4]", "float32"]  # the weight was counted before
    assert rows["<top-level>"] == ["-", "-", "[2,", "4]", "float64"]
    assert rows["Total"] == ["28", "9", "-", "-"]

    misc.print_module_summary(Pair(), [x], max_nesting=0, skip_redundant=False)
    text = capsys.readouterr().out
    assert "first" not in text and "<top-level>:1" in text
    assert re.search(r"^<top-level> +28 +9 +\[2, 4\] +float32$", text, re.MULTILINE)


def test_print_module_summary_removes_its_hooks(capsys):
    net = Pair()
    with pytest.raises(RuntimeError):
        misc.print_module_summary(net, [torch.randn(2, 5)])
    assert not net.first._forward_hooks and not net.first._forward_pre_hooks
