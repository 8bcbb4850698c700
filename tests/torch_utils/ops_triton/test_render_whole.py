"""Whole renderings and queries by kernels: recorded numbers, and the plain way in every mode."""

import pytest
import torch

from tests.torch_utils.ops_triton.linear_decoder import LinearDecoder
from torch_utils.ops import render_ops, triplane_ops
from torch_utils.ops.choice import set_ops
from torch_utils.ops.render_ops import Rule
from training.triplane import OSGDecoder
from training.volumetric_rendering import fused
from training.volumetric_rendering.draws import FixedDraws, GivenDraws
from training.volumetric_rendering.fused import FusedField
from training.volumetric_rendering.options import RenderingOptions
from training.volumetric_rendering.renderer import (
    ImportanceRenderer,
    TriPlaneField,
    generate_planes,
    render_rays,
)

OPTIONS = {
    "depth_resolution": 12,
    "depth_resolution_importance": 12,
    "ray_start": 2.25,
    "ray_end": 3.3,
    "box_warp": 1,
    "disparity_space_sampling": False,
    "clamp_mode": "softplus",
}
AUTO = {"ray_start": "auto", "ray_end": "auto"}
SOME = slice(0, 64, 16)  # of 64 recorded rays: a ray takes a tenth of a second in the interpreter


@pytest.fixture
def parts(conformance):
    return conformance("renderer_parts")


def make_decoder(channels=32, colours=32, lr_mul=1.0):
    return OSGDecoder(channels, dict(decoder_lr_mul=lr_mul, decoder_output_dim=colours))


@pytest.fixture
def decoder(parts, state_of):
    """That of the recorded numbers."""
    decoder = make_decoder()
    decoder.load_state_dict(state_of(parts))
    return decoder


def render(renderer, planes, decoder, rays, options, draws, device):
    """Of sets of planes: three results on the CPU, and once more the plain way in float64."""
    planes, rays = ([x.to(device) for x in some] for some in (planes, rays))
    fast = renderer(planes, decoder.to(device), *rays, options, draws)
    set_ops("torch")
    planes, rays = ([x.cpu().double() for x in some] for some in (planes, rays))
    plain = renderer(planes, decoder.cpu().double(), *rays, options, draws)
    set_ops("triton")
    decoder.float()
    return [x.detach().cpu().double() for x in fast], [x.detach() for x in plain]


@pytest.mark.parametrize(
    "case, cameras, changes",
    [
        ("a", slice(0, 2), {}),
        ("b", slice(2, 4), {**AUTO, "box_warp": 1.6, "white_back": True}),
        ("c", slice(0, 1), {"disparity_space_sampling": True}),
    ],
)
def test_recorded(case, cameras, changes, device, conformance, parts, decoder, assert_scaled):
    rays, recorded = conformance("cameras_rays"), conformance("renderer_full")
    draws = GivenDraws(torch.tensor(0.5), torch.linspace(0.02, 0.98, 12))
    inputs = [rays[f"ray_{name}"][cameras, SOME].to(device) for name in ("origins", "directions")]
    count = len(inputs[0])
    with torch.no_grad():
        found = ImportanceRenderer()(
            parts["planes"][:count].to(device),
            decoder.to(device),
            *inputs,
            {**OPTIONS, **changes},
            draws,
        )
    for value, name in zip(found, ("rgb", "depth", "weights"), strict=True):
        expected = recorded[f"{case}_{name}"][:count, SOME]
        if not (name == "depth" and (recorded[f"{case}_weights"][:count, SOME] == 0).any()):
            assert_scaled(value.cpu(), expected)


