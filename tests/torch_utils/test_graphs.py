import pytest
import torch

from tests.tape import Tape
from torch_utils import graphs


def test_a_recording_follows_its_inputs_and_what_it_reads():
    weight = torch.ones(3)
    recorded = graphs.Recorded(lambda x: {"y": x @ weight}, [torch.zeros(2, 3)], Tape())
    x = torch.rand(2, 3)
    assert torch.equal(recorded(x)["y"], x @ weight)
    weight *= 2
    assert torch.equal(recorded(x)["y"], x @ weight)


def test_python_is_not_repeated():
    factor = 1.0
    recorded = graphs.Recorded(lambda x: x * factor, [torch.zeros(1)], Tape())
    factor = 2.0
    assert recorded(torch.ones(1)).item() == 1


def test_results_are_overwritten_and_clones_are_not():
    recorded = graphs.Recorded(lambda x: (x + 1, None), [torch.zeros(1)], Tape())
    first = recorded(torch.ones(1))
    kept = graphs.clones(first)
    recorded(torch.full((1,), 5.0))
    assert first[0].item() == 6 and kept[0].item() == 2 and kept[1] is None


def test_random_numbers_go_on():
    recorded = graphs.Recorded(lambda x: x + torch.rand(2), [torch.zeros(2)], Tape())
    torch.manual_seed(3)
    repeated = [recorded(torch.zeros(2)).clone() for _ in range(2)]
    torch.manual_seed(3)
    assert torch.equal(torch.stack(repeated), torch.stack([torch.rand(2) for _ in range(2)]))


@pytest.mark.parametrize(
    "other", [torch.zeros(3), torch.zeros(2, dtype=torch.float64), torch.zeros(2, device="meta")]
)
def test_other_tensors_than_the_examples_are_refused(other):
    recorded = graphs.Recorded(lambda x: x + 1, [torch.zeros(2)], Tape())
    assert recorded.fits([torch.ones(2)]) and not recorded.fits([other])
    with pytest.raises(ValueError, match=r"recorded for .*called with"):
        recorded(other)


def test_who_looks_at_values_cannot_be_recorded():
    with pytest.raises(RuntimeError):
        graphs.Recorded(lambda x: x * x.sum().item(), [torch.ones(2)], Tape())


@pytest.mark.gpu
def test_a_gpu_repeats():
    """Values, random numbers and gradients of a CUDA graph are those of plain work."""
    device = torch.device("cuda")
    layer = torch.nn.Linear(64, 64, device=device)

    def work(x):
        y = layer(x + torch.rand_like(x)).square().mean()
        return y.detach(), torch.autograd.grad(y, [*layer.parameters()])

    x = torch.rand(8, 64, device=device)
    work(x)
    recorded = graphs.Recorded(work, [x], graphs.cuda_recorder(device))
    for seed in (1, 2):
        x = torch.rand(8, 64, device=device)
        torch.manual_seed(seed)
        plain = graphs.clones(work(x))
        torch.manual_seed(seed)
        torch.testing.assert_close(recorded(x), plain)
        with torch.no_grad():
            layer.weight *= 1.5
