"""The renderer's kernels as a CUDA device runs them, at the sizes of published models."""

import itertools

import pytest
import torch

from tests.torch_utils.ops_triton.linear_decoder import LinearDecoder
from torch_utils.ops.choice import set_ops
from training.triplane import OSGDecoder
from training.volumetric_rendering.draws import GivenDraws
from training.volumetric_rendering.ray_sampler import RaySampler
from training.volumetric_rendering.renderer import ImportanceRenderer

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
OPTIONS = {
    "depth_resolution": 48,
    "depth_resolution_importance": 48,
    "ray_start": 2.25,
    "ray_end": 3.3,
    "box_warp": 1,
    "disparity_space_sampling": False,
    "clamp_mode": "softplus",
}
AUTO = {"ray_start": "auto", "ray_end": "auto"}
COUNTS = [(48, 48), (64, 64), (96, 96), (24, 24), (48, 0), (5, 3)]
LIMITS = [{}, AUTO, {**AUTO, "ray_limits": "exact"}, {"disparity_space_sampling": True}]


@pytest.fixture(autouse=True)
def exact():
    """Products of all bits in the plain renderings that kernels are compared with."""
    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, False
    yield
    products.allow_tf32 = before
    set_ops(None)


def scene(n, side, channels=32):
    """Planes [n, 3, C, 256, 256], a decoder, and frontal rays of which some miss the box."""
    pose = torch.diag(torch.tensor([1.0, -1, -1, 1])).repeat(n, 1, 1)
    pose[:, 2, 3] = 2.7
    lens = torch.tensor([[4.2647, 0, 0.5], [0, 4.2647, 0.5], [0, 0, 1]]).repeat(n, 1, 1)
    lens[:, 0, 0] = lens[:, 1, 1] = 2.0
    rays = RaySampler()(pose, lens, side)
    decoder = OSGDecoder(channels, dict(decoder_lr_mul=1, decoder_output_dim=channels))
    planes = torch.randn(n, 3, channels, 256, 256) * 2
    return planes.to(CUDA), decoder.to(CUDA), [x.to(CUDA) for x in rays]


def draws_for(n, side, counts):
    coarse, fine = counts
    numbers = torch.rand(n, side**2, coarse, 1), torch.rand(n * side**2, max(fine, 1))
    return GivenDraws(*(x.to(CUDA) for x in numbers))


def assert_nearly_all_close(fast, plain, tol):
    """A quantile at the edge of two intervals may fall to either side: few rays, and not far."""
    difference = (fast - plain).abs()
    assert difference.max() < 100 * tol, f"at most {difference.max().item():.2g}"
    share = (difference > tol).float().mean().item()
    assert share < 1e-3, f"{share:.2%} above {tol}"


@pytest.mark.parametrize("n, side", [(1, 1), (3, 7), (1, 64), (4, 64), (1, 96), (1, 128)])
@pytest.mark.parametrize("axes", ["legacy", "orthogonal"])
def test_forward_at_every_size(n, side, axes):
    planes, decoder, rays = scene(n, side)
    renderer = ImportanceRenderer(axes)
    for counts in COUNTS if side <= 64 else COUNTS[:1]:
        draws = draws_for(n, side, counts)
        options = {**OPTIONS, "depth_resolution": counts[0]}
        options["depth_resolution_importance"] = counts[1]
        results = []
        for choice in ("triton", "torch"):
            set_ops(choice)
            with torch.no_grad():
                results.append(renderer(planes, decoder, *rays, options, draws))
        for (fast, plain), tol in zip(zip(*results, strict=True), (1e-5, 1e-4, 1e-5), strict=True):
            assert_nearly_all_close(fast, plain, tol)