@pytest.mark.slow
def test_recorded_gradients(device, conformance, parts, decoder, assert_scaled):
    """All rays of case a, with the gradients of planes and decoder."""
    rays, recorded = conformance("cameras_rays"), conformance("renderer_full")
    draws = GivenDraws(torch.tensor(0.5), torch.linspace(0.02, 0.98, 12))
    planes = parts["planes"].to(device).requires_grad_()
    inputs = [rays[f"ray_{name}"][:2].to(device) for name in ("origins", "directions")]
    rgb, depth, opacity = ImportanceRenderer()(planes, decoder.to(device), *inputs, OPTIONS, draws)
    assert_scaled(rgb.detach().cpu(), recorded["a_rgb"])
    assert_scaled(depth.detach().cpu(), recorded["a_depth"])
    assert_scaled(opacity.detach().cpu(), recorded["a_weights"])
    loss = (rgb * recorded["g_rgb"].to(device)).sum()
    (loss + (depth * recorded["g_depth"].to(device)).sum()).backward()
    assert_scaled(planes.grad.cpu(), recorded["grad_planes"])
    for name, parameter in decoder.named_parameters():
        assert_scaled(parameter.grad.cpu(), recorded[f"grad_{name}"])


CLASSIC = {"ray_marcher": "classic", "importance_smoothing": False, "density_bias": 0.0}
MODES = {
    "classic, linear": dict(CLASSIC, linear=True, plane_axes="xy_xz_yz", white_back=True),
    "classic, jitter in bins": dict(CLASSIC, depth_jitter="bins", last_delta=1e-3),
    "relu, no smoothing": dict(clamp_mode="relu", density_bias=0.5, importance_smoothing=False),
    "two sets, aligned corners": dict(sides=(8, 8), plane_align_corners=True),
    "two sets": dict(sides=(6, 9), plane_axes="cyclic"),
    "exact limits, five and three": dict(
        AUTO, ray_limits="exact", depth_resolution=5, depth_resolution_importance=3
    ),
    "no fine samples": dict(depth_resolution=6, depth_resolution_importance=0, white_back=True),
    "centered, orthogonal": dict(importance_bins="centered", plane_axes="orthogonal"),
    "no ray hits": dict(AUTO, away=True, empty_depth="ray"),
    "no ray hits, no fine samples": dict(AUTO, away=True, depth_resolution_importance=0),
    "disparity and auto": dict(AUTO, disparity_space_sampling=True),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_plain_numbers(mode, device, monkeypatch):
    rendered, original = [], FusedField.render
    monkeypatch.setattr(FusedField, "render", lambda *a: rendered.append(1) or original(*a))
    changes = {"depth_resolution": 6, "depth_resolution_importance": 4, **MODES[mode]}
    axes, away = changes.pop("plane_axes", "legacy"), changes.pop("away", False)
    linear, sides = changes.pop("linear", False), changes.pop("sides", (8,))
    planes = [torch.randn(1, 3, 16, side, side) * 3 for side in sides]
    options = {**OPTIONS, "ray_start": 0.8, "ray_end": 2.2, **changes}
    origins = torch.randn(1, 3, 3) * 0.1 + torch.tensor([0, 0, 1.5])
    directions = torch.randn(1, 3, 3) * 0.1 + torch.tensor([0, 0, -1.0])
    directions[:, 1] = torch.tensor([1.0, 0.2, 0])  # misses the box
    if away:
        origins = origins + 5
    directions = torch.nn.functional.normalize(directions, dim=-1)
    draws = GivenDraws(torch.rand(1, 3, changes["depth_resolution"], 1), torch.rand(3, 1))
    decoder = LinearDecoder() if linear else make_decoder(16, 16, lr_mul=0.5)
    with torch.no_grad():
        found = render(
            ImportanceRenderer(axes), planes, decoder, (origins, directions), options, draws, device
        )
    assert len(rendered) == 1, "once by kernels, and once the plain way"
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-5, rtol=0)