@pytest.mark.parametrize("limits, white", itertools.product(range(4), [False, True]))
def test_gradients_in_every_mode(limits, white):
    planes, decoder, rays = scene(2, 16)
    options = {**OPTIONS, **LIMITS[limits], "white_back": white}
    draws, renderer = draws_for(2, 16, (48, 48)), ImportanceRenderer()
    weights = [torch.randn(2, 256, k, device=CUDA) for k in (32, 1, 1)]
    results = []
    for choice in ("triton", "torch"):
        set_ops(choice)
        inputs = [x.clone().requires_grad_() for x in (planes, *rays)]
        outputs = renderer(inputs[0], decoder, *inputs[1:], options, draws)
        results.append(torch.autograd.grad(outputs, [*inputs, *decoder.parameters()], weights))
    for number, (fast, plain) in enumerate(zip(*results, strict=True)):
        error = (fast - plain).norm() / plain.norm()
        assert error < 1e-3 if number in (1, 2) else error < 1e-4, f"{number}: {error.item():.2g}"


@pytest.mark.parametrize("kind", ["two sets", "classic"])
def test_other_fields_and_rules(kind):
    """Planes of 256 and 512 texels a side; leaky ReLU and three linear colours, classic rule."""
    planes, decoder, rays = scene(2, 32)
    sets, options = [planes, torch.randn(2, 3, 32, 512, 512, device=CUDA)], OPTIONS
    if kind == "classic":
        sets, decoder = [sets[1] / 4], LinearDecoder(32, 64).to(CUDA)
        options = {**OPTIONS, "ray_marcher": "classic", "density_bias": 0.0}
        options |= {"importance_smoothing": False, "depth_jitter": "bins"}
    draws, renderer = draws_for(2, 32, (48, 48)), ImportanceRenderer("cyclic")
    found = []
    for choice in ("triton", "torch"):
        set_ops(choice)
        inputs = [x.clone().requires_grad_() for x in (*sets, *rays)]
        outputs = renderer(inputs[: len(sets)], decoder, *inputs[len(sets) :], options, draws)
        loss = outputs[0].square().mean() + outputs[1].mean()
        found.append((outputs, torch.autograd.grad(loss, [*inputs, *decoder.parameters()])))
    for fast, plain in zip(found[0][0], found[1][0], strict=True):
        assert_nearly_all_close(fast.detach(), plain.detach(), 1e-4)
    for fast, plain in zip(found[0][1], found[1][1], strict=True):
        assert (fast - plain).norm() < 1e-3 * plain.norm()


def test_sixteen_bits():
    planes, decoder, rays = scene(1, 64)
    draws, renderer = draws_for(1, 64, (48, 48)), ImportanceRenderer()
    with torch.no_grad():
        set_ops("torch")
        exact = renderer(planes / 4, decoder, *rays, OPTIONS, draws)[0]
        set_ops("triton")
        half = renderer((planes / 4).half(), decoder, *rays, OPTIONS, draws)[0]
    difference = (half - exact).abs()
    assert difference.max() < 5e-3 and difference.mean() < 5e-4


def test_memory_grows_with_rays_not_samples():
    """Forward: planes as kernels read them, and 32 MB; with gradients twice that and 64 MB."""
    set_ops("triton")
    planes, decoder, rays = scene(1, 128)
    renderer, draws = ImportanceRenderer(), draws_for(1, 128, (48, 48))
    outputs = 128**2 * 34 * 4
    size = planes.numel() * 4

    def peak(function):
        function()  # compiles
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before

    @torch.no_grad()
    def forward():
        renderer(planes, decoder, *rays, OPTIONS, draws)

    def both():
        leaf = planes.requires_grad_()
        features = renderer(leaf, decoder, *rays, OPTIONS, draws)[0]
        torch.autograd.grad(features.square().mean(), [leaf, *decoder.parameters()])

    assert peak(forward) < 2 * size + outputs + 32 * 2**20
    assert peak(both) < 4 * size + 2 * outputs + 64 * 2**20


def test_nothing_waits_for_the_device():
    set_ops("triton")
    planes, decoder, rays = scene(2, 16)
    renderer, draws = ImportanceRenderer(), draws_for(2, 16, (48, 48))

    def step():
        leaf = planes.requires_grad_()
        outputs = renderer(leaf, decoder, *rays, {**OPTIONS, **AUTO}, draws)
        torch.autograd.grad(sum(x.sum() for x in outputs), [leaf, *decoder.parameters()])

    step()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