def test_gradients_of_a_rendering(device):
    """Of planes, decoder and rays, with fine samples, white background and depth in the loss."""
    options = {**OPTIONS, **AUTO, "white_back": True}
    options |= {"depth_resolution": 5, "depth_resolution_importance": 3}
    decoder, renderer = make_decoder(16, 16), ImportanceRenderer()
    tensors = [torch.randn(1, 3, 16, 6, 6) * 2, torch.randn(1, 3, 3) * 0.1, torch.randn(1, 3, 3)]
    tensors[1][..., 2], tensors[2][..., 2] = 1.5, -9
    tensors[2] = torch.nn.functional.normalize(tensors[2], dim=-1)
    draws = GivenDraws(torch.rand(1, 3, 5, 1), torch.rand(3, 3))
    grads = [torch.randn(1, 3, 16), torch.randn(1, 3, 1), torch.randn(1, 3, 1)]

    def gradients(kind):
        decoder.to(**kind)
        inputs = [x.to(**kind).requires_grad_() for x in tensors]
        results = renderer(inputs[0], decoder, *inputs[1:], options, draws)
        wanted = [*inputs, *decoder.parameters()]
        found = torch.autograd.grad(results, wanted, [g.to(**kind) for g in grads])
        return [g.cpu().double() for g in found]

    fast = gradients(dict(device=device, dtype=torch.float32))
    set_ops("torch")
    plain = gradients(dict(device="cpu", dtype=torch.float64))
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 * b.abs().max().item(), rtol=0)


def test_query_has_the_numbers_of_the_rendering(device, parts, decoder, assert_scaled):
    """The field that was rendered and the one that is asked at points are the same."""
    field = TriPlaneField(parts["planes"].to(device), decoder.to(device), generate_planes(), 1)
    points = parts["xyz"][:, :20].to(device)
    with torch.no_grad():
        answer = field(points, None)
        density = field(points, None, want_rgb=False)
        kernels = FusedField.of(field, points)
        sigma = render_ops.ray_densities(
            kernels.planes, *kernels.layers, points, torch.zeros_like(points),
            torch.ones(*points.shape[:2], 1, device=device), *kernels.how,
        )  # fmt: skip
    assert set(density) == {"sigma"}
    torch.testing.assert_close(density["sigma"], answer["sigma"])
    torch.testing.assert_close(sigma, answer["sigma"])
    assert_scaled(answer["rgb"].cpu(), parts["rgb"][:, :20])
    assert_scaled(answer["sigma"].cpu(), parts["sigma"][:, :20])


def test_more_samples_than_a_program_holds(device, monkeypatch):
    """Importance sampling goes the plain way, the rest does not."""
    options = RenderingOptions(**OPTIONS)
    depths, sigma = torch.linspace(1, 2, 12).repeat(2, 1), torch.randn(2, 12)
    draws = GivenDraws(torch.tensor(0.5), torch.rand(2, 12))
    inputs = [x.to(device) for x in (depths, sigma)]
    kernel = fused._all_depths(*inputs, options, draws)
    monkeypatch.setattr(render_ops, "MOST_SAMPLES", 11)
    torch.testing.assert_close(fused._all_depths(*inputs, options, draws), kernel)


@pytest.mark.parametrize(
    "why",
    ["noise", "decoder", "other", "width", "double", "deterministic", "choice", "two scales", None],
)
def test_where_kernels_do_not_apply(why, device):
    decoder = make_decoder(24 if why == "width" else 16, 16)
    planes = torch.randn(1, 3, 24 if why == "width" else 16, 4, 4, device=device)
    if why == "decoder":
        decoder = torch.nn.Module()
        decoder.averages_planes = True
    if why == "other":  # does something else with the layers that it has from its base
        decoder = type("Other", (OSGDecoder,), {"forward": None})(
            16, dict(decoder_lr_mul=1, decoder_output_dim=16)
        )
    if why == "choice":
        set_ops("torch")
    points = torch.zeros(1, 1, 3, dtype=torch.float64 if why == "double" else None, device=device)
    aligned = why == "two scales"
    sets = [planes, torch.zeros(1, 3, 16, 6, 6, device=device)] if aligned else planes
    noise = 0.1 * (why == "noise")
    field = TriPlaneField(sets, decoder.to(device), generate_planes(), 1, noise, None, aligned)
    try:
        torch.use_deterministic_algorithms(why == "deterministic", warn_only=True)
        assert (FusedField.of(field, points) is None) == (why is not None)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("changes", [{"density_noise": 0.1}, {"last_back": True}, {}])
def test_what_the_classic_marcher_does_alone(changes, device, monkeypatch):
    """Its noise and its last sample are not the kernels'; without them they do the work."""
    calls = []
    monkeypatch.setattr(FusedField, "render", lambda *a: calls.append(1) or 1 / 0)
    planes, decoder = torch.randn(1, 3, 16, 4, 4, device=device), LinearDecoder().to(device)
    rays = [torch.rand(1, 2, 3, device=device) for _ in range(2)]
    options = {**OPTIONS, **CLASSIC, "depth_resolution_importance": 0, **changes}
    try:
        ImportanceRenderer()(planes, decoder, *rays, options)
    except ZeroDivisionError:
        pass
    assert bool(calls) == (not changes)


def test_chunks_by_kernels_have_the_numbers_of_the_whole(device):
    field = TriPlaneField(
        [torch.randn(1, 3, 16, side, side, device=device) for side in (4, 7)],
        LinearDecoder().to(device), generate_planes("cyclic"), 1,
    )  # fmt: skip
    counts = {"depth_resolution": 4, "depth_resolution_importance": 2}
    options = RenderingOptions(**{**OPTIONS, **CLASSIC, **counts})
    rays = [torch.rand(1, 3, 3, device=device) for _ in range(2)]
    with torch.no_grad():
        whole, parts = (render_rays(field, *rays, options, FixedDraws(), n) for n in (None, 2))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b)
    assert whole.features.shape == (1, 3, 3)


def test_unknown_activation_is_named(device):
    decoder = LinearDecoder().to(device)
    decoder.hidden_activation = "gelu"
    planes, points = torch.zeros(1, 3, 16, 4, 4, device=device), torch.zeros(1, 1, 3, device=device)
    with pytest.raises(ValueError, match="hidden_activation of LinearDecoder is 'gelu'.*'lrelu'"):
        TriPlaneField(planes, decoder, generate_planes(), 1)(points, None)


def test_precision(device):
    """That of plain products, or 16 bits where the planes have no more or autocasting is on."""
    planes, points = torch.randn(1, 3, 16, 4, 4, device=device), torch.zeros(1, 1, 3, device=device)
    decoder = make_decoder(16, 16).to(device)

    def chosen(planes):
        return FusedField.of(
            TriPlaneField(planes, decoder, generate_planes(), 1), points
        ).how.precision

    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, False
    try:
        assert chosen(planes) == "float32" and chosen(planes.half()) == "float16"
        with torch.autocast(device.type):
            assert chosen(planes) == "float16"
        products.allow_tf32 = True
        assert chosen(planes) == "tf32"
    finally:
        products.allow_tf32 = before


@pytest.mark.parametrize("want_rgb", [True, False])
def test_operators_are_registered_as_torch_wants(want_rgb):
    """Schemas, fake results, gradients: on the twins, which need no interpreter."""
    layers = [torch.randn(s, requires_grad=True) for s in ((16, 16), (16,), (17, 16), (17,))]
    planes = torch.randn(1, 32, 16, requires_grad=True)
    points = torch.rand(1, 3, 3, requires_grad=True)
    how = ([0, 1, 0, 2], [4, 4, 4, 4], 2.0, "float32", "softplus", "sigmoid")
    torch.library.opcheck(triplane_ops.decode, (planes, *layers, points, *how, want_rgb))
    if want_rgb:
        depths = torch.sort(torch.rand(1, 3, 4))[0]
        rays = (points, torch.ones_like(points).requires_grad_(), depths)
        arguments = (planes, *layers, *rays, *how, *Rule("classic", "relu", 0.5, 1e-3))
        torch.library.opcheck(render_ops.composite, arguments)
